"""What becomes of XFS volumes: steps of use through the kernel's driver, and by its tools.

Whatever a step does is given by its seed, apart from where the driver puts things.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import random
from collections.abc import Callable
from pathlib import Path

from tests.support.tools import mounted, run
from tests.volumes.xfs.judge import MIB

_PUNCH = 0x03  # FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
_FICLONE = 0x40049409
_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]


def create(at: Path, chance: random.Random) -> None:
    """Some folders of files of many sizes."""
    for number in range(60):
        folder = at / f"folder{chance.randrange(6)}"
        folder.mkdir(exist_ok=True)
        size = chance.choice([0, 100, 5000, 40_000, 200_000])
        (folder / f"file{chance.randrange(10**6)}-{number}").write_bytes(chance.randbytes(size))


def delete(at: Path, chance: random.Random) -> None:
    """Two files in three go."""
    for path in sorted(at.rglob("*")):
        if not path.is_symlink() and path.is_file() and chance.random() < 0.66:
            path.unlink()


def scatter(at: Path, chance: random.Random, most: int = 1200) -> None:
    """Allocate most of the rest for one file, then free every second block of much of it."""
    block = os.statvfs(at).f_bsize
    with open(at / f"scattered{chance.randrange(10**6)}", "wb") as file:
        room = os.statvfs(at).f_bavail * 3 // 4 * block
        _allocate(file.fileno(), 0, 0, room)
        for offset in range(0, min(room, 2 * most * block), 2 * block):
            _allocate(file.fileno(), _PUNCH, offset, block)
    if chance.random() < 0.3:
        os.unlink(file.name)


def pieces(at: Path, chance: random.Random) -> None:
    """The same with all of the file."""
    scatter(at, chance, 1 << 20)


def share(at: Path, chance: random.Random) -> None:
    """Files share blocks, then some of those are written again."""
    origin = at / f"origin{chance.randrange(10**6)}"
    origin.write_bytes(chance.randbytes(MIB // 2))
    for number in range(6):
        copy = at / f"{origin.name}-{number}"
        with open(origin, "rb") as file, open(copy, "wb") as clone:
            try:
                fcntl.ioctl(clone, _FICLONE, file.fileno())
            except OSError as error:
                if error.errno != errno.EOPNOTSUPP:
                    raise
                clone.write(file.read())
        with open(copy, "r+b") as file:
            for _ in range(12):
                file.seek(chance.randrange(MIB // 2))
                file.write(b"changed")


def fill(at: Path, chance: random.Random) -> None:
    """Until nothing more fits."""
    number = 0
    for size in (16 * MIB, MIB, 65_536, 4096, 1):
        while True:
            number += 1
            try:
                with open(at / f"full{chance.randrange(10**9)}-{number}", "wb") as file:
                    file.write(bytes(size))
                    os.fsync(file.fileno())
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                break


def churn(at: Path, chance: random.Random) -> None:
    """Send the log round: many small changes, each of them forced to it."""
    for turn in range(80):
        paths = [at / f"churn{turn}-{number}" for number in range(8)]
        for path in paths:
            path.write_bytes(chance.randbytes(chance.choice([10, 3000])))
        run(["sync", "-f", at])
        for path in paths:
            path.unlink()


def attributes(at: Path, chance: random.Random) -> None:
    """Attributes, links and long names: blocks of other kinds."""
    for number in range(80):
        path = at / ("long" * 40 + str(chance.randrange(10**6)))
        path.write_bytes(b"")
        os.setxattr(path, "user.name", chance.randbytes(chance.choice([10, 900, 5000])))
        (at / f"link{chance.randrange(10**9)}-{number}").symlink_to("x" * 900)


STEPS: dict[str, Callable[[Path, random.Random], None]] = {
    step.__name__: step
    for step in (create, delete, scatter, pieces, share, fill, churn, attributes)
}


def age(volume: Path, at: Path, name: str, seed: int = 1, *options: str) -> None:
    """Do a step: one of ``STEPS`` on the mounted volume, or what a tool does to it."""
    chance = random.Random(seed)
    if name == "grow":
        os.truncate(volume, os.path.getsize(volume) * 3 // 2)
        with mounted(volume, at, *options):
            run(["xfs_growfs", at])
    elif name == "repair":
        run(["xfs_repair", "-f", volume])
    elif name == "new uuid":
        run(["xfs_db", "-x", "-c", "uuid generate", volume])
    elif name == "log cleared":
        run(["xfs_repair", "-f", "-L", volume])
    else:
        with mounted(volume, at, *options):
            try:
                STEPS[name](at, chance)
            except OSError as error:
                # A full volume is an age like any other.
                if error.errno != errno.ENOSPC:
                    raise


def _allocate(descriptor: int, mode: int, offset: int, length: int) -> None:
    if _libc.fallocate(descriptor, mode, offset, length):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
