"""A minimal reader of ``.aiv`` images, written from docs/format.md alone: it shares no code with
the package, and shows that the text is enough. It reads whole devices into memory, and does not
verify. This half has what stands for itself: parts, header core, keys and records;
``readerimage.py`` has the image.

Each refusal is a :class:`Refusal` of one of the kinds of section 17. Functions cite the section
that they follow.
"""

from __future__ import annotations

import hmac
import re
import unicodedata
from pathlib import Path
from struct import calcsize, unpack_from
from typing import Any, NamedTuple, NoReturn

import zstandard
from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESGCMSIV
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

FRAME, LEAF, INDEX, MAP, SEGMENTS, SEAL = 1, 2, 3, 4, 9, 10
UNUSED, ZERO, DATA, UNREADABLE, PAGE, LOST = range(6)
NONE = bytes(64)
MIB = 1 << 20


class Refusal(Exception):  # noqa: N818
    """``kind`` is a name of section 17."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(f"{kind}: {text}")
        self.kind = kind


def refuse(kind: str, text: str) -> NoReturn:
    raise Refusal(kind + "Error", text)


def need(condition: object, text: str, kind: str = "Format") -> None:
    if not condition:
        refuse(kind, text)


def within(value: int, low: int, high: int, text: str) -> None:
    need(low <= value <= high, text, "Limit")


def h(data: bytes) -> bytes:
    return blake3(data).digest()


def hkdf(key: bytes, salt: bytes, info: bytes, length: int = 32) -> bytes:
    return HKDF(SHA256(), length, salt, info).derive(key)


def fields(layout: str, data: bytes, at: int = 0) -> tuple[Any, ...]:
    need(len(data) - at >= calcsize("<" + layout), "cut short")
    return unpack_from("<" + layout, data, at)


def text_of(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        refuse("Format", "not UTF-8")


class Ref(NamedTuple):
    """Section 5: a reference."""

    origin: bytes
    offset: int
    record: int
    plain: int
    digest: bytes


def reference(data: bytes, at: int = 0) -> Ref | None:
    ref = Ref(*fields("16sQII32s", data, at))
    if data[at : at + 64] == NONE:
        return None
    within(ref.record, 57, 4_456_448 + 56, "record length")
    within(ref.plain, 1, 4 * MIB, "plain length")
    within(ref.offset, 184, (1 << 63) - 1 - ref.record, "offset")
    return ref


class Entry(NamedTuple):
    """Section 7.1, without the hint."""

    origin: bytes
    holder: bytes
    frames: int
    table: Ref | None


def entries_of(data: bytes, at: int, count: int) -> tuple[list[Entry], int]:
    found = []
    for _ in range(count):
        origin, holder, frames = fields("16s16sQ", data, at)
        table = reference(data, at + 40)
        within(frames, 0, 1 << 53, "frames")
        need(any(origin) and any(holder) and (table is None) == (frames == 0), "an origin entry")
        found.append(Entry(origin, holder, frames, table))
        at += 105 + fields("B", data, at + 104)[0]
        need(at <= len(data), "a name is cut short")
    need(len({each.origin for each in found}) == count, "two entries of one origin")
    return found, at


# Parts (section 12)


def load(path: Path) -> tuple[bytes, int]:
    """The stream, and how much of it lies in the first part."""
    data = path.read_bytes()
    if not data.startswith(b"AIVPART1"):
        return data, len(data)
    name = re.sub(r"\.\d{3,5}$", "", path.name)
    same = re.compile(re.escape(name) + r"(\.\d{3,5})?")
    parts: dict[int, tuple[int, bytes, int]] = {}
    own = data[8:24]
    for each in sorted(path.parent.iterdir()):
        if same.fullmatch(each.name):
            number, *rest = part(each.read_bytes(), own)
            need(number not in parts, "a part is there twice")
            parts[number] = (rest[0], rest[1], rest[2])
    ordered = [parts.get(number) for number in range(1, max(parts) + 1)]
    stream = b""
    for piece in ordered:
        need(piece is not None, "a part is missing", "Incomplete")
        assert piece is not None
        need(piece[0] == len(stream), "a part begins elsewhere")
        need(piece[2] == (piece is ordered[-1]), "the last part is missing", "Incomplete")
        stream += piece[1]
    return stream, len(parts[1][1])


def part(data: bytes, own: bytes) -> tuple[int, int, bytes, int]:
    head, foot = data[:128], data[128:][-128:]
    need(head[:8] == b"AIVPART1", "not a part")
    need(h(head[:96]) == head[96:], "part header", "Integrity")
    need(foot[:8] == b"AIVPEND1", "a part is cut short", "Incomplete")
    need(h(foot[:96]) == foot[96:], "part footer", "Integrity")
    set_id, number, reserved, start, more = fields("16sIIQQ", head, 8)
    need(set_id == own and (reserved, more) == (0, 0) and not any(head[48:96]), "part header")
    flags, _, length = fields("IQQ", foot, 28)
    need(foot[8:28] == head[8:28] and foot[32:40] == head[32:40], "part footer")
    within(flags, 0, 1, "flags")
    need(length == len(data) - 256, "length of a part", "Incomplete")
    return number, start, data[128:-128], flags


# Header core (section 3)


class Core(NamedTuple):
    data: bytes
    minor: int
    file_id: bytes
    chain_id: bytes
    suite: int
    shifts: tuple[int, int, int]
    commitment: bytes


def core_of(data: bytes) -> Core:
    need(data[:8] == b"\x89AIV\r\n\x1a\n", "not an image")
    major, minor, length, incompatible = fields("HHIQ", data, 8)
    within(length, 184, MIB, "core length")
    core = data[:length]
    need(len(core) == length and h(core[:-32]) == core[-32:], "header digest", "Integrity")
    need(major == 1, "major", "Unsupported")
    need(incompatible < 16, "an incompatible feature", "Unsupported")
    file_id, chain_id, _, suite = fields("16s16sqB", core, 32)
    frame, stripe, fanout, digest, copies = fields("5B", core, 73)
    need(suite < 4 and digest == 1, "suite or digest", "Unsupported")
    within(frame, 12, 22, "frame_shift")
    within(stripe, 20, 30, "stripe_shift")
    within(fanout, 2, 8, "fanout_shift")
    need(stripe > frame, "a stripe below a frame")
    zero, area, zero2 = fields("HII", core, 78)
    need((zero, area, zero2) == (0, 4096 if suite else 0, 0), "reserved, or length of a key area")
    need(copies == (2 if suite else 0) and incompatible & 1 == bool(suite), "suite without feature")
    need(suite or not any(core[88:120] + core[-64:-32]), "keys without a suite")
    sections(core[120:-64])
    return Core(core, minor, file_id, chain_id, suite, (frame, stripe, fanout), core[88:120])


def sections(data: bytes) -> None:
    at = 0
    while at < len(data):
        kind, reserved, length = fields("HHI", data, at)
        body = data[at + 8 : at + 8 + length]
        need(reserved == 0 and len(body) == length, "a header section")
        if kind == 1:
            need(length % 48 == 0, "name table")
            for place in range(0, length, 48):
                text_of(body[place + 2 : place + 48].rstrip(b"\0"))
        elif kind == 2:
            text_of(body)
        at += 8 + length


# Keys (section 4)


def chain_key(core: Core, areas: bytes, password: str) -> bytes:
    found = []
    for at in (0, 4096):
        copy = areas[at : at + 4096]
        if h(copy[:4064]) == copy[4064:]:
            found.append((fields("Q", copy, 8)[0], at == 0, slots_of(copy, core)))
    need(found, "both key areas are damaged", "Integrity")
    slots = max(found)[2]
    for slot in sorted(slots, key=lambda each: unpack_from("<II", each, 4)[0] * each[8]):
        key = unwrapped(slot, core, unicodedata.normalize("NFC", password).encode())
        if key is not None:
            commitment = hkdf(key, core.chain_id, b"aiv1 chain commitment")
            need(hmac.compare_digest(commitment, core.commitment), "key commitment", "Password")
            return key
    refuse("Password", "wrong")


def slots_of(copy: bytes, core: Core) -> list[bytes]:
    need(copy[:8] == b"AIVKEYS1" and copy[16:32] == core.chain_id, "key area")
    need(not any(copy[2080:4064]), "reserved bytes of a key area")
    within(fields("Q", copy, 8)[0], 1, (1 << 64) - 1, "generation")
    used = [copy[at : at + 256] for at in range(32, 2080, 256) if any(copy[at : at + 256])]
    work = 0
    for slot in used:
        state, kdf, reserved, memory, passes, lanes = fields("BBHIII", slot)
        need(state in (1, 2), "state of a slot")
        need(kdf == 1, "kdf", "Unsupported")
        need(reserved == 0 and not any(slot[156:]), "reserved bytes of a slot")
        within(memory, 8192, MIB, "memory")
        within(passes, 1, 10, "passes")
        within(lanes, 1, 16, "lanes")
        text_of(slot[40:64].rstrip(b"\0"))
        work += memory * passes
    within(work, 0, 6_291_456, "cost of all slots")
    return used


def unwrapped(slot: bytes, core: Core, password: bytes) -> bytes | None:
    memory, passes, lanes = unpack_from("<III", slot, 4)
    derivation = Argon2id(
        salt=slot[16:32], length=32, iterations=passes, lanes=lanes, memory_cost=memory
    )
    p = derivation.derive(password)
    commitment = hkdf(p, core.chain_id, b"aiv1 slot commitment")
    if not hmac.compare_digest(commitment, slot[64:96]):
        return None
    key = hkdf(p, core.chain_id, b"aiv1 slot wrap")
    try:
        associated = b"aiv1 slot" + core.chain_id + slot[:64]
        return AESGCMSIV(key).decrypt(slot[96:108], slot[108:156], associated)
    except InvalidTag:
        refuse("Password", "a tampered slot")


# Records (section 5)


def plain_of(record: bytes, ref: Ref, kind: int, core: Core, key: bytes) -> tuple[bytes, bytes]:
    """The plain payload and the frame extents of a record; the digest first."""
    whole, check = record[:-16], record[-16:]
    need(h(whole) == ref.digest and check == ref.digest[:16], "a record", "Integrity")
    magic, found, codec, count, body, plain, origin, _ = fields("4sBBHII16sQ", whole)
    need(magic == b"AIVR", "magic of a record")
    need(1 <= found <= 12, "type of a record", "Unsupported")
    stated = (found, origin, body + 56, plain)
    need(stated == (kind, ref.origin, ref.record, ref.plain), "a record contradicts its reference")
    need(len(whole) == 40 + body and (not count or kind == FRAME), "a record")
    need(codec < 2, "codec", "Unsupported")
    inside = opened(whole, core, key)
    split = len(inside) - 12 * count
    need(split > 0, "a record without a payload")
    payload = inside[:split]
    if codec:
        payload = decompressed(payload, plain)
    need(len(payload) == plain, "length of a payload", "Integrity" if codec else "Format")
    return payload, inside[split:]


def opened(whole: bytes, core: Core, key: bytes) -> bytes:
    """Section 4.6."""
    head, body = whole[:40], whole[40:]
    if not core.suite:
        return body
    purpose = (b"aiv1 data" if head[4] == FRAME else b"aiv1 metadata") + bytes([core.suite])
    record_key = hkdf(key, head[16:32], purpose, 16 if core.suite == 1 else 32)
    nonce = head[4:5] + bytes(3) + head[32:40]
    associated = b"aiv1" + bytes([core.suite]) + core.chain_id + head
    try:
        if core.suite == 3:
            AESGCM(record_key).decrypt(nonce, body[-16:], associated + body[:-16])
            return body[:-16]
        return AESGCM(record_key).decrypt(nonce, body, associated)
    except InvalidTag:
        refuse("Integrity", "tag of a record")


def decompressed(payload: bytes, plain: int) -> bytes:
    try:
        told = zstandard.get_frame_parameters(payload)
        need(told.content_size == plain, "content size", "Integrity")
        need(told.window_size <= 8 * MIB and not told.dict_id, "window, dictionary", "Integrity")
        machine = zstandard.ZstdDecompressor(max_window_size=8 * MIB).decompressobj()
        found = machine.decompress(payload)
        need(machine.eof and not machine.unused_data, "one whole frame", "Integrity")
        return found
    except zstandard.ZstdError as error:
        refuse("Integrity", str(error))
