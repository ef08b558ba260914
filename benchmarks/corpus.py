"""Build the benchmark corpus from this machine's own files: ``python benchmarks/corpus.py DIR``.

| file | holds |
|---|---|
| ``ext4.raw`` | an 8 GiB ext4 disk with 3.5 GiB of files, 1 GiB of deleted ones in free space |
| ``ntfs.raw`` | a 4 GiB NTFS volume with 1.7 GB of files |
| ``ext4-2.raw`` | ``ext4.raw`` later: 2 % of the used bytes rewritten, 100 MB of new files |
| ``corpus.json`` | the stamp: what was asked for and the numbers of what was built |

Rewriting is done in scattered writes of 4 to 64 KiB.  Of the files 55 % are from /usr, 20 % from
Python trees, and 25 % cannot be compressed: compressed files of those trees, and for at least half
of this share random bytes.  Which files are taken depends only on a seed and on what the machine
has.  All disks are sparse where the file systems never wrote.  Mounting through a loop device needs
root; without it ``mke2fs -d`` fills the disk and free blocks are dirtied by hand.

The length of this file is that of two ways to do each step, with and without mounting.
"""

from __future__ import annotations

import argparse
import bisect
import contextlib
import dataclasses
import fcntl
import itertools
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import measure

BLOCK = 4096
MIB = 1 << 20
GIB = 1 << 30
SEED = "aipimage corpus 1"
COMPRESSED = (".gz", ".whl", ".zip", ".xz", ".bz2", ".zst", ".png", ".jpg")
STAMP = "corpus.json"
FILE_TIME = 1_700_000_000


@dataclass(frozen=True)
class Plan:
    """Sizes in bytes of everything in a corpus."""

    disk: int = 8 * GIB
    used: int = 3584 * MIB
    dirty: int = GIB
    ntfs: int = 4 * GIB
    ntfs_used: int = 1_650_000_000
    new: int = 100_000_000
    rewritten: float = 0.02
    seed: str = SEED


FULL = Plan()
SMALL = Plan(256 * MIB, 110 * MIB, 32 * MIB, 128 * MIB, 54_000_000, 3_000_000)


class CorpusError(RuntimeError):
    """The corpus cannot be built on this machine; the message says why."""


def run(*args: str | Path, text: str | None = None) -> str:
    """Run a tool and return its standard output; its failure is a ``CorpusError``."""
    try:
        done = subprocess.run(
            [str(arg) for arg in args], capture_output=True, text=True, check=False, input=text
        )
    except FileNotFoundError as error:
        raise CorpusError(f"{args[0]} is needed and not installed") from error
    if done.returncode:
        raise CorpusError(f"{' '.join(map(str, args))}: {done.stderr.strip()[-500:]}")
    return done.stdout


# --- choosing files ---------------------------------------------------------------------------


def python_roots() -> list[Path]:
    """Trees of Python installations: all versions side by side where a manager keeps them so."""
    base = Path(sys.base_prefix)
    if base.parent.name == "versions":
        return [base.parent]
    return [path for path in (base / "lib", base / "local/lib") if path.is_dir()]


