"""What callers pass is checked at the door: wrong types and senseless values are one clear error,
at once, and nothing is written."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import aipimage
from aipimage.checks import parse_size, size, whole
from aipimage.errors import OptionError, OptionTypeError, RequestError

DISK = bytes(range(256)) * 3000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A full image, an increment (``b.aiv``), a sealed one and a virtual disk."""
    folder = tmp_path_factory.mktemp("arguments")
    aipimage.create(folder / "a.aiv", io.BytesIO(DISK))
    aipimage.create(folder / "b.aiv", io.BytesIO(DISK[1:] + b"x"), parent=folder / "a.aiv")
    aipimage.create(folder / "s.aiv", io.BytesIO(DISK), encrypt="aes-128", password="secret")
    aipimage.convert(folder / "a.aiv", folder / "d.vmdk")
    return folder


def create(**options: Any) -> Callable[[Path], object]:
    return lambda folder: aipimage.create(folder / "new.aiv", io.BytesIO(DISK), **options)


def opened(use: Callable[[aipimage.Image, Path], object], name: str = "b.aiv") -> Any:
    def run(folder: Path) -> object:
        with aipimage.open(folder / name) as image:
            return use(image, folder)

    return run


def merge(**options: Any) -> Callable[[Path], object]:
    return lambda folder: aipimage.merge(
        folder / "new.aiv", [folder / "a.aiv", folder / "b.aiv"], **options
    )


def convert(**options: Any) -> Callable[[Path], object]:
    return lambda folder: aipimage.convert(folder / "a.aiv", folder / "new.vmdk", **options)


def reading(image: aipimage.Image) -> aipimage.DeviceFile:
    return image.devices[0].open()


