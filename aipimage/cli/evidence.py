"""Whether a file that cannot be opened is a damaged image, or none at all."""

from __future__ import annotations

import os
import re
import stat

from aipimage import FormatError, IntegrityError, UnsupportedError
from aipimage.format.constants import (
    HEADER_MAGIC,
    PART_END_MAGIC,
    PART_MAGIC,
    PART_RECORD,
    TRAILER,
    TRAILER_MAGIC,
)

_NAMED = re.compile(r"\.(aiv|aii)(\.\d{3,5})?$", re.IGNORECASE)


def is_damage(path: str, error: Exception) -> bool:
    """Whether an error tells about damage to an image, not about a request or a newer format."""
    if isinstance(error, UnsupportedError) or not isinstance(error, (FormatError, IntegrityError)):
        return False
    return looks_like_image(path)


def looks_like_image(path: str) -> bool:
    """Whether a file bears the mark of an image at one of its ends; the other may be lost.

    A file shorter than a mark counts where its name says that it is an image: it was cut.
    """
    if not is_file_or_device(path):
        return False
    try:
        with open(path, "rb") as file:
            head = file.read(len(HEADER_MAGIC))
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - max(TRAILER, PART_RECORD)))
            tail = file.read()
    except OSError:
        return False
    if size < len(HEADER_MAGIC):
        return _NAMED.search(path) is not None
    ends = (
        tail[-TRAILER:].startswith(TRAILER_MAGIC),
        tail[-PART_RECORD:].startswith(PART_END_MAGIC),
    )
    return head in (HEADER_MAGIC, PART_MAGIC) or any(ends)


def is_file_or_device(path: str) -> bool:
    """Whether there is a regular file or block device: opening anything else may wait for ever, a
    pipe for its writer.
    """
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISREG(mode) or stat.S_ISBLK(mode)


def first_file(path: str) -> str:
    """Return ``path``, or where it is not there but parts of it are, the first of these.

    The library then says which parts are missing, instead of that there is no such file.
    """
    if os.path.lexists(path):
        return path
    directory, base = os.path.split(path)
    part = re.compile(re.escape(base) + r"\.\d{3,5}")
    try:
        parts = sorted(name for name in os.listdir(directory or ".") if part.fullmatch(name))
    except OSError:
        return path
    found = [os.path.join(directory, name) for name in parts]
    return next((name for name in found if looks_like_image(name)), path)
