"""What becomes of NTFS volumes: steps of use through ntfs-3g, given by their seed."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.volumes.ntfs.made import MIB, ntfs_3g

_COMPRESSED = (0x0800).to_bytes(4, "big")


@contextmanager
def ignoring(*numbers: int) -> Iterator[None]:
    """Go on behind the block where the system fails in one of these ways."""
    try:
        yield
    except OSError as error:
        if error.errno not in numbers:
            raise


def create(at: Path, chance: random.Random) -> None:
    """Some folders of files of many sizes."""
    for number in range(150):
        folder = at / f"folder {chance.randrange(6)}"
        folder.mkdir(exist_ok=True)
        size = chance.choice([0, 10, 900, 5000, 40_000])
        (folder / f"file{chance.randrange(10**6)}-{number}").write_bytes(chance.randbytes(size))


def delete(at: Path, chance: random.Random) -> None:
    """Two files in three go."""
    for path in sorted(at.rglob("*")):
        if path.is_file() and chance.random() < 0.66:
            path.unlink()


def fragment(at: Path, chance: random.Random) -> None:
    """Two files grow in turns, so that their run lists need several records."""
    names = [at / f"{letter}{chance.randrange(10**6)}" for letter in "ab"]
    room = os.statvfs(at).f_bavail * os.statvfs(at).f_frsize // 2
    size = min(4096, max(512, os.statvfs(at).f_frsize))
    with open(names[0], "wb", 0) as one, open(names[1], "wb", 0) as other:
        for _ in range(min(900, room // (2 * size))):
            one.write(b"1" * size)
            other.write(b"2" * size)


def sparse(at: Path, chance: random.Random) -> None:
    """Files with holes."""
    for _ in range(3):
        with open(at / f"sparse{chance.randrange(10**6)}", "wb") as file:
            file.truncate(64 * MIB)
            for _ in range(20):
                file.seek(chance.randrange(63 * MIB))
                file.write(b"x" * chance.randrange(1, 3000))


def compress(at: Path, chance: random.Random) -> None:
    """Compressed files (where clusters are at most 4 KiB), and streams beside the content."""
    folder = at / f"compressed{chance.randrange(10**6)}"
    folder.mkdir()
    with ignoring(errno.EOPNOTSUPP, errno.EINVAL):
        os.setxattr(folder, "system.ntfs_attrib_be", _COMPRESSED)
    for number in range(8):
        path = folder / f"{number}.txt"
        path.write_bytes(b"all work and no play " * 3000 + chance.randbytes(20_000))
        Path(f"{path}:stream").write_bytes(chance.randbytes(chance.choice([100, 9000])))


def many(at: Path, chance: random.Random) -> None:
    """A thousand small files and links in one folder: a large index, a longer MFT."""
    folder = at / f"many{chance.randrange(10**6)}"
    folder.mkdir()
    for number in range(1000):
        path = folder / f"a rather long name of a small file {number}"
        path.write_bytes(b"x" * chance.choice([0, 40, 1500]))
        if number % 50 == 0:
            os.link(path, folder / f"link{number}")


def fill(at: Path, chance: random.Random) -> None:
    """Until nothing more fits."""
    for size in (8 * MIB, MIB, 60_000, 1500, 0):
        for number in range(5000):
            path = at / f"full{size}-{number}-{chance.randrange(10**6)}"
            done = False
            with ignoring(errno.ENOSPC):
                path.write_bytes(b"f" * size)
                done = True
            if not done:
                # What of it was written has taken the room that smaller files are to get.
                path.unlink(missing_ok=True)
                break
            if not size and number == 20:
                break


def thin(at: Path, chance: random.Random) -> None:
    """Every second file goes, in the order of their names: free space in small pieces."""
    for path in [path for path in sorted(at.rglob("*")) if path.is_file()][::2]:
        path.unlink()


def crumble(at: Path, chance: random.Random) -> None:
    """Small files take all; every second one goes, so that the free space lies in single clusters;
    and of the files that follow each needs room in the MFT, which grows into those.
    """
    folder = at / f"small{chance.randrange(10**6)}"
    folder.mkdir()
    size, number = max(1024, os.statvfs(at).f_frsize), 0
    with ignoring(errno.ENOSPC):
        for number in range(3000):
            (folder / str(number)).write_bytes(b"s" * size)
    for gone in range(0, number, 2):
        (folder / str(gone)).unlink()
    grow_mft(at, chance)


def grow_mft(at: Path, chance: random.Random) -> None:
    """Empty files, as many as fit, and no more than 1500."""
    folder = at / f"empty{chance.randrange(10**6)}"
    folder.mkdir()
    for number in range(1500):
        (folder / str(number)).touch()


STEPS: dict[str, Callable[[Path, random.Random], None]] = {
    step.__name__: step
    for step in (create, delete, fragment, sparse, compress, many, fill, thin, crumble, grow_mft)
}


def age(volume: Path, at: Path, name: str, seed: int = 1) -> None:
    """Mount a volume, do a step as far as there is room, unmount it."""
    with ntfs_3g(volume, at), ignoring(errno.ENOSPC):
        STEPS[name](at, random.Random(seed))
