"""Whole disks as users have them: partitioned, formatted, filled and aged on a block device.

Files come and go through the drivers, and whatever is freed at the end holds a pattern, so that it
can be told whether free clusters reached an image.
"""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

import aipimage
from aipimage.io.blocks.sources import BlockSource, UnreadableRangeError, open_source
from aipimage.volumes.survey import DiskSurvey, survey
from tests.support import loop_device, require_loop_devices
from tests.support.tools import PATH, require_programs, run

MIB = 1 << 20
PATTERN = b"this was freed: no image has it " * 16
"""One sector of what free clusters hold."""
OLD = b"\xa5"
"""What targets hold before they are written."""
_PIECE = 4 * MIB

LINUX = "0FC63DAF-8483-4772-8E79-3D69D8477DE4"
WINDOWS = "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7"
SWAP = "0657FD6D-A4AB-43C4-84E5-0933C84B4F4F"
GPT_TYPES = {"ntfs": WINDOWS, "fat32": WINDOWS, "exfat": WINDOWS, "swap": SWAP}
MBR_TYPES = {"ntfs": "7", "fat32": "c", "exfat": "7", "swap": "82", "unknown": "da"}
BLKID_TYPES = {"fat32": "vfat", "unknown": ""}
MAKERS = {
    "ntfs": ["mkntfs", "-Q", "-F", "-q", "-L", "volume ntfs"],
    "fat32": ["mkfs.fat", "-F", "32", "-n", "VOLFAT"],
    "exfat": ["mkfs.exfat", "-L", "volexfat"],
    "ext4": ["mke2fs", "-q", "-t", "ext4", "-L", "vol ext4"],
    "xfs": ["mkfs.xfs", "-q", "-f", "-L", "vol-xfs"],
    "btrfs": ["mkfs.btrfs", "-q", "-f", "-L", "vol btrfs"],
    "swap": ["mkswap", "-L", "volswap"],
}
CHECKS = {
    "ntfs": [["ntfsfix", "-n"], ["ntfsresize", "--check"]],
    "fat32": [["fsck.fat", "-n"]],
    "exfat": [["fsck.exfat", "-n"]],
    "ext4": [["e2fsck", "-fn"]],
    "xfs": [["xfs_repair", "-n"]],
    "btrfs": [["btrfs", "check", "--readonly", "--check-data-csum"]],
}
# A Btrfs on what can discard does so by itself, and the pattern would be gone.
_MOUNTS = {"btrfs": "nodiscard", "xfs": "nouuid,nodiscard", "ext4": "nodiscard"}
_FUSE = {"ntfs": "ntfs-3g", "exfat": "mount.exfat-fuse"}
TOOLS = (
    "mkntfs", "ntfs-3g", "ntfsfix", "ntfsresize", "mkfs.fat", "fsck.fat", "mcopy", "mkfs.exfat",
    "fsck.exfat", "mount.exfat-fuse", "mke2fs", "e2fsck", "mkfs.xfs", "xfs_repair", "mkfs.btrfs",
    "btrfs", "mkswap", "sfdisk", "sgdisk", "partx", "blkid",
)  # fmt: skip


@dataclass(frozen=True)
class Part:
    """A partition that is wanted: kind of its content, and MiB."""

    kind: str
    mib: int
    logical: bool = False


@dataclass
class Disk:
    """A disk that was made.

    Attributes:
        path: file that holds it. parts: as wanted. places: (start, bytes) by number.
        files: for each number the files of its volume, each with its digest.
        blkid: what blkid says of each, by number. free: bytes free, as its driver or tool says.
    """

    path: Path
    parts: dict[int, Part]
    places: dict[int, tuple[int, int]] = field(default_factory=dict)
    files: dict[int, dict[str, str]] = field(default_factory=dict)
    blkid: dict[int, dict[str, str]] = field(default_factory=dict)
    free: dict[int, int] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes."""
        return self.path.stat().st_size

    def number(self, kind: str) -> int:
        """Of the partition with such content."""
        return next(number for number, part in self.parts.items() if part.kind == kind)

    def bytes_of(self, number: int, path: Path | None = None) -> bytes:
        """All of a partition, here or on a copy of the disk."""
        start, size = self.places[number]
        with open(path or self.path, "rb") as file:
            file.seek(start)
            return file.read(size)


def require_everything() -> None:
    """Skip the test where a tool, or the right to use loop devices, is missing."""
    require_programs(*TOOLS)
    require_loop_devices()


@contextmanager
def attached(disk: Path, *options: str) -> Iterator[str]:
    """A disk as a block device, with its partitions: ``{device}p1`` and so on."""
    with loop_device(disk, *options) as device:
        run(["partx", "-a", device])
        try:
            yield device
        finally:
            run(["partx", "-d", device])


@contextmanager
def mounted(kind: str, device: str, at: Path, *options: str) -> Iterator[Path]:
    """Mount what lies on a device by the kernel's driver, or by that of FUSE."""
    at.mkdir(exist_ok=True)
    words = [*options, *(_MOUNTS.get(kind, "").split(",") if kind in _MOUNTS else [])]
    chosen = ["-o", ",".join(words)] if words else []
    if kind in _FUSE:
        run([_FUSE[kind], *chosen, device, at])
    else:
        run(["mount", "-t", kind, *chosen, device, at])
    try:
        yield at
    finally:
        run(["umount", at])


