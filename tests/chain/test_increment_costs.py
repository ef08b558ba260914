"""What an increment costs in bytes and memory, on disks of any size."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import aipimage
from tests.support.sources import SparseSource


class Noise(SparseSource):
    """Pieces by their numbers, found by a search: many of them cost nothing."""

    def __init__(self, size: int, pieces: dict[int, bytes]) -> None:
        super().__init__(size, pieces)
        self._at = np.array(list(self.pieces), np.int64)
        self._lengths = np.array([len(data) for data in self.pieces.values()], np.int64)
        self._data = list(self.pieces.values())

    def read_into(self, buffer: Any, offset: int) -> None:
        view = memoryview(buffer).cast("B")
        view[:] = bytes(view.nbytes)
        self.bytes_read += view.nbytes
        low = int(np.searchsorted(self._at + self._lengths, offset, "right"))
        high = int(np.searchsorted(self._at, offset + view.nbytes, "left"))
        for start, data in zip(self._at[low:high].tolist(), self._data[low:high], strict=True):
            first, last = max(start, offset), min(start + len(data), offset + view.nbytes)
            view[first - offset : last - offset] = data[first - start : last - start]

    def data_ranges(self, start: int, end: int) -> Any:
        for at_byte, length in zip(self._at.tolist(), self._lengths.tolist(), strict=True):
            low, high = max(at_byte, start), min(at_byte + length, end)
            if low < high:
                yield low, high - low

    def fingerprint(self) -> dict[str, int | str]:
        return {"kind": "noise", "size": self.size}


def noise(size: int, count: int, length: int, seed: int) -> dict[int, bytes]:
    chance = random.Random(seed)
    units = sorted(chance.sample(range(size // length), count))
    return {unit * length: chance.randbytes(length) for unit in units}


def test_the_cost_of_a_tracked_increment(tmp_path: Path) -> None:
    """8 GiB, of which 0.1 % changed: that and 5 % more, and 256 KiB."""
    size = 8 << 30
    old = noise(size, 4000, 4096, 1)
    source = Noise(size, old)
    aipimage.create(tmp_path / "0.aiv", [source], compress="none")
    new = noise(size, 2098, 4096, 2)
    source = Noise(size, old | new)
    changed = [(start, len(data)) for start, data in new.items()]
    made = aipimage.create(
        tmp_path / "1.aiv", [source], parent=tmp_path / "0.aiv", changed=changed, compress="none"
    )
    assert made.changes[0].method == "tracked"
    assert made.changes[0].changed == len(new) * 4096
    assert made.stored <= 1.05 * made.changes[0].changed + (256 << 10)
    # A block is read around each change, for its digest, and the sample.
    assert made.changes[0].read <= len(new) * 65_536
    with aipimage.open(tmp_path / "1.aiv") as image:
        file = image.devices[0].open()
        for start in [*list(new)[::20], *list(old)[::20]]:
            buffer = bytearray(9000)
            file.readinto_at(buffer, start)
            assert bytes(buffer) == source.content(start, 9000)


_CHILD = """
import sys
import aipimage
sys.path.insert(0, {root!r})
from tests.chain.test_increment_costs import Noise, noise
old = noise(64 << 40, 3000, 20480, 1)
aipimage.create({path!r} + "/0.aiv", [Noise(64 << 40, old)], compress="none")
new = noise(64 << 40, 1000, 4096, 2)
source = Noise(64 << 40, old | new)
kwargs = dict(changed=[(start, 4096) for start in new]) if {tracked} else {{}}
made = aipimage.create({path!r} + "/1.aiv", [source], parent={path!r}, compress="none", **kwargs)
with aipimage.open({path!r} + "/1.aiv") as image:
    file = image.devices[0].open()
    for start in [*list(new)[::20], *list(old)[::50]]:
        buffer = bytearray(9000)
        file.readinto_at(buffer, start)
        assert bytes(buffer) == source.content(start, 9000)
    assert image.verify().ok
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(made.changes[0].method, int(peak.split()[1]) // 1024, made.stored, made.changes[0].changed)
"""


@pytest.mark.parametrize("tracked", [True, False])
def test_an_increment_of_64_tib_in_bounded_memory(tmp_path: Path, tracked: bool) -> None:
    root = str(Path(__file__).resolve().parents[2])
    code = _CHILD.format(root=root, path=str(tmp_path), tracked=tracked)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    method, *numbers = done.stdout.split()
    peak, stored, changed = map(int, numbers)
    assert method == ("tracked" if tracked else "digests")
    assert changed == 1000 * 4096
    assert stored - changed < 1 << 20
    assert peak <= 256
