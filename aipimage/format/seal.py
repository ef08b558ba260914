"""The seal: docs/format.md, sections 9 and 9.1."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, overload

import numpy as np
import numpy.typing as npt

from aipimage.errors import FormatError, LimitError
from aipimage.format import constants as c
from aipimage.format.gates import (
    verified_equal,
    verified_ids,
    verified_length,
    verified_limit,
    verified_range,
    verified_zero,
)
from aipimage.format.record import (
    NO_REFERENCE,
    Reference,
    decode_reference,
    encode_reference,
    record_length,
)

_HEAD = struct.Struct("<16s16s16s32sIIBBHHH32sQ")
_DEVICE = struct.Struct("<QIB3sQQQQQQ")
_ORIGIN = struct.Struct("<16s16sQ")
_HEAD_LENGTH = _HEAD.size + 2 * c.REFERENCE
_DEVICE_LENGTH = _DEVICE.size + 2 * c.REFERENCE
_ORIGIN_LENGTH = _ORIGIN.size + c.REFERENCE + 24
_ORIGIN_DTYPE = np.dtype(
    [
        ("origin", "<u8", 2), ("holder", "<u8", 2), ("frame_count", "<u8"),
        ("table_origin", "<u8", 2), ("offset", "<u8"), ("record_length", "<u4"),
        ("plain_length", "<u4"), ("digest", "<u8", 4), ("reserved", "<u8", 3),
    ]
)  # fmt: skip
"""Section 9.1, an origin as one row, so that thousands of them are checked at once."""


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


class SealOrigin(NamedTuple):
    """Section 9.1."""

    origin: bytes
    holder: bytes
    frame_count: int
    table_root: Reference


class SealOrigins(Sequence[SealOrigin]):
    """The origins of a seal that was read; each becomes an object when it is asked for.

    A chain of a year has hundreds, and opening its newest image must not take the longer for it.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __len__(self) -> int:
        return len(self._data) // _ORIGIN_LENGTH

    @overload
    def __getitem__(self, index: int) -> SealOrigin: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[SealOrigin]: ...
    def __getitem__(self, index: int | slice) -> SealOrigin | Sequence[SealOrigin]:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        return _decode_origin(self._data, range(len(self))[index] * _ORIGIN_LENGTH)

    def __iter__(self) -> Iterator[SealOrigin]:
        return (_decode_origin(self._data, at) for at in range(0, len(self._data), _ORIGIN_LENGTH))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and tuple(self) == tuple(other)

    def __hash__(self) -> int:
        return hash(self._data)

    def ids(self) -> list[bytes]:
        """The ids of all origins, in order."""
        return [self._data[at : at + 16] for at in range(0, len(self._data), _ORIGIN_LENGTH)]


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
    origins: Sequence[SealOrigin]
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
    parts += [_encode_origin(origin) for origin in seal.origins]
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
    replaced_at = origins_at + origins * _ORIGIN_LENGTH
    verified_length(data, replaced_at + replaced * c.REFERENCE, "seal")
    seal = Seal(
        image_id, chain_id, kind, header_digest, record_count,
        decode_reference(data, _HEAD.size), decode_reference(data, _HEAD.size + c.REFERENCE),
        tuple(_decode_device(data, at) for at in range(_HEAD_LENGTH, origins_at, _DEVICE_LENGTH)),
        _decode_origins(bytes(data[origins_at:replaced_at])),
        parent_id, parent_digest, sequence, parent_sequence, parent_kind,
        tuple(decode_reference(data, at) for at in range(replaced_at, len(data), c.REFERENCE)),
    )  # fmt: skip
    _check_members(seal)
    _check_place_in_chain(seal)
    return seal


def _check_place_in_chain(seal: Seal) -> None:
    verified_range(seal.kind, c.ImageKind.FULL, c.ImageKind.DIFFERENTIAL, "kind of the image")
    verified_limit(seal.parent_kind, c.ImageKind.DIFFERENTIAL, "kind of the parent")
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
        raise FormatError("a differential image builds on one that is no full image")
    if seal.parent_id == seal.image_id:
        raise FormatError("the image names itself as its parent")
    if not has_parent:
        verified_equal(seal.parent_sequence, 0, "sequence of no parent")
        verified_zero(seal.parent_digest, "seal of an image without a parent")


