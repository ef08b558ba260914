"""What a program needs that has images inside of it: volumes, times, tags, pickles, signatures."""

from __future__ import annotations

import copy
import inspect
import io
import pickle
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest

import aipimage
from aipimage.errors import OptionError, OptionTypeError
from aipimage.retention import KeepRules, plan, points_of

DISK = np.random.default_rng(2).bytes(700_000)
MONDAY = datetime(2026, 3, 2, 4, 5, 6, tzinfo=timezone(timedelta(hours=2)))


def changed(number: int) -> bytes:
    return DISK[: number * 5000] + bytes([number]) * 4096 + DISK[number * 5000 + 4096 :]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A chain of five points with times and tags, and another, sealed chain."""
    folder = tmp_path_factory.mktemp("embedding")
    parent: Path | None = None
    for number in range(5):
        path = folder / f"{number}.aiv"
        job = "nightly" if number % 2 == 0 else "hourly"
        aipimage.create(
            path,
            io.BytesIO(changed(number)),
            parent=parent,
            created=MONDAY + timedelta(days=number),
            tags={"job": job, "n": str(number)},
        )
        parent = path
    aipimage.create(folder / "s.aiv", io.BytesIO(DISK), encrypt="aes-128", password="secret")
    return folder


def test_times_and_tags(folder: Path, tmp_path: Path) -> None:
    with aipimage.open(folder / "2.aiv") as image:
        assert image.created == MONDAY + timedelta(days=2)
        assert image.created is not None
        assert image.created.tzinfo == UTC
        assert image.tags == {"job": "nightly", "n": "2"}
        assert dict(image.chain[1].tags) == {"job": "hourly", "n": "1"}
    aipimage.merge(tmp_path / "m.aiv", [folder / f"{number}.aiv" for number in range(4)])
    with aipimage.open(tmp_path / "m.aiv", search=[folder]) as image:
        assert image.tags == {"job": "hourly", "n": "3"}
        assert image.created == MONDAY + timedelta(days=3)
    with aipimage.open(folder / "s.aiv", "secret") as image:
        assert image.tags == {}


def test_wrong_times_and_tags(tmp_path: Path) -> None:
    early = datetime.min.replace(tzinfo=timezone(timedelta(hours=5)))
    for created in (datetime(2026, 1, 1), early):
        with pytest.raises(OptionError, match="created"):
            aipimage.create(tmp_path / "a", io.BytesIO(DISK), created=created)
    for tags in ({"a": 1}, {1: "a"}, ["a"], "a"):
        with pytest.raises(OptionTypeError, match="tags"):
            aipimage.create(tmp_path / "a", io.BytesIO(DISK), tags=tags)  # type: ignore[arg-type]
    for many in ({"a": "x" * 1001}, {str(number): "" for number in range(65)}):
        with pytest.raises(OptionError, match="tags"):
            aipimage.create(tmp_path / "a", io.BytesIO(DISK), tags=many)
    assert not list(tmp_path.iterdir())


def test_all_chains_of_a_folder(folder: Path) -> None:
    found = aipimage.chains(folder, "secret")
    assert sorted(len(chain) for chain in found) == [1, 5]
    (plain,) = aipimage.chains(folder)
    with plain.open(plain[-1].image_id) as image:
        assert type(image) is aipimage.Image
        assert image.devices[0].read(0, len(DISK)) == changed(4)
    assert len(aipimage.chains(folder, "wrong")) == 1


def test_retention_by_tags_and_thresholds(folder: Path) -> None:
    points = points_of(aipimage.chains(folder)[0])
    now = MONDAY + timedelta(days=9)
    all_ = plan(points, KeepRules(last=1), now=now)
    assert len(all_.merges[0].images) == 5
    nightly = plan(points, KeepRules(last=1), now=now, tags={"job": "nightly"})
    kept = {dict(each.point.tags)["n"] for each in nightly.keep}
    assert kept == {"1", "3", "4"}
    for few in (
        plan(points, KeepRules(last=1), now=now, merge_points=5),
        plan(points, KeepRules(last=1), now=now, merge_bytes="1G"),
    ):
        assert not few.merges
        assert len(few.stays) == 4
    assert plan(points, KeepRules(last=1), now=now, merge_points=4, merge_bytes=1).merges
    with pytest.raises(OptionError):
        plan(points, KeepRules(last=1), merge_points=0)


def partitioned() -> bytes:
    """An MBR with two partitions."""
    disk = bytearray(DISK)
    disk[:512] = bytes(512)
    for number, (start, sectors) in enumerate(((64, 500), (600, 700))):
        at = 446 + 16 * number
        disk[at + 4] = 0x83
        disk[at + 8 : at + 16] = start.to_bytes(4, "little") + sectors.to_bytes(4, "little")
    disk[510:512] = b"\x55\xaa"
    return bytes(disk)


def test_a_volume_opens_as_a_file(tmp_path: Path) -> None:
    disk = partitioned()
    aipimage.create(tmp_path / "a.aiv", io.BytesIO(disk))
    with aipimage.open(tmp_path / "a.aiv") as image:
        assert len(image.volumes) == 2
        for volume in image.volumes:
            end = volume.start + volume.size
            file = volume.open()
            assert file.readall() == disk[volume.start : end]
            assert file.seek(-10, 2) == volume.size - 10
            assert file.read() == disk[end - 10 : end]
            assert file.readinto_at(bytearray(9), volume.size) == 0
            assert copy.deepcopy(volume) == volume
    with pytest.raises(aipimage.ClosedError):
        volume.open()
    with pytest.raises(aipimage.RequestError):
        aipimage.survey(io.BytesIO(disk)).volumes[0].open()


READ = """
import pickle, sys
with pickle.load(sys.stdin.buffer) as image:
    sys.stdout.buffer.write(image.devices[0].read(0, 1 << 20))
