"""``aipimage createimage`` with a parent: increments, and how they find out what changed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

import aipimage
from aipimage.tracking import Changes, ChangeTracker, write_changes
from tests.cli.running import PASSWORD, Ran, done, invoke

AT = 300 * 1024
"""Byte at which the disk is changed: a cluster begins there."""


class Place:
    """A directory with a disk, a full image of it, and what makes more."""

    def __init__(self, directory: Path, disk: Path, *options: object) -> None:
        self.directory, self.disk = directory, directory / "disk.raw"
        shutil.copyfile(disk, self.disk)
        self.full = directory / "0.aiv"
        self.first = done("createimage", "-o", self.full, self.disk, *options, "--json").json

    def change(self, offset: int = AT, content: bytes = b"changed") -> None:
        """Write to the disk."""
        with self.disk.open("r+b") as file:
            file.seek(offset)
            file.write(content)

    def create(self, name: str, *options: object) -> Ran:
        """Run createimage for ``name`` in the directory."""
        return invoke("createimage", "-o", self.directory / name, self.disk, *options)

    def made(self, name: str, *options: object) -> dict[str, object]:
        """Make an image that must restore to the disk as it is now; return the object printed."""
        ran = self.create(name, *options, "--json")
        assert ran.code == 0, ran
        with aipimage.open(self.directory / name, None) as image:
            assert image.devices[0].open().read() == self.disk.read_bytes()
        return ran.json

    @property
    def size(self) -> int:
        """Bytes of the disk."""
        return self.disk.stat().st_size


@pytest.fixture
def place(tmp_path: Path, disk: Path) -> Place:
    """With a full image, behind which 4 KiB of the disk changed."""
    found = Place(tmp_path, disk)
    found.change()
    return found


def the_change(values: dict[str, object]) -> dict[str, object]:
    """The one member of ``changes``."""
    changes = values["changes"]
    assert isinstance(changes, list)
    [change] = changes
    assert isinstance(change, dict)
    return change


def test_json(place: Place) -> None:
    """What the full image's object has, and how it was found out what changed."""
    values = place.made("1.aiv", "--parent", place.full)
    assert set(values) == set(place.first)
    assert (values["kind"], values["sequence"]) == ("incremental", 1)
    assert values["parent_id"] == place.first["image_id"]
    assert (place.first["parent_id"], place.first["sequence"]) == (None, 0)
    change = the_change(values)
    assert change.pop("read") >= 4096  # type: ignore[operator]
    assert change == {"device": 0, "method": "digests", "changed": 4096, "reason": None}
    assert values["ratio"] == round(4096 / (place.directory / "1.aiv").stat().st_size, 3)


def test_for_people(place: Place) -> None:
    """The kind, its parent, the way used, and how much."""
    ran = place.create("1.aii", "--parent", place.full)
    assert (ran.code, ran.err) == (0, "")
    first, parent, device, digest = ran.out.splitlines()
    assert first.startswith(f"{place.directory}/1.aii: incremental image of ")
    assert "4.00 KiB of it changed, stored in " in first
    assert parent == f"parent {place.first['image_id']}; number 1 of its chain, from 0"
    assert device.startswith("device 0: compared with the parent's block digests; ")
    assert device.endswith(" read, 4.00 KiB changed")
    with aipimage.open(place.directory / "1.aii") as image:
        assert digest == f"digest {image.digest}"


@pytest.mark.parametrize("kind", ["incremental", "differential", "full"])
def test_kinds(kind: str, place: Place) -> None:
    """Each can be asked for; a full image with a parent stands inside of its chain."""
    values = place.made("1.aiv", "--kind", kind, "--parent", place.full)
    assert (values["kind"], values["sequence"]) == (kind, 1)
    with aipimage.open(place.full) as full, aipimage.open(place.directory / "1.aiv") as image:
        assert image.chain_id == full.chain_id


def test_the_same_command_for_first_and_later_images(tmp_path: Path, disk: Path) -> None:
    """Given the directory: a full image with a warning, then increments on the newest."""
    place = Place(tmp_path, disk)
    chain = tmp_path / "chain"
    chain.mkdir()
    ran = place.create("chain/0.aiv", "--parent", chain, "--json")
    says = f"a full image was made: {chain} has no image of these sources"
    assert (ran.code, ran.json["kind"], ran.json["parent_id"]) == (0, "full", None)
    assert ran.json["warnings"] == [says]
    assert ran.err == f"aipimage: warning: {says}\n"
    before = ran.json["image_id"]
    for number in (1, 2):
        place.change(number * 4096)
        values = place.made(f"chain/{number}.aiv", "--parent", chain)
        assert (values["sequence"], values["parent_id"]) == (number, before)
        before = values["image_id"]


def _changed_bitmap(place: Place, ranges: Sequence[tuple[int, int]]) -> Path:
    path = place.directory / "bitmap"
    rows = np.array(ranges, np.uint64).reshape(-1, 2)
    write_changes(path, Changes(place.size, rows, str(place.first["image_id"])), 4096)
    return path


