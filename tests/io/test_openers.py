"""Images that are read from elsewhere than files of the system: file objects, and openers."""

from __future__ import annotations

import errno
import io
import os
import random
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

import pytest

import aipimage
from aipimage import FileObjects, FunctionOpener, testing
from aipimage.errors import OptionTypeError, RequestError, StorageError
from aipimage.io.blocks.sinks import open_target
from aipimage.io.system.storage import DEFAULT, Storage, SystemCalls

CHANCE = random.Random(3)
FIRST = b"".join(
    CHANCE.randbytes(4096) if at % 3 else b"words and " * 409 + b"words." for at in range(500)
)
SECOND = FIRST[:300_000] + CHANCE.randbytes(70_000) + FIRST[370_000:]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A chain of two, the second one also in parts, and a virtual disk."""
    folder = tmp_path_factory.mktemp("openers")
    aipimage.create(folder / "a.aiv", io.BytesIO(FIRST))
    aipimage.create(folder / "b.aiv", io.BytesIO(SECOND), parent=folder / "a.aiv")
    (folder / "parts").mkdir()
    aipimage.split(folder / "a.aiv", folder / "parts" / "p.aiv", "300K")
    aipimage.convert(folder / "a.aiv", folder / "d.vmdk")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


class Bucket:
    """Objects of a store that is slow to list, and counts."""

    name = "bucket"

    def __init__(self, objects: dict[str, bytes]) -> None:
        self.objects, self.opened, self.closed = objects, 0, 0

    def open(self, name: str) -> Object:
        if name not in self.objects:
            raise FileNotFoundError(errno.ENOENT, "no such object", name)
        self.opened += 1
        return Object(self, self.objects[name])

    def names(self) -> Iterable[str]:
        yield from self.objects


class Object:
    def __init__(self, bucket: Bucket, data: bytes) -> None:
        self._bucket, self._data, self.size = bucket, data, len(data)

    def readinto_at(self, buffer: memoryview, offset: int) -> int:
        # A short answer now and then, as a network gives one.
        part = self._data[offset : offset + min(len(buffer), 100_000)]
        buffer[: len(part)] = part
        return len(part)

    def close(self) -> None:
        self._bucket.closed += 1


def test_the_contract_tests_pass_for_what_keeps_it(folder: Path) -> None:
    stored = contents(folder)
    testing.check_opener(Bucket(stored), stored)
    testing.check_opener(FileObjects({k: io.BytesIO(v) for k, v in stored.items()}), stored)
    with zipfile.ZipFile(io.BytesIO(zipped(stored))) as archive:
        opener = FunctionOpener(lambda name: opened_in(archive, name), archive.namelist)
        testing.check_opener(opener, {name: stored[name] for name in ("a.aiv", "parts/p.aiv.002")})


def zipped(stored: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in stored.items():
            archive.writestr(name, data)
    return out.getvalue()


def opened_in(archive: zipfile.ZipFile, name: str) -> BinaryIO:
    try:
        return archive.open(name)  # type: ignore[return-value]
    except KeyError:
        raise FileNotFoundError(name) from None


def test_the_contract_tests_find_what_does_not_keep_it(folder: Path) -> None:
    stored = {"a.aiv": (folder / "a.aiv").read_bytes()}

    class Shifted(Bucket):
        def open(self, name: str) -> Object:
            found = super().open(name)
            found._data = b"x" + found._data
            return found

    class Lenient(Bucket):
        def open(self, name: str) -> Object:
            return Object(self, self.objects.get(name, b""))

    class Silent(Bucket):
        def names(self) -> Iterable[str]:
            return []

    for wrong in (Shifted, Lenient, Silent):
        with pytest.raises(AssertionError):
            testing.check_opener(wrong(stored), stored)


@pytest.mark.parametrize("named", [False, True])
def test_one_file_object(folder: Path, named: bool) -> None:
    data = (folder / "a.aiv").read_bytes()
    stream: Any = open(folder / "a.aiv", "rb") if named else io.BytesIO(data)  # noqa: SIM115
    with aipimage.open(stream) as image:
        assert image.path == "<file object>/" + ("a.aiv" if named else "image.aiv")
        assert image.devices[0].read(0, len(FIRST)) == FIRST
        assert image.verify().ok
        assert image.chain.ok
    assert not stream.closed
    assert aipimage.verify_keyless(stream).ok
    stream.close()


def test_parts_in_any_order(folder: Path) -> None:
    parts = [io.BytesIO(each.read_bytes()) for each in sorted((folder / "parts").iterdir())]
    assert len(parts) > 2
    CHANCE.shuffle(parts)
    with aipimage.open(parts) as image:
        assert image.parts == len(parts)
        assert image.devices[0].read(0, len(FIRST)) == FIRST
    with pytest.raises(aipimage.IncompleteError, match="part"):
        aipimage.open(parts[1:])


def test_a_chain_of_an_opener(folder: Path, tmp_path: Path) -> None:
    bucket = Bucket({f"daily/{name}": data for name, data in contents(folder).items()})
    before = len(os.listdir("/proc/self/fd"))
    with aipimage.open("daily/b.aiv", storage=bucket) as image:
        assert image.path == "bucket/daily/b.aiv"
        assert image.devices[0].open().readall() == SECOND
        assert image.verify(chain=True).ok
        assert len(image.chain) == 2
        with image.chain.open(image.chain[0].image_id) as first:
            assert first.devices[0].read(0, len(FIRST)) == FIRST
        image.restore(tmp_path / "out.raw")
        assert len(os.listdir("/proc/self/fd")) == before
    assert bucket.opened == bucket.closed
    assert (tmp_path / "out.raw").read_bytes() == SECOND
    assert aipimage.verify_keyless("daily/b.aiv", chain=True, storage=bucket).ok
    chain = aipimage.find_chain("daily", storage=bucket)
    assert [member.path for member in chain] == ["bucket/daily/a.aiv", "bucket/daily/b.aiv"]
    assert bucket.opened == bucket.closed


def test_a_file_object_whose_chain_lies_in_a_folder(folder: Path) -> None:
    stream = io.BytesIO((folder / "b.aiv").read_bytes())
    with aipimage.open(stream, search=[folder]) as image:
        assert image.devices[0].read(0, len(SECOND)) == SECOND
    with aipimage.open(stream) as image, pytest.raises(aipimage.IncompleteError):
        image.devices[0].read(0, len(SECOND))


def test_merging_and_converting(folder: Path, tmp_path: Path) -> None:
    stored = contents(folder)
    streams = [io.BytesIO(stored["a.aiv"]), io.BytesIO(stored["b.aiv"])]
    aipimage.merge(tmp_path / "m.aiv", streams)
    aipimage.merge(tmp_path / "n.aiv", ["b.aiv", "a.aiv"], storage=Bucket(stored))
    aipimage.merge(tmp_path / "o.aiv", [streams[1], folder / "a.aiv"])
    for name in "mno":
        with aipimage.open(tmp_path / f"{name}.aiv") as image:
            assert image.devices[0].read(0, len(SECOND)) == SECOND
    with pytest.raises(RequestError, match="removed"):
        aipimage.merge(tmp_path / "p.aiv", streams, remove=True)
    aipimage.convert(streams[0], tmp_path / "a.raw")
    aipimage.convert("b.aiv", tmp_path / "b.raw", storage=Bucket(stored))
    aipimage.convert("d.vmdk", tmp_path / "d.raw", storage=Bucket(stored))
    assert (tmp_path / "a.raw").read_bytes()[: len(FIRST)] == FIRST
    assert (tmp_path / "b.raw").read_bytes() == SECOND
    assert (tmp_path / "d.raw").read_bytes()[: len(FIRST)] == FIRST


@pytest.mark.parametrize(
    "error", [OSError(errno.ENETDOWN, "down"), ValueError("odd"), KeyError("x")]
)
def test_what_an_opener_raises(folder: Path, error: Exception) -> None:
    """It is a StorageError with its cause, and never damage."""

    class Failing(Bucket):
        fails = False

        def open(self, name: str) -> Object:
            found = super().open(name)
            read = found.readinto_at

            def readinto_at(buffer: memoryview, offset: int) -> int:
                if self.fails:
                    raise error
                return read(buffer, offset)

            found.readinto_at = readinto_at  # type: ignore[method-assign]
            return found

        def names(self) -> Iterable[str]:
            if self.fails:
                raise error
            return super().names()

    bucket = Failing(contents(folder))
    with aipimage.open("a.aiv", storage=bucket) as image:
        bucket.fails = True
        for use in (lambda: image.devices[0].read(0, 900_000), image.verify, lambda: image.chain):
            with pytest.raises(StorageError) as caught:
                use()
            causes = []
            cause: BaseException | None = caught.value
            while cause is not None:
                causes.append(cause)
                cause = cause.__cause__
            assert error in causes
    with pytest.raises(StorageError):
        aipimage.open("a.aiv", storage=bucket)


@pytest.mark.parametrize("got", [-1, None, "x", 1 << 40, True])
def test_an_opener_that_lies(folder: Path, got: Any) -> None:
    class Lying(Bucket):
        def open(self, name: str) -> Object:
            found = super().open(name)
            found.readinto_at = lambda buffer, offset: got  # type: ignore[method-assign]
            return found

    with pytest.raises(StorageError, match=r"a\.aiv"):
        aipimage.open("a.aiv", storage=Lying(contents(folder)))


def test_wrong_arguments(folder: Path) -> None:
    bucket = Bucket(contents(folder))
    for path, storage, error in (
        ("missing.aiv", bucket, StorageError),
        ("../a.aiv", bucket, RequestError),
        ("/a.aiv", bucket, RequestError),
        ("a.aiv", 5, OptionTypeError),
        (io.StringIO("text"), None, aipimage.AipImageError),
        ([], None, OptionTypeError),
    ):
        with pytest.raises(error):
            aipimage.open(path, storage=storage)  # type: ignore[arg-type]
    assert bucket.opened == bucket.closed


def test_nothing_is_written_through_an_opener(folder: Path) -> None:
    from aipimage.io.system.openerstorage import OpenerStorage

    storage = OpenerStorage(Bucket(contents(folder)), Storage(SystemCalls()))
    for use in (
        lambda: storage.create("bucket/new"),
        lambda: storage.remove("bucket/a.aiv"),
        lambda: storage.open_update("bucket/a.aiv"),
        lambda: storage.rename("bucket/a.aiv", "x"),
    ):
        with pytest.raises(StorageError, match="never written"):
            use()


def test_the_library_s_own_sources_and_sinks_keep_their_contract(tmp_path: Path) -> None:
    (tmp_path / "disk.raw").write_bytes(FIRST)
    testing.check_source(
        lambda: aipimage.io.blocks.sources.open_source(tmp_path / "disk.raw"), FIRST
    )
    aipimage.create(tmp_path / "a.aiv", io.BytesIO(FIRST))
    aipimage.convert(tmp_path / "a.aiv", tmp_path / "a.vmdk")
    testing.check_source(lambda: aipimage.vmdk.open(tmp_path / "a.vmdk"), padded(tmp_path))
    path = tmp_path / "restored.raw"

    def make(size: int) -> Any:
        path.unlink(missing_ok=True)
        return open_target(path, size, storage=DEFAULT)

    testing.check_sink(make, path.read_bytes)


def padded(folder: Path) -> bytes:
    with aipimage.vmdk.open(folder / "a.vmdk") as disk:
        return FIRST + bytes(disk.size - len(FIRST))
