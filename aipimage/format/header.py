"""The header core: docs/format.md, section 3."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from aipimage.errors import FormatError, IncompleteError, IntegrityError, UnsupportedError
from aipimage.format import constants as c
from aipimage.format.digest import digest
from aipimage.format.gates import (
    verified_equal,
    verified_ids,
    verified_limit,
    verified_range,
    verified_text,
    verified_zero,
)

_FIXED = struct.Struct("<8sHHIQQ16s16sqBBBBBBHII32s")
_SECTION = struct.Struct("<HHI")
_NAME = struct.Struct("<BB46s")


@dataclass(frozen=True, slots=True)
class Header:
    """Field names as in section 3; ``header_digest`` and ``core_length`` are set by both twins."""

    file_id: bytes
    chain_id: bytes
    created: int
    suite: int = c.SUITE_NONE
    incompatible: int = 0
    compatible: int = 0
    frame_shift: int = 16
    stripe_shift: int = 22
    fanout_shift: int = 6
    key_commitment: bytes = c.ZERO_DIGEST
    creator: str = ""
    minor: int = c.MINOR
    core_length: int = 0
    header_mac: bytes = c.ZERO_DIGEST
    header_digest: bytes = field(default=c.ZERO_DIGEST)

    @property
    def key_copies(self) -> int:
        return c.KEY_COPIES if self.suite else 0

    @property
    def key_area_length(self) -> int:
        return c.KEY_AREA_LENGTH if self.suite else 0

    @property
    def records_start(self) -> int:
        """Stream offset of the first record."""
        return self.core_length + self.key_copies * self.key_area_length

    @property
    def frame_size(self) -> int:
        """Bytes of plain data in a full frame."""
        return 1 << self.frame_shift

    @property
    def shifts(self) -> tuple[int, int, int]:
        """What is the same in all images of a chain: sizes of frames, stripes and map pages."""
        return self.frame_shift, self.stripe_shift, self.fanout_shift

    @property
    def frame_sectors(self) -> int:
        """S of section 6: sectors in a full frame."""
        return self.frame_size // 512


def encode_core_body(header: Header) -> bytes:
    """Return the core without its MAC and digest (its last 64 bytes)."""
    sections = _encode_sections(header)
    length = c.CORE_FIXED + len(sections) + c.CORE_TAIL
    verified_limit(length, c.CORE_MAX, "header length")
    fixed = _FIXED.pack(
        c.HEADER_MAGIC, c.MAJOR, header.minor, length, header.incompatible, header.compatible,
        header.file_id, header.chain_id, header.created, header.suite, header.frame_shift,
        header.stripe_shift, header.fanout_shift, c.DIGEST_BLAKE3, header.key_copies, 0,
        header.key_area_length, 0, header.key_commitment,
    )  # fmt: skip
    return fixed + sections


def encode_core(header: Header, header_mac: bytes = c.ZERO_DIGEST) -> bytes:
    """Return the whole core."""
    body = encode_core_body(header) + header_mac
    return body + digest(body)


def decode_core_length(fixed: bytes) -> int:
    """Return ``core_length`` from the first 120 bytes of a stream, with the checks it needs."""
    if len(fixed) < c.CORE_FIXED:
        raise IncompleteError(f"only {len(fixed)} bytes long: too short for an image header")
    if fixed[:8] != c.HEADER_MAGIC:
        raise FormatError("not an .aiv image: the magic bytes are missing")
    return verified_range(
        int.from_bytes(fixed[12:16], "little"), c.CORE_MIN, c.CORE_MAX, "header length"
    )


def decode_core(core: bytes) -> Header:
    """Decode and check a whole core; the MAC is checked by the keys' owner (section 4.5)."""
    verified_equal(len(core), decode_core_length(core), "header core length")
    if digest(core[:-32]) != core[-32:]:
        raise IntegrityError("the header is damaged: its digest does not match")
    # After the digest, so that a flipped bit is not taken for a newer version.
    major = int.from_bytes(core[8:10], "little")
    if major != c.MAJOR:
        raise UnsupportedError(f"format version {major} is not known; version {c.MAJOR} is")
    (_, _, minor, length, incompatible, compatible, file_id, chain_id, created, suite, frame_shift,
     stripe_shift, fanout_shift, digest_kind, key_copies, reserved, key_area_length, reserved2,
     commitment) = _FIXED.unpack_from(core)  # fmt: skip
    names, creator = _decode_sections(core[c.CORE_FIXED : -c.CORE_TAIL])
    _refuse_unknown_features(incompatible, names)
    header = Header(
        file_id, chain_id, created, suite, incompatible, compatible, frame_shift, stripe_shift,
        fanout_shift, commitment, creator, minor, length, core[-64:-32], core[-32:],
    )  # fmt: skip
    _check_values(header, digest_kind)
    verified_equal(key_copies, header.key_copies, "number of key area copies")
    verified_equal(key_area_length, header.key_area_length, "key area length")
    verified_equal((reserved, reserved2), (0, 0), "reserved field of the header")
    return header


