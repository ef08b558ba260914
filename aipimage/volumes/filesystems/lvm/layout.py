"""Structures of an LVM2 physical volume: its label, header and metadata areas.

Source: LVM2, lib/label/label.h (struct label_header), lib/format_text/layout.h (struct pv_header,
pv_header_extension, mda_header, raw_locn). All numbers are little-endian.
"""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple

from aipimage.volumes.view import LayoutError

SECTOR = 512
LABEL_SECTORS = 4
LABEL_ID, LABEL_TYPE = b"LABELONE", b"LVM2 001"
_LABEL = struct.Struct("<8sQII8s")
_LABEL_CRC_FROM = 20
_CRC_INITIAL = 0xF597A6CF
AREAS_MAX = 16
_AREA = struct.Struct("<QQ")
_EXTENSION = struct.Struct("<II")
PV_USED = 1
MDA_HEADER_SIZE = 512
MDA_MAGIC = b" LVM2 x[5A%r0N*>"
_MDA = struct.Struct("<I16sIQQ")
_LOCATION = struct.Struct("<QQII")
LOCATION_IGNORED = 1


def lvm_crc(data: bytes) -> int:
    """LVM's CRC-32: the usual polynomial, another start, and nothing inverted (lib/misc/crc.c)."""
    return zlib.crc32(data, _CRC_INITIAL ^ 0xFFFFFFFF) ^ 0xFFFFFFFF


class Area(NamedTuple):
    """A range of the physical volume, bytes; a data area of length 0 reaches to the end."""

    offset: int
    size: int


class PhysicalVolume(NamedTuple):
    """What label and header say.

    Attributes:
        uuid: 32 characters, without hyphens. size: bytes of the device. data, metadata, boot: its
            areas. version: of the extension, 0 without one. used: it belongs to a volume group,
            which is known from version 2 on.
    """

    uuid: str
    size: int
    data: list[Area]
    metadata: list[Area]
    boot: list[Area]
    version: int
    used: bool


class Location(NamedTuple):
    """Where the text lies in its metadata area, circular after the header: ``raw_locn``."""

    offset: int
    size: int
    crc: int
    flags: int

    @property
    def is_set(self) -> bool:
        """Whether it says anything but that it is ignored."""
        return bool(self.offset or self.size)


def find_label(head: bytes) -> int | None:
    """Return the first sector of the first four that holds a label, whatever else is in it."""
    for sector in range(min(LABEL_SECTORS, len(head) // SECTOR)):
        label = head[sector * SECTOR :]
        if label.startswith(LABEL_ID) and label[24:32] == LABEL_TYPE:
            return sector
    return None


def decode_physical_volume(head: bytes, sector: int) -> PhysicalVolume:
    """Decode label and header, which lie in one sector.

    Raises:
        LayoutError: the label's checksum or a number in it is wrong.
    """
    data = head[sector * SECTOR : (sector + 1) * SECTOR]
    _, number, crc, offset, _ = _LABEL.unpack_from(data)
    if lvm_crc(data[_LABEL_CRC_FROM:]) != crc:
        raise LayoutError("its label has a wrong checksum")
    if number != sector or not _LABEL.size <= offset <= SECTOR - 40:
        raise LayoutError("its label says another place than its own")
    uuid, size = (
        data[offset : offset + 32],
        int.from_bytes(data[offset + 32 : offset + 40], "little"),
    )
    if not uuid.isalnum():
        raise LayoutError("its UUID is not one")
    areas, at = _decode_areas(data, offset + 40)
    metadata, at = _decode_areas(data, at)
    version, flags = _EXTENSION.unpack_from(data, at) if at + 8 <= SECTOR else (0, 0)
    boot = _decode_areas(data, at + 8)[0] if version else []
    return PhysicalVolume(
        uuid.decode("ascii"), size, areas, metadata, boot, version, bool(flags & PV_USED)
    )


def _decode_areas(data: bytes, at: int) -> tuple[list[Area], int]:
    """Return a list that ends with an empty entry, and what follows it."""
    found: list[Area] = []
    while at + _AREA.size <= len(data):
        area = Area(*_AREA.unpack_from(data, at))
        at += _AREA.size
        if not area.offset:
            return found, at
        found.append(area)
        if len(found) > AREAS_MAX:
            break
    raise LayoutError("a list of areas in its header has no end")


def decode_metadata_header(data: bytes, area: Area) -> tuple[Location, Location]:
    """Return where the text lies, and where that of a change which is under way.

    Raises:
        LayoutError: checksum, magic, version or place are not as they must be.
    """
    crc, magic, version, start, size = _MDA.unpack_from(data)
    if lvm_crc(data[4:MDA_HEADER_SIZE]) != crc:
        raise LayoutError("the header of a metadata area has a wrong checksum")
    if magic != MDA_MAGIC or version != 1 or (start, size) != area:
        raise LayoutError("the header of a metadata area does not belong to it")
    now = Location(*_LOCATION.unpack_from(data, _MDA.size))
    # The list ends with the first empty entry, and the second is the one that is being made.
    coming = Location(*_LOCATION.unpack_from(data, _MDA.size + _LOCATION.size))
    return now, coming
