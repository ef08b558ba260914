"""Btrfs volumes of all kinds, and what becomes of them: steps of use through the kernel's driver.

Whatever a step does is given by its seed, apart from where the driver puts things.
"""

from __future__ import annotations

import os
import random
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.support.tools import mounted, run
from tests.volumes.btrfs.edited import add_block_group_tree

MIB = 1 << 20


class Kind(NamedTuple):
    """One way to make and mount volumes.

    Attributes:
        name: of the test. options: of mkfs.btrfs. size: bytes of the file. mount: options.
        steps: names of what happens to it, in turn. root: made with files in it (--rootdir).
    """

    name: str
    options: str = ""
    size: int = 128 * MIB
    mount: str = ""
    steps: str = "filled churned snapshots"
    root: bool = False
    groups: bool = False


KINDS = (
    Kind("default", steps="filled churned snapshots balanced full emptied"),
    Kind("nodes of 4 KiB", "-n 4096", steps="filled churned snapshots balanced churned"),
    Kind("nodes of 32 KiB", "-n 32768"),
    Kind("nodes of 64 KiB", "-n 65536", steps="filled churned"),
    Kind("mixed", "-M", 48 * MIB, steps="filled churned snapshots full"),
    Kind("mixed and doubled", "-M -m dup -d dup", 256 * MIB, steps="filled churned"),
    Kind("all single", "-m single -d single", steps="filled churned converted"),
    Kind("all doubled", "-m dup -d dup", 256 * MIB, steps="filled snapshots churned"),
    Kind("one stripe", "-m raid0 -d raid0", steps="filled churned"),
    Kind("xxhash", "--csum xxhash"),
    Kind("sha256", "--csum sha256", steps="filled churned"),
    Kind("blake2", "--csum blake2", steps="filled churned"),
    Kind("holes", "-O ^no-holes -R ^free-space-tree", mount="space_cache=v1"),
    Kind("no caches", "-R ^free-space-tree", mount="nospace_cache", steps="filled churned full"),
    Kind("long references", "-O ^skinny-metadata,^extref -n 4096"),
    Kind("quotas", "-R quota", steps="filled snapshots churned"),
    Kind("compressed", mount="compress-force=zstd", steps="filled churned snapshots"),
    Kind("block group tree", groups=True, steps="filled churned snapshots balanced"),
    Kind("root directory", root=True, steps="churned"),
    Kind("shrunk root directory", "--shrink", root=True, steps=""),
    Kind(
        "balance cut off",
        "-m single",
        256 * MIB,
        "skip_balance",
        steps="filled churned interrupted interrupted",
    ),
    Kind("smaller than its device", f"-b {272 * MIB}", 288 * MIB, steps="filled shrunk grown"),
    Kind("unaligned size", "-m single", 120 * MIB + 12_800, steps="filled churned"),
)


def make(kind: Kind, volume: Path, seed: int) -> None:
    """Run mkfs.btrfs on a sparse file."""
    volume.unlink(missing_ok=True)
    with volume.open("wb") as file:
        file.truncate(kind.size)
    options = kind.options.split()
    if kind.root:
        folder = volume.with_suffix(".root")
        folder.mkdir()
        _write_files(folder, random.Random(seed), 40)
        options += ["--rootdir", str(folder)]
    run(["mkfs.btrfs", "-q", "-f", "-L", f"kind {seed}", *options, volume])
    if kind.groups:
        add_block_group_tree(volume)


@contextmanager
def in_use(volume: Path, at: Path, kind: Kind) -> Iterator[Path]:
    """The volume mounted as its kind says."""
    with mounted(volume, at, *(["-o", kind.mount] if kind.mount else [])):
        yield at


def age(step: str, volume: Path, at: Path, kind: Kind, seed: int) -> None:
    """Let one step happen to a volume that is mounted at ``at``."""
    STEPS[step](volume, at, random.Random(seed))
    run(["sync", "-f", at])


def _write_files(at: Path, rng: random.Random, count: int) -> None:
    for number in range(count):
        path = at / f"d{rng.randrange(6)}" / f"f{rng.randrange(10_000)}-{number}"
        path.parent.mkdir(exist_ok=True)
        size = rng.choice((0, 10, 900, 5000, 20_000, 70_000, 300_000))
        content = rng.randbytes(size) if rng.random() < 0.7 else b"\x5a" * size
        with path.open("wb") as file:
            if rng.random() < 0.1:
                file.seek(rng.randrange(1 << 20))
            file.write(content)
            if rng.random() < 0.1:
                os.posix_fallocate(file.fileno(), size, rng.randrange(1, 200_000))