class Chooser:
    """Chooses files by seed; no file is given out twice until ``forget``."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._listings: dict[str, list[tuple[str, int]]] = {}

    def forget(self) -> None:
        """Allow all files to be chosen again, for another disk."""
        self._taken.clear()

    def _files(self, root: Path) -> list[tuple[str, int]]:
        """Return all readable regular files under ``root`` with their sizes."""
        if str(root) not in self._listings:
            found = []
            for folder, _, names in os.walk(root):
                for name in names:
                    path = os.path.join(folder, name)
                    with contextlib.suppress(OSError):
                        info = os.lstat(path)
                        if info.st_size and (info.st_mode & 0o170444) == 0o100444:
                            found.append((path, info.st_size))
            self._listings[str(root)] = found
        return self._listings[str(root)]

    def choose(
        self,
        roots: Iterable[Path],
        quota: int,
        seed: str,
        suffixes: tuple[str, ...] = (),
        rounding: int = BLOCK,
    ) -> list[str]:
        """Return files of about ``quota`` bytes in all, in the order of their paths.

        Each counts with its size rounded up to ``rounding`` bytes.
        """
        files = [
            (path, size)
            for path, size in itertools.chain.from_iterable(map(self._files, roots))
            if path not in self._taken
            and size <= max(quota // 16, 64 * BLOCK)
            and (not suffixes or path.endswith(suffixes))
        ]
        files.sort(key=lambda item: (zlib.crc32(f"{seed}{item[0]}".encode(errors="replace")), item))
        chosen = []
        for path, size in files:
            rounded = -(-size // rounding) * rounding
            if rounded <= quota:
                quota -= rounded
                chosen.append(path)
        self._taken.update(chosen)
        return sorted(chosen)


# --- filling a file system --------------------------------------------------------------------


def copy_files(paths: Iterable[str], target: Path) -> int:
    """Copy ``paths`` below ``target`` under their own names; return the bytes copied."""
    total, made = 0, set[str]()
    for path in paths:
        place = f"{target}{path}"
        folder = os.path.dirname(place)
        if folder not in made:
            os.makedirs(folder, exist_ok=True)
            made.add(folder)
        # A file that vanishes meanwhile (this is a live system) is left out.
        with contextlib.suppress(FileNotFoundError):
            shutil.copyfile(path, place)
            os.utime(place, (FILE_TIME, FILE_TIME))
            total += os.path.getsize(place)
    return total


def write_random(target: Path, quota: int, seed: str) -> int:
    """Write files of 4 KiB to 8 MiB of random bytes, ``quota`` bytes in all."""
    rng, left = random.Random(seed), quota
    target.mkdir(parents=True, exist_ok=True)
    for number in itertools.count():
        size = min(left, rng.randrange(BLOCK, 8 * MIB))
        if size <= 0:
            return quota
        (target / f"{number:05}.bin").write_bytes(rng.randbytes(size))
        left -= size
    raise AssertionError("internal error: endless loop ended")


def fill(target: Path, used: int, dirty: int, seed: str, chooser: Chooser) -> dict[str, int]:
    """Fill a mounted file system or a directory; return the bytes of each kind of file.

    Files that make free space dirty are written between the others, and deleted at the end.
    """
    usr, python = [Path("/usr")], python_roots()
    waste = target / "waste"
    counts = {}
    for number, (name, roots, share) in enumerate((("usr", usr, 0.55), ("python", python, 0.20))):
        paths = chooser.choose(roots, int(used * share), f"{seed} {name}")
        counts[name] = copy_files(paths, target / name)
        if dirty:
            paths = chooser.choose(usr + python, dirty // 2, f"{seed} waste {number}")
            counts["deleted"] = counts.get("deleted", 0) + copy_files(paths, waste)
    quota = used // 4
    paths = chooser.choose(usr + python, quota // 2, f"{seed} compressed", COMPRESSED)
    counts["compressed"] = copy_files(paths, target / "compressed")
    blocks = sum(-(-os.path.getsize(path) // BLOCK) * BLOCK for path in paths)
    counts["random"] = write_random(target / "random", quota - blocks, f"{seed} random")
    os.sync()
    shutil.rmtree(waste, ignore_errors=True)
    return counts


def change(target: Path, plan: Plan, chooser: Chooser) -> dict[str, int]:
    """Rewrite scattered pieces of the files below ``target`` in place, and add new files."""
    rng = random.Random(f"{plan.seed} change")
    paths = sorted(
        path for path in target.rglob("*") if path.is_file() and path.stat().st_size >= BLOCK
    )
    sums = list(itertools.accumulate(path.stat().st_size for path in paths))
    goal, written, writes = int(plan.used * plan.rewritten), 0, 0
    while written < goal:
        path, source = (paths[bisect.bisect(sums, rng.randrange(sums[-1]))] for _ in range(2))
        size = path.stat().st_size // BLOCK * BLOCK
        length = min(size, rng.randrange(1, 17) * BLOCK)
        with source.open("rb") as file:
            file.seek(rng.randrange(source.stat().st_size))
            data = file.read(length)
        with path.open("r+b") as file:
            file.seek(rng.randrange((size - length) // BLOCK + 1) * BLOCK)
            file.write(data.ljust(length, b"."))
        written, writes = written + length, writes + 1
    paths_new = chooser.choose([Path("/usr")], plan.new, f"{plan.seed} new", rounding=1)
    new = copy_files(paths_new, target / "new")
    return {"rewritten": written, "writes": writes, "new": new}


# --- with mounting ----------------------------------------------------------------------------


@contextlib.contextmanager
def mounted(*mount_command: str | Path) -> Iterator[Path]:
    """Mount by the command with a fresh directory appended; unmount at the end of the block."""
    point = Path(tempfile.mkdtemp(prefix="aipimage-mount-"))
    try:
        run(*mount_command, point)
        yield point
    finally:
        for attempt in range(20):
            if not point.is_mount():
                break
            time.sleep(0.5 if attempt else 0)
            subprocess.run(["umount", point], capture_output=True)
        point.rmdir()


def wait_for_release(image: Path) -> None:
    """Wait until the FUSE process behind an unmounted image has let go of its lock on it."""
    with image.open("r+b") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)


def can_mount(scratch: Path) -> str:
    """Return '' when an ext4 file can be mounted through a loop device, else the reason."""
    image = scratch / "probe.partial"
    try:
        make_ext4(image, 16 * MIB)
        with mounted("mount", "-o", "loop", image):
            return ""
    except CorpusError as error:
        return str(error)
    finally:
        image.unlink(missing_ok=True)


def make_ext4(image: Path, size: int, *options: str | Path) -> None:
    """Make an ext4 file system with a fixed UUID in a new sparse file."""
    with image.open("wb") as file:
        file.truncate(size)
    uuid = "6e9d0c5e-3c1c-4f8e-9a53-0f0e7d1c2b3a"
    run("mke2fs", "-q", "-F", "-t", "ext4", "-b", str(BLOCK), "-U", uuid,
        "-E", f"hash_seed={uuid},lazy_itable_init=1,nodiscard", *options, image)  # fmt: skip


LOOP = ("mount", "-o", "loop,noatime,noinit_itable,nodiscard")


def build_ext4(image: Path, plan: Plan, chooser: Chooser, mount: bool) -> dict[str, int]:
    """Make the first state of the ext4 disk."""
    if mount:
        make_ext4(image, plan.disk)
        with mounted(*LOOP, image) as point:
            return fill(point, plan.used, plan.dirty, plan.seed, chooser)
    staging = Path(tempfile.mkdtemp(prefix="staging-", dir=image.parent))
    try:
        counts = fill(staging, plan.used, 0, plan.seed, chooser)
        make_ext4(image, plan.disk, "-d", staging)
    finally:
        shutil.rmtree(staging)
    paths = chooser.choose([Path("/usr"), *python_roots()], plan.dirty, f"{plan.seed} waste")
    counts["deleted"] = dirty_free_blocks(image, paths)
    return counts


def build_second(
    image: Path, first: Path, plan: Plan, chooser: Chooser, mount: bool
) -> dict[str, int]:
    """Make the second state of the ext4 disk from a copy of the first."""
    run("cp", "--sparse=auto", first, image)
    if not mount:
        return change_by_hand(image, plan, chooser)
    with mounted(*LOOP, image) as point:
        return change(point, plan, chooser)


def build_ntfs(image: Path, plan: Plan, chooser: Chooser) -> dict[str, int]:
    """Make the NTFS volume, through ntfs-3g where FUSE works, else with ntfscp."""
    with image.open("wb") as file:
        file.truncate(plan.ntfs)
    run("mkntfs", "-Q", "-F", "-q", "-s", "512", "-p", "0", "-H", "16", "-S", "63", image)
    seed = f"{plan.seed} ntfs"
    try:
        with mounted("ntfs-3g", "-o", "big_writes,noatime", image) as point:
            counts = fill(point, plan.ntfs_used, 0, seed, chooser)
        wait_for_release(image)
        return counts
    except CorpusError as error:
        if "ntfs-3g" not in str(error):
            raise
        print(f"ntfs-3g does not mount ({error}): copying with ntfscp", file=sys.stderr)
    paths = chooser.choose([Path("/usr")], plan.ntfs_used, seed)
    for number, path in enumerate(paths):
        run("ntfscp", "-f", "-q", image, path, f"file{number:06}")
    return {"usr": sum(map(os.path.getsize, paths))}


# --- without mounting -------------------------------------------------------------------------


def dirty_free_blocks(image: Path, paths: Sequence[str]) -> int:
    """Write the bytes of ``paths`` into free blocks of an image, as deleted files leave them."""
    text = run("dumpe2fs", image)
    ranges = [
        (int(low), int(high or low) + 1)
        for line in re.findall(r"^  Free blocks: (.*)$", text, re.MULTILINE)
        for low, high in re.findall(r"(\d+)(?:-(\d+))?", line)
    ]
    free = (block for low, high in ranges for block in range(low, high))
    written = 0
    with image.open("r+b") as file:
        for path in paths:
            data = Path(path).read_bytes()
            for start in range(0, len(data), BLOCK):
                block = next(free, None)
                if block is None:
                    return written
                file.seek(block * BLOCK)
                written += file.write(data[start : start + BLOCK])
    return written


def file_blocks(image: Path) -> list[tuple[int, int]]:
    """Return (first block, blocks) of the extents of the files that hold random bytes."""
    names = re.findall(r"(\d{5}\.bin)", run("debugfs", "-R", "ls -p /random", image))
    script = "".join(f"dump_extents -l /random/{name}\n" for name in names)
    text = run("debugfs", "-f", "-", image, text=script)
    found = re.findall(r"^\s*\d+/\s*\d+\s+\d+/\s*\d+\s+\d+ -\s*\d+\s+(\d+) -\s*(\d+)", text, re.M)
    return [(int(low), int(high) - int(low) + 1) for low, high in found]


def change_by_hand(image: Path, plan: Plan, chooser: Chooser) -> dict[str, int]:
    """Rewrite pieces of the random files in the image itself, and add new files with debugfs."""
    rng, extents = random.Random(f"{plan.seed} change"), file_blocks(image)
    goal, written, writes = int(plan.used * plan.rewritten), 0, 0
    with image.open("r+b") as file:
        while written < goal:
            first, count = rng.choice(extents)
            length = min(count, rng.randrange(1, 17))
            file.seek((first + rng.randrange(count - length + 1)) * BLOCK)
            written += file.write(rng.randbytes(length * BLOCK))
            writes += 1
    paths = chooser.choose([Path("/usr")], plan.new, f"{plan.seed} new", rounding=1)
    script = "".join(f'write "{path}" new{number}\n' for number, path in enumerate(paths))
    run("debugfs", "-w", "-f", "-", image, text=script)
    return {"rewritten": written, "writes": writes, "new": sum(map(os.path.getsize, paths))}


# --- the whole --------------------------------------------------------------------------------


def numbers(image: Path) -> dict[str, int]:
    """Return size, allocated bytes and, for ext4, used bytes (with metadata) of a built disk."""
    info = image.stat()
    found = {"size": info.st_size, "allocated": info.st_blocks * 512}
    if "ext4" in image.name:
        text = run("dumpe2fs", "-h", image)
        total, free = (
            int(re.findall(rf"^{name}:\s+(\d+)", text, re.MULTILINE)[0])
            for name in ("Block count", "Free blocks")
        )
        found["used"] = (total - free) * BLOCK
    return found


def check(image: Path) -> None:
    """Let the file system's own tool look for errors."""
    if "ext4" in image.name:
        run("e2fsck", "-fn", image)
    else:
        run("ntfsfix", "-n", image)


