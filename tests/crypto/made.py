"""Small pieces that the tests of keys and ciphers share."""

from __future__ import annotations

from pathlib import Path

from aipimage.format.header import Header, encode_core, encode_core_body
from aipimage.format.keyarea import KeyArea, Slot, encode_key_area
from aipimage.format.parts import PartHeader, encode_part_header
from aipimage.format.record import RecordHeader, encode_record_header
from aipimage.io.records.keys import Argon2Parameters, ChainKeys, Suite, wrap_chain_key

CHEAP = Argon2Parameters(memory=8192, passes=1, lanes=1)
CHAIN_KEY = bytes(range(32))
CHAIN_ID = bytes(range(100, 116))
FILE_ID = bytes(range(200, 216))
OTHER_ID = bytes(range(50, 66))
SUITES = (Suite.AES_128_GCM, Suite.AES_256_GCM, Suite.AES_256_GMAC)


def chain_keys(suite: Suite = Suite.AES_256_GCM, chain_key: bytes = CHAIN_KEY) -> ChainKeys:
    return ChainKeys(chain_key, CHAIN_ID, suite)


def slot_for(password: str, chain_key: bytes = CHAIN_KEY, **arguments: object) -> Slot:
    return wrap_chain_key(password, chain_key, CHAIN_ID, parameters=CHEAP, **arguments)  # type: ignore[arg-type]


def area_of(*slots: Slot | None, generation: int = 1) -> KeyArea:
    return KeyArea(generation, CHAIN_ID, slots + (None,) * (8 - len(slots)))


def record(
    plain: int, kind: int = 1, number: int = 0, origin: bytes = FILE_ID, codec: int = 0
) -> bytes:
    """Return the header of a sealed record with ``plain`` plain bytes."""
    return encode_record_header(RecordHeader(kind, codec, 0, plain + 16, plain, origin, number))


def image_bytes(area: KeyArea, suite: Suite = Suite.AES_256_GCM, *, split: bool = False) -> bytes:
    """Return the start of an image and enough after it; the records are noise."""
    keys = chain_keys(suite)
    header = Header(
        FILE_ID, CHAIN_ID, 0, suite=suite, incompatible=1, key_commitment=keys.key_commitment()
    )
    core = encode_core(header, keys.header_mac(encode_core_body(header)))
    head = encode_part_header(PartHeader(FILE_ID, 1, 0)) if split else b""
    return head + core + encode_key_area(area) * 2 + bytes(range(256)) * 8


def write_image(path: Path, *passwords: str, split: bool = False) -> Path:
    path.write_bytes(image_bytes(area_of(*map(slot_for, passwords)), split=split))
    return path
