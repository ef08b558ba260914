"""The seal: docs/format.md, sections 9 and 9.1."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from aipimage.errors import FormatError
from aipimage.format import constants as c
from aipimage.format.gates import (
    verified_equal,
    verified_ids,
    verified_length,
    verified_limit,
    verified_range,
    verified_zero,
)
from aipimage.format.origins import OriginEntry, decode_origins, encode_origins
from aipimage.format.record import NO_REFERENCE, Reference, decode_reference, encode_reference

_HEAD = struct.Struct("<16s16s16s32sIIBBHHH32sQ")
_DEVICE = struct.Struct("<QIB3sQQQQQQ")
_KINDS = tuple(map(int, c.ImageKind))
_HEAD_LENGTH = _HEAD.size + 2 * c.REFERENCE
_DEVICE_LENGTH = _DEVICE.size + 2 * c.REFERENCE


@dataclass(frozen=True, slots=True)
class SealDevice:
    """Section 9.1; ``size`` in bytes, the counts in sectors."""

    size: int
    sector_size: int
    map_level: int
    unused: int
    zero: int
    data: int
    unreadable: int
    lost: int
    map_root: Reference
    digest_root: Reference = NO_REFERENCE

    @property
    def sectors(self) -> int:
        """Sectors of the device, the last padded."""
        return -(-self.size // 512)


@dataclass(frozen=True, slots=True)
class Seal:
    """Field names as in section 9."""

    image_id: bytes
    chain_id: bytes
    kind: int
    header_digest: bytes
    record_count: int
    description: Reference
    result: Reference
    devices: tuple[SealDevice, ...]
    origins: tuple[OriginEntry, ...]
    parent_id: bytes = c.ZERO_ID
    parent_digest: bytes = c.ZERO_DIGEST
    sequence: int = 0
    parent_sequence: int = 0
    parent_kind: int = 0
    replaced: tuple[Reference, ...] = ()


def encode_seal(seal: Seal) -> bytes:
    """Return the plain seal."""
    head = _HEAD.pack(
        seal.image_id, seal.chain_id, seal.parent_id, seal.parent_digest, seal.sequence,
        seal.parent_sequence, seal.kind, seal.parent_kind, len(seal.devices), len(seal.origins),
        len(seal.replaced), seal.header_digest, seal.record_count,
    )  # fmt: skip
    parts = [head, encode_reference(seal.description), encode_reference(seal.result)]
    parts += [_encode_device(device) for device in seal.devices]
    parts.append(encode_origins(seal.origins))
    parts += [encode_reference(ref) for ref in seal.replaced]
    return b"".join(parts)


def decode_seal(data: bytes | memoryview) -> Seal:
    """Decode a seal and check every count and bound in it."""
    if len(data) < _HEAD_LENGTH:
        raise FormatError("the seal is cut short")
    (image_id, chain_id, parent_id, parent_digest, sequence, parent_sequence, kind, parent_kind,
     devices, origins, replaced, header_digest, record_count) = _HEAD.unpack_from(data)  # fmt: skip
    verified_range(devices, 1, c.DEVICES_MAX, "number of devices")
    verified_range(origins, 1, c.ORIGINS_MAX, "number of origins")
    verified_limit(replaced, c.REPLACED_MAX, "number of replaced images")
    origins_at = _HEAD_LENGTH + devices * _DEVICE_LENGTH
    if len(data) < origins_at:
        raise FormatError("the seal is cut short")
    entries, replaced_at = decode_origins(data, origins_at, origins)
    verified_length(data, replaced_at + replaced * c.REFERENCE, "seal")
    seal = Seal(
        image_id, chain_id, kind, header_digest, record_count,
        decode_reference(data, _HEAD.size), decode_reference(data, _HEAD.size + c.REFERENCE),
        tuple(_decode_device(data, at) for at in range(_HEAD_LENGTH, origins_at, _DEVICE_LENGTH)),
        entries,
        parent_id, parent_digest, sequence, parent_sequence, parent_kind,
        tuple(decode_reference(data, at) for at in range(replaced_at, len(data), c.REFERENCE)),
    )  # fmt: skip
    _check_members(seal)
    _check_place_in_chain(seal)
    return seal


def _check_place_in_chain(seal: Seal) -> None:
    if seal.kind not in _KINDS or seal.parent_kind not in (0, *_KINDS):
        raise FormatError(f"kinds {seal.kind} and {seal.parent_kind} of image and parent: no such")
    verified_limit(seal.sequence, c.CHAIN_MAX - 1, "place in the chain")
    has_parent = seal.parent_kind != 0
    verified_equal(seal.parent_id != c.ZERO_ID, has_parent, "presence of a parent")
    lowest = seal.parent_sequence + 1 if has_parent else 0
    if seal.replaced:
        # A merged image stands where the last one stood that it stands for (section 9.5).
        verified_range(seal.sequence, lowest, c.CHAIN_MAX - 1, "sequence of a merged image")
    else:
        verified_equal(seal.sequence, lowest, "sequence")
    if seal.kind != c.ImageKind.FULL and not has_parent:
        raise FormatError("an increment has no parent")
    if seal.kind == c.ImageKind.DIFFERENTIAL and seal.parent_kind != c.ImageKind.FULL:
        raise FormatError("a differential image builds on one that is not a full image")
    if seal.parent_id == seal.image_id:
        raise FormatError("the image names itself as its parent")
    if not has_parent:
        verified_equal(seal.parent_sequence, 0, "sequence of no parent")
        verified_zero(seal.parent_digest, "seal of an image without a parent")


def _check_members(seal: Seal) -> None:
    verified_ids((seal.image_id, seal.chain_id), "seal")
    if NO_REFERENCE in (seal.description, seal.result, *seal.replaced):
        raise FormatError("the seal has an empty reference")
    # The seal leads to what it lists, and the entry of its own image comes first.
    verified_equal(seal.origins[0].origin, seal.image_id, "first origin of the seal")
    verified_equal(seal.origins[0].holder, seal.image_id, "holder of the first origin of the seal")


def _encode_device(device: SealDevice) -> bytes:
    fixed = _DEVICE.pack(
        device.size,
        device.sector_size,
        device.map_level,
        b"",
        device.unused,
        device.zero,
        device.data,
        device.unreadable,
        device.lost,
        0,
    )
    return fixed + encode_reference(device.map_root) + encode_reference(device.digest_root)


def _decode_device(data: bytes | memoryview, at: int) -> SealDevice:
    (size, sector_size, level, reserved, unused, zero, kept, unreadable, lost, reserved2) = (
        _DEVICE.unpack_from(data, at)
    )
    verified_zero(reserved + bytes([reserved2 != 0]), "device entry of the seal")
    verified_range(size, 1, c.DEVICE_SIZE_MAX, "device size")
    verified_limit(level, c.MAP_LEVELS - 1, "level of a device's map")
    if sector_size & (sector_size - 1) or not 512 <= sector_size <= 65_536:
        raise FormatError(f"{sector_size} is not a possible sector size")
    roots_at = at + _DEVICE.size
    device = SealDevice(
        size,
        sector_size,
        level,
        unused,
        zero,
        kept,
        unreadable,
        lost,
        decode_reference(data, roots_at),
        decode_reference(data, roots_at + c.REFERENCE),
    )
    total = unused + zero + kept + unreadable + lost
    verified_equal(total, device.sectors, "sum of the sectors of a device")
    if device.map_root == NO_REFERENCE:
        raise FormatError("a device has no map")
    return device
