"""What the file of a new image may replace (docs/format.md, section 12)."""

from __future__ import annotations

import os
from collections.abc import Sequence

from aipimage.errors import AipImageError, RequestError, TargetError
from aipimage.format import constants as c
from aipimage.io.blocks.sources import BlockSource
from aipimage.io.reading.members import MemberFiles, peek_header
from aipimage.io.stream.outstream import FileStream
from aipimage.io.system.storage import Storage


def open_target(
    storage: Storage, path: str, set_id: bytes, split: int | None, overwrite: bool = False
) -> FileStream:
    """Return the stream of a new image at ``path``; nothing there is replaced before it is whole.

    Args:
        set_id: the file id of the image. split: bytes of a part at most, ``None`` for one file.

    Raises:
        TargetError: the path exists, and must not be replaced.
    """
    if storage.exists(path):
        check_replaceable(storage, path, split, overwrite)
    return FileStream(storage, path, set_id, split, overwrite)


def check_replaceable(storage: Storage, path: str, split: int | None, overwrite: bool) -> None:
    """Refuse to replace an existing file, unless the caller asked for it and nothing needs it.

    One rename replaces a file, but not a set of parts, so a set of parts is never overwritten.
    """
    if not overwrite:
        raise TargetError(
            f"{path}: is already there; choose another name or replace it (overwrite=True)"
        )
    with storage.open_read(path) as file:
        if split is not None or file.pread(len(c.PART_MAGIC), 0) == c.PART_MAGIC:
            raise TargetError(
                f"{path}: a split image cannot be replaced in one step; remove the old one first"
            )
        if file.pread(len(c.HEADER_MAGIC), 0) != c.HEADER_MAGIC:
            return
    _refuse_chain_member(storage, path)


def refuse_source_as_target(
    target: object, sources: Sequence[BlockSource], storage: Storage
) -> None:
    """Refuse to write an image over a file that it is made of."""
    if not isinstance(target, (str, os.PathLike)) or not storage.exists(target):
        return
    place = storage.resolve(target)
    for source in sources:
        if storage.resolve(source.name) == place:
            raise RequestError(
                f"{os.fspath(target)}: is the source itself; use another name for the image"
            )


def _refuse_chain_member(storage: Storage, path: str) -> None:
    """Other images of the chain may need this one: overwriting it would lose them."""
    try:
        old = peek_header(storage, path)
    except AipImageError:
        return  # It is too damaged to be of use to the others.
    files = MemberFiles(storage, [os.path.dirname(path)])
    others = [each for each in files.of_chain(old.chain_id) if each.file_id != old.file_id]
    if others:
        raise TargetError(
            f"{path}: belongs to a chain, of which {others[0].path} is another image and may need "
            "it; choose another name, or remove it first"
        )
