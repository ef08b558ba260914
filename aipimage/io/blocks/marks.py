"""What marks a file as an ``.aiv`` image, or a part of one: its name, and the bytes at its ends."""

from __future__ import annotations

import re

from aipimage.errors import AipImageError
from aipimage.format.constants import (
    HEADER_MAGIC,
    PART_END_MAGIC,
    PART_MAGIC,
    PART_RECORD,
    TRAILER,
    TRAILER_MAGIC,
)
from aipimage.io.system.storage import DEFAULT, File, Storage, StrPath

_NAME = re.compile(r"\.(aiv|aii)(\.\d{3,5})?$", re.IGNORECASE)


def named_like_image(name: str) -> bool:
    """Whether a name ends as those of images and of their parts do."""
    return _NAME.search(name) is not None


def begins_like_image(file: File) -> bool:
    """Whether the first bytes are those of an image or of a part."""
    return file.pread(len(HEADER_MAGIC), 0) in (HEADER_MAGIC, PART_MAGIC)


def bears_mark(file: File) -> bool:
    """Whether a file has the mark of an image at one of its ends; the other may be lost.

    A file shorter than a mark counts where its name says that it is an image: it was cut.
    """
    size = file.size()
    if size < len(HEADER_MAGIC):
        return named_like_image(file.name)
    if begins_like_image(file):
        return True
    ends = ((TRAILER, TRAILER_MAGIC), (PART_RECORD, PART_END_MAGIC))
    return any(file.pread(len(magic), max(0, size - length)) == magic for length, magic in ends)


def looks_like_image(path: StrPath, storage: Storage = DEFAULT) -> bool:
    """Whether a path leads to a file or device that has the mark; ``False`` where nothing can be
    read.
    """
    try:
        with storage.open_read(path) as file:
            return bears_mark(file)
    except AipImageError:
        return False


def is_file_or_device(path: StrPath, storage: Storage = DEFAULT) -> bool:
    """Whether there is a regular file or block device: opening anything else may wait for ever, a
    pipe for its writer.
    """
    try:
        found = storage.stat(path)
    except AipImageError:
        return False
    return found.is_regular or found.is_block_device