def _files(at: Path) -> list[Path]:
    return sorted(path for path in at.rglob("*") if path.is_file() and not path.is_symlink())


def _filled(volume: Path, at: Path, rng: random.Random) -> None:
    _write_files(at, rng, 60)
    for path in rng.sample(_files(at), 5):
        os.link(path, path.with_name(f"{path.name}.hard"))
        os.symlink(path.name, path.with_name(f"{path.name}.soft"))


def _churned(volume: Path, at: Path, rng: random.Random) -> None:
    """Hundreds of creates, overwrites and deletes, with commits between them."""
    for _ in range(5):
        small = at / f"small{rng.randrange(1 << 30)}"
        small.mkdir()
        for number in range(150):
            (small / f"s{number}").write_bytes(rng.randbytes(rng.choice((50, 3000, 4096, 9000))))
        run(["sync", "-f", at])
        for path in rng.sample(_files(small), 90):
            path.unlink()
        files = _files(at)
        for path in rng.sample(files, min(20, len(files))):
            with path.open("r+b") as file:
                file.seek(rng.randrange(max(1, path.stat().st_size)))
                file.write(rng.randbytes(6000))


def _snapshots(volume: Path, at: Path, rng: random.Random) -> None:
    for number in range(3):
        name = f"snap{rng.randrange(1 << 30)}"
        run(["btrfs", "subvolume", "snapshot", *["-r"][: number % 2], at, at / name])
        for path in rng.sample(_files(at / "d1"), 3):
            path.write_bytes(rng.randbytes(30_000))
            run(["cp", "--reflink=always", path, path.with_name(f"{path.name}.copy{number}")])
        if number == 1:
            run(["btrfs", "subvolume", "delete", "-c", at / name])
    run(["btrfs", "subvolume", "create", at / f"sub{rng.randrange(1 << 30)}"])


def _balanced(volume: Path, at: Path, rng: random.Random) -> None:
    run(["btrfs", "balance", "start", "-dusage=90", at])


def _interrupted(volume: Path, at: Path, rng: random.Random) -> None:
    """Pause a balance in its midst, while a snapshot is being dropped."""
    run(["btrfs", "subvolume", "snapshot", at, at / "old"])
    run(["btrfs", "balance", "cancel", at], codes=(0, 1, 2))
    command = ["btrfs", "balance", "start", "--full-balance", str(at)]
    balance = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    run(["btrfs", "subvolume", "delete", at / "old"])
    time.sleep(rng.random() / 10)
    # It may have come to its end before.
    run(["btrfs", "balance", "pause", at], codes=(0, 1, 2))
    balance.wait(120)


def _converted(volume: Path, at: Path, rng: random.Random) -> None:
    run(["btrfs", "balance", "start", "-f", "-mconvert=dup", "-sconvert=dup", at])


def _full(volume: Path, at: Path, rng: random.Random) -> None:
    (at / "filling").mkdir(exist_ok=True)
    try:
        for number in range(400):
            (at / "filling" / f"f{number}").write_bytes(
                rng.randbytes(rng.choice((1, 16, 64)) << 14)
            )
    except OSError:
        return
    raise AssertionError("the volume did not become full")


def _emptied(volume: Path, at: Path, rng: random.Random) -> None:
    for path in _files(at / "filling"):
        path.unlink()


def _shrunk(volume: Path, at: Path, rng: random.Random) -> None:
    run(["btrfs", "filesystem", "resize", f"{260 * MIB + 4096}", at])


def _grown(volume: Path, at: Path, rng: random.Random) -> None:
    run(["btrfs", "filesystem", "resize", "max", at])


STEPS: dict[str, Callable[[Path, Path, random.Random], None]] = {
    "filled": _filled,
    "churned": _churned,
    "snapshots": _snapshots,
    "balanced": _balanced,
    "converted": _converted,
    "full": _full,
    "emptied": _emptied,
    "shrunk": _shrunk,
    "grown": _grown,
    "interrupted": _interrupted,
}