def _nbdinfo(place: Place, ranges: Sequence[tuple[int, int]]) -> Path:
    """As ``nbdinfo --json --map=qemu:dirty-bitmap:NAME`` prints it."""
    rows, at = [], 0
    for offset, length in [*ranges, (place.size, 0)]:
        for end, kind in ((offset, 0), (offset + length, 1)):
            if end > at:
                name = ("clean", "dirty")[kind]
                rows.append({"offset": at, "length": end - at, "type": kind, "description": name})
            at = max(at, end)
    path = place.directory / "map.json"
    path.write_text(json.dumps(rows))
    return path


def _tracker(place: Place, ranges: Sequence[tuple[int, int]]) -> Path:
    path = place.directory / "disk.track"
    with ChangeTracker.create(path, size=place.size) as tracker:
        with tracker.begin("nightly") as generation:
            generation.commit(str(place.first["image_id"]))
        for offset, length in ranges:
            tracker.mark(offset, length)
    return path


@pytest.mark.parametrize("form", [_changed_bitmap, _nbdinfo, _tracker])
def test_changed(form, place: Place) -> None:  # type: ignore[no-untyped-def]
    """Every form that lies in a file; what it says is read, and no more than the blocks around."""
    told = form(place, [(AT, 4096)])
    values = place.made("1.aiv", "--parent", place.full, "--changed", told)
    change = the_change(values)
    assert (change["method"], change["reason"], values["warnings"]) == ("tracked", None, [])
    assert 4096 <= int(str(change["read"])) <= 65_536


def test_a_doubted_tracker_is_told_loudly(place: Place) -> None:
    """It counts from another image: everything is compared, and the image is right."""
    place.made("1.aiv", "--parent", place.full)
    told = _changed_bitmap(place, [])
    place.change(8192)
    ran = place.create("2.aiv", "--parent", place.directory / "1.aiv", "--changed", told)
    reason = f"the change tracker counts from another image, {place.first['image_id']}"
    warning = f"{place.disk}: {reason}; all of it was compared instead"
    assert (ran.code, ran.err) == (0, f"aipimage: warning: {warning}\n")
    assert f"compared with the parent's block digests: {reason}; " in ran.out
    values = place.made("3.aiv", "--parent", place.directory / "1.aiv", "--changed", told)
    assert values["warnings"] == [warning]
    assert the_change(values)["reason"] == reason


def test_a_map_that_is_wrong_is_found_by_the_sample(place: Place) -> None:
    """All of the disk changed, and the map calls all of it clean."""
    place.change(0, os.urandom(place.size))
    values = place.made("1.aiv", "--parent", place.full, "--changed", _nbdinfo(place, []))
    [warning] = values["warnings"]  # type: ignore[misc]
    assert "the change tracker missed a change at byte " in warning
    assert the_change(values)["method"] == "digests"


@pytest.mark.parametrize("grain", [512, 1024, 2048, 4096])
@pytest.mark.parametrize("compare", ["auto", "digests", "data"])
def test_compare_and_grain(compare: str, grain: int, place: Place) -> None:
    """Both reach the library: seven bytes changed, in one cluster."""
    values = place.made("1.aiv", "--parent", place.full, "--compare", compare, "--grain", grain)
    change = the_change(values)
    assert change["method"] == ("data" if compare == "data" else "digests")
    assert change["changed"] == grain


def test_several_sources(tmp_path: Path, disk: Path) -> None:
    """One ``--changed`` for each, in their order."""
    place = Place(tmp_path, disk)
    other = tmp_path / "other.raw"
    shutil.copyfile(disk, other)
    done("createimage", "-o", tmp_path / "both.aiv", place.disk, other)
    place.change(AT)
    with other.open("r+b") as file:
        file.write(b"changed")
    maps = []
    for number, at in enumerate((AT, 0)):
        maps.append(tmp_path / f"{number}.json")
        _nbdinfo(place, [(at, 4096)]).rename(maps[-1])
    options = ("--parent", tmp_path / "both.aiv", "--changed", maps[0])
    ran = place.create("few.aiv", other, *options)
    assert (ran.code, "1 times --changed for 2 sources" in ran.error) == (2, True)
    values = place.create("1.aiv", other, *options, "--changed", maps[1], "--json").json
    assert [each["method"] for each in values["changes"]] == ["tracked", "tracked"]
    with aipimage.open(tmp_path / "1.aiv") as image:
        assert image.devices[0].open().read() == place.disk.read_bytes()
        assert image.devices[1].open().read() == other.read_bytes()


def test_a_source_that_the_parent_lacks(place: Place) -> None:
    """It is taken whole, which costs more than an increment does, so it is a warning."""
    new = place.directory / "new.raw"
    shutil.copyfile(place.disk, new)
    ran = place.create("1.aiv", new, "--parent", place.full, "--json")
    assert ran.json["warnings"] == [f"{new}: the parent does not have it; all was taken"]
    assert "the parent does not have it" in ran.err


