"""Chains: which images belong together, what is wrong with them, what changed between them."""

from __future__ import annotations

import io
import os
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

import aipimage
from aipimage.errors import (
    AipImageError,
    FormatError,
    IncompleteError,
    IntegrityError,
    LimitError,
    PasswordError,
    RequestError,
)
from aipimage.extents import Kind
from aipimage.format.constants import ImageKind
from aipimage.io.chain.chain import ChainMember
from aipimage.retention import KeepRules, plan, points_of
from aipimage.volumes.chain import Chain, find_chain
from tests.chain.handmade import FRAME, Made, Maker
from tests.support.ends import damage_trailers
from tests.support.images import remember_derivations
from tests.support.memory import ROOT

DIFFERENTIAL = ImageKind.DIFFERENTIAL
CHANCE = random.Random(7)


def clusters(count: int = 1) -> bytes:
    """Content that is not zeros."""
    return CHANCE.randbytes(count * FRAME)


def states(chain: Chain) -> list[tuple[str, int, str]]:
    """Name, depth and state of each member of a chain."""
    return [(name_of(member), member.depth, member.state) for member in chain]


def name_of(member: ChainMember) -> str:
    return os.path.basename(member.path or "-").removesuffix(".aiv")


def tree(chain: Chain) -> dict[str, tuple[str | None, str]]:
    """Parent and state of each member of the tree."""
    names = [name_of(member) for member in chain.members_of_tree]
    return {
        name: (None if parent is None else names[parent], member.state)
        for name, parent, member in zip(names, chain.parents, chain.members_of_tree, strict=True)
    }


@pytest.fixture(params=[False, True], ids=["plain", "sealed"])
def maker(request: pytest.FixtureRequest) -> Maker:
    remember_derivations()
    return Maker(sealed=request.param)


def four(maker: Maker) -> list[Made]:
    """A full image, and three increments."""
    made = [maker.full("a", clusters(6) + bytes(FRAME) + clusters(3))]
    for number, name in enumerate("bcd"):
        made.append(maker.increment(name, made[-1], {number * FRAME: clusters()}))
    return made


def test_a_chain_from_the_first_image_on(maker: Maker) -> None:
    a, b, c, d = four(maker)
    with maker.open(d) as image:
        chain = image.chain
        assert chain is image.chain
        chain.check()
        assert chain.ok
        assert states(chain) == [
            ("a", 0, "whole"),
            ("b", 1, "whole"),
            ("c", 2, "whole"),
            ("d", 3, "whole"),
        ]
        assert [member.image_id for member in chain] == [a.hex, b.hex, c.hex, d.hex]
        assert [member.parent_id for member in chain] == [None, a.hex, b.hex, c.hex]
        assert [member.digest for member in chain] == [each.digest.hex() for each in (a, b, c, d)]
        assert [member.sequence for member in chain] == [0, 1, 2, 3]
        assert [member.kind for member in chain] == ["full"] + ["incremental"] * 3
        assert [member.stored for member in chain] == [
            len(maker.files[each.path]) for each in (a, b, c, d)
        ]
        assert [member.changed for member in chain] == [9 * FRAME, FRAME, FRAME, FRAME]
        assert chain[-1].created == datetime(2023, 11, 14, 22, 0, 4, tzinfo=UTC)
        assert chain.needed == tuple(chain)
        assert chain.newest == chain[-1]
        assert (image.parent_id, image.sequence) == (c.hex, 3)
        assert chain.chain_id == image.chain_id
    assert maker.system.open_descriptors == 0


def test_the_middle_of_a_chain_knows_the_newer_ones(maker: Maker) -> None:
    a, b, c, d = four(maker)
    with maker.open(b) as image:
        assert [member.image_id for member in image.chain] == [a.hex, b.hex]
        assert len(image.chain.members_of_tree) == 4
        assert image.chain.newest.image_id == d.hex
        assert image.chain[0] == image.chain[:1][0]
        with image.chain.open(d.hex.upper()) as newest:
            assert newest.devices[0].open().readall() == d.content
        with pytest.raises(RequestError, match="has no image"):
            image.chain.open("0" * 32)
    with maker.open(c) as image:
        chain = image.chain
        maker.files[d.path] = maker.files[b.path]
        with pytest.raises(IntegrityError, match="not the image that was expected"):
            chain.open(d.hex)


