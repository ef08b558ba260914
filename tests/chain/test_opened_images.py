"""Whatever opens an image for a user opens an ``aipimage.Image``, with all that it can do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

import aipimage

PASSWORD = "secret"


@pytest.fixture(params=[None, "aes-256"], ids=["plain", "encrypted"])
def folder(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A chain of two images of a disk of a MiB."""
    disk = tmp_path / "disk.raw"
    disk.write_bytes(bytes(range(256)) * 4096)
    more = {"encrypt": request.param, "password": PASSWORD} if request.param else {}
    aipimage.create(tmp_path / "a.aiv", [disk], **more)
    disk.write_bytes(b"changed" + disk.read_bytes()[7:])
    word = {"password": PASSWORD} if request.param else {}
    aipimage.create(tmp_path / "b.aiv", [disk], parent=tmp_path / "a.aiv", **word)
    (tmp_path / "password").write_text(PASSWORD if request.param else "")
    return tmp_path


def word_of(folder: Path) -> str | None:
    return (folder / "password").read_text() or None


@contextmanager
def by_open(folder: Path) -> Iterator[aipimage.Image]:
    with aipimage.open(folder / "a.aiv", word_of(folder)) as image:
        yield image


@contextmanager
def by_image_chain(folder: Path) -> Iterator[aipimage.Image]:
    with (
        aipimage.open(folder / "b.aiv", word_of(folder)) as image,
        image.chain.open(image.chain[0].image_id) as other,
    ):
        yield other


@contextmanager
def by_find_chain(folder: Path) -> Iterator[aipimage.Image]:
    chain = aipimage.find_chain(folder, password=word_of(folder))
    with chain.open(chain[0].image_id) as image:
        yield image


@contextmanager
def by_chains(folder: Path) -> Iterator[aipimage.Image]:
    (chain,) = aipimage.chains(folder, word_of(folder))
    with chain.open(chain[0].image_id) as image:
        yield image


@contextmanager
def by_an_opened_ones_chain(folder: Path) -> Iterator[aipimage.Image]:
    with by_find_chain(folder) as image, image.chain.open(image.image_id) as again:
        yield again


WAYS: list[Callable[[Path], AbstractContextManager[aipimage.Image]]] = [
    by_open,
    by_image_chain,
    by_find_chain,
    by_chains,
    by_an_opened_ones_chain,
]


@pytest.mark.parametrize("way", WAYS, ids=lambda each: each.__name__)
def test_every_way_gives_the_public_image(
    way: Callable[[Path], AbstractContextManager[aipimage.Image]], folder: Path, tmp_path: Path
) -> None:
    with way(folder) as image:
        assert type(image) is aipimage.Image
        assert type(image.chain) is aipimage.Chain
        assert image.volumes == ()
        assert image.verify(chain=True).ok
        image.restore(tmp_path / "back.raw", size=1 << 20)
        assert (tmp_path / "back.raw").read_bytes() == bytes(range(256)) * 4096
        assert list(image.diff(image)) == []
        assert image.tags == {}
        assert image.created is not None
