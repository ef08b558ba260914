"""What a chain needs is not written over, and what cannot be restored is not begun."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

import aipimage

DISK = 300_000


@pytest.fixture
def chain(tmp_path: Path) -> Path:
    """A full image and two increments of ``disk.raw``."""
    rng = random.Random(6)
    disk = bytearray(rng.randbytes(DISK))
    for number in range(3):
        disk[number * 4096 : number * 4096 + 100] = rng.randbytes(100)
        (tmp_path / "disk.raw").write_bytes(disk)
        parent = {"parent": tmp_path / f"{number - 1}.aiv"} if number else {}
        aipimage.create(tmp_path / f"{number}.aiv", tmp_path / "disk.raw", **parent)
    return tmp_path


@pytest.mark.parametrize("target", ["2.aiv", "1.aiv", "0.aiv"])
def test_a_restore_does_not_write_over_an_image(chain: Path, target: str) -> None:
    before = (chain / target).read_bytes()
    with (
        aipimage.open(chain / "2.aiv") as image,
        pytest.raises(aipimage.TargetError, match="image"),
    ):
        image.restore(chain / target, force=True, set_size=True)
    assert (chain / target).read_bytes() == before


def test_a_restore_is_not_begun_without_the_chain(chain: Path) -> None:
    (chain / "0.aiv").rename(chain / "0.gone")
    (chain / "there.raw").write_bytes(b"precious" * 50_000)
    with aipimage.open(chain / "2.aiv") as image, pytest.raises(aipimage.IncompleteError):
        image.restore(chain / "there.raw", force=True, set_size=True)
    assert (chain / "there.raw").read_bytes() == b"precious" * 50_000


def test_an_image_does_not_replace_its_source(chain: Path) -> None:
    before = (chain / "disk.raw").read_bytes()
    (chain / "link.raw").symlink_to(chain / "disk.raw")
    for target in ("disk.raw", "link.raw"):
        with pytest.raises(aipimage.RequestError, match="the source itself"):
            aipimage.create(chain / target, chain / "disk.raw", overwrite=True)
    assert (chain / "disk.raw").read_bytes() == before


def test_an_image_that_others_may_need_is_not_overwritten(chain: Path, tmp_path: Path) -> None:
    before = (chain / "0.aiv").read_bytes()
    for write in (
        lambda: aipimage.create(chain / "0.aiv", chain / "disk.raw", overwrite=True),
        lambda: aipimage.join(chain / "1.aiv", chain / "0.aiv", overwrite=True),
    ):
        with pytest.raises(aipimage.TargetError, match="belongs to a chain"):
            write()
    assert (chain / "0.aiv").read_bytes() == before
    alone = chain / "alone"
    alone.mkdir()
    aipimage.create(alone / "0.aiv", chain / "disk.raw")
    aipimage.create(alone / "0.aiv", chain / "disk.raw", overwrite=True)


def test_an_increment_on_a_broken_chain_says_so(chain: Path) -> None:
    (chain / "1.aiv").rename(chain / "1.gone")
    disk = bytearray((chain / "disk.raw").read_bytes())
    disk[200_000] ^= 1
    (chain / "disk.raw").write_bytes(disk)
    for name, changed in (("3.aiv", None), ("4.aiv", [(200_000, 1)])):
        made = aipimage.create(
            chain / name, chain / "disk.raw", parent=chain / "2.aiv", changed=changed
        )
        assert made.kind == "incremental"
        assert "the new image cannot be restored without it" in " ".join(made.warnings)