def test_branches_and_fulls_inside_the_chain(maker: Maker) -> None:
    a, b, c, d = four(maker)
    e = maker.increment("e", a, {0: clusters()}, kind=DIFFERENTIAL)
    f = maker.full("f", clusters(3), d)
    g = maker.increment("g", f, {0: clusters()})
    with maker.open(g) as image:
        chain = image.chain
        assert states(chain)[-2:] == [("f", 0, "whole"), ("g", 1, "whole")]
        assert [name_of(member) for member in chain.needed] == ["f", "g"]
        assert tree(chain) == {
            "a": (None, "whole"),
            "b": ("a", "whole"),
            "c": ("b", "whole"),
            "d": ("c", "whole"),
            "e": ("a", "whole"),
            "f": ("d", "whole"),
            "g": ("f", "whole"),
        }
        assert image.devices[0].open().readall() == g.content
    # What a full image inside the chain follows on is not needed to read it.
    maker.remove(c)
    with maker.open(g) as image:
        assert states(image.chain)[:3] == [
            ("-", 0, "missing"),
            ("d", 1, "orphan"),
            ("f", 0, "whole"),
        ]
        assert not image.chain.ok
        assert image.verify(chain=True, threads=1).ok
        assert tree(image.chain)["e"] == ("a", "whole")
    del b, e


def test_newest_follows_links_before_clocks(maker: Maker) -> None:
    a = maker.full("a", clusters(2), created="2024-06-01T00:00:00Z")
    b = maker.increment("b", a, {0: clusters()}, created="2024-01-01T00:00:00Z")
    with maker.open(a) as image:
        assert image.chain.newest.image_id == b.hex
    maker.increment("c", a, {0: clusters()}, created="2024-01-02T00:00:00+05:00")
    with maker.open(a) as image:
        assert name_of(image.chain.newest) == "c"
        assert image.chain.newest.created == datetime(2024, 1, 1, 19, tzinfo=UTC)


@pytest.mark.parametrize("text", ["", "yesterday", "2024-01-01T00:00:00", "0001-01-01T00:00+14:00"])
def test_a_time_that_is_none(maker: Maker, text: str) -> None:
    """Then the header's is taken."""
    a = maker.full("a", clusters(), created=text or "x")
    with maker.open(a) as image:
        assert image.chain[0].created == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)


@pytest.mark.parametrize(
    ("changes", "changed"),
    [
        ([{"changed": 5}, {"changed": 7}], 12),
        ([{"changed": -1}], FRAME),
        ([], FRAME),
        ([{"changed": 5}, {}], FRAME),
        ({"changed": 5}, FRAME),
        ([{"changed": "5"}], FRAME),
        ([5], FRAME),
        (None, FRAME),
    ],
)
def test_what_an_image_says_it_added(maker: Maker, changes: object, changed: int) -> None:
    a = maker.full("a", clusters(3))
    b = maker.increment("b", a, {0: clusters()}, result={"changes": changes})
    with maker.open(b) as image:
        assert image.chain[-1].changed == changed


# Where the files are


def test_members_in_other_directories(tmp_path: Path) -> None:
    maker = Maker()
    a, b, c, _ = four(maker)
    for each, place in ((a, "1"), (b, "2"), (c, "3")):
        (tmp_path / place).mkdir()
        (tmp_path / place / "image.AIV").write_bytes(maker.files[each.path])
    last = tmp_path / "3" / "image.AIV"
    with aipimage.open(last) as image:
        assert states(image.chain) == [("-", 0, "missing"), ("image.AIV", 1, "orphan")]
        with pytest.raises(IncompleteError, match=rf"{b.hex} \(incremental, number 1 of its chain"):
            image.chain.check()
    for search in ([tmp_path / "1", str(tmp_path / "2")], [tmp_path / "2", tmp_path / "1"] * 2):
        with aipimage.open(last, search=search) as image:
            image.chain.check()
            assert not image.chain.duplicates
            assert image.devices[0].open().readall() == c.content
            assert image.verify(chain=True, threads=1).ok
    found = find_chain([tmp_path / place for place in "123"])
    assert [member.image_id for member in found] == [a.hex, b.hex, c.hex]
    with pytest.raises(aipimage.StorageError), aipimage.open(last, search=["/nowhere"]) as image:
        image.chain.check()


