"""The files beside the descriptor of an appliance, laid out one after the other like in an archive.

So whatever reads a file in an archive, whole or in chunks, reads those of a folder too.
"""

from __future__ import annotations

import bisect
import os
from dataclasses import replace
from typing import TYPE_CHECKING

from aipimage.errors import StorageError
from aipimage.io.system.filepool import FilePool
from aipimage.io.system.storage import File, FileInfo, Storage, StrPath, flat_view
from aipimage.vmdk.ovf.members import Member

if TYPE_CHECKING:
    from typing_extensions import Buffer


class FolderFile(File):
    """Files of one folder as one file; for reading only. Few of them are open at a time."""

    def __init__(self, folder: str, storage: Storage) -> None:
        self.name = folder
        self.is_block_device = False
        self._storage = storage
        self._infos: dict[str, FileInfo] = {}
        self._starts: list[int] = []
        self._paths: list[str] = []
        self._size = 0
        self._pool = FilePool(_Unchanged(storage, self._infos))

    def first(self, name: str) -> Member:
        """Take the descriptor, which may be a link: it is the file that was asked for.

        Raises:
            StorageError, RequestError: it cannot be opened.
        """
        path = self.path_of(name)
        with self._storage.open_read(path) as file:
            return self._taken(name, replace(file.info(), size=file.size()))

    def add(self, name: str) -> Member | str:
        """Take a file of the folder; or return what it is that is not a file, in words.

        Raises:
            StorageError: it cannot be looked at.
        """
        path = self.path_of(name)
        home = self._storage.resolve(self.name or os.curdir)
        if self._storage.resolve(path) != os.path.join(home, name):
            return "a symbolic link"
        info = self._storage.stat(path)
        if info.is_directory:
            return "a folder"
        return self._taken(name, info) if info.is_regular else "a device or a pipe"

    def path_of(self, name: str) -> str:
        """The path of a file of the folder."""
        return os.path.join(self.name, name)

    def _taken(self, name: str, info: FileInfo) -> Member:
        path, start = self.path_of(name), self._size
        self._infos[path] = info
        self._paths.append(path)
        self._starts.append(start)
        self._size += info.size
        return Member(name, start, info.size, info=info)

    def info(self) -> FileInfo:
        """As of the descriptor, with the size of all files and the time of the newest."""
        infos = list(self._infos.values())
        newest = max(each.mtime_ns for each in infos)
        return replace(infos[0], size=self._size, mtime_ns=newest)

    def size(self) -> int:
        """Bytes of all files."""
        return self._size

    def pread_into(self, buffer: Buffer, offset: int) -> int:
        """Fill ``buffer`` from a range that lies in one of the files; fewer bytes at its end.

        Raises:
            StorageError: it cannot be read, or is another file by now.
        """
        number = bisect.bisect_right(self._starts, offset) - 1
        path, begin = self._paths[number], self._starts[number]
        room = max(0, begin + self._infos[path].size - offset)
        return self._pool.pread_into(path, flat_view(buffer)[:room], offset - begin)

    def close(self) -> None:
        """Close all files; a second call does nothing."""
        self._pool.close()


class _Unchanged(Storage):
    """Opens files only while they are those that were looked at: a name may get a link, or another
    file, at any time (hostile-inputs class 22).
    """

    def __init__(self, storage: Storage, infos: dict[str, FileInfo]) -> None:
        super().__init__()
        self._storage, self._infos = storage, infos

    def open_read(self, path: StrPath) -> File:
        """See ``Storage.open_read``; ``StorageError`` where it is another file by now."""
        file, before = self._storage.open_read(path), self._infos[os.fspath(path)]
        try:
            now = file.info()
            if (now.device, now.inode) != (before.device, before.inode):
                raise StorageError(f"{file.name}: was replaced while it was read; read it again")
        except BaseException:
            file.close()
            raise
        return file
