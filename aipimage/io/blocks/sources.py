"""Block sources: what an image is made from.

:func:`open_source` makes one of a path, a binary file object, or an object with the members of
:class:`~aipimage.io.blocks.model.BlockSource`; the rest of the library imports them from here.

A short read is never padded: a source that shrank while it was read is an error. So is a sector
that the medium cannot deliver, until ``read_with_retries`` has made it a range that is recorded as
unreadable.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, BinaryIO

from aipimage.errors import OptionTypeError
from aipimage.io.blocks.checkedsource import CheckedSource
from aipimage.io.blocks.filesources import DeviceSource as DeviceSource
from aipimage.io.blocks.filesources import FileSource as FileSource
from aipimage.io.blocks.filesources import source_errors
from aipimage.io.blocks.model import BlockSource as BlockSource
from aipimage.io.blocks.model import OwnSource
from aipimage.io.blocks.model import UnreadableRangeError as UnreadableRangeError
from aipimage.io.blocks.objectsource import BinaryFileSource as BinaryFileSource
from aipimage.io.blocks.retries import append_merged as append_merged
from aipimage.io.blocks.retries import read_with_retries as read_with_retries
from aipimage.io.system.storage import DEFAULT, Storage, StrPath, absolute

if TYPE_CHECKING:
    from typing_extensions import TypeIs

_MEMBERS = ("name", "size", "sector_size", "read_into", "data_ranges", "fingerprint", "close")


def place_of(source: BlockSource) -> str:
    """Return what identifies a source from one image to the next.

    That is its ``place``, if it has one; else the absolute path of a file or device; else its name,
    which the owner of the object chose.
    """
    place = getattr(source, "place", None)
    if isinstance(place, str):
        return place
    is_path = isinstance(source, (FileSource, DeviceSource))
    return absolute(source.name) if is_path else source.name


def files_of_source(source: BlockSource) -> set[str]:
    """Return the paths that a source says it is read from, and its name, which may be one.

    See :class:`~aipimage.io.blocks.model.SourceFacts`.
    """
    chain: Iterable[str] = getattr(source, "chain", ())
    files: Iterable[str] = getattr(source, "files", ())
    return {source.name, *chain, *files}


def is_going_back_expensive(source: BlockSource) -> bool:
    """Whether a source says that it is only read forward cheaply."""
    return bool(getattr(source, "reads_forward", False))


def is_name(text: str) -> bool:
    """Whether a text identifies a source. ``<file object>``, ``<stdin>`` and the like do not: any
    object without a name is called so.
    """
    return bool(text) and not (text.startswith("<") and text.endswith(">"))


def open_source(obj: StrPath | BinaryIO | BlockSource, storage: Storage = DEFAULT) -> BlockSource:
    """Return the block source for a path, a seekable binary file object, or a block source, whose
    answers are compared with the contract from then on.

    Raises:
        OptionTypeError: an object that has some members of a block source and lacks others.
        RequestError: a directory, pipe, socket or character device, or not seekable.
        SourceError: it cannot be opened.
    """
    if isinstance(obj, (str, os.PathLike)):
        with source_errors():
            file = storage.open_read(obj)
        try:
            return DeviceSource(file) if file.is_block_device else FileSource(file)
        except BaseException:
            file.close()
            raise
    if isinstance(obj, OwnSource):
        return obj  # type: ignore[return-value]
    if _is_block_source(obj):
        return CheckedSource(obj)
    return BinaryFileSource(obj)


def _is_block_source(obj: BinaryIO | BlockSource) -> TypeIs[BlockSource]:
    """Whether something has the members of a block source; some of them are no file object."""
    if not hasattr(type(obj), "read_into"):
        return False
    missing = sorted(name for name in _MEMBERS if not _has(obj, name))
    if missing:
        raise OptionTypeError(
            f"{type(obj).__name__}: not a block source: it has no {', no '.join(missing)}"
        )
    return True


def _has(obj: object, name: str) -> bool:
    """Whether a member is there, without asking a property for its value."""
    return hasattr(type(obj), name) or name in getattr(obj, "__dict__", {})
