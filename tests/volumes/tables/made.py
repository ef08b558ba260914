"""Disks with partition tables: made by sfdisk and sgdisk, and byte by byte for the hostile ones."""

from __future__ import annotations

import json
import random
import re
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

from aipimage.io.blocks.sources import BlockSource, open_source
from aipimage.volumes.tables.model import PartitionTable
from tests.support import loop_device
from tests.support.sources import SparseSource
from tests.support.tools import run

MIB = 1 << 20
LINUX = "0fc63daf-8483-4772-8e79-3d69d8477de4"
EXTENDED_TYPES = {"5", "f", "85"}
Row = tuple[int, int, int, int]
"""A partition record: status, type, first sector, sectors."""


# Byte by byte


def mbr_sector(rows: Sequence[Row], signature: int = 0x1234ABCD, code: bytes = b"") -> bytes:
    """A boot record with up to four partitions."""
    data = bytearray(512)
    data[: len(code)] = code
    data[440:444] = signature.to_bytes(4, "little")
    for index, (status, kind, start, count) in enumerate(rows):
        struct.pack_into("<B3sB3sII", data, 446 + 16 * index, status, b"\xfe\xff\xff", kind,
                         b"\xfe\xff\xff", start, count)  # fmt: skip
    data[510:512] = b"\x55\xaa"
    return bytes(data)


def fat_sector(rows: list[Row], sectors: int = 131_072) -> bytes:
    """A boot sector of FAT16 with partition records in its code."""
    data = bytearray(mbr_sector(rows))
    struct.pack_into("<HBHBHHBHHHII", data, 11, 512, 4, 1, 2, 512, 0, 0xF8, 64, 63, 255, 0, sectors)
    return bytes(data)


def source_of(size: int, pieces: dict[int, bytes], sector_size: int = 512) -> SparseSource:
    """A sparse source with such sectors."""
    source = SparseSource(size, pieces)
    source.sector_size = sector_size
    return source


def gpt_entry(number: int, start: int, last: int, name: str = "", attributes: int = 0) -> bytes:
    """An entry of 128 bytes, of the type of Linux data."""
    kind, guid = UUID(LINUX).bytes_le, UUID(int=number + (7 << 64)).bytes_le
    text = name.encode("utf-16-le").ljust(72, b"\0")
    return struct.pack("<16s16sQQQ72s", kind, guid, start, last, attributes, text)


def gpt_header(
    array: bytes,
    lba: int,
    alternate: int,
    entries_lba: int,
    first: int,
    last: int,
    sector: int = 512,
    count: int | None = None,
    entry_size: int = 128,
) -> bytes:
    """A header with right checksums."""
    fields = [
        b"EFI PART", 0x10000, 92, 0, 0, lba, alternate, first, last, UUID(int=99).bytes_le,
        entries_lba, len(array) // entry_size if count is None else count, entry_size,
        zlib.crc32(array),
    ]  # fmt: skip
    form = "<8sIIIIQQQQ16sQIII"
    fields[3] = zlib.crc32(struct.pack(form, *fields))
    return struct.pack(form, *fields).ljust(sector, b"\0")


def gpt_pieces(
    size: int,
    entries: dict[int, tuple[int, int]],
    sector: int = 512,
    count: int = 128,
    mbr_rows: Sequence[Row] | None = None,
    backup: dict[int, tuple[int, int]] | None = None,
) -> dict[int, bytes]:
    """A disk with a GPT: (first, last block) by number; ``backup`` for a second copy of its own."""
    blocks, room = size // sector, -(-count * 128 // sector)
    arrays = []
    for rows in (entries, entries if backup is None else backup):
        array = bytearray(128 * count)
        for number, (start, last) in rows.items():
            array[128 * (number - 1) : 128 * number] = gpt_entry(number, start, last)
        arrays.append(bytes(array))
    first, last, end = 2 + room, blocks - 2 - room, blocks - 1
    rows = [(0, 0xEE, 1, min(blocks - 1, 0xFFFFFFFF))] if mbr_rows is None else mbr_rows
    return {
        0: mbr_sector(rows, 0).ljust(sector, b"\0"),
        sector: gpt_header(arrays[0], 1, end, 2, first, last, sector),
        2 * sector: arrays[0],
        (last + 1) * sector: arrays[1],
        end * sector: gpt_header(arrays[1], end, 1, last + 1, first, last, sector),
    }


# By tools


@contextmanager
def opened(path: Path, sector: int = 512) -> Iterator[tuple[str, BlockSource]]:
    """A disk in a file as tools and as the library see it; with other sectors, a loop device."""
    with ExitStack() as stack:
        name = str(path)
        if sector != 512:
            name = stack.enter_context(loop_device(path, "--sector-size", str(sector)))
        source = open_source(name)
        stack.callback(source.close)
        yield name, source


def sfdisk(path: Path, size: int, script: str, sector: int = 512) -> None:
    """Make a disk from a script of sfdisk."""
    path.unlink(missing_ok=True)
    with open(path, "wb") as file:
        file.truncate(size)
    text = path.with_suffix(".script")
    text.write_text(script)
    with opened(path, sector) as (name, _):
        shell = 'LC_ALL=C.UTF-8 sfdisk -q --no-reread --no-tell-kernel "$0" < "$1"'
        run(["sh", "-c", shell, name, str(text)])


