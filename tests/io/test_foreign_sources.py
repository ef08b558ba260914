"""Block sources and file objects of embedders that do not keep their contract."""

from __future__ import annotations

import errno
import io
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import aipimage
from aipimage.errors import OptionTypeError, RequestError, SourceError, StorageError
from aipimage.io.blocks.sources import UnreadableRangeError

CHANCE = random.Random(11)
SIZE = 3_000_064
DISK = b"".join(
    CHANCE.randbytes(4096) if at % 2 else b"text" * 1024 for at in range(SIZE // 4096 + 1)
)[:SIZE]


class Source:
    """A good one; tests replace some of its members."""

    def __init__(self, **members: Any) -> None:
        self.name, self.size, self.sector_size = "foreign", SIZE, 512
        for name, value in members.items():
            setattr(self, name, value)

    def read_into(self, buffer: Any, offset: int) -> Any:
        buffer[:] = DISK[offset : offset + len(buffer)]

    def data_ranges(self, start: int, end: int) -> Iterator[tuple[Any, Any]]:
        yield start, end - start

    def fingerprint(self) -> dict[str, int | str]:
        return {"kind": "foreign", "size": SIZE}

    def close(self) -> None:
        raise AssertionError("it is the caller's")


def ranges(*rows: Any) -> Callable[[int, int], Iterator[Any]]:
    return lambda start, end: iter(rows)


def raising(error: BaseException) -> Callable[..., Any]:
    def call(*_: object) -> Any:
        raise error

    return call


def later(error: BaseException) -> Callable[[int, int], Iterator[Any]]:
    def call(start: int, end: int) -> Iterator[Any]:
        yield 0, 65_536
        raise error

    return call


WRONG: dict[str, dict[str, Any]] = {
    "out of order": {"data_ranges": ranges((1 << 20, 4096), (0, 4096))},
    "overlapping": {"data_ranges": ranges((0, 8192), (4096, 8192))},
    "twice": {"data_ranges": ranges((0, 8192), (0, 8192))},
    "behind the end": {"data_ranges": ranges((0, SIZE + 512))},
    "far behind the end": {"data_ranges": ranges((SIZE + 512, 512))},
    "negative offset": {"data_ranges": ranges((-512, 1024))},
    "negative length": {"data_ranges": ranges((1024, -512))},
    "floats": {"data_ranges": ranges((0.0, 1024.0))},
    "texts": {"data_ranges": ranges(("0", "1024"))},
    "three numbers": {"data_ranges": ranges((0, 512, 1))},
    "no pairs": {"data_ranges": ranges(5)},
    "no ranges": {"data_ranges": lambda start, end: 5},
    "sector size 777": {"sector_size": 777},
    "sector size 0": {"sector_size": 0},
    "sector size -512": {"sector_size": -512},
    "sector size None": {"sector_size": None},
    "sector size 500": {"sector_size": 500},
    "sector size 131072": {"sector_size": 131_072},
    "size None": {"size": None},
    "size float": {"size": 4096.0},
    "size negative": {"size": -4096},
    "size huge": {"size": 1 << 63},
    "name": {"name": 5},
    "short read": {"read_into": lambda buffer, offset: len(buffer) - 1},
    "empty read": {"read_into": lambda buffer, offset: 0},
    "read of too much": {"read_into": lambda buffer, offset: len(buffer) + 1},
    "bytes read": {"read_into": lambda buffer, offset: b"data"},
    "true read": {"read_into": lambda buffer, offset: True},
    "fingerprint": {"fingerprint": lambda: [1]},
    "fingerprint value": {"fingerprint": lambda: {"a": b"x"}},
    "read raises ValueError": {"read_into": raising(ValueError("odd"))},
    "read raises ENODEV": {"read_into": raising(OSError(errno.ENODEV, "gone"))},
    "ranges raise": {"data_ranges": raising(KeyError("odd"))},
    "ranges raise later": {"data_ranges": later(OSError(errno.EIO, "bad"))},
    "fingerprint raises": {"fingerprint": raising(TypeError("odd"))},
}


@pytest.mark.parametrize("what", WRONG)
def test_an_answer_against_the_contract_makes_no_image(tmp_path: Path, what: str) -> None:
    with pytest.raises((SourceError, RequestError)) as caught:
        aipimage.create(tmp_path / "a.aiv", Source(**WRONG[what]), threads=2)
    assert isinstance(caught.value, SourceError) or what == "size None"
    if what != "name":
        assert "foreign" in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("what", [each for each in WRONG if "fingerprint" not in each])
def test_virtual_disks_and_surveys_hold_it_too(tmp_path: Path, what: str) -> None:
    source = Source(**WRONG[what])
    if "size" not in WRONG[what]:
        source.size = SIZE - SIZE % 65_536
    with pytest.raises(SourceError):
        aipimage.vmdk.write(tmp_path / "a.vmdk", source, threads=2)
    assert not list(tmp_path.iterdir())
    if "read_into" in WRONG[what] or "size" in what or what == "name":
        with pytest.raises(SourceError):
            aipimage.survey(source)


def test_the_cause_and_the_number_are_kept(tmp_path: Path) -> None:
    cause = OSError(errno.ENODEV, "gone")
    with pytest.raises(SourceError) as caught:
        aipimage.create(tmp_path / "a.aiv", Source(read_into=raising(cause)))
    assert caught.value.errno == errno.ENODEV
    assert caught.value.__cause__ is cause


def test_a_changing_size_is_seen(tmp_path: Path) -> None:
    class Growing(Source):
        def read_into(self, buffer: Any, offset: int) -> None:
            super().read_into(buffer, offset)
            self.size += 512

    with pytest.raises(SourceError, match="changed while it was read"):
        aipimage.create(tmp_path / "a.aiv", Growing())
    assert not list(tmp_path.iterdir())


def test_sectors_that_the_medium_cannot_give_are_recorded(tmp_path: Path) -> None:
    """Whether the source says so by our error or by the system's."""
    bad = range(1 << 20, (1 << 20) + 1024)

    def reader(error: Callable[[int, int], BaseException]) -> Callable[[Any, int], None]:
        def read_into(buffer: Any, offset: int) -> None:
            if offset < bad.stop and offset + len(buffer) > bad.start:
                raise error(offset, len(buffer))
            buffer[:] = DISK[offset : offset + len(buffer)]

        return read_into

    for name, error in {
        "ours": lambda at, n: UnreadableRangeError("bad", at, n),
        "system": lambda at, n: OSError(errno.EIO, "bad"),
    }.items():
        path = tmp_path / name
        made = aipimage.create(path, Source(read_into=reader(error)))
        assert made.unreadable_ranges == ((0, bad.start, len(bad)),)
        with aipimage.open(path) as image:
            expected = bytearray(DISK)
            expected[bad.start : bad.stop] = bytes(len(bad))
            assert image.devices[0].read(0, SIZE) == expected


def test_what_is_allowed(tmp_path: Path) -> None:
    """Lengths as results, ranges without length, ranges wider than asked for."""

    def read_into(buffer: Any, offset: int) -> int:
        buffer[:] = DISK[offset : offset + len(buffer)]
        return len(buffer)

    rows = ranges((0, 0), (0, 65_536), (65_536, SIZE - 65_536))
    source = Source(read_into=read_into, data_ranges=rows)
    aipimage.create(tmp_path / "a.aiv", source, kind="full")
    aipimage.create(tmp_path / "b.aiv", source, parent=tmp_path / "a.aiv")
    with aipimage.open(tmp_path / "b.aiv") as image:
        assert image.devices[0].read(0, SIZE) == DISK
        assert image.verify(chain=True).ok


def test_an_object_that_lacks_members_is_told_which(tmp_path: Path) -> None:
    class Half:
        name, size = "half", 4096

        def read_into(self, buffer: Any, offset: int) -> None: ...

    with pytest.raises(OptionTypeError, match=r"Half.*no close, no data_ranges, no fingerprint"):
        aipimage.create(tmp_path / "a.aiv", Half())  # type: ignore[arg-type]


@pytest.mark.parametrize("got", [-1, 1 << 40, "x", 1.5])
def test_file_objects_that_lie(tmp_path: Path, got: Any) -> None:
    class File(io.BytesIO):
        def readinto(self, buffer: Any) -> Any:
            return got

    with pytest.raises(SourceError):
        aipimage.create(tmp_path / "a.aiv", File(DISK))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "error",
    [ValueError("closed"), OSError(errno.EPIPE, "pipe"), RuntimeError("odd"), 0, -5, 1 << 40],
)
def test_a_target_object_that_fails(error: Any) -> None:
    class Target:
        def write(self, data: Any) -> Any:
            if isinstance(error, BaseException):
                raise error
            return error

    with pytest.raises(StorageError) as caught:
        aipimage.create(Target(), io.BytesIO(DISK))  # type: ignore[arg-type]
    if isinstance(error, BaseException):
        assert caught.value.__cause__ is error