TYPES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "create path": ("path", lambda _: aipimage.create(5, io.BytesIO(DISK))),  # type: ignore[arg-type]
    "create bytes path": ("path", lambda _: aipimage.create(b"x", io.BytesIO(DISK))),  # type: ignore[arg-type]
    "create compress": ("compress", create(compress=None)),
    "create threads": ("threads", create(threads="2")),
    "create threads fraction": ("threads", create(threads=2.0)),
    "create threads truth": ("threads", create(threads=True)),
    "create comment": ("comment", create(comment=5)),
    "create overwrite": ("overwrite", create(overwrite="no")),
    "create resume": ("resume", create(resume=1)),
    "create password": ("password", create(encrypt="aes-128", password=5)),
    "create split": ("split", create(split=1.5)),
    "create rate": ("rate", create(rate=b"1M")),
    "create progress": ("progress", create(progress=5)),
    "create seconds": ("checkpoint_seconds", create(checkpoint_seconds="30")),
    "create encrypt": ("encrypt", create(encrypt=128)),
    "create volumes": ("volumes", create(volumes="1")),
    "create volumes number": ("volumes", create(volumes=[[True]])),
    "create grain": ("grain", create(grain="4096")),
    "create search": ("search", create(search=5)),
    "create parent": ("parent", create(parent=5)),
    "open path": ("path", lambda _: aipimage.open(5)),  # type: ignore[arg-type]
    "open digest": ("expected_digest", lambda f: aipimage.open(f / "a.aiv", expected_digest=5)),  # type: ignore[arg-type]
    "open cache": ("cache_bytes", lambda f: aipimage.open(f / "a.aiv", cache_bytes=1.5)),  # type: ignore[arg-type]
    "open password": ("password", lambda f: aipimage.open(f / "s.aiv", 5)),  # type: ignore[arg-type]
    "restore device": ("device", opened(lambda i, f: i.restore(f / "new", device="0"))),  # type: ignore[arg-type]
    "restore force": ("force", opened(lambda i, f: i.restore(f / "new", force="no"))),  # type: ignore[arg-type]
    "restore size": ("size", opened(lambda i, f: i.restore(f / "new", size=1.5))),  # type: ignore[arg-type]
    "restore target": ("target", opened(lambda i, f: i.restore(5))),  # type: ignore[arg-type]
    "restore volume": ("volume", opened(lambda i, f: i.restore_volume(f / "new", volume="1"))),  # type: ignore[arg-type]
    "verify sample": ("sample", opened(lambda i, f: i.verify(sample="5"))),  # type: ignore[arg-type]
    "verify executor": ("executor", opened(lambda i, f: i.verify(executor=5))),  # type: ignore[arg-type]
    "verify chain": ("chain", opened(lambda i, f: i.verify(chain="yes"))),  # type: ignore[arg-type]
    "diff": ("other", opened(lambda i, f: i.diff("path"))),  # type: ignore[arg-type]
    "diff device": ("device", opened(lambda i, f: i.diff(i, device=0.0))),  # type: ignore[arg-type]
    "extents kind": ("kind", opened(lambda i, f: i.extents(0, "data"))),  # type: ignore[arg-type]
    "read_into": ("offset", opened(lambda i, f: i.devices[0].read_into(bytearray(9), 1.5))),  # type: ignore[arg-type]
    "read_into text": ("offset", opened(lambda i, f: i.devices[0].read_into(bytearray(9), "1"))),  # type: ignore[arg-type]
    "read_into buffer": ("buffer", opened(lambda i, f: i.devices[0].read_into(b"read", 0))),
    "read_into no buffer": ("buffer", opened(lambda i, f: i.devices[0].read_into(5, 0))),  # type: ignore[arg-type]
    "read": ("length", opened(lambda i, f: i.devices[0].read(0, 1.0))),  # type: ignore[arg-type]
    "seek": ("offset", opened(lambda i, f: reading(i).seek(1.5))),  # type: ignore[arg-type]
    "readinto_at": ("offset", opened(lambda i, f: reading(i).readinto_at(bytearray(9), None))),  # type: ignore[arg-type]
    "keyless digest": (
        "expected_digest",
        lambda f: aipimage.verify_keyless(f / "a.aiv", expected_digest=5),
    ),  # type: ignore[arg-type]
    "keyless path": ("path", lambda f: aipimage.verify_keyless(None)),  # type: ignore[arg-type]
    "merge threads": ("threads", merge(threads="2")),
    "merge resume": ("resume", merge(resume="no")),
    "merge images": ("images", lambda f: aipimage.merge(f / "new.aiv", [f / "a.aiv", 5])),  # type: ignore[list-item]
    "convert appliance": ("appliance", convert(appliance=4)),
    "convert cpus": ("cpus", convert(format="ova", appliance={"cpus": "4"})),
    "convert networks": ("networks", convert(format="ova", appliance={"networks": "LAN"})),
    "convert disk": ("disk", convert(disk="0")),
    "convert cid": ("cid", convert(cid="5")),
    "convert target": ("target", lambda f: aipimage.convert(f / "a.aiv", 5)),  # type: ignore[arg-type]
    "repair": ("out", lambda f: aipimage.repair(f / "a.aiv", 5)),  # type: ignore[arg-type]
    "split": ("size", lambda f: aipimage.split(f / "a.aiv", f / "new.aiv", None)),  # type: ignore[arg-type]
    "join": ("source", lambda f: aipimage.join(5, f / "new.aiv")),  # type: ignore[arg-type]
    "list_slots": ("path", lambda f: aipimage.list_slots(5)),  # type: ignore[arg-type]
    "add_password": ("new_password", lambda f: aipimage.add_password(f / "s.aiv", "secret", 5)),  # type: ignore[arg-type]
    "remove_password": ("slot", lambda f: aipimage.remove_password(f / "s.aiv", "secret", "1")),  # type: ignore[arg-type]
    "recovery": ("show", lambda f: aipimage.add_recovery_key(f / "s.aiv", "secret", show=5)),  # type: ignore[arg-type]
    "find_chain": ("search", lambda f: aipimage.find_chain(5)),  # type: ignore[arg-type]
    "vmdk open": ("allow_outside", lambda f: aipimage.vmdk.open(f / "d.vmdk", allow_outside="no")),
    "vmdk write": ("source", lambda f: aipimage.vmdk.write(f / "new.vmdk", "d.raw")),
    "vmdk lint": ("path", lambda f: aipimage.vmdk.lint(5)),
}