def sgdisk(path: Path, size: int | None, *options: str, sector: int = 512) -> None:
    """Make or change a disk by sgdisk."""
    if size is not None:
        path.unlink(missing_ok=True)
        with open(path, "wb") as file:
            file.truncate(size)
    with opened(path, sector) as (name, _):
        run(["sgdisk", *options, name])


def told_by_sfdisk(name: str) -> dict[str, Any]:
    """What sfdisk reads."""
    text = run(["env", "LC_ALL=C.UTF-8", "sfdisk", "--json", name])
    table = json.loads(text[text.index("{") :])["partitiontable"]
    assert isinstance(table, dict)
    return table


def told_by_blkid(name: str) -> dict[str, str]:
    """PTTYPE and PTUUID as blkid probes them."""
    text = run(["blkid", "-p", "-o", "export", name], codes=(0, 2, 8))
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def compare(table: PartitionTable, name: str) -> None:
    """Fail unless sfdisk and blkid say the same of a disk with a right table."""
    told, seen = told_by_sfdisk(name), told_by_blkid(name)
    sector = told["sectorsize"]
    assert table.doubt is None
    assert (table.scheme, table.sector_size) == ({"dos": "mbr"}.get(told["label"], "gpt"), sector)
    assert seen.get("PTTYPE") == {"mbr": "dos"}.get(table.scheme, "gpt")
    if table.scheme == "gpt":
        assert table.disk_guid == told["id"].lower() == seen["PTUUID"]
        assert table.first_usable == told["firstlba"] * sector
        assert table.usable_end == (told["lastlba"] + 1) * sector
    else:
        assert f"0x{table.signature}" == told["id"]
        assert table.signature == seen.get("PTUUID", "00000000")
    _compare_rows(table, told.get("partitions", []), sector)


def _compare_rows(table: PartitionTable, rows: list[dict[str, Any]], sector: int) -> None:
    theirs, containers = {}, {}
    for row in rows:
        found = re.search(r"(\d+)$", row["node"])
        assert found is not None
        kind = row["type"].lower()
        place = row["start"] * sector, row["size"] * sector
        if kind in EXTENDED_TYPES:
            containers[int(found[1])] = place
        else:
            active = bool(row.get("bootable")) or "LegacyBIOSBootable" in row.get("attrs", "")
            kind = kind if table.scheme == "gpt" else f"0x{int(kind, 16):02x}"
            names = row.get("name", ""), row.get("uuid", "").lower()
            names = names if table.scheme == "gpt" else ("", "")
            theirs[int(found[1])] = (*place, kind, active, *names)
    ours = {
        part.number: (part.start, part.size, part.type, part.active, part.name, part.guid)
        for part in table.partitions
    }
    assert ours == theirs
    assert {outer.number: (outer.start, outer.size) for outer in table.extended} == containers
    assert [part.number for part in table.partitions if part.doubt] == []


# Layouts


def random_mbr(seed: int, sectors: int) -> str:
    """A script for an MBR with primary and logical partitions at odd and even places."""
    rng = random.Random(seed)
    lines = ["label: dos", f"label-id: 0x{rng.randrange(1, 1 << 32):08x}", "unit: sectors"]
    grain = rng.choice((1, 8, 63, 2048))
    primaries, logicals = rng.randint(0, 3), rng.choice((0, 0, 1, 2, 5, 12))
    slots = rng.sample((1, 2, 3, 4), primaries + (logicals > 0))
    at, box = rng.choice((1, 34, 63, 2048)), rng.choice(slots) if logicals else 0
    room = sectors // (len(slots) + 1) if slots else 0
    later = []
    for slot in slots:
        at = -(-at // grain) * grain
        most = max(room - 2 * grain, 100)
        size = rng.randint(most // 2, most)
        kind = rng.choice(("5", "f", "85")) if slot == box else rng.choice(("83", "7", "c", "82"))
        flag = ", bootable" if rng.random() < 0.3 and slot != box else ""
        lines.append(f"{slot}: start={at}, size={size}, type={kind}{flag}")
        if slot == box:
            later = _logicals(rng, at, size, logicals)
        at += size + rng.choice((0, 1, 100))
    return "\n".join([*lines, *later]) + "\n"


def _logicals(rng: random.Random, at: int, size: int, count: int) -> list[str]:
    lines, step = [], size // count
    for index in range(count):
        lead = min(rng.choice((1, 2, 63)), step - 1)
        length = rng.randint(1, step - lead)
        begin = at + index * step + lead
        lines.append(f"{5 + index}: start={begin}, size={length}, type=83")
    return lines


def random_gpt(seed: int, sectors: int) -> str:
    """A script for a GPT; numbers have gaps and are not in the order of the disk."""
    rng = random.Random(seed)
    length = rng.choice((128, 128, 4, 16, 200))
    lines = ["label: gpt", f"label-id: {UUID(int=rng.getrandbits(128))}", "unit: sectors"]
    lines += [f"table-length: {length}"] if length != 128 else []
    count = rng.randint(0, min(length, 20))
    edges = sorted(rng.sample(range(2048, sectors - 100), 2 * count))
    for number in rng.sample(range(1, length + 1), count):
        low, high = edges.pop(0), edges.pop(0)
        flags = rng.choice(
            ("", ', attrs="LegacyBIOSBootable GUID:63"', ", attrs=RequiredPartition")
        )
        name = rng.choice(("", ', name="root"', ', name="daß Ende"'))
        lines.append(f"{number}: start={low}, size={high - low}, type={LINUX}{name}{flags}")
    return "\n".join(lines) + "\n"