def test_find_chain(maker: Maker) -> None:
    made = four(maker)
    found = find_chain(ROOT, password=maker.password, storage=maker.storage)
    assert [member.image_id for member in found] == [each.hex for each in made]
    with found.open(made[1].hex) as image:
        assert image.devices[0].open().readall() == made[1].content
    other = Maker(maker.system)
    other.full("other", clusters())
    with pytest.raises(RequestError, match="has 2 chains"):
        find_chain([ROOT], storage=maker.storage)
    found = find_chain(ROOT, found.chain_id.upper(), maker.password, storage=maker.storage)
    assert len(found) == 4
    with pytest.raises(RequestError, match="no image of"):
        find_chain(ROOT, "0" * 32, storage=maker.storage)
    maker.files.clear()
    with pytest.raises(RequestError, match="no image of any chain"):
        find_chain(ROOT, storage=maker.storage)


def test_find_chain_passes_over_what_cannot_be_read(maker: Maker) -> None:
    a, b, c, d = four(maker)
    if maker.password:
        with pytest.raises(PasswordError):
            find_chain(ROOT, storage=maker.storage)
    damage_trailers(maker.files[d.path])
    found = find_chain(ROOT, password=maker.password, storage=maker.storage)
    assert [member.image_id for member in found] == [a.hex, b.hex, c.hex]
    assert tree(found)["d"] == (None, "damaged")
    for path in set(maker.files) - {d.path}:
        damage_trailers(maker.files[path])
    with pytest.raises(IntegrityError, match="trailer is damaged"):
        find_chain(ROOT, password=maker.password, storage=maker.storage)


def test_copies_are_harmless(maker: Maker) -> None:
    a, b, _, d = four(maker)
    maker.files[maker.path("Z")] = maker.files[a.path]
    maker.files[maker.path("0")] = maker.files[b.path]
    with maker.open(d) as image:
        image.chain.check()
        assert len(image.chain.members_of_tree) == 4
        assert set(image.chain.duplicates) == {(a.path, a.hex), (b.path, b.hex)}
        assert image.verify(chain=True, threads=1).ok


def test_nothing_is_found_of_other_chains(maker: Maker) -> None:
    made = four(maker)
    Maker(maker.system).full("foreign", clusters())
    maker.files[f"{ROOT}/text.aiv"] = bytearray(b"no image")
    with maker.open(made[-1]) as image:
        image.chain.check()
        assert len(image.chain.members_of_tree) == 4
        [(path, why)] = image.chain.unreadable
        assert path == f"{ROOT}/text.aiv"
        assert "short" in why


# What is wrong


def test_missing(maker: Maker) -> None:
    a, b, c, d = four(maker)
    maker.remove(b)
    with maker.open(d) as image:
        chain = image.chain
        assert states(chain) == [("-", 0, "missing"), ("c", 1, "orphan"), ("d", 2, "orphan")]
        missing = chain[0]
        assert (missing.image_id, missing.digest) == (b.hex, b.digest.hex())
        assert (missing.kind, missing.sequence, missing.created) == ("incremental", 1, None)
        with pytest.raises(IncompleteError) as caught:
            chain.check()
        text = str(caught.value)
        assert text.startswith(f"{c.path}: its parent, image {b.hex} (incremental, number 1")
        assert f"looked for in {ROOT}, where 2 other images of the chain are" in text
        with pytest.raises(IncompleteError):
            chain.open(b.hex)
        with chain.open(a.hex) as first:
            assert first.chain.ok
        assert name_of(chain.newest) == "a"


def test_damaged_members_are_named(maker: Maker) -> None:
    a, b, c, d = four(maker)
    whole = bytes(maker.files[b.path])
    flipped = bytearray(whole)
    damage_trailers(flipped)
    for damage in (whole[:-1], whole[:-100], flipped, whole[:-300] + whole[-299:]):
        maker.files[b.path] = bytearray(damage)
        with maker.open(d) as image:
            assert states(image.chain) == [
                ("b", 0, "damaged"),
                ("c", 1, "orphan"),
                ("d", 2, "orphan"),
            ]
            assert (image.chain[0].kind, image.chain[0].sequence) == ("incremental", 1)
            with pytest.raises(AipImageError, match=f"its parent, image {b.hex}.* cannot be read"):
                image.chain.check()
            with pytest.raises(IntegrityError, match="cannot be opened"):
                image.chain.open(b.hex)
    # Without its header nobody knows what it was, but for its name.
    maker.files[b.path] = bytearray(b"x" + whole[1:-1])
    with maker.open(d) as image:
        assert states(image.chain)[0] == ("-", 0, "missing")
        assert [path for path, _ in image.chain.unreadable] == [b.path]
    del a, c


