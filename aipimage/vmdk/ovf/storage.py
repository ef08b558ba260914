"""The files of an appliance as files of a storage, for whatever reads a virtual disk."""

from __future__ import annotations

import bisect
import errno
import os
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from aipimage.errors import StorageError
from aipimage.io.system.storage import File, FileInfo, Storage, StrPath, flat_view
from aipimage.vmdk.ovf.members import Member

if TYPE_CHECKING:
    from typing_extensions import Buffer


class MemberFile(File):
    """A member of an archive, read like a file; writing to it is not possible."""

    def __init__(self, archive: File, member: Member) -> None:
        self.name = os.path.join(archive.name, member.name)
        self.is_block_device = False
        self._archive, self._member = archive, member
        self._ranges = member.ranges
        self._starts = [start for start, _, _ in self._ranges]

    def info(self) -> FileInfo:
        """Its own, or that of the archive with the member's size."""
        return replace(self._member.info or self._archive.info(), size=self._member.size)

    def size(self) -> int:
        """Bytes of the member."""
        return self._member.size

    def pread_into(self, buffer: Buffer, offset: int) -> int:
        """Fill `buffer` from `offset` of the member; fewer bytes only at its end."""
        view = flat_view(buffer)
        length = max(0, min(view.nbytes, self._member.size - offset))
        at, end = offset, offset + length
        for number in range(max(0, bisect.bisect_right(self._starts, at) - 1), len(self._starts)):
            start, place, size = self._ranges[number]
            if start >= end:
                break
            low, high = max(at, start), min(end, start + size)
            if low >= high:
                continue
            view[at - offset : low - offset] = bytes(low - at)
            part = view[low - offset : high - offset]
            got = self._archive.pread_into(part, place + low - start)
            at = low + got
            if got != part.nbytes:
                return at - offset
        view[at - offset : length] = bytes(end - at)
        return length

    def advise_sequential(self) -> None:
        """Do nothing: another member may be read elsewhere."""

    def seek_data(self, offset: int) -> int | None:
        """All of it is data."""
        return offset if offset < self._member.size else None

    def seek_hole(self, offset: int) -> int | None:
        """The end of the member."""
        return self._member.size if offset < self._member.size else None

    def close(self) -> None:
        """Do nothing: the archive is closed as a whole."""


class ArchiveStorage(Storage):
    """The files of an appliance; for reading only. Those of an archive are as if they lay in a
    directory of its name.
    """

    def __init__(self, archive: File, members: Iterable[Member]) -> None:
        super().__init__()
        self._archive = archive
        self._members = {_key(os.path.join(archive.name, each.name)): each for each in members}

    def open_read(self, path: StrPath) -> File:
        """Open a member; ``StorageError`` where there is none of that name."""
        member = self._members.get(_key(path))
        if member is None:
            raise StorageError(f"{os.fspath(path)}: is not in the appliance", errno.ENOENT)
        return MemberFile(self._archive, member)

    def stat(self, path: StrPath) -> FileInfo:
        """What is known of a member; ``StorageError`` likewise."""
        if _key(path) == _key(self._archive.name):
            return replace(self._archive.info(), is_regular=False, is_directory=True)
        with self.open_read(path) as file:
            return file.info()

    def resolve(self, path: StrPath) -> str:
        """The path itself: there are no links in an appliance."""
        return os.fspath(path)

    def list_directory(self, path: StrPath) -> list[str]:
        """Names of the members in a folder."""
        folder = _key(path)
        return sorted(
            os.path.basename(each)
            for each in self._members
            if _key(os.path.dirname(each)) == folder
        )


def _key(path: StrPath) -> str:
    """A path as it is compared: ``./name`` is ``name``, and no folder is the current one."""
    return os.path.normpath(os.fspath(path))
