"""Opens the extents that a descriptor names, each by its kind, one after the other."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from aipimage.errors import IncompleteError, SourceError, StorageError, UnsupportedError
from aipimage.io.system.storage import File, Storage
from aipimage.vmdk.descriptor import Descriptor, ExtentLine
from aipimage.vmdk.extents.cowd import open_cowd
from aipimage.vmdk.extents.files import source_errors
from aipimage.vmdk.extents.flat import ZeroExtent, open_flat
from aipimage.vmdk.extents.hosted import Caches, open_hosted
from aipimage.vmdk.extents.pool import OPEN_AT_ONCE, ExtentPool, PooledExtent
from aipimage.vmdk.extents.sesparse import open_sesparse
from aipimage.vmdk.layout import COWD_MAGIC, SECTOR
from aipimage.vmdk.member import DiskMember
from aipimage.vmdk.model import ExtentReader
from aipimage.vmdk.paths import extent_path, refuse_device

_DEVICE_TYPES = ("fulldevice", "partitioneddevice")
"""``createType`` of disks whose data lie on devices of a machine."""
_MAPPED_TYPES = (
    "vmfsrdm",
    "vmfsrdmp",
    "vmfsraw",
    "vmfsrawdevicemap",
    "vmfspassthroughrawdevicemap",
)
_MAPPED_KINDS = ("VMFSRDM", "VMFSRAW")

_Open = Callable[[File, ExtentLine, int | None, Caches], ExtentReader]


def open_extents(
    path: str, descriptor: Descriptor, storage: Storage, allow_outside: bool
) -> DiskMember:
    """Open all extents of the descriptor in ``path``.

    The size of a sparse extent is the descriptor's, which its header must agree with, where the
    disk has several: each says where the next begins. Of a disk with one extent the header's size
    counts, as in qemu.

    Raises:
        UnsupportedError: a raw device. RequestError: an extent outside of the folder.
        IncompleteError: an extent is missing or short. Else as ``opening.open_vmdk``.
    """
    _refuse_raw(path, descriptor, allow_outside)
    lines = [line for line in descriptor.extents if line.sectors]
    assembler = _Assembler(path, descriptor, storage, allow_outside, lines)
    with ExitStack() as opened:
        extents: list[ExtentReader] = []
        for number, line in enumerate(lines):
            extents.append(assembler.extent(number, line))
            opened.callback(extents[-1].close)
        warnings = assembler.warnings(extents)
        member = DiskMember(path, descriptor, extents, assembler.files, warnings)
        opened.pop_all()
        return member


def _refuse_raw(path: str, descriptor: Descriptor, allow_outside: bool) -> None:
    kind = descriptor.create_type.lower()
    if kind in _MAPPED_TYPES or any(line.kind in _MAPPED_KINDS for line in descriptor.extents):
        raise UnsupportedError(
            f"{path}: stands for a device of an ESX host and holds no data; copy the disk on the "
            "host, as one with files of its own"
        )
    if kind in _DEVICE_TYPES and not allow_outside:
        raise UnsupportedError(
            f"{path}: stands for devices of a machine ({descriptor.create_type}); image the device "
            "itself, or allow it with allow_outside if you trust the descriptor"
        )


class _Assembler:
    """Opens the extents of one disk, which share their caches."""

    def __init__(
        self,
        path: str,
        descriptor: Descriptor,
        storage: Storage,
        allow_outside: bool,
        lines: list[ExtentLine],
    ) -> None:
        self._descriptor = descriptor
        self._path, self._storage, self._outside = path, storage, allow_outside
        self._lines, self._caches = lines, Caches()
        self._pool = ExtentPool() if len(lines) > OPEN_AT_ONCE else None
        self.files: list[str] = []

    def extent(self, number: int, line: ExtentLine) -> ExtentReader:
        if line.access == "NOACCESS":
            # Zeros in their place would look like the disk's content (hostile-inputs class 55).
            raise UnsupportedError(
                f"{self._path}: extent {number + 1} is marked NOACCESS: its data are elsewhere"
            )
        if line.kind == "ZERO":
            return ZeroExtent(self._path, line.sectors)
        opening = _KINDS.get(line.kind)
        if opening is None:
            raise UnsupportedError(f"{self._path}: an extent of unknown type {line.kind[:40]!r}")
        name = extent_path(self._path, line, self._storage, allow_outside=self._outside)
        self.files.append(name)
        if self._pool is None:
            return self._opened(name, line, opening)
        return PooledExtent(self._pool, number, self._again(name, line, opening))

    def _again(self, name: str, line: ExtentLine, opening: _Open) -> Callable[[], ExtentReader]:
        """What opens an extent each time that it is needed, and only if it is still the same."""
        with self._missing(line):
            first = self._storage.stat(name)

        def open_again() -> ExtentReader:
            with self._missing(line):
                now = self._storage.stat(name)
            if (now.device, now.inode) != (first.device, first.inode):
                raise SourceError(f"{name}: was replaced while it was read; read the disk again")
            return self._opened(name, line, opening)

        return open_again

    def _opened(self, name: str, line: ExtentLine, opening: _Open) -> ExtentReader:
        with self._missing(line):
            file = self._storage.open_read(name)
        try:
            if file.is_block_device and not self._outside:
                raise refuse_device(self._path, line.name)
            sectors = None if len(self._lines) == 1 else line.sectors
            return opening(file, line, sectors, self._caches)
        except BaseException:
            file.close()
            raise

    @contextmanager
    def _missing(self, line: ExtentLine) -> Iterator[None]:
        try:
            yield
        except StorageError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                raise SourceError(str(error), error.errno) from error
            raise IncompleteError(
                f"{self._path}: its extent {line.name[:200]!r} is missing; copy it beside the "
                "descriptor"
            ) from error

    def warnings(self, extents: list[ExtentReader]) -> list[str]:
        found = [*self._descriptor.warnings]
        found += [text for extent in extents for text in extent.warnings]
        if len(extents) == 1 and extents[0].size != self._lines[0].sectors * SECTOR:
            found.append(
                f"{self._path}: says {self._lines[0].sectors} sectors, the header of its "
                f"extent {extents[0].size // SECTOR}; the header counts"
            )
        return found


def _open_sparse(file: File, line: ExtentLine, sectors: int | None, caches: Caches) -> ExtentReader:
    """Type SPARSE: a hosted extent, or one of early ESX, each by its magic."""
    with source_errors():
        is_cowd = file.pread(4, 0) == COWD_MAGIC
    return (_open_cowd if is_cowd else _open_hosted)(file, line, sectors, caches)


def _open_hosted(file: File, line: ExtentLine, sectors: int | None, caches: Caches) -> ExtentReader:
    return open_hosted(file, sectors, caches)


def _open_cowd(file: File, line: ExtentLine, sectors: int | None, caches: Caches) -> ExtentReader:
    return open_cowd(file, line.sectors, caches.tables)


def _open_se(file: File, line: ExtentLine, sectors: int | None, caches: Caches) -> ExtentReader:
    return open_sesparse(file, line.sectors, caches.tables)


def _open_flat(file: File, line: ExtentLine, sectors: int | None, caches: Caches) -> ExtentReader:
    return open_flat(file, line.sectors, line.offset or 0)


_KINDS: dict[str, _Open] = {
    "SPARSE": _open_sparse,
    "FLAT": _open_flat,
    "VMFS": _open_flat,
    "VMFSSPARSE": _open_cowd,
    "SESPARSE": _open_se,
}