VALUES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "create compress": ("compression", create(compress="gzip")),
    "create level": ("zstd", create(compress="zstd:99")),
    "create threads": ("threads", create(threads=100_000)),
    "create no threads": ("threads", create(threads=0)),
    "create split": ("split", create(split="4X")),
    "create negative split": ("split", create(split=-1)),
    "create rate": ("rate", create(rate=0)),
    "create huge rate": ("rate", create(rate=1 << 80)),
    "create seconds": ("checkpoint_seconds", create(checkpoint_seconds=float("nan"))),
    "create kind": ("kind", create(kind="partial")),
    "create compare": ("comparison", create(compare="never")),
    "create grain": ("grain", create(grain=3)),
    "create frames": ("frame", create(frame_size=5000)),
    "create empty path": ("path", lambda _: aipimage.create("", io.BytesIO(DISK))),
    "create NUL": ("path", lambda _: aipimage.create("a\0b", io.BytesIO(DISK))),
    "open digest": ("expected_digest", lambda f: aipimage.open(f / "a.aiv", expected_digest="xx")),
    "open cache": ("cache_bytes", lambda f: aipimage.open(f / "a.aiv", cache_bytes=-1)),
    "open cache text": ("cache_bytes", lambda f: aipimage.open(f / "a.aiv", cache_bytes="-32M")),
    "verify sample": ("sample", opened(lambda i, f: i.verify(sample=0))),
    "verify sample nan": ("sample", opened(lambda i, f: i.verify(sample=float("nan")))),
    "verify threads": ("threads", opened(lambda i, f: i.verify(threads=-1))),
    "read_into": ("offset", opened(lambda i, f: i.devices[0].read_into(bytearray(9), -1))),
    "read_into far": ("offset", opened(lambda i, f: i.devices[0].read_into(bytearray(9), 1 << 70))),
    "read_into of a full image": (
        "offset",
        opened(lambda i, f: i.devices[0].read_into(bytearray(9), -1), "a.aiv"),
    ),
    "readinto_at": ("offset", opened(lambda i, f: reading(i).readinto_at(bytearray(9), -4096))),
    "read": ("length", opened(lambda i, f: i.devices[0].read(0, -1))),
    "seek": ("seek", opened(lambda i, f: reading(i).seek(-1))),
    "whence": ("whence", opened(lambda i, f: reading(i).seek(0, 9))),
    "restore size": ("size", opened(lambda i, f: i.restore(f / "new", size=0))),
    "restore device": ("device", opened(lambda i, f: i.restore(f / "new", device=-1))),
    "keyless": (
        "expected_digest",
        lambda f: aipimage.verify_keyless(f / "a.aiv", expected_digest="0" * 63),
    ),
    "merge split": ("split", merge(split="0")),
    "convert threads": ("threads", convert(threads=0)),
    "convert cid": ("cid", convert(cid=1 << 32)),
    "convert appliance": ("'cpu'", convert(format="ova", appliance={"cpu": 4})),
    "convert memory": ("memory", convert(format="ova", appliance={"memory": "much"})),
    "split": ("size", lambda f: aipimage.split(f / "a.aiv", f / "new.aiv", -5)),
}


def before_and_after(folder: Path, use: Callable[[Path], object]) -> pytest.ExceptionInfo[Any]:
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(RequestError) as caught:
        use(folder)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    return caught


@pytest.mark.parametrize("what", TYPES)
def test_wrong_types(folder: Path, what: str) -> None:
    name, use = TYPES[what]
    error = before_and_after(folder, use).value
    assert isinstance(error, OptionTypeError)
    assert isinstance(error, TypeError)
    assert name in str(error)
    assert "\n" not in str(error)


@pytest.mark.parametrize("what", VALUES)
def test_senseless_values(folder: Path, what: str) -> None:
    name, use = VALUES[what]
    error = before_and_after(folder, use).value
    assert isinstance(error, OptionError)
    assert isinstance(error, ValueError)
    assert name in str(error)


def test_a_wrong_secret_is_not_shown(folder: Path) -> None:
    with pytest.raises(OptionTypeError) as caught:
        aipimage.open(folder / "s.aiv", b"open sesame")  # type: ignore[arg-type]
    assert "sesame" not in str(caught.value)


@pytest.mark.parametrize(("text", "bytes_"), [("32M", 32 << 20), ("4g", 4 << 30), ("512", 512)])
def test_sizes_as_texts(text: str, bytes_: int) -> None:
    assert size("cache", text) == parse_size(text) == size("cache", bytes_) == bytes_


def test_sizes_are_taken_wherever_the_command_takes_them(tmp_path: Path) -> None:
    data = np.random.default_rng(5).bytes(900_000)
    parts = aipimage.create(tmp_path / "a.aiv", io.BytesIO(data), split="300K", rate="100M").parts
    assert parts == 3
    assert aipimage.join(tmp_path / "a.aiv", tmp_path / "b.aiv").parts == 1
    assert aipimage.split(tmp_path / "b.aiv", tmp_path / "c.aiv", "500K").parts == 2
    with aipimage.open(tmp_path / "b.aiv", cache_bytes="1M") as image:
        image.restore(tmp_path / "out.raw", size="1M")
        assert image.devices[0].read(899_990, 100) == data[-10:]
        assert image.devices[0].read(1 << 40, 100) == b""
    assert (tmp_path / "out.raw").read_bytes() == data + bytes((1 << 20) - 900_000)


