"""VMFS, versions 3, 5 and 6: taken whole.

VMFS is not documented. Sources of the places: util-linux, libblkid/src/superblocks/vmfs.c, and
vmfs-tools. The volume manager's header lies at 1 MiB of a partition and says where its data begins;
the file system's header lies 2 MiB into that, or at 2 MiB where a logical volume is looked at.
"""

from __future__ import annotations

import struct

from aipimage.volumes.model import FileSystem, Parser
from aipimage.volumes.view import LayoutError, VolumeView

_MANAGER_AT, _MANAGER_MAGIC = 1 << 20, bytes.fromhex("0dd001c0")
_VERSION_6 = 6
_SYSTEM_AT, _DATA_AT = 2 << 20, 17 << 20
_SYSTEM_MAGICS = tuple(bytes.fromhex(f"{low}f1ab2f") for low in ("5e", "5f", "60", "61"))
_MANAGER_UUID, _MANAGER_DATA = slice(0x254, 0x264), struct.Struct("<4xI114xQ")
_SYSTEM_UUID, _SYSTEM_LABEL = slice(9, 25), slice(29, 157)
_HEADER = 1024


def probe(view: VolumeView) -> FileSystem | None:
    """Either header; the label is in the file system's only."""
    manager, system = _read(view, _MANAGER_AT), _read(view, _SYSTEM_AT)
    managed = manager[:4] == _MANAGER_MAGIC
    version = 0
    if managed:
        version, data = _MANAGER_DATA.unpack_from(manager)
        system = _read(view, (data or _DATA_AT) + _SYSTEM_AT)
    found = system[:4] in _SYSTEM_MAGICS
    if not managed and not found:
        return None
    label = system[_SYSTEM_LABEL].split(b"\0")[0].decode("utf-8", "replace") if found else ""
    # The manager of version 6 keeps no identifier at that place.
    by_manager = managed and version < _VERSION_6 and any(manager[_MANAGER_UUID])
    raw = manager[_MANAGER_UUID] if by_manager else system[_SYSTEM_UUID] if found else b""
    return FileSystem("vmfs", label=label, uuid=_uuid(raw) if any(raw) else "", size=view.size)


def _read(view: VolumeView, at: int) -> bytes:
    try:
        return view.read(at, _HEADER) if at + _HEADER <= view.size else b""
    except LayoutError:
        return b""


def _uuid(raw: bytes) -> str:
    """Two words and a half, each little-endian, then six bytes."""
    words = [raw[0:4][::-1], raw[4:8][::-1], raw[8:10][::-1], raw[10:16]]
    return "-".join(word.hex() for word in words)


PARSER = Parser("vmfs", probe, whole_because="VMFS is not known in detail")
