"""Disks as machines leave them, made by the system's own tools from volumes that are put in."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

from aipimage.io.blocks.sources import open_source
from aipimage.vmdk.p2v import P2vReport, p2v_report
from aipimage.volumes.tables import mbr
from tests.support.tools import run
from tests.volumes.tables.made import sfdisk

MIB = 1 << 20
ESP = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
BIOS_BOOT = "21686148-6449-6E6F-744E-656564454649"
RESERVED = "E3C9E316-0B5C-4DB8-817D-F92DF00215AE"
BASIC = "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7"
LINUX = "0FC63DAF-8483-4772-8E79-3D69D8477DE4"
CODE = b"\x33\xc0\x8e\xd0" + bytes(range(1, 200))
"""What looks like boot code."""


def disk_of(path: Path, script: str, volumes: Mapping[int, Path], code: bytes = b"") -> Path:
    """A disk of 64 MiB by a script of sfdisk, volumes by their byte, and boot code."""
    sfdisk(path, 64 * MIB, script)
    with open(path, "r+b") as disk:
        disk.write(code)
        for at, volume in volumes.items():
            disk.seek(at)
            with open(volume, "rb") as file:
                shutil.copyfileobj(file, disk)
    return path


def fat(path: Path, tree: Sequence[str], size: int = 8 * MIB, *options: str) -> Path:
    """A FAT volume with directories, and with files (names with a dot), both empty."""
    with open(path, "wb") as file:
        file.truncate(size)
    run(["mkfs.fat", *options, path])
    empty = path.with_suffix(".empty")
    empty.write_bytes(b"")
    for name in tree:
        if "." in name:
            run(["mcopy", "-i", path, empty, f"::/{name}"])
        else:
            run(["mmd", "-i", path, f"::/{name}"])
    return path


def ntfs(path: Path, names: Sequence[str], *options: str, size: int = 8 * MIB) -> Path:
    """An NTFS volume with empty files in its root directory."""
    with open(path, "wb") as file:
        file.truncate(size)
    run(["mkntfs", "--fast", "--force", "--quiet", *options, path])
    content = path.with_suffix(".content")
    content.write_bytes(b"x")
    for name in names:
        run(["ntfscp", "--force", path, content, name])
    return path


def report(path: Path, **more: object) -> P2vReport:
    """The report of a disk in a file."""
    source = open_source(path)
    try:
        return p2v_report(source, **more)  # type: ignore[arg-type]
    finally:
        source.close()


def chs(lba: int, heads: int, track: int) -> bytes:
    """A CHS address as it is stored."""
    cylinder, rest = divmod(lba, heads * track)
    head, sector = divmod(rest, track)
    return bytes((head, (sector + 1) | (cylinder >> 2 & 0xC0), cylinder & 0xFF))


def with_geometry(sector: bytes, heads: int, track: int) -> bytes:
    """An MBR whose CHS addresses are those of a geometry."""
    entries = [
        each._replace(
            first_chs=chs(each.start, heads, track), last_chs=chs(each.end - 1, heads, track)
        )
        if each.is_used
        else each
        for each in mbr.entries_of(sector)
    ]
    return mbr.with_entries(sector, entries)


def set_geometry(path: Path, heads: int, track: int) -> None:
    """The same for a disk in a file."""
    with open(path, "r+b") as disk:
        sector = disk.read(512)
        disk.seek(0)
        disk.write(with_geometry(sector, heads, track))


def drive_fields(sector: bytes) -> tuple[int, int, int]:
    """Sectors a track, heads, hidden sectors of a boot sector of NTFS or FAT."""
    track, heads, hidden = struct.unpack_from("<HHI", sector, 24)
    return track, heads, hidden
