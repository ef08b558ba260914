"""The key area and its slots: bytes to values and back (docs/format.md, 4.2 and 4.3).

Nothing here derives a key. Every number of a slot passes its gate before the slot leaves the
decoder, so that no caller can start a key derivation whose cost a hostile file chose.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field

from aipimage.errors import FormatError, IntegrityError, LimitError, UnsupportedError
from aipimage.format.constants import KEY_AREA_LENGTH
from aipimage.format.digest import digest
from aipimage.format.gates import verified_range, verified_zero

KEY_AREA_MAGIC = b"AIVKEYS1"
SLOTS = 8
SLOT_LENGTH = 256
SLOT_HEAD = 64
"""The bytes of a slot that its associated data covers (docs/format.md, 4.3)."""

STATE_FREE, STATE_PASSWORD, STATE_RECOVERY = range(3)
KDF_ARGON2ID = 1
MEMORY_MIN, MEMORY_MAX = 8192, 1_048_576
PASSES_MIN, PASSES_MAX = 1, 10
LANES_MIN, LANES_MAX = 1, 16
WORK_MAX = 6_291_456
"""Cap of the sum of ``memory`` times ``passes`` over the used slots (docs/format.md, 4.3)."""
WORK_RECOMMENDED = 65_536 * 3

LABEL_LENGTH = 24
GENERATION_MAX = (1 << 64) - 1

_AREA_HEAD = struct.Struct("<8sQ16s")
_HEAD = struct.Struct("<BBHIII16sq24s")
_TAIL = struct.Struct("<32s12s48s100s")
_SLOTS_AT = _AREA_HEAD.size
_SLOTS_END = _SLOTS_AT + SLOTS * SLOT_LENGTH
_DIGEST_AT = KEY_AREA_LENGTH - 32


@dataclass(frozen=True)
class Slot:
    """A used slot (docs/format.md, 4.3); a free one is ``None`` in :class:`KeyArea`.

    Attributes:
        state: :data:`STATE_PASSWORD` or :data:`STATE_RECOVERY`.
        memory: KiB that one derivation takes.
        created: microseconds since 1970-01-01 UTC.
    """

    state: int
    memory: int
    passes: int
    lanes: int
    salt: bytes = field(repr=False)
    created: int
    label: str
    commitment: bytes = field(default=bytes(32), repr=False)
    nonce: bytes = field(default=bytes(12), repr=False)
    wrapped: bytes = field(default=bytes(48), repr=False)


@dataclass(frozen=True)
class KeyArea:
    """One copy of the key area (docs/format.md, 4.2); ``slots`` always has eight places."""

    generation: int
    chain_id: bytes
    slots: tuple[Slot | None, ...] = (None,) * SLOTS


def encode_slot_head(slot: Slot) -> bytes:
    """Return slot bytes 0 to 63, which the wrapping authenticates (docs/format.md, 4.3)."""
    return _HEAD.pack(
        _verified_state(slot.state),
        KDF_ARGON2ID,
        0,
        _verified_memory(slot.memory),
        _verified_passes(slot.passes),
        _verified_lanes(slot.lanes),
        _sized("salt", slot.salt, 16),
        _verified_created(slot.created),
        encode_label(slot.label),
    )


def encode_slot(slot: Slot | None) -> bytes:
    """Return the 256 bytes of a slot (docs/format.md, 4.3)."""
    if slot is None:
        return bytes(SLOT_LENGTH)
    return encode_slot_head(slot) + _TAIL.pack(
        _sized("commitment", slot.commitment, 32),
        _sized("nonce", slot.nonce, 12),
        _sized("wrapped", slot.wrapped, 48),
        bytes(100),
    )


def decode_slot(data: bytes) -> Slot | None:
    """Decode and verify the 256 bytes of a slot (docs/format.md, 4.3)."""
    if not any(data):
        return None
    state, kdf, reserved, memory, passes, lanes, salt, created, label = _HEAD.unpack_from(data)
    commitment, nonce, wrapped, rest = _TAIL.unpack_from(data, SLOT_HEAD)
    _verified_state(state)
    _verified_kdf(kdf)
    verified_zero(bytes((reserved & 0xFF, reserved >> 8)) + rest, "key slot")
    return Slot(
        state=state,
        memory=_verified_memory(memory),
        passes=_verified_passes(passes),
        lanes=_verified_lanes(lanes),
        salt=salt,
        created=_verified_created(created),
        label=_verified_label(label),
        commitment=commitment,
        nonce=nonce,
        wrapped=wrapped,
    )


def encode_key_area(area: KeyArea) -> bytes:
    """Return the 4096 bytes of one copy (docs/format.md, 4.2)."""
    if len(area.slots) != SLOTS:
        raise RuntimeError(f"internal error: a key area with {len(area.slots)} slots")
    _verified_work(area.slots)
    body = b"".join(
        (
            _AREA_HEAD.pack(
                KEY_AREA_MAGIC,
                _verified_generation(area.generation),
                _sized("chain id", area.chain_id, 16),
            ),
            *map(encode_slot, area.slots),
            bytes(_DIGEST_AT - _SLOTS_END),
        )
    )
    return body + digest(body)


def decode_key_area(data: bytes, chain_id: bytes) -> KeyArea:
    """Decode and verify one copy (docs/format.md, 4.2).

    Raises:
        FormatError: not a valid key area of this chain.
        LimitError: a number is over its limit.
    """
    if not is_whole(data):
        raise FormatError("key area: damaged: its digest does not match")
    magic, generation, area_chain = _AREA_HEAD.unpack_from(data)
    if magic != KEY_AREA_MAGIC:
        raise FormatError("key area: wrong magic")
    if area_chain != chain_id:
        raise FormatError("key area: it belongs to another chain")
    verified_zero(data[_SLOTS_END:_DIGEST_AT], "key area")
    slots = tuple(
        decode_slot(data[at : at + SLOT_LENGTH]) for at in range(_SLOTS_AT, _SLOTS_END, SLOT_LENGTH)
    )
    _verified_work(slots)
    return KeyArea(_verified_generation(generation), area_chain, slots)


def is_whole(data: bytes) -> bool:
    """Tell whether a copy has its length and digest; keyless verification needs no more."""
    return len(data) == KEY_AREA_LENGTH and digest(data[:_DIGEST_AT]) == data[_DIGEST_AT:]


def choose_copy(copy0: bytes, copy1: bytes, chain_id: bytes) -> tuple[KeyArea, tuple[int, ...]]:
    """Return the key area to use and the copies that verification reports (docs/format.md, 4.2).

    A copy with a wrong digest is ignored: a write was cut short there. One with a right digest
    and wrong contents was made so, and the image is refused. Copies that differ under one
    generation come from two writers at once: copy 0 counts and copy 1 is reported.
    """
    copies = (copy0, copy1)
    damaged = tuple(index for index, copy in enumerate(copies) if not is_whole(copy))
    areas = {
        index: decode_key_area(copy, chain_id)
        for index, copy in enumerate(copies)
        if index not in damaged
    }
    if not areas:
        raise IntegrityError("key area: both copies are damaged, so this file cannot be decrypted")
    best = max(areas, key=lambda index: (areas[index].generation, -index))
    if not damaged and areas[0] != areas[1] and areas[0].generation == areas[1].generation:
        damaged = (1,)
    return areas[best], damaged


def encode_label(label: str) -> bytes:
    """Return a label's 24 bytes, padded with zeros (docs/format.md, 4.3).

    The caller checks what people typed; a label that does not fit here is a bug of ours.
    """
    data = label.encode("utf-8")
    if len(data) > LABEL_LENGTH or b"\0" in data:
        raise RuntimeError(f"internal error: a key slot label of {len(data)} bytes")
    return data.ljust(LABEL_LENGTH, b"\0")


def _verified_label(data: bytes) -> str:
    try:
        label = data.rstrip(b"\0").decode("utf-8")
    except UnicodeDecodeError:
        raise FormatError("key slot: the label is not UTF-8") from None
    if "\0" in label:
        raise FormatError("key slot: the label is not padded with zeros")
    return label


def _verified_state(state: int) -> int:
    if state not in (STATE_PASSWORD, STATE_RECOVERY):
        raise FormatError(f"key slot: unknown state {state}")
    return state


def _verified_kdf(kdf: int) -> int:
    if kdf != KDF_ARGON2ID:
        raise UnsupportedError(f"key slot: key derivation {kdf} is not known")
    return kdf


def _verified_memory(memory: int) -> int:
    return verified_range(memory, MEMORY_MIN, MEMORY_MAX, "memory of a key slot")


def _verified_passes(passes: int) -> int:
    return verified_range(passes, PASSES_MIN, PASSES_MAX, "passes of a key slot")


def _verified_lanes(lanes: int) -> int:
    return verified_range(lanes, LANES_MIN, LANES_MAX, "lanes of a key slot")


def _verified_created(created: int) -> int:
    # i64: any value that fits is a time; the gate is for our own encoder.
    return verified_range(created, -(1 << 63), (1 << 63) - 1, "time of a key slot")


def _verified_generation(generation: int) -> int:
    return verified_range(generation, 1, GENERATION_MAX, "generation of the key area")


def work_of(slots: Iterable[Slot | None]) -> int:
    """What it costs to try all used slots, in KiB x passes (docs/format.md, 4.3)."""
    return sum(slot.memory * slot.passes for slot in slots if slot is not None)


def _verified_work(slots: tuple[Slot | None, ...]) -> None:
    work = work_of(slots)
    if work > WORK_MAX:
        raise LimitError(
            f"key area: to try all its slots costs {work} KiB x passes of key derivation, "
            f"{work // WORK_RECOMMENDED} times the recommended cost of one; at most {WORK_MAX} are "
            "allowed, and nothing was derived"
        )


def _sized(name: str, value: bytes, length: int) -> bytes:
    # struct would pad or cut a field silently; a wrong length here is a bug of ours.
    if len(value) != length:
        raise RuntimeError(f"internal error: key area {name} of {len(value)} bytes")
    return value
