"""Ageing a mounted volume: files that come, grow, shrink, get holes and go."""

from __future__ import annotations

import errno
import os
import random
from pathlib import Path


class Ageing:
    """Random operations below a directory, the same ones for the same seed.

    Args:
        at: where the volume is mounted. largest: bytes of a file.
    """

    def __init__(self, at: Path, seed: int, largest: int) -> None:
        self.at, self.largest = at, largest
        self.chance = random.Random(seed)

    def run(self, steps: int) -> None:
        """Do some operations; a full volume loses files and goes on."""
        for _ in range(steps):
            try:
                self._step()
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                self.remove(0.3)

    def fill(self) -> None:
        """Write until nothing fits."""
        try:
            for number in range(1_000_000):
                (self.at / f"fill{number}").write_bytes(bytes([number % 255 + 1]) * self.largest)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise

    def remove(self, share: float) -> None:
        """Remove so much of all files."""
        for path in self._files():
            if self.chance.random() < share:
                path.unlink()

    def _files(self) -> list[Path]:
        found = (Path(top) / name for top, _, names in os.walk(self.at) for name in names)
        return sorted(path for path in found if not path.is_symlink())

    def _size(self) -> int:
        return int(self.largest * self.chance.random() ** 3)

    def _step(self) -> None:
        files = self._files()
        what = self.chance.choice(("make", "make", "make", "remove", "change", "hole", "reserve"))
        if what == "make" or not files:
            self._make()
            return
        path = self.chance.choice(files)
        if what == "remove":
            path.unlink()
        elif what == "change":
            with open(path, "r+b") as file:
                file.truncate(self._size())
                file.seek(self._size())
                file.write(self.chance.randbytes(3000))
        elif what == "hole":
            with open(path, "r+b") as file:
                file.seek(self.chance.randint(0, 8) * self.largest)
                file.write(b"behind a hole")
        else:
            with open(path, "r+b") as file:
                os.posix_fallocate(file.fileno(), 0, self._size() + 1)

    def _make(self) -> None:
        folder = self.at / f"d{self.chance.randint(0, 9)}" / f"e{self.chance.randint(0, 3)}"
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{self.chance.randint(0, 10**6)}{'x' * self.chance.randint(0, 120)}"
        (folder / name).write_bytes(self.chance.randbytes(self._size()))
