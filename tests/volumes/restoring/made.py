"""Disks with volumes of many kinds, made and checked by the system's own tools."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from tests.support import loop_device
from tests.support.tools import PATH, mounted, require_programs, run

MIB = 1 << 20
LARGEST_GAP = 4 * MIB
GPT_TYPES = {
    "bios": "21686148-6449-6E6F-744E-656564454649",
    "fat32": "C12A7328-F81F-11D2-BA4B-00A0C93EC93B",
    "swap": "0657FD6D-A4AB-43C4-84E5-0933C84B4F4F",
    "ntfs": "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7",
    "exfat": "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7",
}
LINUX = "0FC63DAF-8483-4772-8E79-3D69D8477DE4"
MBR_TYPES = {"fat16": "6", "fat32": "c", "ntfs": "7", "exfat": "7", "swap": "82"}
PROGRAMS = {
    "ext4": ("mke2fs", "e2fsck"),
    "ext2": ("mke2fs", "e2fsck"),
    "ntfs": ("mkfs.ntfs", "ntfs-3g"),
    "fat12": ("mkfs.fat", "fsck.fat", "mcopy"),
    "fat16": ("mkfs.fat", "fsck.fat", "mcopy"),
    "fat32": ("mkfs.fat", "fsck.fat", "mcopy"),
    "exfat": ("mkfs.exfat", "fsck.exfat"),
    "xfs": ("mkfs.xfs", "xfs_repair"),
    "btrfs": ("mkfs.btrfs", "btrfs"),
    "swap": ("mkswap",),
}
CHECKS = {
    "ext4": ["e2fsck", "-fn"],
    "ext2": ["e2fsck", "-fn"],
    "ntfs": ["ntfsresize", "-i", "-f"],
    "fat12": ["fsck.fat", "-n"],
    "fat16": ["fsck.fat", "-n"],
    "fat32": ["fsck.fat", "-n"],
    "exfat": ["fsck.exfat", "-n"],
    "xfs": ["xfs_repair", "-n", "-f"],
    "btrfs": ["btrfs", "check", "--readonly", "--check-data-csum"],
    "swap": ["blkid", "-p"],
}
_SMALL_XFS = {"TEST_DIR": "x", "TEST_DEV": "x", "QA_CHECK_FS": "x"}


@dataclass(frozen=True)
class Wanted:
    """A partition to be made: kind of its content, MiB, and MiB of free space in front of it."""

    kind: str
    mib: int
    gap: int = 0
    logical: bool = False


@dataclass(frozen=True)
class Found:
    """A partition as sfdisk sees it, bytes."""

    number: int
    start: int
    size: int
    type: str
    uuid: str = ""


def tree_of(directory: Path, seed: int = 1, files: int = 30, most: int = 40_000) -> Path:
    """A directory with some files."""
    chance = random.Random(seed)
    directory.mkdir(parents=True)
    for number in range(files):
        folder = directory / f"d{number % 3}"
        folder.mkdir(exist_ok=True)
        (folder / f"file{number}.bin").write_bytes(chance.randbytes(chance.randrange(most)))
    return directory


def hashes_in(directory: Path) -> dict[str, str]:
    """The files below a directory, each with its digest."""
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def make_volume(kind: str, path: Path, size: int, tree: Path) -> None:
    """Make a volume of ``size`` bytes in a new file, with the files of a directory in it."""
    with open(path, "wb") as file:
        file.truncate(size)
    require_programs(*PROGRAMS.get(kind, ()))
    if kind.startswith("ext"):
        run(["mke2fs", "-q", "-t", kind, "-d", tree, path])
    elif kind == "ntfs":
        run(
            ["mkfs.ntfs", "-Q", "-F", "-q", "-s", "512", "-p", "2048", "-H", "16", "-S", "63", path]
        )
        with fuse("ntfs-3g", path) as place:
            run(["cp", "-r", f"{tree}/.", place])
    elif kind.startswith("fat"):
        run(["mkfs.fat", "-F", kind[3:], path])
        run(["mcopy", "-s", "-i", path, *sorted(tree.iterdir()), "::/"])
    elif kind == "exfat":
        run(["mkfs.exfat", path])
        with fuse("mount.exfat-fuse", path) as place:
            run(["cp", "-r", f"{tree}/.", place])
    elif kind == "xfs":
        subprocess.run(
            ["mkfs.xfs", "-q", "-l", "size=8m", str(path)],
            check=True,
            env=os.environ | _SMALL_XFS | {"PATH": PATH},
        )
        with mounted(path, path.with_suffix(".mnt"), "-o", "nouuid") as place:
            run(["cp", "-r", f"{tree}/.", place])
    elif kind == "btrfs":
        run(["mkfs.btrfs", "-q", "--rootdir", tree, path])
    elif kind == "swap":
        run(["mkswap", "-L", "swap", path])
    else:
        path.write_bytes(random.Random(kind).randbytes(size))


@contextmanager
def fuse(program: str, path: Path) -> Iterator[Path]:
    """Mount through FUSE, and unmount afterwards."""
    require_programs(program)
    place = path.with_suffix(".mnt")
    place.mkdir(exist_ok=True)
    # exfat-fuse takes nothing but devices.
    with loop_device(path) if "exfat" in program else nullcontext(path) as what:
        run([program, what, place])
        try:
            yield place
        finally:
            run(["umount", place])


def content_of(kind: str, path: Path) -> dict[str, str]:
    """The files of a volume, each with its digest; of swap and the unknown one digest."""
    if kind in ("ext2", "ext4", "xfs", "btrfs"):
        options = {"xfs": "ro,nouuid", "ext4": "ro,noload"}.get(kind, "ro")
        with mounted(path, path.with_suffix(".mnt"), "-o", options) as place:
            return _without_lost(hashes_in(place))
    if kind in ("ntfs", "exfat"):
        program = "ntfs-3g" if kind == "ntfs" else "mount.exfat-fuse"
        with fuse(program, path) as place:
            return hashes_in(place)
    if kind.startswith("fat"):
        out = path.with_suffix(".out")
        out.mkdir()
        run(["mcopy", "-s", "-n", "-i", path, "::/", out])
        return hashes_in(out)
    if kind == "swap":
        return {"": run(["blkid", "-p", "-s", "UUID", "-s", "LABEL", "-o", "value", path])}
    return {"": hashlib.sha256(path.read_bytes()).hexdigest()}


def _without_lost(found: dict[str, str]) -> dict[str, str]:
    return {name: digest for name, digest in found.items() if "lost+found" not in name}


def check_volume(kind: str, path: Path) -> None:
    """The file system's own check finds nothing."""
    if kind in CHECKS:
        run([*CHECKS[kind], path])


