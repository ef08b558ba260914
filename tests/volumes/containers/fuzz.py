"""A fuzz target for containers and opaque contents."""

from __future__ import annotations

import struct

from aipimage.volumes.filesystems import bitlocker, luks, lvm, md, opaque, swap, vmfs
from aipimage.volumes.filesystems.md.layout import places
from aipimage.volumes.model import Parser, SurveyOptions
from aipimage.volumes.view import LayoutError, VolumeView
from tests.support.sources import SparseSource
from tests.volumes.containers import built as build
from tests.volumes.containers.built import PhysicalVolume, linear, lvm_crc
from tests.volumes.containers.made import check_ranges

PARSERS: tuple[Parser, ...] = tuple(
    module.PARSER for module in (swap, lvm, md, luks, bitlocker, vmfs, opaque)
)
_MD_MAGIC = b"\xfc\x4e\x2b\xa9"
SIZE = 48 << 10
"""Bytes of the volume that an input is the head of, at least; the rest is zero."""


def fuzz_containers(data: bytes) -> None:
    """Probe and read the map of a volume, as it is and with its checksums repaired."""
    for attempt in (data, repair(data)):
        for parser in PARSERS:
            _drive(parser, SparseSource(max(SIZE, len(data)), {0: attempt}))
    # The superblock of version 0.90 lies in the last 64 KiB of at least 128.
    head, content = sealed_90(data[:4096]), data[4096 : 64 << 10]
    _drive(md.PARSER, SparseSource(128 << 10, {0: content, 64 << 10: head}))


def _drive(parser: Parser, source: SparseSource) -> None:
    view = VolumeView(source, 0, source.size)
    filesystem = parser.probe(view)
    assert source.bytes_read <= 256 << 10
    if filesystem is None or parser.allocation is None:
        return
    view.allow(1 << 20)
    try:
        allocation = parser.allocation(view, filesystem, SurveyOptions())
    except LayoutError as error:
        _check_words(str(error))
        return
    _check_words(*allocation.notes)
    check_ranges(allocation, source.size)
    assert allocation.free.total < source.size
    # Whatever says what is free is in use itself.
    assert all(int(rows[0, 0]) >= 2048 for rows in allocation.free.ranges(0, source.size))


def _check_words(*said: str) -> None:
    """The registry tells of what went wrong within a container in words."""
    assert not any("internal error" in words for words in said), said


def repair(data: bytes) -> bytes:
    """All checksums, where the structures that they cover are at all."""
    changed = bytearray(data)
    for sector in range(4):
        at = sector * 512
        if changed[at : at + 8] == b"LABELONE" and at + 512 <= len(changed):
            changed[at : at + 512] = build.sealed_label(bytes(changed[at : at + 512]))
    start = build.MDA[0]
    if changed[start + 4 : start + 9] == b" LVM2" and len(changed) >= start + 512:
        offset, size = struct.unpack_from("<QQ", changed, start + 40)
        text = changed[start + offset : start + offset + size] if offset < len(changed) else b""
        struct.pack_into("<I", changed, start + 56, lvm_crc(bytes(text)))
        changed[start : start + 512] = build.sealed_header(bytes(changed[start : start + 512]))
    for version, at in places(max(SIZE, len(changed))):
        superblock = bytes(changed[at : at + 4096])
        if version != "0.90" and len(superblock) == 4096 and superblock[:4] == _MD_MAGIC:
            changed[at : at + 4096] = build.sealed_1(superblock)
    return bytes(changed)


def seeds() -> list[bytes]:
    """Small volumes of all kinds, with swap space inside of those that are looked into."""
    alone = PhysicalVolume(None, SIZE, used=False)
    swap_spaces = [build.swap(12), build.swap(3, 8192, order=">"), build.swap(3, bad=[1])]
    return [_lvm(), _lvm_of_kinds(), laid_out(alone.pieces()), *_arrays(), *swap_spaces, _luks()]


def sealed_90(data: bytes) -> bytes:
    """The superblock with the magic that makes it one, and its checksum."""
    words = list(struct.unpack("<1024I", data.ljust(4096, b"\0")))
    words[0], words[38] = 0xA92B4EFC, 0
    total = sum(words)
    words[38] = ((total & 0xFFFFFFFF) + (total >> 32)) & 0xFFFFFFFF
    return struct.pack("<1024I", *words)


def laid_out(pieces: dict[int, bytes], size: int = SIZE) -> bytes:
    """Pieces at their places, with zeros between."""
    data = bytearray(size)
    for at, piece in pieces.items():
        data[at : at + len(piece)] = piece
    return bytes(data)


def _lvm() -> bytes:
    text = build.group_text({"a": linear((2, 3)), "b": linear((6, 1), (0, 1))}, 8)
    return laid_out(PhysicalVolume(text, SIZE).pieces() | {24_576: build.swap(3)})


def _lvm_of_kinds() -> bytes:
    volumes = {
        "s": build.volume([build.striped(0, 2, [("pv0", 0), ("pv0", 4)])]),
        "t": build.volume([build.segment(0, 9, "thin", 'thin_pool = "p"')]),
        "p": linear((1, 2), status=("READ", "WRITE")),
    }
    made = PhysicalVolume(build.group_text(volumes, 8), SIZE, text_at=11_000)
    return laid_out(made.pieces())


def _arrays() -> list[bytes]:
    swap_space = build.swap(4)
    found = []
    for at in (0, 8, (SIZE // 512 - 16) & ~7):
        data = 0 if at > 8 else 32
        superblock = build.Superblock1(at, data, 40, features=1, bitmap=8, data_size=40)
        bitmap = build.bitmap(40, 4096, bytes(range(16)), bytes(16))
        pieces = {at * 512: superblock.encode(), data * 512: swap_space}
        pieces[(at + 8) * 512] = bitmap
        found.append(laid_out(pieces, SIZE))
    return [*found, build.superblock_90(64) + swap_space]


def _luks() -> bytes:
    return laid_out({0: b"LUKS\xba\xbe\0\2".ljust(512, b"\0")}, 4096)