def read_stamp(folder: Path, plan: Plan) -> dict[str, dict[str, int]]:
    """Return the numbers of the disks in ``folder`` that were built by this very plan."""
    try:
        stamp = json.loads((folder / STAMP).read_text())
    except (OSError, ValueError):
        return {}
    if stamp.get("plan") != dataclasses.asdict(plan):
        return {}
    disks: dict[str, dict[str, int]] = stamp["disks"]
    return {name: facts for name, facts in disks.items() if (folder / f"{name}.raw").exists()}


DISKS = ("ext4", "ntfs", "ext4-2")


def build(
    folder: Path, plan: Plan = FULL, wanted: Sequence[str] = DISKS
) -> dict[str, dict[str, int]]:
    """Build the disks of ``wanted`` that are missing; return the numbers of all that are there."""
    folder.mkdir(parents=True, exist_ok=True)
    disks, chooser = read_stamp(folder, plan), Chooser()
    missing = [name for name in DISKS if name in wanted and name not in disks]
    if "ext4" in missing and "ext4-2" in disks:
        missing.append("ext4-2")
    reason = can_mount(folder) if any("ext4" in name for name in missing) else ""
    if reason:
        print(f"cannot mount ({reason}): filling with mke2fs -d, dirtying by hand", file=sys.stderr)
    for name in missing:
        chooser.forget()
        image, partial = folder / f"{name}.raw", folder / f"{name}.raw.partial"
        print(f"building {image}", file=sys.stderr)
        try:
            if name == "ext4":
                facts = build_ext4(partial, plan, chooser, not reason)
            elif name == "ntfs":
                facts = build_ntfs(partial, plan, chooser)
            else:
                facts = build_second(partial, folder / "ext4.raw", plan, chooser, not reason)
            check(partial)
            partial.replace(image)
        finally:
            partial.unlink(missing_ok=True)
        disks[name] = {**facts, **numbers(image)}
        stamp = {"plan": dataclasses.asdict(plan), "disks": disks}
        (folder / STAMP).write_text(json.dumps(stamp, indent=1) + "\n")
    return disks


def main() -> None:
    """Build the corpus and print its numbers."""
    parser = argparse.ArgumentParser(description="Build the benchmark corpus.")
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--small", action="store_true", help="a 256 MiB disk, to try the harness")
    parser.add_argument("--disks", default=",".join(DISKS), help="which, of " + ", ".join(DISKS))
    args = parser.parse_args()
    measure.exit_on_terminate()
    try:
        disks = build(args.folder, SMALL if args.small else FULL, args.disks.split(","))
    except CorpusError as error:
        sys.exit(f"corpus: {error}")
    for name, facts in disks.items():
        figures = (f"{kind} {count:,}" for kind, count in facts.items())
        print(f"{name}: {', '.join(figures)}")


if __name__ == "__main__":
    main()
