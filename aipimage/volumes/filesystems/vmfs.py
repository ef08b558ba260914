"""VMFS, versions 3, 5 and 6: taken whole.

Source: util-linux, libblkid/src/superblocks/vmfs.c (struct vmfs_fs_info, vmfs_volume_info); VMFS
itself is not documented. A volume begins with the volume manager's header at 1 MiB; where a file
system begins at the start of what is looked at, its own lies at 2 MiB.
"""

from __future__ import annotations

from aipimage.volumes.model import FileSystem, Parser
from aipimage.volumes.view import LayoutError, VolumeView

_VOLUME_AT, _VOLUME_MAGIC = 1 << 20, bytes.fromhex("0dd001c0")
_VOLUME_UUID = slice(0x82, 0x92)
_SYSTEM_AT, _SYSTEM_MAGICS = 2 << 20, (bytes.fromhex("5ef1ab2f"), bytes.fromhex("5ff1ab2f"))
_SYSTEM_UUID, _SYSTEM_LABEL = slice(9, 25), slice(29, 157)
_HEADER = 512


def probe(view: VolumeView) -> FileSystem | None:
    """The file system's header, which has the label, or that of the volume manager."""
    system, volume = _read(view, _SYSTEM_AT), _read(view, _VOLUME_AT)
    if system[:4] in _SYSTEM_MAGICS:
        label = system[_SYSTEM_LABEL].split(b"\0")[0].decode("utf-8", "replace")
        return FileSystem("vmfs", label=label, uuid=_uuid(system[_SYSTEM_UUID]), size=view.size)
    if volume[:4] == _VOLUME_MAGIC:
        return FileSystem("vmfs", uuid=_uuid(volume[_VOLUME_UUID]), size=view.size)
    return None


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
