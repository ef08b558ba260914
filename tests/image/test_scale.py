"""Sizes that memory and time must not follow: 64 TiB, thousands of pieces."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

import aipimage
from tests.support.sources import SparseSource

TIB = 1 << 40

_CHILD = """
import sys
import aipimage
sys.path.insert(0, {root!r})
from tests.image.test_scale import scattered
source = scattered(64, 3000)
made = aipimage.create({path!r}, [source], compress="zstd:1", overwrite=True)
with aipimage.open({path!r}) as image:
    assert image.devices[0].size == 64 << 40
    file = image.devices[0].open()
    for offset in list(source.pieces)[::50]:
        buffer = bytearray(5000)
        file.readinto_at(buffer, offset)
        assert bytes(buffer) == source.content(offset, 5000)
    assert image.verify().ok
# Not ru_maxrss: that one is inherited from the process that started this one.
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(int(peak.split()[1]) // 1024, made.stored)
"""


def scattered(tib: int, count: int) -> SparseSource:
    """``count`` pieces of 20 KB spread over some TiB."""
    rng = random.Random(4)
    starts = {rng.randrange(0, tib * TIB - 40_000) // 4096 * 4096 for _ in range(count)}
    return SparseSource(tib * TIB, {start: b"%d" % start * 1000 for start in starts})


def test_a_disk_of_64_tib_in_bounded_memory(tmp_path: Path) -> None:
    root = str(Path(__file__).resolve().parents[2])
    code = _CHILD.format(root=root, path=str(tmp_path / "big.aiv"))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    peak, stored = map(int, done.stdout.split())
    assert peak <= 256
    # The index follows fragmentation: under a kilobyte for each piece, whatever the size.
    assert stored < 3000 * 1500


def test_opening_reads_a_few_pieces_at_the_ends(tmp_path: Path) -> None:
    from aipimage.io.system.storage import Storage
    from aipimage.volumes.image import open_image
    from tests.support.faults import FaultySystemCalls

    reads = []
    for count in (100, 2000):
        path = tmp_path / f"{count}.aiv"
        aipimage.create(path, [scattered(8, count)], compress="zstd:1")
        calls = FaultySystemCalls()
        with open_image(path, storage=Storage(calls)):
            reads.append(calls.counts["preadv"])
    assert reads[0] == reads[1] <= 6


@pytest.mark.parametrize("size", [1, 511, 512, 513, 65_535, 65_537, (1 << 20) - 1, (1 << 26) + 1])
def test_sizes_at_the_edges(tmp_path: Path, size: int) -> None:
    source = SparseSource(size, {size - 1: b"\x01"})
    made = aipimage.create(tmp_path / "e.aiv", [source])
    assert made.size == size
    with aipimage.open(tmp_path / "e.aiv") as image:
        file = image.devices[0].open()
        file.seek(size - 1)
        assert file.read() == b"\x01"
        assert image.verify().ok
        image.restore(tmp_path / "e.raw")
    assert (tmp_path / "e.raw").stat().st_size == size


_MANY_PARTS = """
import io, random, resource, sys
import aipimage
from aipimage.io.system import filepool
from aipimage.io.stream import instream
disk = random.Random(1).randbytes(3_000_000)
filepool.FILES_OPEN = instream.FILES_OPEN = 8
filepool.FilePool.__init__.__defaults__ = (8,)
resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
made = aipimage.create(sys.argv[1], io.BytesIO(disk), compress="none", split=16_384)
with aipimage.open(sys.argv[1]) as image:
    assert image.verify().ok
    assert image.devices[0].open().readall() == disk
aipimage.join(sys.argv[1], sys.argv[1] + ".joined")
print(made.parts)
"""


def test_more_parts_than_files_may_be_open(tmp_path: Path) -> None:
    pytest.importorskip("resource")
    command = [sys.executable, "-c", _MANY_PARTS, str(tmp_path / "many.aiv")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 180