def test_search(place: Place) -> None:
    """A chain in two directories: found with ``--search``; a full image, and a warning, without."""
    place.made("1.aiv", "--parent", place.full)
    apart = place.directory / "apart"
    apart.mkdir()
    (place.directory / "1.aiv").rename(apart / "1.aiv")
    place.change(4096)
    options = ("--parent", apart / "1.aiv", "--compare", "data", "--json")
    values = place.create("2.aiv", *options, "--search", place.directory).json
    assert (values["kind"], values["warnings"]) == ("incremental", [])
    ran = place.create("3.aiv", *options)
    assert (ran.json["kind"], ran.json["sequence"]) == ("full", 2)
    [warning] = ran.json["warnings"]
    assert warning.startswith("a full image was made: the parent could not be read: ")
    assert f"aipimage: warning: {warning}\n" == ran.err


def test_protection_is_that_of_the_chain(tmp_path: Path, disk: Path, password: Path) -> None:
    """Inherited; the same may be asked for once more, another is refused, as is none."""
    given = ("--password-file", password)
    place = Place(tmp_path, disk, "--encrypt", "aes-128", *given)
    place.change()
    parent = ("--parent", place.full)
    assert place.create("1.aiv", *parent, *given).code == 0
    assert place.create("2.aiv", *parent, *given, "--encrypt", "aes-128").code == 0
    for name in ("1.aiv", "2.aiv"):
        with aipimage.open(tmp_path / name, PASSWORD) as image:
            assert image.encryption == "aes-128"
            assert image.devices[0].open().read() == place.disk.read_bytes()
    says = f"{place.full}: an image is protected as the others of its chain are: by aes-128"
    for other in (("--encrypt", "aes-256"), ("--authenticate",)):
        ran = place.create("3.aiv", *parent, *given, *other)
        assert (ran.code, ran.error.startswith(says)) == (1, True)
    ran = place.create("3.aiv", *parent)
    assert (ran.code, "--password-file FILE" in ran.error) == (1, True)
    ran = place.create("3.aiv", *parent, *given, "--recovery-key")
    assert (ran.code, "the first image of a chain" in ran.error) == (1, True)
    assert not list(tmp_path.glob("3.aiv*"))


def test_a_plain_chain_stays_plain(place: Place, password: Path) -> None:
    """Encryption cannot begin in the middle of a chain, and is not left out silently."""
    secret = ("--encrypt", "aes-256", "--password-file", password)
    ran = place.create("1.aiv", "--parent", place.full, *secret)
    assert (ran.code, "is not encrypted" in ran.error) == (1, True)
    assert not (place.directory / "1.aiv").exists()


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (["--parent", "missing.aiv"], 1, "missing.aiv: cannot open: No such file"),
        (["--parent", "disk.raw"], 1, "disk.raw: "),
        (["--parent", "1.aiv", "--kind", "differential"], 1, "builds on a full one"),
        (["--parent", "0.aiv", "--changed", "missing"], 1, "missing: cannot open"),
        (["--parent", "0.aiv", "--changed", "disk.raw"], 1, "disk.raw: neither a changed-bitmap"),
        (["--parent", "0.aiv", "--changed", "map.json"], 1, "the map covers 4096 bytes"),
        (["--parent", "0.aiv", "--changed", "all.json"], 1, "of 'data' extents says nothing"),
        (["--parent", "0.aiv", "--kind", "full", "--changed", "map.json"], 1, "of use only for an"),
        (["--parent", "bare.aiv", "--compare", "digests"], 1, "has no block digests"),
        (["--changed", "map.json"], 1, "--changed is of use only with --parent"),
        (["--search", "."], 1, "--search is of use only with --parent"),
        (["--kind", "incremental"], 1, "--kind incremental needs a parent"),
        (["--kind", "differential"], 1, "use --parent IMAGE, or the directory of its chain"),
        (["--kind", "other"], 2, "Invalid value for '--kind'"),
        (["--parent", "0.aiv", "--grain", "4K"], 2, "Invalid value for '--grain'"),
        (["--parent", "0.aiv", "--grain", "8192"], 2, "Invalid value for '--grain'"),
        (["--parent", "0.aiv", "--compare", "both"], 2, "Invalid value for '--compare'"),
        (["--parent", "0.aiv", "--changed", "a", "--changed", "b"], 2, "2 times --changed for 1"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_refused(
    options: list[str], code: int, says: str, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line; nothing made."""
    monkeypatch.chdir(place.directory)
    place.made("1.aiv", "--parent", "0.aiv")
    done("createimage", "-o", "bare.aiv", "disk.raw", "--no-digests")
    row = {"offset": 0, "length": 4096, "type": 1, "description": "dirty"}
    Path("map.json").write_text(json.dumps([row]))
    row |= {"length": place.size, "type": 0, "description": "data"}
    Path("all.json").write_text(json.dumps([row]))
    before = sorted(os.listdir())
    ran = place.create("o.aiv", *options)
    assert ran.code == code
    assert says in ran.error
    assert sorted(os.listdir()) == before