"""


def test_an_image_pickles_and_opens_again(folder: Path, tmp_path: Path) -> None:
    with aipimage.open(folder / "3.aiv") as image:
        data = pickle.dumps(image)
        assert len(data) < 2000
        done = subprocess.run(
            [sys.executable, "-c", READ], input=data, capture_output=True, timeout=60, check=True
        )
        assert done.stdout == changed(3)
        device = pickle.loads(pickle.dumps(image.devices[0]))
        assert device.read(0, 100) == changed(3)[:100]
        device.image.close()
    other = tmp_path / "x.aiv"
    other.write_bytes((folder / "0.aiv").read_bytes())
    with aipimage.open(other) as image:
        data = pickle.dumps(image)
    other.write_bytes((folder / "1.aiv").read_bytes())
    with pytest.raises(aipimage.IntegrityError, match="expected"):
        pickle.loads(data)
    with (
        aipimage.open(folder / "s.aiv", "secret") as image,
        pytest.raises(OptionTypeError, match="never pickled"),
    ):
        pickle.dumps(image)


def test_completion_shows_what_is_public(folder: Path) -> None:
    with aipimage.open(folder / "0.aiv") as image:
        shown = dir(image)
        assert {"devices", "volumes", "verify", "restore_volume", "created", "closed"} <= set(shown)
        assert not {name for name in shown if name.startswith("_")}
        assert not {"stream", "seal", "records", "cache", "foreign", "tables"} & set(shown)
        assert all(hasattr(image, name) for name in shown)


def test_signatures_are_readable() -> None:
    for name in aipimage.__all__:
        value = getattr(aipimage, name)
        found = [value] if callable(value) else []
        if inspect.isclass(value):
            found += [each for each in vars(value).values() if inspect.isfunction(each)]
        for each in found:
            try:
                assert " at 0x" not in str(inspect.signature(each)), each
            except (ValueError, TypeError):
                continue
    for function in (aipimage.open, aipimage.merge, aipimage.convert, aipimage.create):
        assert inspect.signature(function).parameters["search"].default is None


@pytest.mark.parametrize(
    "name",
    ["retention", "tracking", "vmdk", "testing", "volumes.image", "io.blocks.sources", "checks"],
)
def test_each_module_can_be_the_first_that_is_imported(name: str) -> None:
    subprocess.run([sys.executable, "-c", f"import aipimage.{name}"], check=True, timeout=60)
