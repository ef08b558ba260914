"""Volume shadow copies of Windows: they read clusters that the live file system calls free.

A shadow copy keeps what was overwritten since it was made, and reads all else where it still lies,
deleted files too. Source of the places: libvshadow, "Volume Shadow Snapshot (VSS) format", "Volume
header". How its catalogue names the clusters that are needed is not read here.
"""

from __future__ import annotations

import struct

from aipimage.volumes.view import LayoutError, VolumeView

HEADER_AT = 0x1E00
"""Byte of the volume; on NTFS inside of $Boot, whatever the sizes of sectors and clusters."""
IDENTIFIER = bytes.fromhex("6b87083876c1484eb7ae04046e6cc752")
HEADER = struct.Struct("<16sII24xQ8x16s16s")
"""Identifier, version, record type, place of the catalogue in bytes, identifiers of this volume and
of the one that keeps what was overwritten.
"""
_HEADER_TYPE = 1


def verify_none(view: VolumeView) -> None:
    """Raise ``LayoutError`` where shadow copies may need what the file system calls free.

    A header without a catalogue is what is left where the last copy was deleted and the protection
    was turned off; but the copies of a volume may also be kept on another one.
    """
    if HEADER_AT + HEADER.size > view.size:
        return
    view.allow(HEADER.size)
    fields = HEADER.unpack(view.read(HEADER_AT, HEADER.size))
    identifier, version, kind, catalogue, volume, storage = fields
    if identifier != IDENTIFIER:
        return
    elsewhere = any(storage) and storage != volume
    if catalogue or elsewhere or kind != _HEADER_TYPE or version not in (1, 2):
        raise LayoutError("shadow copies (VSS) in it may need what its file system calls free")