class Volume(Protocol):
    """A volume into which files are written, and from which they are deleted."""

    def put(self, name: str, data: bytes) -> None: ...

    def remove(self, name: str) -> None: ...

    def settle(self) -> None: ...


class Mounted:
    """A volume that is mounted."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def put(self, name: str, data: bytes) -> None:
        """Write a file, in the place of one that is there."""
        path = self.root / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)

    def remove(self, name: str) -> None:
        """Delete a file."""
        (self.root / name).unlink()

    def settle(self) -> None:
        """Let everything reach the disk: what is deleted before that never does."""
        run(["sync", "-f", self.root])


class Mtools:
    """A FAT volume, written by mtools.

    Args:
        device: where it is. work: an empty directory.
    """

    def __init__(self, device: str, work: Path) -> None:
        self.device, self.work = device, work
        self._folders: set[str] = set()

    def put(self, name: str, data: bytes) -> None:
        """Write a file, in the place of one that is there."""
        folder = name.rpartition("/")[0]
        if folder and folder not in self._folders:
            run(["mmd", "-i", self.device, f"::/{folder}"])
            self._folders.add(folder)
        (self.work / "file").write_bytes(data)
        run(["mcopy", "-o", "-i", self.device, self.work / "file", f"::/{name}"])

    def remove(self, name: str) -> None:
        """Delete a file."""
        run(["mdel", "-i", self.device, f"::/{name}"])

    def settle(self) -> None:
        """It is there already."""


def populate(volume: Volume, seed: object, files: int = 24, most: int = 120_000) -> dict[str, str]:
    """Write files, rewrite and delete some; what was freed last holds the pattern.

    Returns:
        the files that are there at the end, each with its digest.
    """
    chance = random.Random(str(seed))
    found: dict[str, str] = {}

    def put(name: str) -> None:
        length = chance.choice((0, 1, 600, 4096, 5000, chance.randrange(most), most))
        data = chance.randbytes(length)
        volume.put(name, data)
        found[name] = hashlib.sha256(data).hexdigest()

    names = [f"d{number % 3}/file {number}.bin" for number in range(files)]
    freed = [f"d{number % 3}/freed {number}.bin" for number in range(0, files, 2)]
    for number, name in enumerate(names):
        put(name)
        if number % 2 == 0:
            volume.put(freed[number // 2], PATTERN * chance.choice((32, 128, 256)))
    for name in names[::5]:
        put(name)
    volume.settle()
    # Nothing is written from here on: an end of a cluster that is used again would hold the
    # pattern too, and be in the image rightly.
    for name in [*names[::7], *freed]:
        volume.remove(name)
        found.pop(name, None)
    return found


def fill(kind: str, device: str, work: Path, seed: object, size: int) -> dict[str, str]:
    """Put a volume with content on a device; give its files with their digests."""
    work.mkdir(exist_ok=True)
    if kind in MAKERS:
        run([*MAKERS[kind], device])
    if kind == "unknown":
        Path(device).write_bytes(random.Random(str(seed)).randbytes(size))
    if kind == "swap":
        with open(device, "r+b") as file:
            file.seek(MIB)
            file.write(PATTERN * 512)
    if kind == "fat32":
        return populate(Mtools(device, work), seed)
    if kind in ("swap", "unknown"):
        return {}
    with mounted(kind, device, work / "mnt") as place:
        return populate(Mounted(place), seed)


def make_disk(directory: Path, label: str, parts: Sequence[Part], tail: int = 8) -> Disk:
    """Make ``disk.raw`` with these partitions; ``tail``: MiB behind the last one."""
    require_everything()
    path = directory / "disk.raw"
    lines, at, extended = [f"label: {label}", "unit: sectors"], 1, 0
    end = 1 + sum(part.mib + part.logical for part in parts)
    for part in parts:
        if part.logical and not extended:
            lines.append(f"start={at * 2048}, size={(end - at) * 2048}, type=5")
            extended = 1
        at += part.logical
        types, other = (GPT_TYPES, LINUX) if label == "gpt" else (MBR_TYPES, "83")
        name = f', name="part {part.kind}"' if label == "gpt" else ""
        lines.append(
            f"start={at * 2048}, size={part.mib * 2048}, type={types.get(part.kind, other)}{name}"
        )
        at += part.mib
    with open(path, "wb") as file:
        file.truncate((end + tail) * MIB)
    subprocess.run(
        ["sfdisk", "-q", str(path)],
        input="\n".join(lines).encode(),
        check=True,
        env=os.environ | {"PATH": PATH},
    )
    numbers = _numbers(parts)
    disk = Disk(path, dict(zip(numbers, parts, strict=True)))
    with attached(path) as device:
        for number, part in disk.parts.items():
            node, work = f"{device}p{number}", directory / f"work{number}"
            disk.places[number] = place_of(node)
            disk.files[number] = fill(part.kind, node, work, (label, number), part.mib * MIB)
    look_at(disk)
    return disk


def _numbers(parts: Sequence[Part]) -> list[int]:
    primary = [number for number, part in enumerate(parts, 1) if not part.logical]
    logical = range(5, 5 + len(parts) - len(primary))
    return [*primary, *logical]


def place_of(node: str) -> tuple[int, int]:
    """Start and bytes of a partition, as the kernel says."""
    about = Path("/sys/class/block") / os.path.basename(node)
    return tuple(int((about / name).read_text()) * 512 for name in ("start", "size"))  # type: ignore[return-value]


def look_at(disk: Disk) -> None:
    """Ask blkid and the drivers what is on a disk; the files must be those that were written."""
    with attached(disk.path, "--read-only") as device:
        for number, part in disk.parts.items():
            node = f"{device}p{number}"
            disk.blkid[number] = blkid(node)
            assert files_on(part.kind, node, disk, number) == disk.files[number]


def blkid(node: str) -> dict[str, str]:
    """What blkid says of a volume."""
    text = run(["blkid", "-p", "-o", "export", node], codes=(0, 2))
    found = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    # Spaces are escaped for shells.
    return {name: value.replace("\\", "") for name, value in found.items()}


def files_on(kind: str, node: str, disk: Disk, number: int) -> dict[str, str]:
    """The files of a volume with their digests; notes what its driver calls free."""
    work = disk.path.parent / f"work{number}"
    if kind in ("swap", "unknown"):
        return {}
    if kind == "fat32":
        out = work / "out"
        out.mkdir()
        run(["mcopy", "-s", "-n", "-i", node, "::/", out])
        words = run(["mdir", "-i", node, "::/"]).strip().splitlines()[-1]
        disk.free[number] = int("".join(filter(str.isdigit, words)))
        found = hashes_in(out)
        run(["rm", "-r", out])
        return found
    with mounted(kind, node, work / "mnt", "ro") as place:
        about = os.statvfs(place)
        disk.free[number] = about.f_bfree * about.f_frsize
        return hashes_in(place)


def hashes_in(directory: Path) -> dict[str, str]:
    """The files below a directory, each with its digest."""
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and "lost+found" not in path.parts
    }


def check_volume(disk: Disk, number: int, node: str) -> None:
    """What lies on a device is in order, and is what the disk has under that number."""
    kind = disk.parts[number].kind
    for command in CHECKS.get(kind, []):
        run([*command, node])
    if kind == "ntfs":
        # It compares $Bitmap with what all files have; after that it may say that nothing is free.
        assert "Space in use" in run(["ntfsresize", "--info", "--force", node], codes=(0, 1))
    about = blkid(node)
    for name in ("TYPE", "LABEL", "UUID"):
        assert about.get(name) == disk.blkid[number].get(name), (kind, name)
    assert files_on(kind, node, disk, number) == disk.files[number], kind


def check_copy(disk: Disk, path: Path) -> None:
    """A restored disk: the table, every file system, every file, and what is of no known kind."""
    text = run(["sfdisk", "--verify", path])
    assert "No errors detected" in text, text
    if "label: gpt" in run(["sfdisk", "--dump", path]):
        text = run(["sgdisk", "-v", path])
        assert "No problems found" in text, text
    with attached(path, "--read-only") as device:
        for number, part in disk.parts.items():
            check_volume(disk, number, f"{device}p{number}")
            if part.kind == "unknown":
                found = Path(f"{device}p{number}").read_bytes()
                assert found == disk.bytes_of(number)


def surveyed(path: Path) -> DiskSurvey:
    """What lies on a disk."""
    source = open_source(str(path))
    try:
        return survey(source)
    finally:
        source.close()


def pieces_of(path: Path) -> Iterator[tuple[int, bytes]]:
    """What of a sparse file is no hole: (offset, data)."""
    with open(path, "rb") as file:
        at, size = 0, path.stat().st_size
        while at < size:
            try:
                at = os.lseek(file.fileno(), at, os.SEEK_DATA)
            except OSError:
                return
            end = os.lseek(file.fileno(), at, os.SEEK_HOLE)
            for begin in range(at, end, _PIECE):
                yield begin, os.pread(file.fileno(), min(_PIECE, end - begin), begin)
            at = end


def sectors_with(path: Path, sector: bytes) -> int:
    """How many sectors of a file hold just this."""
    wanted = np.frombuffer(sector, np.uint8)
    total = 0
    for _, data in pieces_of(path):
        rows = np.frombuffer(data[: len(data) // 512 * 512], np.uint8).reshape(-1, 512)
        candidates = rows[rows[:, 0] == wanted[0]]
        total += int((candidates == wanted).all(1).sum())
    return total


def pattern_in(path: Path, places: dict[int, tuple[int, int]]) -> dict[int, int]:
    """Sectors that hold the pattern, for each partition."""
    found = dict.fromkeys(places, 0)
    first = np.frombuffer(PATTERN, np.uint64)
    for begin, data in pieces_of(path):
        rows = np.frombuffer(data[: len(data) // 512 * 512], np.uint64).reshape(-1, 64)
        at = begin + np.flatnonzero((rows == first).all(1)) * 512
        for number, (start, size) in places.items():
            found[number] += int(((at >= start) & (at < start + size)).sum())
    return found


def not_zero_in_free(path: Path, found: DiskSurvey, but: Sequence[int] = ()) -> int:
    """Bytes of the free space of a disk that are not zero, but for that of some volumes."""
    total = 0
    left = [volume for volume in found.volumes if volume.number not in but]
    free = replace(found, volumes=tuple(left)).free
    for begin, data in pieces_of(path):
        values = np.frombuffer(data, np.uint8)
        for rows in free.ranges(begin, begin + len(data)):
            for offset, length in rows.tolist():
                total += int(np.count_nonzero(values[offset - begin : offset - begin + length]))
    return total


def garbage(path: Path, size: int) -> Path:
    """A target that is full of what is none of the disk's."""
    piece = OLD * _PIECE
    with open(path, "wb") as file:
        for at in range(0, size, _PIECE):
            file.write(piece[: size - at])
    return path


