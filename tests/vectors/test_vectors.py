"""Every frozen vector does what its header states."""

from __future__ import annotations

import re
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

import aipimage
from tests.vectors import build_chains
from tests.vectors.build_vectors import build
from tests.vectors.chains import link
from tests.vectors.kit import FROZEN, README, WHOLE, header, names, readme, unpack

NAMES = names()
ERRORS = {
    "FormatError",
    "UnsupportedError",
    "LimitError",
    "IncompleteError",
    "IntegrityError",
    "PasswordError",
}
TEXT = Path(__file__).parents[2] / "docs" / "format.md"
SECTIONS = set(re.findall(r"^##+ ([0-9]+(?:\.[0-9]+)?)\.? ", TEXT.read_text("utf-8"), re.M))
MEMBERS = {"about", "section", "password", "devices", "error", "on", "verify", "keyless", "files"}


def read_all(path: Path, says: dict[str, Any]) -> list[str]:
    """SHA-256 of each device."""
    with aipimage.open(path, says["password"]) as image:
        return [sha256(device.open().readall()).hexdigest() for device in image.devices]


def restore_all(path: Path, says: dict[str, Any]) -> None:
    """All devices by the way that reads in bulk."""
    with aipimage.open(path, says["password"]) as image:
        for number in range(len(image.devices)):
            target = path.parent / f"restored {number}"
            image.restore(target, device=number, force=True, set_size=True)


def check_reading(path: Path, says: dict[str, Any]) -> None:
    """Opening and reading."""
    if says.get("on") not in ("open", "read"):
        if "devices" in says:
            assert read_all(path, says) == says["devices"]
        return
    expected = getattr(aipimage, says["error"])
    if says["on"] == "read":
        aipimage.open(path, says["password"]).close()
    for act in (read_all, restore_all):
        with pytest.raises(expected) as caught:
            act(path, says)
        assert caught.type is expected
        assert str(path.parent) in str(caught.value), "the message names no file"
    if says["on"] == "open":
        with pytest.raises(expected):
            aipimage.open(path, says["password"])


def check_verification(path: Path, says: dict[str, Any]) -> None:
    """With keys, with the chain, without keys."""
    if says.get("on") != "open":
        with aipimage.open(path, says["password"]) as image:
            if "verify" in says:
                result = image.verify()
                assert result.ok == (says["verify"] == WHOLE), result.damage
            if "chain" in says:
                result = image.verify(chain=True)
                assert result.ok == (says["chain"] == WHOLE), result.damage
    if "keyless" in says:
        assert whole_without_keys(path) == (says["keyless"] == WHOLE)


def whole_without_keys(path: Path) -> bool:
    try:
        return aipimage.verify_keyless(path).ok
    except aipimage.AipImageError:
        return False


def check(name: str, scratch: Path, directory: Path = FROZEN) -> None:
    scratch.mkdir(exist_ok=True)
    for file, says in unpack(name, scratch, directory).items():
        check_reading(scratch / file, says)
        check_verification(scratch / file, says)


@pytest.mark.parametrize("name", NAMES)
def test_frozen(name: str, tmp_path: Path) -> None:
    check(name, tmp_path)


def test_vectors_built_now(tmp_path: Path) -> None:
    """The readable writer still makes what the headers state."""
    target = tmp_path / "built"
    build(target)
    build_chains.main(target)
    assert sorted(path.stem for path in target.glob("*.json")) == NAMES
    for name in NAMES:
        assert header(name, target) == header(name)
        if not same_files(name, tmp_path, target):
            check(name, tmp_path / name, target)


def same_files(name: str, scratch: Path, built: Path) -> bool:
    """Whether the vector has the frozen one's bytes, which were looked at already."""
    sides = [scratch / f"{name}-built", scratch / f"{name}-frozen"]
    for side, directory in zip(sides, (built, FROZEN), strict=True):
        unpack(name, side, directory)
    files = header(name)["files"]
    return all((sides[0] / file).read_bytes() == (sides[1] / file).read_bytes() for file in files)