def copy_range(source: Path, offset: int, length: int, target: Path, at: int = 0) -> None:
    """Copy bytes of a file into another one, leaving zeros out."""
    with open(source, "rb") as have, open(target, "r+b" if target.exists() else "w+b") as into:
        have.seek(offset)
        for done in range(0, length, MIB):
            part = have.read(min(MIB, length - done))
            if part.strip(b"\0"):
                into.seek(at + done)
                into.write(part)
        into.truncate(max(at + length, into.seek(0, 2)))


def make_disk(
    directory: Path, label: str, wanted: Sequence[Wanted], tail: int = 2, seed: int = 1
) -> Path:
    """Make a disk ``disk.raw`` with these partitions, in a sparse file; ``tail``: MiB behind."""
    require_programs("sfdisk")
    directory.mkdir(exist_ok=True)
    disk = directory / "disk.raw"
    tree = tree_of(directory / "tree", seed)
    lines, at, extended = [f"label: {label}", "unit: sectors"], 1, False
    end = 1 + sum(w.mib + w.gap + w.logical for w in wanted)
    for each in wanted:
        if each.logical and not extended:
            lines.append(f"start={at * 2048}, size={(end - at) * 2048}, type=5")
            extended = True
        at += each.gap + each.logical
        kind = (GPT_TYPES if label == "gpt" else MBR_TYPES).get(each.kind)
        type_ = kind or (LINUX if label == "gpt" else "83")
        lines.append(f"start={at * 2048}, size={each.mib * 2048}, type={type_}")
        at += each.mib
    with open(disk, "wb") as file:
        file.truncate((end + tail) * MIB)
    subprocess.run(
        ["sfdisk", "-q", str(disk)],
        input="\n".join(lines).encode(),
        check=True,
        env=os.environ | {"PATH": PATH},
    )
    for each, part in zip(wanted, partitions_of(disk, volumes_only=True), strict=True):
        volume = directory / f"volume{part.number}"
        make_volume(each.kind, volume, part.size, tree)
        _set_hidden(volume, each.kind, part.start // 512)
        copy_range(volume, 0, part.size, disk, part.start)
    return disk


def _set_hidden(volume: Path, kind: str, sectors: int) -> None:
    """What mkfs writes on a partition: the place of it (NTFS and FAT)."""
    with open(volume, "r+b") as file:
        places = {"ntfs": [0, volume.stat().st_size - 512], "fat32": [0, 6 * 512]}
        for place in places.get(kind, [0] if kind.startswith("fat") else []):
            file.seek(place + 28)
            file.write(sectors.to_bytes(4, "little"))


def partitions_of(disk: Path | str, volumes_only: bool = False) -> list[Found]:
    """The partitions of a disk, by number."""
    table = json.loads(run(["sfdisk", "--json", disk]))["partitiontable"]
    sector = table.get("sectorsize", 512)
    found = [
        Found(
            int("".join(filter(str.isdigit, row["node"].removeprefix(str(disk))))),
            row["start"] * sector,
            row["size"] * sector,
            row["type"],
            row.get("uuid", ""),
        )
        for row in table["partitions"]
    ]
    if volumes_only and table["label"] == "dos":
        found = [part for part in found if part.type not in ("5", "f", "85")]
    return sorted(found, key=lambda part: part.number)


def check_disk(
    disk: Path, wanted: Sequence[Wanted], contents: Sequence[dict[str, str]], work: Path
) -> None:
    """The table is in order, every file system too, and every file is there."""
    work.mkdir()
    verify_table(disk)
    parts = partitions_of(disk, volumes_only=True)
    for each, part, content in zip(wanted, parts, contents, strict=True):
        volume = work / f"v{part.number}"
        copy_range(disk, part.start, part.size, volume)
        check_volume(each.kind, volume)
        assert content_of(each.kind, volume) == content, each
        volume.unlink()


def verify_table(disk: Path) -> None:
    """sfdisk and sgdisk have nothing against the table."""
    text = run(["sfdisk", "--verify", disk])
    assert "No errors detected" in text, text
    if "GPT" in text or "gpt" in run(["sfdisk", "--json", disk]):
        require_programs("sgdisk")
        text = run(["sgdisk", "-v", disk])
        assert "No problems found" in text, text


def contents_of(disk: Path, wanted: Sequence[Wanted]) -> list[dict[str, str]]:
    """What lies in the volumes that ``make_disk`` made."""
    parts = partitions_of(disk, volumes_only=True)
    return [
        content_of(each.kind, disk.parent / f"volume{part.number}")
        for each, part in zip(wanted, parts, strict=True)
    ]
