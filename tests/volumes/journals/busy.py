"""Volumes under load, and copies of them as they are at one moment.

The files in which the volumes lie are on an XFS of their own, where a copy that shares all blocks
(reflink) is of one instant: what a hypervisor's snapshot, or the loss of power, leaves.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.support import require_loop_devices
from tests.support.tools import mounted, require_programs, run

_HOST_SIZE = 6 << 30


@contextlib.contextmanager
def host(tmp_path: Path) -> Iterator[Path]:
    """A directory in which copies by reflink can be made."""
    require_programs("mkfs.xfs", "mount", "umount", "cp")
    require_loop_devices()
    image = tmp_path / "host"
    with open(image, "wb") as file:
        file.truncate(_HOST_SIZE)
    run(["mkfs.xfs", "-q", "-m", "reflink=1", image])
    with mounted(image, tmp_path / "host mounted") as at:
        yield at


def snapshot(volume: Path, into: Path) -> Path:
    """Copy a file as it is at this moment."""
    run(["cp", "--reflink=always", volume, into])
    return into


class Load:
    """Threads that write to a mounted volume: one makes files that stay as they are, and forces
    each of them to the disk; the others make, change, rename and delete files of their own.

    Args:
        at: where the volume is mounted. seed: of what they do. largest: bytes of a file.

    Attributes:
        kept: the files that were forced to the disk: name -> digest.
    """

    def __init__(self, at: Path, seed: int, largest: int = 200_000, writers: int = 2) -> None:
        self._at, self._largest = at, largest
        self._stopped = threading.Event()
        self._error: BaseException | None = None
        self.kept: dict[str, str] = {}
        works: list[Callable[[random.Random], None]] = [self._keep]
        works += [self._churn] * writers
        self._threads = [
            threading.Thread(target=self._run, args=(work, random.Random(seed * 10 + number)))
            for number, work in enumerate(works)
        ]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()
        if self._error is not None:
            raise self._error

    def wait(self, seconds: float, files: int = 3) -> dict[str, str]:
        """Let it work for a while, and until more files were forced to the disk; return those."""
        before, end = len(self.kept), time.monotonic() + seconds
        while time.monotonic() < end or len(self.kept) < before + files:
            assert not self._stopped.is_set(), self._error
            time.sleep(0.01)
        return dict(self.kept)

    def _run(self, work: Callable[[random.Random], None], chance: random.Random) -> None:
        while not self._stopped.is_set():
            try:
                work(chance)
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.ENOENT):
                    self._fail(error)
            except BaseException as error:
                self._fail(error)

    def _fail(self, error: BaseException) -> None:
        self._error = error
        self._stopped.set()

    def _keep(self, chance: random.Random) -> None:
        folder = self._at / f"kept{chance.randrange(8)}"
        folder.mkdir(exist_ok=True)
        path = folder / f"{len(self.kept)}{'x' * chance.randrange(60)}"
        data = chance.randbytes(chance.randrange(self._largest))
        with open(path, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        for each in (folder, self._at):
            _sync(each)
        self.kept[str(path.relative_to(self._at))] = hashlib.blake2b(data).hexdigest()

    def _churn(self, chance: random.Random) -> None:
        folder = self._at / f"churn{chance.randrange(6)}"
        folder.mkdir(exist_ok=True)
        path = folder / f"file{chance.randrange(150)}"
        what = chance.randrange(12)
        if what < 5:
            path.write_bytes(chance.randbytes(chance.randrange(self._largest)))
        elif what == 5:
            path.unlink(missing_ok=True)
        elif what == 6:
            os.truncate(path, chance.randrange(self._largest))
        elif what == 7:
            path.rename(folder / f"file{chance.randrange(150)}")
        elif what == 8:
            with open(path, "ab") as file:
                file.write(chance.randbytes(5000))
                file.flush()
                os.fsync(file.fileno())
        elif what == 9:
            with open(path, "r+b") as file:
                os.posix_fallocate(file.fileno(), 0, self._largest)
                file.seek(chance.randrange(3 * self._largest))
                file.write(b"after a hole")
        elif what == 10:
            os.setxattr(path, "user.some", chance.randbytes(chance.choice([20, 800])))
        elif chance.randrange(8) == 0:
            for each in sorted(folder.iterdir()):
                each.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