def test_exchanged(maker: Maker) -> None:
    """A file with the right id and another content, made by somebody who has the key."""
    a, b, c, d = four(maker)
    maker.increment("b", a, {0: clusters()}, image_id=b.image_id)
    with maker.open(d) as image:
        assert states(image.chain) == [
            ("b", 1, "exchanged"),
            ("c", 2, "orphan"),
            ("d", 3, "orphan"),
        ]
        with pytest.raises(IntegrityError, match=f"{c.path}: its parent.* was exchanged.*digest"):
            image.chain.check()


@pytest.mark.parametrize(
    "place", [{"parent_sequence": 4, "sequence": 5}, {"parent_kind": ImageKind.INCREMENTAL}]
)
def test_a_child_that_lies_about_its_parent(maker: Maker, place: dict[str, int]) -> None:
    a = maker.full("a", clusters())
    b = maker.increment("b", a, {0: clusters()}, place=place)
    with maker.open(b) as image:
        assert states(image.chain)[0] == ("a", 0, "exchanged")
        with pytest.raises(IntegrityError, match="another place in the chain or kind"):
            image.chain.check()


def test_contradiction(maker: Maker) -> None:
    a, b, _, d = four(maker)
    twin = maker.increment("twin", a, {0: clusters()}, image_id=b.image_id)
    with maker.open(d) as image:
        assert [member.state for member in image.chain] == [
            "whole",
            "contradicts",
            "orphan",
            "orphan",
        ]
        assert name_of(image.chain[1]) == "b"
        with pytest.raises(IntegrityError, match=f"{b.path} and {twin.path}: contradict each"):
            image.chain.check()
        with pytest.raises(IntegrityError, match="contradict each other"):
            image.chain.open(b.hex)
        assert tree(image.chain)["twin"] == ("a", "contradicts")
    with maker.open(a) as image:
        image.chain.check()


def test_another_key(maker: Maker) -> None:
    """A file of this chain id that somebody else made is damage, and hides nothing."""
    made = four(maker)
    forger = Maker(maker.system)
    forger.chain_id = maker.chain_id
    forger.new_key()
    forged = forger.full("0forged", clusters(), image_id=made[0].image_id)
    with maker.open(made[-1]) as image:
        image.chain.check()
        assert tree(image.chain)["0forged"] == (None, "damaged")
        bad = image.chain.members_of_tree[0]
        assert bad.path == forged.path or bad.state == "whole"
    maker.remove(made[0])
    with maker.open(made[-1]) as image, pytest.raises(PasswordError, match="0forged"):
        image.chain.check()


# Merged images


def test_a_merged_image_stands_for_its_run(maker: Maker) -> None:
    a, b, c, d = four(maker)
    e = maker.increment("e", b, {0: clusters()})
    merged = maker.merged("m", [b, c])
    with maker.open(d) as image:
        assert states(image.chain) == [("a", 0, "whole"), ("m", 1, "whole"), ("d", 2, "whole")]
        image.chain.check()
        member = image.chain[1]
        assert (member.kind, member.sequence) == ("incremental", 2)
        assert member.replaces == (b.hex, c.hex)
        assert member.created == datetime(2023, 11, 14, 22, 0, 3, tzinfo=UTC)
        assert tree(image.chain) == {
            "a": (None, "whole"),
            "m": ("a", "whole"),
            "d": ("m", "whole"),
            "b": ("a", "superseded"),
            "c": ("b", "superseded"),
            "e": ("b", "whole"),
        }
        assert image.chain.newest.image_id == e.hex
    maker.remove(c)
    with maker.open(e) as image:
        assert states(image.chain)[1:] == [("b", 1, "superseded"), ("e", 2, "whole")]
        assert image.chain.ok
    maker.remove(b, e)
    with maker.open(d) as image:
        image.chain.check()
        assert image.devices[0].open().readall() == d.content
        assert len(image.chain.members_of_tree) == 3
    again = maker.merged("n", [a, merged])
    maker.remove(a, merged)
    with maker.open(d) as image:
        assert states(image.chain) == [("n", 0, "whole"), ("d", 1, "whole")]
        assert image.chain[0].kind == "full"
        assert image.chain[0].image_id == again.hex
        assert image.devices[0].open().readall() == d.content
        image.chain.check()