def test_the_frozen_files_are_all_stated_and_small(tmp_path: Path) -> None:
    files = {path.name for path in FROZEN.iterdir()}
    assert files == {f"{name}.{ending}" for name in NAMES for ending in ("json", "zip")}
    assert sum(path.stat().st_size for path in FROZEN.iterdir()) < 2 << 20
    assert len([name for name in NAMES if name.startswith("good-")]) >= 30
    for name in NAMES:
        unpack(name, tmp_path / name)
        assert sorted(path.name for path in (tmp_path / name).iterdir()) == header(name)["files"]


@pytest.mark.parametrize("name", NAMES)
def test_headers_say_what_they_are_for(name: str) -> None:
    says = header(name)
    images = says.pop("images", {})
    assert says["about"].endswith(".")
    assert says["section"] in SECTIONS
    for each in (says, *images.values()):
        assert set(each) <= MEMBERS | {"chain"}
        assert ("error" in each) == ("on" in each)
        assert each.get("error", "FormatError") in ERRORS
        assert each.get("on", "open") in ("open", "read", "verify")
        assert {each.get(key, WHOLE) for key in ("verify", "keyless", "chain")} <= {
            WHOLE,
            "damaged",
        }


def test_a_full_index_page(tmp_path: Path) -> None:
    """513 leaves: an index page of 512 entries, one of 1, and a root of level 2 over them."""
    before = bytes(513 * 65_536)
    after = b"".join((bytes([n % 255 + 1]) * 512).ljust(65_536, b"\0") for n in range(513))
    first = link("full-index", 0, None, disk=before, digests=True)
    second = link("full-index", 1, first, disk=after, digests=True, layers=True, layer_entries=1)
    for name, image in (("0.aiv", first), ("1.aiv", second)):
        (tmp_path / name).write_bytes(image.stream)
    with aipimage.open(tmp_path / "1.aiv") as opened:
        assert opened.verify(chain=True).ok
        assert opened.devices[0].open().readall() == after


def test_every_case_of_section_16_has_vectors() -> None:
    def rows(text: str, heading: str) -> list[str]:
        section = text.split(heading)[1].split("\n## ")[0]
        return [line for line in section.splitlines() if line.startswith("|")][2:]

    cases = rows(TEXT.read_text("utf-8"), "\n## 16. ")
    ours = rows(README.read_text("utf-8"), "\n## Cases of section 16\n")
    assert len(ours) == len(cases)
    for case, row in zip(cases, ours, strict=True):
        what, vectors = row.strip("|").split("|")
        bold = re.findall(r"\*\*(\w+)\*\*", case)
        assert all(word in what for word in bold or ["there"]), what
        found = re.findall(r"`([a-z0-9-]+)`", vectors)
        assert found
        assert set(found) <= set(NAMES)


def test_the_table_of_all_vectors_is_true() -> None:
    text = README.read_text(encoding="utf-8")
    assert text == readme(text), "run python -m tests.vectors.kit"


@pytest.mark.parametrize("name", [name for name in NAMES if "metadata-is" in name])
def test_metadata_that_is_wrong_hides_nothing_else(name: str, tmp_path: Path) -> None:
    (file,) = unpack(name, tmp_path)
    says = header(name)
    with aipimage.open(tmp_path / file, says["password"]) as image:
        if "error" not in says:
            assert image.metadata["description"] == {"a": image.metadata["description"]["a"]}
            return
        assert {} in (image.metadata["description"], image.metadata["result"])
        assert file in image.warnings[0]
        with pytest.raises(getattr(aipimage, says["error"])):
            image.metadata_records.check()


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("good-")])
def test_good_vectors_restore_split_and_join(name: str, tmp_path: Path) -> None:
    ((file, says),) = unpack(name, tmp_path).items()
    parts = tmp_path / "parts.aiv"
    aipimage.split(tmp_path / file, parts, 16_384)
    assert read_all(parts, says) == says["devices"]
    aipimage.join(parts, tmp_path / "one.aiv")
    assert read_all(tmp_path / "one.aiv", says) == says["devices"]
    with aipimage.open(tmp_path / "one.aiv", says["password"]) as image:
        last = len(image.devices) - 1
        image.restore(tmp_path / "out", device=last, force=True, set_size=True)
    assert sha256((tmp_path / "out").read_bytes()).hexdigest() == says["devices"][last]