def test_numbers_of_numpy_are_numbers() -> None:
    assert whole("n", np.uint64(7)) == 7
    with pytest.raises(OptionTypeError):
        whole("n", np.bool_(True))
    with pytest.raises(OptionTypeError):
        whole("n", np.float64(7))


def test_buffers_of_any_layout_are_bytes(folder: Path) -> None:
    with aipimage.open(folder / "a.aiv") as image:
        device = image.devices[0]
        array = np.zeros((4, 8), np.uint16)
        assert device.read_into(array, 512) == 64
        assert array.tobytes() == DISK[512:576]
        assert device.read_into(np.zeros(0), 5) == 0
        with pytest.raises(OptionTypeError, match="buffer"):
            device.read_into(array[:, ::2], 0)


def test_writing_to_a_device_file_is_unsupported(folder: Path) -> None:
    with aipimage.open(folder / "a.aiv") as image:
        file = reading(image)
        for use in (lambda: file.write(b"x"), lambda: file.truncate(5)):
            with pytest.raises(io.UnsupportedOperation):
                use()
        assert not file.writable()


@pytest.mark.parametrize(
    ("name", "password", "reason"),
    [
        ("a.aiv", "x", "unwanted"),
        ("s.aiv", None, "missing"),
        ("s.aiv", "no", "wrong"),
        ("s.aiv", "", "unusable"),
    ],
)
def test_what_is_wrong_with_a_password(
    folder: Path, name: str, password: str | None, reason: str
) -> None:
    with pytest.raises(aipimage.PasswordError) as caught:
        aipimage.open(folder / name, password)
    assert caught.value.reason == reason


def test_a_damaged_read_says_which_bytes_of_which_device(folder: Path, tmp_path: Path) -> None:
    """In text and attributes, whether it goes through the cache or past it."""
    data = np.random.default_rng(8).bytes(1_000_000)
    path = tmp_path / "bad.aiv"
    aipimage.create(path, [io.BytesIO(DISK), io.BytesIO(data)], compress="none")
    stored = bytearray(path.read_bytes())
    stored[stored.index(data[500_000:500_032])] ^= 1
    path.write_bytes(stored)
    frame = 500_000 // 65_536 * 65_536
    with aipimage.open(path) as image:
        uses: list[Callable[[], object]] = [
            lambda: image.devices[1].read(0, len(data)),
            lambda: image.restore(tmp_path / "out.raw", device=1),
            lambda: image.devices[1].open().readall(),
        ]
        for use in uses:
            with pytest.raises(aipimage.IntegrityError) as caught:
                use()
            found = caught.value
            assert (found.path, found.device) == (str(path), 1)
            assert (found.offset, found.length) == (frame, 65_536)
            text = f"{path}: device 1, 65536 bytes at offset {frame}: "
            assert str(found).startswith(text)
            assert str(found).count(str(path)) == 1
        with pytest.raises(aipimage.IntegrityError) as caught:
            image.devices[1].read(frame + 1000, 24)
        assert (caught.value.offset, caught.value.length) == (frame + 1000, 24)
        assert image.devices[0].read(0, len(DISK)) == DISK


def test_a_rate_holds_from_the_first_byte_on(tmp_path: Path) -> None:
    """Also while the disk is looked at; whoever waits can cancel."""

    class Counting(io.BytesIO):
        taken = 0

        def readinto(self, buffer: Any) -> int:
            got = super().readinto(buffer)
            self.taken += got
            return got

    data = np.random.default_rng(8).bytes(3 << 20)
    for rate, most in ((1, 0), (20_000, 60_000), (200_000, 600_000)):
        source = Counting(data)

        def stop(progress: aipimage.Progress) -> bool:
            return progress.seconds < 0.6

        with pytest.raises(aipimage.CancelledError):
            aipimage.create(tmp_path / "a.aiv", source, rate=rate, progress=stop)
        assert source.taken <= most
    assert not list(tmp_path.iterdir())


def test_who_has_a_file_is_said_as_it_is(tmp_path: Path) -> None:
    from aipimage.io.system.storage import DEFAULT

    with DEFAULT.create(tmp_path / "a") as file, DEFAULT.open_update(tmp_path / "a") as second:
        file.lock()
        with pytest.raises(aipimage.TargetError, match="this process or another process"):
            second.lock()