def test_a_merged_image_with_another_seal_is_exchanged(maker: Maker) -> None:
    """What it says it replaces must be what the child names."""
    a, b, c, d = four(maker)
    other = maker.increment("c", b, {0: clusters()}, image_id=c.image_id)
    maker.merged("m", [b, other])
    maker.remove(b, c)
    with maker.open(d) as image:
        assert states(image.chain) == [("m", 1, "exchanged"), ("d", 2, "orphan")]
        with pytest.raises(IntegrityError, match="was exchanged"):
            image.chain.check()
    del a


def test_a_whole_parent_is_taken_rather_than_a_wrong_merged_one(maker: Maker) -> None:
    a, b, c, d = four(maker)
    data = maker.files[c.path]
    other = maker.increment("c", b, {0: clusters()}, image_id=c.image_id)
    maker.merged("m", [b, other])
    maker.files[c.path] = data
    with maker.open(d) as image:
        assert states(image.chain)[2:] == [("c", 2, "whole"), ("d", 3, "whole")]
    del a


def test_a_replaced_seal_that_cannot_be_read(maker: Maker) -> None:
    a, b, c, d = four(maker)
    merged = maker.merged("m", [b, c])
    with maker.open(merged) as image:
        at = image.locate(image.seal.replaced[-1])
    maker.files[merged.path][at + 60] ^= 1
    maker.remove(b, c)
    with maker.open(d) as image:
        assert states(image.chain)[0] == ("m", 1, "exchanged")
        assert image.chain[0].created is None
        with pytest.raises(IntegrityError, match="its parent cannot be read"):
            image.chain.check()
    with maker.open(merged) as image:
        assert any("replaced image" in each.what for each in image.verify(threads=1).damage)
    del a


# Limits


def test_too_many_replaced_images(monkeypatch: pytest.MonkeyPatch) -> None:
    maker = Maker()
    a, b, c, d = four(maker)
    maker.merged("m", [b, c])
    monkeypatch.setattr("aipimage.io.chain.chain._REPLACED_MAX", 1)
    with maker.open(d) as image, pytest.raises(LimitError):
        _ = image.chain
    monkeypatch.setattr("aipimage.io.chain.chain._FILES_MAX", 4)
    with maker.open(d) as image, pytest.raises(LimitError, match="over 4 files"):
        _ = image.chain
    del a


# Points in time


def test_points(maker: Maker) -> None:
    a, b, c, d = four(maker)
    with maker.open(d) as image:
        points = points_of(image.chain)
        assert [(point.image_id, point.path) for point in points] == [
            (each.hex, each.path) for each in (a, b, c, d)
        ]
        found = plan(points, KeepRules.parse("last=1"))
        assert not found.refused
    merged = maker.merged("m", [b, c])
    with maker.open(d) as image:
        points = points_of(image.chain)
        [point] = [each for each in points if each.image_id == merged.hex]
        assert point.replaces == (b.hex, c.hex)
        assert point.created == points[0].created + timedelta(seconds=2)
        assert not plan(points, KeepRules.parse("last=1")).refused
    damage_trailers(maker.files[a.path])
    with maker.open(d) as image, pytest.raises(RequestError, match="nothing is planned"):
        points_of(image.chain)


# Extents and differences


def test_diff(maker: Maker) -> None:
    a = maker.full("a", clusters(6) + bytes(FRAME) + clusters(3))
    b = maker.increment("b", a, {FRAME: clusters(), 5 * FRAME: bytes(2 * FRAME)})
    c = maker.increment("c", b, {6 * FRAME: clusters()}, size=12 * FRAME + 100)
    with maker.open(c) as new, maker.open(a) as old, maker.open(b) as middle:
        assert list(new.diff(old)) == [
            (FRAME, FRAME, Kind.DATA),
            (5 * FRAME, FRAME, Kind.ZERO),
            (6 * FRAME, FRAME, Kind.DATA),
            (10 * FRAME, 2 * FRAME + 100, Kind.ZERO),
        ]
        assert [extent.start for extent in new.diff(middle)] == [6 * FRAME, 10 * FRAME]
        assert list(new.diff(new)) == []
        assert [extent.start for extent in old.diff(new)] == [FRAME, 5 * FRAME, 6 * FRAME]
        assert {type(extent) for extent in new.diff(old)} == {aipimage.Extent}
        for image, made in ((new, c), (old, a)):
            assert sum(extent.length for extent in image.extents()) == len(made.content)
            data = [extent.start for extent in image.extents(0, Kind.DATA)]
            assert data == [extent.start for extent in image.devices[0].extents(Kind.DATA)]
        for wrong in (-1, 1):
            with pytest.raises(RequestError, match="has no device"):
                new.diff(old, device=wrong)
            with pytest.raises(RequestError, match="has no device"):
                new.extents(wrong)
    foreign = Maker(maker.system)
    other = foreign.full("x", clusters())
    with maker.open(c) as new, foreign.open(other) as old, pytest.raises(RequestError):
        new.diff(old)


