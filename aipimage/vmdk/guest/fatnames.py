"""Names in directories of a FAT volume.

Source: Microsoft FAT specification ("fatgen103"), FAT Directory Structure and FAT Long Directory
Entries. At most ``DIRECTORY_MAX`` bytes of a directory are looked at, along a chain that is
followed for at most ``CHAIN_MAX`` clusters.
"""

from __future__ import annotations

from typing import NamedTuple

from aipimage.volumes.filesystems.fat.geometry import Geometry, verified_geometry
from aipimage.volumes.filesystems.fat.layout import ENTRY_BYTES, BootSector
from aipimage.volumes.view import VolumeView

DIRECTORY_MAX = 128 << 10
CHAIN_MAX = 256
_LABEL, _DIRECTORY, _LONG, _ATTRIBUTES = 0x08, 0x10, 0x0F, 0x3F
_END, _DELETED = 0x00, 0xE5
_LONG_MAX = 20
"""Entries of a long name: 255 characters, 13 in each."""


class Name(NamedTuple):
    """An entry: its long name, or the short one; whether it is a directory; its first cluster."""

    text: str
    is_directory: bool
    cluster: int


class FatNames:
    """Names of a FAT volume.

    Args:
        boot: its boot sector, as the prober of FAT has it (``FileSystem.details``).

    Raises:
        LayoutError: the boot sector does not fit the volume.
    """

    def __init__(self, view: VolumeView, boot: BootSector) -> None:
        self._view, self._boot = view, boot
        self._geometry: Geometry = verified_geometry(boot, view.size)

    def of(self, *path: str) -> list[Name] | None:
        """Return the entries of a directory, ``None`` where it is not there; names are
        compared without regard to case.

        Raises:
            LayoutError: a directory cannot be read.
        """
        names = _names(self._root())
        for part in path:
            found = [each for each in names if each.text.lower() == part.lower()]
            if not found or not found[0].is_directory:
                return None
            names = _names(self._chain(found[0].cluster))
        return names

    def _root(self) -> bytes:
        geometry = self._geometry
        if not geometry.root_size:
            return self._chain(self._boot.root_cluster)
        length = min(geometry.root_size, DIRECTORY_MAX)
        self._view.allow(length)
        return self._view.read(geometry.root_start, length)

    def _chain(self, cluster: int) -> bytes:
        """The bytes of a directory, or as many as are looked at."""
        geometry, data = self._geometry, bytearray()
        for _ in range(CHAIN_MAX):
            if not 2 <= cluster < geometry.clusters + 2 or len(data) >= DIRECTORY_MAX:
                break
            length = min(geometry.cluster_size, DIRECTORY_MAX - len(data))
            start = geometry.data_start + (cluster - 2) * geometry.cluster_size
            self._view.allow(length + 4)
            data += self._view.read(start, length)
            cluster = self._next(cluster)
        return bytes(data)

    def _next(self, cluster: int) -> int:
        """The entry of a cluster in the table that is in force."""
        geometry = self._geometry
        bits = geometry.entry_bits[-1]
        table = geometry.fat_start + (geometry.active or 0) * geometry.fat_size
        size = 4 if bits == 32 else 2
        value = int.from_bytes(self._view.read(table + cluster * bits // 8, size), "little")
        if bits == 12:
            return value >> 4 if cluster & 1 else value & 0xFFF
        return value & 0x0FFF_FFFF


def _names(data: bytes) -> list[Name]:
    """The names in the bytes of a directory; ``.``, ``..`` and the label are not among them."""
    found: list[Name] = []
    long: list[bytes] = []
    for at in range(0, len(data) - ENTRY_BYTES + 1, ENTRY_BYTES):
        entry = data[at : at + ENTRY_BYTES]
        if entry[0] == _END:
            break
        attributes = entry[11] & _ATTRIBUTES
        if entry[0] != _DELETED and attributes == _LONG and len(long) < _LONG_MAX:
            # The last part of a long name comes first.
            long.insert(0, entry[1:11] + entry[14:26] + entry[28:32])
            continue
        if entry[0] not in (_DELETED, ord(".")) and not attributes & _LABEL:
            found.append(_name(entry, b"".join(long)))
        long = []
    return found


def _name(entry: bytes, long: bytes) -> Name:
    cluster = int.from_bytes(entry[20:22], "little") << 16 | int.from_bytes(entry[26:28], "little")
    text = long.decode("utf-16-le", "replace").split("\0", 1)[0] or _short(entry)
    # Names are printed: what is not printable must not reach a terminal.
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    return Name(text, bool(entry[11] & _DIRECTORY), cluster)


def _short(entry: bytes) -> str:
    name, extension = (entry[a:b].decode("cp850").rstrip() for a, b in ((0, 8), (8, 11)))
    return f"{name}.{extension}" if extension else name