def _check_values(header: Header, digest_kind: int) -> None:
    if header.suite > c.SUITE_AES_256_GMAC:
        raise UnsupportedError(f"cipher suite {header.suite} is not known")
    if digest_kind != c.DIGEST_BLAKE3:
        raise UnsupportedError(f"digest algorithm {digest_kind} is not known")
    verified_range(header.frame_shift, 12, 22, "frame size exponent")
    verified_range(header.stripe_shift, 20, 30, "stripe size exponent")
    verified_range(header.fanout_shift, 2, 8, "map fan-out exponent")
    if header.stripe_shift <= header.frame_shift:
        raise FormatError("the stripe size must be greater than the frame size")
    sealed = bool(header.incompatible & c.Incompatible.SEALED_RECORDS)
    verified_equal(sealed, header.suite != c.SUITE_NONE, "feature sealed-records")
    verified_ids((header.file_id, header.chain_id), "header")
    if header.suite == c.SUITE_NONE:
        verified_zero(header.key_commitment + header.header_mac, "header of a plain image")


def _refuse_unknown_features(incompatible: int, names: dict[tuple[int, int], str]) -> None:
    known = int(sum(c.Incompatible))
    for bit in range(64):
        if incompatible >> bit & 1 and not known >> bit & 1:
            name = ascii(names.get((0, bit), "without a name"))
            raise UnsupportedError(f"needs feature {bit}, {name}, which this release does not know")


def _encode_sections(header: Header) -> bytes:
    names = b"".join(
        _NAME.pack(kind, bit, name.encode())
        for (kind, bit), name in c.FEATURE_NAMES.items()
        if (header.compatible if kind else header.incompatible) >> bit & 1
    )
    creator = header.creator.encode()
    return b"".join(
        _SECTION.pack(kind, 0, len(body)) + body
        for kind, body in ((c.SECTION_FEATURE_NAMES, names), (c.SECTION_CREATOR, creator))
        if body
    )


def _decode_sections(data: bytes) -> tuple[dict[tuple[int, int], str], str]:
    names: dict[tuple[int, int], str] = {}
    creator, at = "", 0
    while at < len(data):
        if len(data) - at < _SECTION.size:
            raise FormatError("a header section is cut short")
        kind, reserved, length = _SECTION.unpack_from(data, at)
        verified_equal(reserved, 0, "reserved field of a header section")
        at += _SECTION.size
        if length > len(data) - at:
            raise FormatError("a header section ends beyond the header")
        body = data[at : at + length]
        at += length
        if kind == c.SECTION_FEATURE_NAMES:
            names = _decode_names(body)
        elif kind == c.SECTION_CREATOR:
            creator = verified_text(body, "creator in the header")
    return names, creator


def _decode_names(body: bytes) -> dict[tuple[int, int], str]:
    if len(body) % _NAME.size:
        raise FormatError("the feature name table is cut short")
    return {
        (kind, bit): verified_text(name.rstrip(b"\0"), "name of a feature")
        for kind, bit, name in _NAME.iter_unpack(body)
    }
