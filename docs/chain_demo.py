"""A month of a disk's life in one chain: ``python docs/chain_demo.py [--keep] [--dir DIR]``.

Makes a full image and thirty increments of an ext4 disk that is mounted and changed between them;
restores every point in time and compares it bit by bit; merges eleven images into one; takes an
image away and puts it back; and repairs an image that was cut in half. Needs root, for the loop
mount, and e2fsprogs. Every command is printed as it runs; what it restores in a row is restored
through the library.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import aipimage

MIB = 1 << 20
DISK = 64 * MIB
DAYS = 30
MERGED = range(10, 21)
TAKEN_AWAY = 5
CUT = 0
FAILED, DAMAGED = 1, 3


class DemoError(Exception):
    """Something did not go as it must."""


class ChainDemo:
    """The steps share this directory and these names; each step is one method."""

    def __init__(self, place: Path) -> None:
        self.place, self.chain = place, place / "chain"
        self.disk, self.folder = place / "disk.raw", place / "mounted"
        self.random = random.Random(2026)
        self.digests: dict[int, str] = {}
        self.files: list[str] = []

    def run(self) -> None:
        """Run every step; a new one is a method in this list."""
        steps: list[Callable[[], None]] = [
            self.make_disk,
            self.full,
            self.increments,
            self.list_chain,
            self.restore_all,
            self.merge,
            self.take_away,
            self.put_back,
            self.repair,
        ]
        for number, step in enumerate(steps, 1):
            print(f"\n== {number}. {step.__doc__}", flush=True)
            step()

    # The steps

    def make_disk(self) -> None:
        """An ext4 disk with files on it"""
        self.chain.mkdir()
        self.folder.mkdir()
        with self.disk.open("wb") as file:
            file.truncate(DISK)
        self._tool("mke2fs", "-q", "-t", "ext4", "-L", "demo", "disk.raw")
        with self._mounted():
            for number in range(40):
                self._write(f"first-{number}", self.random.randrange(1, MIB))
            (self.folder / "log").write_bytes(self.random.randbytes(400_000))
            print(f"   {len(self.files) + 1} files, {self._used() // MIB} MiB")

    def full(self) -> None:
        """A full image"""
        self._image(0)

    def increments(self) -> None:
        """Thirty increments; between them files are written, rewritten and deleted"""
        for day in range(1, DAYS + 1):
            with self._mounted():
                told = self._change(day)
            print(f"   day {day}: {told}")
            self._image(day)
        sizes = [self._path(day).stat().st_size for day in range(DAYS + 1)]
        print(f"   the full image has {sizes[0]:,} bytes, all {DAYS} increments {sum(sizes[1:]):,}")

    def list_chain(self) -> None:
        """The chain, and whether all of it is whole"""
        self._aipimage("info", "--chain", self._name(DAYS))
        self._aipimage("verify", "--chain", self._name(DAYS))

    def restore_all(self) -> None:
        """Every point in time, compared with the digest of the disk as it was"""
        self._restore_by_command("restored.raw")
        self._restore(range(DAYS + 1))

    def merge(self) -> None:
        """Eleven images become one; then they are removed"""
        names = [self._name(day) for day in MERGED]
        before = sum(self._path(day).stat().st_size for day in MERGED)
        self._aipimage("merge", "chain/merged.aiv", *names)
        for day in MERGED:
            self._path(day).unlink()
        after = (self.chain / "merged.aiv").stat().st_size
        print(f"   {before:,} bytes became {after:,}; removed {names[0]} to {names[-1]}")
        print("   the merged image is the last of these points, all others are as before:")
        self._restore_file(self.chain / "merged.aiv", MERGED[-1])
        self._restore(day for day in range(DAYS + 1) if day not in MERGED)

    def take_away(self) -> None:
        """One image is missing: what needs it says so, what does not is restored"""
        with aipimage.open(self._path(TAKEN_AWAY)) as image:
            missing = image.image_id
        self._path(TAKEN_AWAY).rename(self.place / "elsewhere.aiv")
        self._aipimage("info", "--chain", self._name(DAYS))
        said = self._aipimage("restoredisk", self._name(DAYS), "never.raw", expected=FAILED)
        if missing not in said:
            raise DemoError("the error does not name the image that is missing")
        if list(self.place.glob("never.raw*")):
            raise DemoError("something was restored although an image is missing")
        self._restore(range(TAKEN_AWAY))

    def put_back(self) -> None:
        """The image is back, under another name: names mean nothing"""
        (self.place / "elsewhere.aiv").rename(self.chain / "found again.aiv")
        self._restore_by_command("again.raw")

    def repair(self) -> None:
        """A copy of the full image, cut in half, is repaired"""
        cut = self.place / "cut.aiv"
        whole = self._path(CUT).stat().st_size
        shutil.copyfile(self._path(CUT), cut)
        os.truncate(cut, whole // 2)
        print(f"   {whole:,} bytes cut to {whole // 2:,}")
        self._aipimage("verify", "cut.aiv", expected=DAMAGED)
        self._aipimage("repair", "cut.aiv", "repaired.aiv", expected=DAMAGED)
        self._restore_file(self._path(CUT), CUT, keep="original.raw")
        with aipimage.open(self.place / "repaired.aiv") as image:
            kept = _compared(image.devices[0], self.place / "original.raw")
            lost = image.devices[0].bytes_of(aipimage.Kind.LOST)
        print(f"   {kept:,} bytes of the disk are as they were, {lost:,} are known to be lost")
        if not kept or not lost:
            raise DemoError("a half of an image must give a part of the disk")

    # The disk

    @contextmanager
    def _mounted(self) -> Iterator[None]:
        """Mount the disk; unmounting writes everything back, so that its image is whole. What is
        deleted is discarded: free clusters are not imaged, and read as zeros here as there.
        """
        self._quiet("mount", "-o", "loop,discard", str(self.disk), str(self.folder))
        try:
            yield
            os.sync()
        finally:
            self._quiet("umount", str(self.folder))

    def _change(self, day: int) -> str:
        """Write two files, rewrite a part of one and all of the log, delete one."""
        self._write_over("log", 0, 400_000)
        for number in range(2):
            self._write(f"day-{day}-{number}", self.random.randrange(1, 400_000))
        rewritten = self.random.choice(self.files)
        size = (self.folder / rewritten).stat().st_size
        self._write_over(rewritten, self.random.randrange(size), 20_000)
        deleted = self.random.choice(self.files)
        self.files.remove(deleted)
        (self.folder / deleted).unlink()
        return f"wrote {self.files[-2:]}, rewrote {rewritten}, deleted {deleted}"

    def _write(self, name: str, size: int) -> None:
        half = self.random.randbytes(size // 2)
        (self.folder / name).write_bytes(half + bytes(name, "ascii") * (size // 2 // len(name)))
        self.files.append(name)

    def _write_over(self, name: str, offset: int, length: int) -> None:
        """Write in place, where the file system keeps the clusters that the file has."""
        with (self.folder / name).open("r+b") as file:
            file.seek(offset)
            file.write(self.random.randbytes(length))

    def _used(self) -> int:
        return sum(path.stat().st_size for path in self.folder.iterdir() if path.is_file())

    # Images

    def _name(self, day: int) -> str:
        return f"chain/{day:02}.aiv"

    def _path(self, day: int) -> Path:
        return self.place / self._name(day)

    def _image(self, day: int) -> None:
        """An image of the disk as it is, and its digest to compare with later."""
        with self.disk.open("rb") as file:
            self.digests[day] = hashlib.file_digest(file, "sha256").hexdigest()
        parent = ["--parent", "chain"] if day else []
        self._aipimage("createimage", "-o", self._name(day), *parent, "disk.raw")

    def _restore_by_command(self, name: str) -> None:
        self._aipimage("restoredisk", self._name(DAYS), name)
        print(f"   {name}", end=": ")
        self._check(name, DAYS)

    def _restore(self, days: Iterable[int]) -> None:
        """Restore some points through the library; each must be as the disk was."""
        points = list(days)
        for day in points:
            self._restore_file(self._path(day), day)
        print(f"   all {len(points)} points in time are identical", flush=True)

    def _restore_file(self, path: Path, day: int, keep: str | None = None) -> None:
        name = keep or "point.raw"
        with aipimage.open(path) as image:
            result = image.restore(self.place / name)
        print(f"   {path.name}: {result.written:,} bytes of data written", end="; ")
        self._check(name, day, keep is not None)

    def _check(self, name: str, day: int, keep: bool = False) -> None:
        target = self.place / name
        with target.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != self.digests[day]:
                raise DemoError(f"{name} is not the disk as it was on day {day}")
        self._quiet("e2fsck", "-fn", str(target))
        print(f"identical to day {day}, and e2fsck finds nothing")
        if not keep:
            target.unlink()

    # Running commands

    def _aipimage(self, *arguments: str, expected: int = 0) -> str:
        """Run the command, show what it says, return that."""
        print("$ aipimage " + " ".join(arguments), flush=True)
        command = [sys.executable, "-m", "aipimage.cli", *arguments]
        done = subprocess.run(command, cwd=self.place, text=True, capture_output=True)
        said = done.stdout + done.stderr
        print(said, end="", flush=True)
        if done.returncode != expected:
            raise DemoError(f"aipimage ended with exit code {done.returncode}, not {expected}")
        return said

    def _tool(self, *command: str) -> None:
        print("$ " + " ".join(command), flush=True)
        self._quiet(*command)

    def _quiet(self, *command: str) -> None:
        done = subprocess.run(command, cwd=self.place, text=True, capture_output=True)
        if done.returncode:
            raise DemoError(f"{' '.join(command)} failed: {done.stdout}{done.stderr}".strip())


def _compared(device: aipimage.Device, original: Path) -> int:
    """Compare all that is not lost with the original; return how many bytes that are."""
    kept = 0
    with original.open("rb") as disk, device.open() as repaired:
        for extent in device.extents():
            if extent.kind == aipimage.Kind.LOST:
                continue
            disk.seek(extent.start)
            repaired.seek(extent.start)
            if disk.read(extent.length) != repaired.read(extent.length):
                raise DemoError(f"the repaired image differs in the range at {extent.start}")
            kept += extent.length
    return kept


def main() -> int:
    """Run the steps in a directory that is removed at the end, and say how it went."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--keep", action="store_true", help="leave the files there")
    parser.add_argument("--dir", type=Path, help="where to make the directory")
    args = parser.parse_args()
    # The tools for disks are not on everybody's path.
    os.environ["PATH"] = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    place = Path(tempfile.mkdtemp(prefix="aipimage-chain-", dir=args.dir))
    started = time.monotonic()
    try:
        ChainDemo(place).run()
    except DemoError as error:
        print(f"\nchain_demo: failed: {error}", file=sys.stderr)
        return 1
    finally:
        if args.keep:
            print(f"\nThe files are in {place}")
        else:
            shutil.rmtree(place)
    print(f"\nDone in {time.monotonic() - started:.1f} s: every point in time was restored.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
