"""A record that is damaged in one file of a chain is read from another one that holds it too
(docs/format.md, section 16).
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

import aipimage
from aipimage.format.record import Reference

SIZE = 1 << 20
PASSWORD = "secret"


class Case(NamedTuple):
    """Images a, b and c, each on the one before, and m, which is a and b merged."""

    folder: Path
    password: str | None
    content: bytes

    def path(self, name: str) -> Path:
        return self.folder / f"{name}.aiv"

    def open(self, name: str) -> aipimage.Image:
        return aipimage.open(self.path(name), self.password)

    def damage(self, name: str, ref: Reference) -> None:
        """Flip a bit of the record's body in one of the files that hold it."""
        with self.open(name) as image:
            at = image.locate(ref) + ref.record_length // 2
        with self.path(name).open("r+b") as file:
            file.seek(at)
            byte = file.read(1)[0]
            file.seek(at)
            file.write(bytes([byte ^ 4]))


@pytest.fixture(scope="module", params=[None, "aes-256"], ids=["plain", "encrypted"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp("made")
    disk, chance = folder / "disk.raw", random.Random(1)
    content = bytearray(chance.randbytes(SIZE))
    word = {"password": PASSWORD} if request.param else {}
    parent = None
    for name in "abc":
        disk.write_bytes(content)
        protection = {"encrypt": request.param} if request.param and parent is None else {}
        aipimage.create(folder / f"{name}.aiv", [disk], parent=parent, **word, **protection)
        parent = folder / f"{name}.aiv"
        if name != "c":
            content[: 4096 * 8] = chance.randbytes(4096 * 8)
    images = [folder / "a.aiv", folder / "b.aiv"]
    aipimage.merge(folder / "m.aiv", images, **word)
    return Case(folder, word.get("password"), bytes(content))


@pytest.fixture
def case(made: Case, tmp_path: Path) -> Case:
    for name in "abcm":
        shutil.copy(made.path(name), tmp_path)
    return made._replace(folder=tmp_path)


def a_frame(case: Case) -> Reference:
    """One that c reads of what a wrote."""
    with case.open("a") as image:
        return image.tables[0].frame(8)


def a_leaf(case: Case) -> Reference:
    """The frame table of what a wrote, which is one leaf."""
    with case.open("a") as image:
        return image.seal.origins[0].table_root


# A merged image has frame tables of its own.
DAMAGED = [("a", a_frame), ("m", a_frame), ("a", a_leaf)]


def by_reading(image: aipimage.Image, folder: Path) -> bytes:
    return image.devices[0].open().readall()


def by_restoring(image: aipimage.Image, folder: Path) -> bytes:
    image.restore(folder / "back.raw", force=True)
    return (folder / "back.raw").read_bytes()


WAYS = [by_reading, by_restoring]


@pytest.mark.parametrize(("damaged", "record"), DAMAGED, ids=["frame", "merged frame", "table"])
@pytest.mark.parametrize("way", WAYS, ids=lambda each: each.__name__)
def test_it_is_read_from_the_file_that_is_whole(
    damaged: str,
    way: Callable[[aipimage.Image, Path], bytes],
    record: Callable[[Case], Reference],
    case: Case,
    tmp_path: Path,
) -> None:
    case.damage(damaged, record(case))
    with case.open("c") as image:
        assert way(image, tmp_path) == case.content


@pytest.mark.parametrize("way", WAYS, ids=lambda each: each.__name__)
def test_where_all_are_damaged_the_error_names_them(
    way: Callable[[aipimage.Image, Path], bytes], case: Case, tmp_path: Path
) -> None:
    ref = a_frame(case)
    case.damage("a", ref)
    case.damage("m", ref)
    with (
        case.open("c") as image,
        pytest.raises(aipimage.IntegrityError, match=r"a\.aiv, m\.aiv") as caught,
    ):
        way(image, tmp_path)
    assert caught.value.offset == 8 << 16


def test_verification_reports_the_damaged_file(case: Case) -> None:
    case.damage("a", a_frame(case))
    with case.open("a") as image:
        assert [each.frame for each in image.verify().damage] == [8]
    with case.open("b") as image:
        result = image.verify(chain=True)
        assert [(each.frame, each.path) for each in result.damage] == [(8, str(case.path("a")))]
    with case.open("c") as image:
        assert [each.frame for each in image.verify(chain=True).damage] == [8]


def test_what_is_damaged_in_its_own_file_stays_damaged(case: Case) -> None:
    """It is this file that was opened, and its copy elsewhere was not asked for."""
    case.damage("a", a_frame(case))
    with case.open("a") as image, pytest.raises(aipimage.IntegrityError, match="digest"):
        image.devices[0].open().readall()


def test_each_file_is_tried_once(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many files there are, and by whatever way they were found."""
    ref = a_frame(case)
    for name in "am":
        case.damage(name, ref)
    copies = [case.folder / f"copy{number}.aiv" for number in range(3)]
    for copy in copies:
        shutil.copy(case.path("a"), copy)
    with case.open("c") as image:
        with pytest.raises(aipimage.IntegrityError, match="no file has it whole") as caught:
            image.devices[0].open().readall()
        names = str(caught.value).rpartition("whole: ")[2].split(", ")
        assert sorted(names) == ["a.aiv", *(each.name for each in copies), "m.aiv"]
