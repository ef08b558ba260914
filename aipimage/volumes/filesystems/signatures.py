"""Signatures at fixed places, and partition tables within volumes."""

from __future__ import annotations

from typing import NamedTuple

from aipimage.volumes.view import VolumeView


class Signature(NamedTuple):
    """Bytes at a fixed place: ``magic`` at ``offset`` of the volume, which mean ``kind``."""

    kind: str
    offset: int
    magic: bytes


def first_of(view: VolumeView, signatures: tuple[Signature, ...]) -> Signature | None:
    """Return the first signature that the volume has, in their order.

    Raises:
        LayoutError: a place cannot be read. A volume that ends before a place does not have it.
    """
    for signature in signatures:
        offset, magic = signature.offset, signature.magic
        if offset + len(magic) <= view.size and view.read(offset, len(magic)) == magic:
            return signature
    return None


def has_partition_table(view: VolumeView) -> bool:
    """Whether the first sector holds an MBR with a plausible table: the boot flags are 0 or 0x80,
    and some entry says a type and sectors inside of the volume. Code and messages of a boot sector
    at that place do not look so.
    """
    if view.size < 512:
        return False
    sector = view.read(0, 512)
    entries = [sector[at : at + 16] for at in range(446, 510, 16)]
    if sector[510:] != b"\x55\xaa" or any(entry[0] not in (0, 0x80) for entry in entries):
        return False
    return any(_plausible(entry, view.size // 512) for entry in entries)


def _plausible(entry: bytes, sectors: int) -> bool:
    start, count = (int.from_bytes(entry[at : at + 4], "little") for at in (8, 12))
    # A protective entry may claim more than there is.
    return bool(entry[4] and count) and 0 < start < sectors