def test_diff_against_content(maker: Maker) -> None:
    """Whatever is not named is the same."""
    rng = np.random.default_rng(3)
    made = [maker.full("0", clusters(40))]
    for number in range(1, 8):
        places = sorted(set(rng.integers(0, 40, 4).tolist()))
        changes = {at * FRAME: clusters() if at % 3 else bytes(FRAME) for at in places}
        made.append(maker.increment(str(number), made[-1], changes))
    for new in made:
        for old in made:
            with maker.open(new) as image, maker.open(old) as other:
                named = bytearray(old.content)
                for start, length, _ in image.diff(other):
                    named[start : start + length] = new.content[start : start + length]
                assert named == new.content


def test_no_image_of_a_chain_is_a_circle(maker: Maker) -> None:
    """Two images that name each other; the digests cannot both be right."""
    a = maker.full("a", clusters())
    ids = [Maker().chain_id for _ in range(3)]
    for number, name in enumerate("xyz"):
        below = {"parent_id": ids[number - 1], "parent_sequence": 4, "sequence": 5}
        maker.increment(name, a, {0: clusters()}, image_id=ids[number], place=below)
    with maker.open(maker.path("y")) as image:
        assert [member.state for member in image.chain] == ["contradicts"] * 3
        with pytest.raises(FormatError, match="run in a circle"):
            image.chain.check()
        assert not image.verify(chain=True, threads=1).ok
    with maker.open(a) as image:
        image.chain.check()
        assert len(image.chain.members_of_tree) == 4


def test_a_password_of_any_image_finds_the_chain(tmp_path: Path) -> None:
    """The passwords of the newest image were changed; the old one still opens the others."""
    (tmp_path / "disk.raw").write_bytes(b"a" * 100_000)
    source = tmp_path / "disk.raw"
    aipimage.create(tmp_path / "0.aiv", source, encrypt="aes-256", password="old")
    aipimage.create(tmp_path / "1.aiv", source, parent=tmp_path / "0.aiv", password="old")
    aipimage.change_password(tmp_path / "1.aiv", "old", "new")
    for password in ("old", "new"):
        assert len(aipimage.find_chain(tmp_path, password=password)) == 2
    with pytest.raises(aipimage.PasswordError):
        aipimage.find_chain(tmp_path, password="wrong")
    # A new image takes over the slots of its parent, so that its password must be the parent's.
    with pytest.raises(aipimage.PasswordError):
        aipimage.create(tmp_path / "2.aiv", source, parent=tmp_path, password="old")
    made = aipimage.create(tmp_path / "2.aiv", source, parent=tmp_path, password="new")
    assert (made.kind, made.sequence) == ("incremental", 2)


def test_what_a_chain_opens_is_an_image_as_any_other(tmp_path: Path) -> None:
    """With volumes, and all that restoring can do, from whatever it was reached."""
    disk = bytearray(clusters(40))
    first = aipimage.create(tmp_path / "a.aiv", io.BytesIO(disk))
    disk[:5] = b"other"
    aipimage.create(tmp_path / "b.aiv", io.BytesIO(disk), parent=tmp_path / "a.aiv")
    found = aipimage.find_chain(tmp_path)
    with aipimage.open(tmp_path / "b.aiv") as image:
        for chain in (image.chain, found, found.open(found[1].image_id).chain):
            with chain.open(first.image_id) as opened:
                assert type(opened) is aipimage.Image
                assert isinstance(opened.volumes, tuple)
                opened.restore(tmp_path / "out.raw", size=len(disk) + 4096, force=True)
                assert type(opened.chain.open(first.image_id)) is aipimage.Image
