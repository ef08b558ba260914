"""What the cases of ``pytest benchmarks/`` share: content, and how a case is put beside others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import aipimage
from aipimage import _core

CLUSTER = 4096
SIZE = 4 << 20
"""Bytes of a batch: what a worker takes at a time when an image is made."""


def content(size: int, seed: int = 61) -> bytes:
    """Clusters as disks have them: text, random bytes, half of each, and zeros."""
    random = np.random.default_rng(seed)
    text = np.frombuffer(b"A line of a log file, number 4711, and another one.\n" * 80, np.uint8)
    rows = np.zeros((size // CLUSTER, CLUSTER), np.uint8)
    kinds = random.integers(0, 4, len(rows))
    noise = random.integers(0, 256, rows.shape, np.uint8)
    rows[kinds == 0] = text[:CLUSTER]
    rows[kinds == 0, :8] = noise[kinds == 0, :8]
    rows[kinds == 1] = noise[kinds == 1]
    rows[kinds == 2, :3000] = text[:3000]
    rows[kinds == 2, 3000:] = noise[kinds == 2, 3000:]
    return rows.tobytes()


@pytest.fixture(scope="session")
def batch() -> bytes:
    """4 MiB of mixed content."""
    return content(SIZE)


@pytest.fixture(params=["scalar", "best"])
def variant(request: pytest.FixtureRequest) -> Iterator[str]:
    """The C core's plain variant, and the best of this processor."""
    _core.force_scalar(request.param == "scalar")
    yield request.param
    _core.force_scalar(False)


@pytest.fixture(scope="session")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A raw disk of 64 MiB of mixed content."""
    path = tmp_path_factory.mktemp("disk") / "disk.raw"
    path.write_bytes(content(64 << 20))
    return path


@pytest.fixture(scope="session", params=["none", "aes-256"])
def image_path(
    request: pytest.FixtureRequest, disk: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, str | None]:
    """An image of the disk and its password: plain, and encrypted."""
    path = tmp_path_factory.mktemp("image") / "disk.aiv"
    if request.param == "none":
        aipimage.create(path, disk, compress="zstd:1")
        return path, None
    aipimage.create(path, disk, compress="zstd:1", encrypt=request.param, password="benchmark")
    return path, "benchmark"