def pattern_in_image(path: Path, device: int = 0) -> int:
    """Sectors of the data of an image that hold the pattern."""
    wanted = np.frombuffer(PATTERN, np.uint64)
    total = 0
    with aipimage.open(path) as image:
        opened = image.devices[device]
        for extent in opened.extents(aipimage.Kind.DATA):
            for at in range(extent.start, extent.start + extent.length, _PIECE):
                buffer = bytearray(min(_PIECE, extent.start + extent.length - at))
                opened.read_into(buffer, at)
                rows = np.frombuffer(buffer[: len(buffer) // 512 * 512], np.uint64).reshape(-1, 64)
                total += int((rows == wanted).all(1).sum())
    return total


class Unreadable:
    """A disk with sectors that cannot be read."""

    def __init__(self, path: Path, sectors: Sequence[int]) -> None:
        self.source, self.sectors = open_source(str(path)), sorted(sectors)
        self.name, self.size = self.source.name, self.source.size
        self.sector_size = self.source.sector_size

    def read_into(self, buffer: Any, offset: int) -> None:
        """See ``BlockSource``."""
        length = memoryview(buffer).nbytes
        for sector in self.sectors:
            if offset < sector * 512 + 512 and sector * 512 < offset + length:
                raise UnreadableRangeError(f"sector {sector}", offset, length)
        self.source.read_into(buffer, offset)

    def data_ranges(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """See ``BlockSource``."""
        return self.source.data_ranges(start, end)

    def fingerprint(self) -> dict[str, int | str]:
        """See ``BlockSource``."""
        return self.source.fingerprint()

    def close(self) -> None:
        """See ``BlockSource``."""
        self.source.close()


def free_sectors(source: BlockSource) -> np.ndarray:
    """Which sectors of a disk are free."""
    free = np.zeros(source.size // 512, np.bool_)
    for rows in survey(source).free.ranges(0, source.size):
        for start, length in rows.tolist():
            free[-(-start // 512) : (start + length) // 512] = True
    source.close()
    return free