def _check_members(seal: Seal) -> None:
    verified_ids((seal.image_id, seal.chain_id), "seal")
    if NO_REFERENCE in (seal.description, seal.result, *seal.replaced):
        raise FormatError("the seal has an empty reference")


def _encode_device(device: SealDevice) -> bytes:
    fixed = _DEVICE.pack(
        device.size, device.sector_size, device.map_level, b"", device.unused, device.zero,
        device.data, device.unreadable, device.lost, 0,
    )  # fmt: skip
    return fixed + encode_reference(device.map_root) + encode_reference(device.digest_root)


def _decode_device(data: bytes | memoryview, at: int) -> SealDevice:
    (size, sector_size, level, reserved, unused, zero, kept, unreadable, lost,
     reserved2) = _DEVICE.unpack_from(data, at)  # fmt: skip
    verified_zero(reserved + bytes([reserved2 != 0]), "device entry of the seal")
    verified_range(size, 1, c.DEVICE_SIZE_MAX, "device size")
    verified_limit(level, c.MAP_LEVELS - 1, "level of a device's map")
    if sector_size & (sector_size - 1) or not 512 <= sector_size <= 65_536:
        raise FormatError(f"{sector_size} is no possible sector size")
    roots_at = at + _DEVICE.size
    device = SealDevice(
        size, sector_size, level, unused, zero, kept, unreadable, lost,
        decode_reference(data, roots_at), decode_reference(data, roots_at + c.REFERENCE),
    )  # fmt: skip
    total = unused + zero + kept + unreadable + lost
    verified_equal(total, device.sectors, "sum of the sectors of a device")
    if device.map_root == NO_REFERENCE:
        raise FormatError("a device has no map")
    return device


def _encode_origin(origin: SealOrigin) -> bytes:
    fixed = _ORIGIN.pack(origin.origin, origin.holder, origin.frame_count)
    return fixed + encode_reference(origin.table_root) + bytes(24)


def _decode_origins(data: bytes) -> SealOrigins:
    """Check all origins, each as :func:`_decode_origin` would."""
    rows = np.frombuffer(data, _ORIGIN_DTYPE)
    if rows["reserved"].any():
        raise FormatError("reserved bytes of an origin entry of the seal are not zero")
    if not (rows["origin"].any(axis=1) & rows["holder"].any(axis=1)).all():
        raise FormatError("an id in an origin entry of the seal is all zeros")
    if (rows["frame_count"] > c.FRAMES_MAX).any():
        raise LimitError(f"the number of frames of an origin is over the limit of {c.FRAMES_MAX}")
    some = rows["frame_count"] > 0
    _check_table_roots(rows[some])
    if data and _root_bytes(rows[~some]).any():
        raise FormatError("an origin without frames has a frame table")
    origins = SealOrigins(data)
    # Random ids differ in their first half nearly always; only where not, all of them is compared.
    halves = np.sort(rows["origin"][:, 0])
    if (halves[1:] == halves[:-1]).any() and len(set(origins.ids())) != len(origins):
        raise FormatError("the seal names an origin twice")
    return origins


def _root_bytes(rows: npt.NDArray[np.void]) -> npt.NDArray[np.uint8]:
    raw = np.frombuffer(rows.tobytes(), np.uint8).reshape(-1, _ORIGIN_LENGTH)
    return raw[:, _ORIGIN.size : _ORIGIN.size + c.REFERENCE]


def _check_table_roots(rows: npt.NDArray[np.void]) -> None:
    """What :func:`decode_reference` checks, for all at once."""
    if len(rows) and not _root_bytes(rows).any(axis=1).all():
        raise FormatError("an origin with frames has no frame table")
    length, plain = rows["record_length"], rows["plain_length"]
    low, high = record_length(1), record_length(c.BODY_MAX)
    if (length < low).any() or (plain < 1).any():
        raise FormatError("a frame table of the seal has an impossible length")
    if (length > high).any() or (plain > c.PLAIN_MAX).any():
        raise LimitError("a frame table of the seal is over the limits of a record")
    last = np.uint64(c.STREAM_MAX) - length
    if (rows["offset"] < c.CORE_MIN).any() or (rows["offset"] > last).any():
        raise FormatError("a frame table of the seal has an impossible offset")


def _decode_origin(data: bytes, at: int) -> SealOrigin:
    origin, holder, frames = _ORIGIN.unpack_from(data, at)
    return SealOrigin(origin, holder, frames, decode_reference(data, at + _ORIGIN.size))
