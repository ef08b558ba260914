"""Errors name their file once, and keep what they know."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from aipimage.errors import FormatError, IntegrityError, StorageError, naming, reworded
from aipimage.io.checking.keyless import verify_keyless
from aipimage.io.creating.splitting import split_image
from aipimage.io.merge.job import merge_images
from aipimage.io.system.storage import Storage
from aipimage.volumes.image import open_image
from tests.support.images import image_files
from tests.support.memory import ROOT, MemorySystem

PATH = f"{ROOT}/d.aiv"


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("is damaged", "d.aiv: is damaged"),
        ("d.aiv: is damaged", "d.aiv: is damaged"),
        ("d.aiv.002: is damaged", "d.aiv.002: is damaged"),
        ("d.aiv.partial: is damaged", "d.aiv.partial: is damaged"),
        ("d.aiv and e.aiv: are both", "d.aiv and e.aiv: are both"),
        ("e.aiv and d.aiv: are both", "e.aiv and d.aiv: are both"),
        ("e.aiv: is damaged", "d.aiv: e.aiv: is damaged"),
        ("/tmp/d.aiv: is damaged", "d.aiv: /tmp/d.aiv: is damaged"),
        ("d.aivx: is damaged", "d.aiv: d.aivx: is damaged"),
    ],
)
def test_a_file_is_named_once(message: str, shown: str) -> None:
    with pytest.raises(IntegrityError) as caught, naming("d.aiv"):
        raise IntegrityError(message)
    assert str(caught.value) == shown


def test_a_name_that_is_a_word() -> None:
    """It is not found in the words of a message."""
    with pytest.raises(FormatError, match=r"^a: a record is a wrong one$"), naming(Path("a")):
        raise FormatError("a record is a wrong one")


def test_the_error_stays_what_it_was() -> None:
    """Its number, its cause and the place where it was raised."""
    cause = OSError(errno.EIO, "broken")
    with pytest.raises(StorageError) as caught, naming("d.aiv"), naming("d.aiv"):
        raise StorageError("cannot be read", errno.EIO) from cause
    assert (str(caught.value), caught.value.errno) == ("d.aiv: cannot be read", errno.EIO)
    assert caught.value.__cause__ is cause
    other = reworded(caught.value, "in other words")
    assert (str(other), other.errno, type(other)) == ("in other words", errno.EIO, StorageError)
    assert str(caught.value) == "d.aiv: cannot be read"


class Failing(MemorySystem):
    """A disk on which every read from some offset on fails, as bad sectors do."""

    fails_from = 1 << 62

    def preadv(self, descriptor: int, buffers: object, offset: int) -> int:
        if offset >= self.fails_from:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return super().preadv(descriptor, buffers, offset)  # type: ignore[arg-type]


@pytest.mark.parametrize("offset", ["the header", "the trailer"])
@pytest.mark.parametrize("job", ["open", "keyless", "split", "merge"])
def test_a_disk_that_fails(job: str, offset: str) -> None:
    """Whoever reads header or trailer: the path stands there once, and the number is kept."""
    system = Failing(image_files("plain", [os.urandom(100_000)]))
    system.files[f"{ROOT}/e.aiv"] = bytearray(system.files[PATH])
    system.fails_from = 0 if offset == "the header" else len(system.files[PATH]) - 70_000
    storage = Storage(system)
    calls = {
        "open": lambda: open_image(PATH, storage=storage),
        "keyless": lambda: verify_keyless(PATH, storage=storage),
        "split": lambda: split_image(PATH, f"{ROOT}/out.aiv", 16_384, storage=storage),
        "merge": lambda: merge_images(f"{ROOT}/m.aiv", [PATH, f"{ROOT}/e.aiv"], storage=storage),
    }
    with pytest.raises(StorageError) as caught:
        calls[job]()
    assert caught.value.errno == errno.EIO
    assert str(caught.value).count(PATH) == 1
    assert set(system.files) == {PATH, f"{ROOT}/e.aiv"}
    assert system.open_descriptors == 0
