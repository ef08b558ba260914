"""What goes in comes out: every source, every option, bit by bit."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from blake3 import blake3
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import aipimage
from aipimage.extents import Kind
from aipimage.format.constants import RecordType
from aipimage.format.tables import decode_digest_leaf
from aipimage.io.creating.options import CreateOptions
from aipimage.io.increment.create import create_image
from aipimage.io.index.digesttree import record_type
from aipimage.io.index.trees import IndexReader
from aipimage.io.records.keys import Argon2Parameters
from tests.support.sources import SparseSource

CHEAP = Argon2Parameters(memory=8192, passes=1, lanes=1)
SECRET = "correct horse"
KINDS: dict[str, dict[str, object]] = {
    "plain": {},
    "stored": {"compress": "none"},
    "aes-128": {"encrypt": "aes-128", "password": SECRET},
    "aes-256": {"encrypt": "aes-256", "password": SECRET},
    "authenticated": {"encrypt": "authenticate", "password": SECRET},
    "split": {"split": 16_384},
    "split aes": {"split": 20_000, "encrypt": "aes-256", "password": SECRET},
    "no digests": {"block_digests": False},
}


def options(kind: str, **more: object) -> CreateOptions:
    """Options of one kind, with a cheap key derivation."""
    return CreateOptions(**({"argon2": CHEAP} | KINDS[kind] | more))  # type: ignore[arg-type]


def sample_disk(seed: int, size: int) -> bytes:
    """Zeros, text, random bytes and small islands, at odd places."""
    rng = np.random.default_rng(seed)
    disk = bytearray(size)
    for _ in range(max(1, size // 40_000)):
        start = int(rng.integers(0, size))
        length = int(rng.choice([1, 511, 512, 4096, 9000, 70_000]))
        piece = (
            rng.bytes(length) if rng.random() < 0.5 else (b"all work and no play " * 4000)[:length]
        )
        disk[start : start + length] = piece[: size - start]
    return bytes(disk)


@pytest.mark.parametrize("kind", KINDS)
def test_a_disk_comes_back(tmp_path: Path, kind: str) -> None:
    disk = sample_disk(1, 3_000_100)
    source = tmp_path / "disk.raw"
    source.write_bytes(disk)
    image_path = tmp_path / "disk.aiv"
    made = create_image(image_path, [str(source)], options(kind, stripe_shift=20))
    password = KINDS[kind].get("password")
    with aipimage.open(image_path, password, expected_digest=made.digest) as image:  # type: ignore[arg-type]
        assert image.devices[0].open().readall() == disk
        assert image.verify().ok
        image.restore(tmp_path / "back.raw")
        assert image.parts == made.parts == len(list(tmp_path.glob("disk.aiv*")))
        assert (made.parts > 1) == ("split" in kind)
    assert (tmp_path / "back.raw").read_bytes() == disk
    assert aipimage.verify_keyless(image_path).ok
    assert not list(tmp_path.glob("*.partial"))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.integers(1, 3_500_000),
    st.lists(
        st.tuples(st.integers(0, 3_500_000), st.integers(1, 200_000), st.integers(0, 99)),
        max_size=12,
    ),
    st.sampled_from([12, 13, 16, 18]),
    st.sampled_from([20, 21]),
    st.booleans(),
)
def test_any_disk_comes_back(
    size: int,
    writes: list[tuple[int, int, int]],
    frame_shift: int,
    stripe_shift: int,
    compressed: bool,
) -> None:
    disk = bytearray(size)
    for start, length, seed in writes:
        piece = np.random.default_rng(seed).bytes(length) if seed % 2 else bytes([seed]) * length
        disk[start : min(size, start + length)] = piece[: max(0, min(length, size - start))]
    store: io.BytesIO = io.BytesIO()
    wanted = CreateOptions(
        compress="zstd:1" if compressed else "none",
        frame_shift=frame_shift,
        stripe_shift=stripe_shift,
    )
    made = create_image(store, [io.BytesIO(disk)], wanted)
    assert (made.path, made.stored) == (None, len(store.getvalue()))
    assert made.data + made.zero == -(-size // 512) * 512
    _check_piped(store.getvalue(), bytes(disk))


def _check_piped(stored: bytes, disk: bytes) -> None:
    """An image that went through a pipe is the same as one in a file."""
    import tempfile

    with tempfile.NamedTemporaryFile(suffix=".aiv") as file:
        file.write(stored)
        file.flush()
        with aipimage.open(file.name) as image:
            assert image.devices[0].open().readall() == disk
            assert image.verify().ok
            extents = list(image.devices[0].extents())
    assert sum(extent.length for extent in extents) == len(disk)
    at = 0
    for extent in extents:
        assert extent.start == at
        at += extent.length
        if extent.kind == Kind.ZERO:
            assert not any(disk[extent.start : at])


def test_several_devices_in_one_image(tmp_path: Path) -> None:
    disks = [sample_disk(seed, size) for seed, size in ((1, 700_000), (2, 1), (3, 2_500_001))]
    made = create_image(
        tmp_path / "all.aiv", [io.BytesIO(disk) for disk in disks], options("aes-256")
    )
    assert made.size == sum(map(len, disks))
    with aipimage.open(tmp_path / "all.aiv", SECRET) as image:
        assert [device.open().readall() for device in image.devices] == disks
        assert image.verify().ok


def test_unreadable_sectors_are_recorded_and_read_as_zeros(tmp_path: Path) -> None:
    data = np.random.default_rng(5).bytes(300_000)
    source = SparseSource(
        2_000_000, {100_352: data}, ((102_400, 512), (204_800, 5120), (1_500_160, 1024))
    )
    made = create_image(tmp_path / "bad.aiv", [source], options("plain", stripe_shift=20))
    assert made.unreadable_ranges == ((0, 102_400, 512), (0, 204_800, 5120), (0, 1_500_160, 1024))
    assert made.unreadable == 6656
    with aipimage.open(tmp_path / "bad.aiv") as image:
        assert image.devices[0].open().readall() == source.content(0, source.size)
        bad = list(image.devices[0].extents(Kind.UNREADABLE))
        assert [(e.start, e.length) for e in bad] == [(o, n) for _, o, n in made.unreadable_ranges]
        assert image.metadata["result"]["unreadable"] == [[0, 200, 1], [0, 400, 10], [0, 2930, 2]]
        assert image.verify().ok


def test_stop_at_the_first_unreadable_sector(tmp_path: Path) -> None:
    source = SparseSource(100_000, {0: b"x" * 100_000}, ((8192, 512),))
    with pytest.raises(aipimage.SourceError, match="bad sectors"):
        create_image(tmp_path / "bad.aiv", [source], options("plain", stop_on_error=True))
    assert not list(tmp_path.iterdir())


def test_block_digests_are_of_what_is_read_back(tmp_path: Path) -> None:
    """Section 8 of docs/format.md, digest by digest."""
    disk = sample_disk(9, 2_200_000)
    create_image(tmp_path / "d.aiv", [io.BytesIO(disk)], options("plain", stripe_shift=20))
    found: dict[int, bytes] = {}
    with aipimage.open(tmp_path / "d.aiv") as image:
        root = image.seal.devices[0].digest_root
        index = IndexReader(image.records, root, RecordType.DIGEST_LEAF)
        for _, ref in index.leaves(record_type(image.records, root) == RecordType.DIGEST_LEAF):
            first, digests = decode_digest_leaf(
                image.records.fetch(ref, RecordType.DIGEST_LEAF).plain, 20
            )
            for number in range(len(digests) // 16):
                found[first + number] = digests[16 * number : 16 * number + 16]
    for number in range(-(-len(disk) // 65_536)):
        block = disk[65_536 * number :][:65_536].ljust(65_536, b"\0")
        expected = blake3(block).digest()[:16] if any(block) else bytes(16)
        assert found.get(number, bytes(16)) == expected


@pytest.mark.parametrize(
    "wrong",
    [
        {"compress": "gzip"},
        {"compress": "zstd:99"},
        {"encrypt": "des", "password": "x"},
        {"encrypt": "aes-256"},
        {"password": "x"},
        {"split": 100},
        {"rate": 0},
        {"threads": 0},
        {"encrypt": "aes-256", "password": ""},
    ],
)
def test_bad_options_are_refused_with_nothing_written(
    tmp_path: Path, wrong: dict[str, object]
) -> None:
    source = tmp_path / "disk.raw"
    source.write_bytes(b"x" * 5000)
    with pytest.raises(aipimage.RequestError):
        aipimage.create(tmp_path / "disk.aiv", [str(source)], **wrong)  # type: ignore[arg-type]
    assert [path.name for path in tmp_path.iterdir()] == ["disk.raw"]


def test_an_existing_image_is_kept_unless_asked(tmp_path: Path) -> None:
    (tmp_path / "disk.aiv").write_bytes(b"mine")
    with pytest.raises(aipimage.TargetError, match="already there"):
        aipimage.create(tmp_path / "disk.aiv", io.BytesIO(b"x" * 600))
    assert (tmp_path / "disk.aiv").read_bytes() == b"mine"
    aipimage.create(tmp_path / "disk.aiv", io.BytesIO(b"x" * 600), overwrite=True)
    with aipimage.open(tmp_path / "disk.aiv") as image:
        assert image.devices[0].open().readall() == b"x" * 600


def test_cancelling_leaves_nothing(tmp_path: Path) -> None:
    calls: list[aipimage.Progress] = []

    def stop(progress: aipimage.Progress) -> bool:
        calls.append(progress)
        return False

    with pytest.raises(aipimage.CancelledError):
        aipimage.create(tmp_path / "d.aiv", io.BytesIO(sample_disk(1, 9_000_000)), progress=stop)
    assert len(calls) == 1
    assert not list(tmp_path.iterdir())


def test_progress_ends_with_everything_done(tmp_path: Path) -> None:
    calls: list[aipimage.Progress] = []
    disk = sample_disk(1, 5_000_000)
    made = aipimage.create(tmp_path / "d.aiv", io.BytesIO(disk), progress=calls.append)
    last = calls[-1]
    assert (last.phase, last.done, last.total, last.stored) == (
        "create",
        len(disk),
        len(disk),
        made.stored,
    )
    assert last.rate > 0
    assert last.ratio == pytest.approx(len(disk) / made.stored)
