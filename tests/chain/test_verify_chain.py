"""Verifying images of a chain: each file by itself, and an image with all that it needs."""

from __future__ import annotations

import contextlib
import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import aipimage
from aipimage import Damage, Progress, VerifyResult, verify_keyless
from aipimage.errors import AipImageError, CancelledError, IncompleteError
from aipimage.extents import EXTENT_DTYPE, Kind
from aipimage.format.constants import ImageKind, RecordType
from aipimage.io.increment.create import create_image
from aipimage.io.index import mapupdate
from tests.chain.handmade import FRAME, Made, Maker
from tests.support.images import ArraySource, options, remember_derivations
from tests.support.memory import ROOT, MemorySystem

CHANCE = random.Random(11)


def clusters(count: int = 1) -> bytes:
    return CHANCE.randbytes(count * FRAME)


@pytest.fixture(params=[False, True], ids=["plain", "sealed"])
def maker(request: pytest.FixtureRequest) -> Maker:
    remember_derivations()
    return Maker(sealed=request.param)


def three(maker: Maker) -> list[Made]:
    """A full image and two increments."""
    a = maker.full("a", clusters(8))
    b = maker.increment("b", a, {0: clusters(2)})
    return [a, b, maker.increment("c", b, {FRAME: clusters(2)})]


def verified(maker: Maker, made: Made, **more: Any) -> VerifyResult:
    with maker.open(made) as image:
        return image.verify(threads=1, **more)


def frame_at(maker: Maker, made: Made, number: int) -> int:
    """Where a frame of an image's own lies in its file."""
    with maker.open(made) as image:
        table = image.tables[image.origins[made.image_id]]
        return image.locate(table.frame(number))


def flip(maker: Maker, made: Made, at: int) -> None:
    maker.files[made.path][at] ^= 1


def unreadable(maker: Maker, made: Made) -> set[int]:
    """Offsets of the clusters that cannot be read."""
    bad = set()
    with maker.open(made) as image:
        for at in range(0, len(made.content), FRAME):
            try:
                image.devices[0].read_into(bytearray(FRAME), at)
            except AipImageError:
                bad.add(at)
    return bad


def named(damage: tuple[Damage, ...]) -> set[int]:
    """Offsets of the clusters that findings name."""
    return {
        at
        for found in damage
        for _, offset, length in found.ranges
        for at in range(offset - offset % FRAME, offset + length, FRAME)
    }


def test_whole(maker: Maker) -> None:
    """The members are told oldest first; the sums are theirs."""
    made = three(maker)
    result = verified(maker, made[-1], chain=True)
    assert result.ok
    assert [member.image_id for member in result.members] == [each.hex for each in made]
    assert all(member.ok for member in result.members)
    assert [member.frames for member in result.members] == [8, 2, 2]
    assert result.frames == 12
    assert result.bytes == sum(member.bytes for member in result.members)
    for each in made:
        alone = verified(maker, each)
        assert alone.ok
        assert alone.members == ()
        begins = len(maker.files[each.path]) - alone.bytes
        assert 256 < begins < 256 + 4096 * 3


def test_every_byte_of_an_increment_is_seen(maker: Maker) -> None:
    """A bit is flipped in each record; also in the segments of a merged image."""
    a, b, cc = three(maker)
    merged = maker.merged("m", [b, cc])
    for made in (b, merged):
        with maker.open(made) as image:
            begins = image.header.records_start
        data = maker.files[made.path]
        for at in range(begins, len(data), 61):
            flip(maker, made, at)
            with contextlib.suppress(AipImageError):
                assert not verified(maker, made).ok, at
            flip(maker, made, at)
        assert verified(maker, made).ok
    del a


def test_damage_in_an_older_image(maker: Maker) -> None:
    """It is named with the file, and with what is lost of the image that was asked for."""
    a, b, cc = three(maker)
    flip(maker, a, frame_at(maker, a, 5) + 100)
    flip(maker, b, frame_at(maker, b, 0) + 100)
    # This one was replaced by c, which so loses nothing.
    flip(maker, b, frame_at(maker, b, 1) + 100)
    result = verified(maker, cc, chain=True)
    assert [(each.path, each.frame) for each in result.damage] == [
        (a.path, 5),
        (b.path, 0),
        (b.path, 1),
    ]
    assert [each.ranges for each in result.damage] == [
        ((0, 5 * FRAME, FRAME),),
        ((0, 0, FRAME),),
        (),
    ]
    assert named(result.damage) == unreadable(maker, cc) == {0, 5 * FRAME}
    assert [member.ok for member in result.members] == [False, False, True]
    with maker.open(cc) as image:
        assert list(image.devices[0].extents())
        origins = image.origins
        assert [each.origin for each in result.damage] == [
            origins[a.image_id],
            origins[b.image_id],
            origins[b.image_id],
        ]
    assert verified(maker, cc).ok, "the file itself is whole"


def test_a_missing_image(maker: Maker) -> None:
    a, b, cc = three(maker)
    maker.remove(b)
    result = verified(maker, cc, chain=True)
    assert not result.ok
    assert [(member.image_id, member.path, member.ok) for member in result.members] == [
        (b.hex, None, False),
        (cc.hex, cc.path, True),
    ]
    assert b.hex in result.damage[0].what
    assert named(result.damage) == unreadable(maker, cc) == {0}
    maker.remove(a)
    result = verified(maker, cc, chain=True)
    assert named(result.damage) == unreadable(maker, cc) == {0, *range(3 * FRAME, 8 * FRAME, FRAME)}


@pytest.mark.parametrize("cut", [1, 300, 5000])
def test_an_image_that_cannot_be_opened(maker: Maker, cut: int) -> None:
    a, b, cc = three(maker)
    del maker.files[b.path][-cut:]
    result = verified(maker, cc, chain=True)
    assert [member.ok for member in result.members] == [False, True]
    assert result.damage[0].path == b.path
    assert named(result.damage) == {0}
    del a


def test_an_exchanged_image(maker: Maker) -> None:
    """Whole in itself, but not what the child names: its frames are looked at as the child does."""
    a, b, cc = three(maker)
    maker.increment("b", a, {0: b.content[:FRAME], FRAME: clusters()}, image_id=b.image_id)
    result = verified(maker, cc, chain=True)
    assert not result.ok
    assert "is exchanged" in result.damage[0].what
    assert result.damage[0].path == b.path
    assert unreadable(maker, cc) <= named(result.damage) | {0}


def test_images_that_contradict_each_other(maker: Maker) -> None:
    a, b, cc = three(maker)
    twin = maker.increment("twin", b, {0: clusters()}, image_id=cc.image_id)
    result = verified(maker, cc, chain=True)
    assert [member.ok for member in result.members] == [True, True, False]
    assert twin.path in result.damage[0].what
    result = verified(maker, b, chain=True)
    assert result.ok
    del a


def test_a_damaged_copy_is_reported_and_the_other_one_read(maker: Maker) -> None:
    """Whichever of two copies is damaged; of damage in both nothing is read."""
    a, _, cc = three(maker)
    whole, copy = bytes(maker.files[a.path]), maker.path("0")
    place = frame_at(maker, a, 5) + 100
    maker.files[copy] = bytearray(whole)
    flip(maker, a, place)
    assert named(verified(maker, cc, chain=True).damage) == {5 * FRAME}
    assert unreadable(maker, cc) == set()
    damaged = bytes(maker.files[a.path])
    maker.files[copy], maker.files[a.path] = bytearray(damaged), bytearray(whole)
    assert unreadable(maker, cc) == set()
    maker.files[a.path] = bytearray(damaged)
    assert unreadable(maker, cc) == {5 * FRAME}


def test_frames_of_another_file_than_the_member(maker: Maker) -> None:
    """A merged image is the member, and its inputs are still there and read first: their damage is
    reported, though what is damaged is read from the merged image then.
    """
    a, b, cc = three(maker)
    d = maker.increment("d", cc, {7 * FRAME: clusters()})
    maker.merged("m", [b, cc])
    flip(maker, b, frame_at(maker, b, 0) + 100)
    result = verified(maker, d, chain=True)
    assert named(result.damage) == {0}
    assert unreadable(maker, d) == set()
    assert [member.ok for member in result.members] == [True, True, False]
    del a


def test_samples_executors_and_progress(maker: Maker) -> None:
    made = three(maker)
    told: list[Progress] = []
    with ThreadPoolExecutor(1) as executor, maker.open(made[-1]) as image:
        result = image.verify(chain=True, sample=50, executor=executor, progress=told.append)
    assert (result.mode, result.ok) == ("sample", True)
    assert 3 <= result.frames <= 12
    assert [progress.done for progress in told] == sorted(progress.done for progress in told)
    assert told[-1].done == told[-1].total == sum(len(maker.files[each.path]) for each in made)
    with maker.open(made[-1]) as image, pytest.raises(CancelledError):
        image.verify(chain=True, threads=1, progress=lambda _: False)
    with maker.open(made[-1]) as image, pytest.raises(aipimage.RequestError):
        image.verify(chain=True, sample=0)


# Merged images


def test_dropped_frames(maker: Maker) -> None:
    """They are not read and not missed, where no extent leads to them."""
    a, b, cc = three(maker)
    merged = maker.merged("m", [b, cc], keep=lambda number: number != 1)
    result = verified(maker, merged)
    assert result.ok, result.damage
    assert result.frames == 3
    maker.remove(b, cc)
    assert verified(maker, merged, chain=True).ok
    wrong = maker.merged("w", [a, merged], keep=lambda number: number != 5)
    result = verified(maker, wrong)
    assert ["not kept" in each.what for each in result.damage] == [True]
    maker.remove(a, merged)
    assert unreadable(maker, wrong) == {5 * FRAME}


def test_a_child_of_a_merged_image_that_dropped_too_much(maker: Maker) -> None:
    """Its own map names nothing that is gone, but a branch from inside of the run does."""
    a, b, cc = three(maker)
    branch = maker.increment("e", b, {7 * FRAME: clusters()})
    maker.merged("m", [b, cc], keep=lambda number: number != 1)
    assert verified(maker, branch, chain=True).ok
    maker.remove(b, cc)
    result = verified(maker, branch, chain=True)
    assert [member.ok for member in result.members] == [True, True, False]
    assert ["not kept" in each.what for each in result.damage] == [True]
    assert unreadable(maker, branch) == {FRAME}
    del a


def test_a_file_that_was_written_in_one_go_drops_nothing(maker: Maker) -> None:
    """Its frame table must not lead outside of it."""
    made = maker.full("a", clusters(3))
    with maker.open(made) as image:
        table = image.tables[0].leaf(0).copy()
        assert len(table) == 3
    forged = Maker(sealed=maker.password is not None)
    original = forged.writer

    def writer(*arguments: Any) -> Any:
        result = original(*arguments)
        add = result._table.add
        frames = iter([0, 0, 1 << 40])

        def other(entries: Any) -> None:
            entries["offset"] += np.uint64(next(frames))
            add(entries)

        result._table.add = other
        return result

    forged.writer = writer  # type: ignore[method-assign]
    wrong = forged.full("a", clusters(3))
    result = verified(forged, wrong)
    assert [each.frame for each in result.damage] == [2]
    assert named(result.damage) == {2 * FRAME}


# Maps


def replaced_extent(maker: Maker, row: tuple[int, int, int, int]) -> VerifyResult:
    """Verify an increment whose map has another extent at its beginning."""
    a = maker.full("a", clusters(8))
    update = mapupdate.MapUpdate.replace

    def other(self: Any, extents: Any) -> None:
        update(self, np.array([row], EXTENT_DTYPE))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mapupdate.MapUpdate, "replace", other)
        b = maker.increment("b", a, {0: clusters()})
    result = verified(maker, b)
    chain = verified(maker, b, chain=True)
    assert chain.ok == (not chain.damage)
    assert result.ok or not chain.ok
    return chain


def test_an_extent_behind_the_last_frame_of_another_file(maker: Maker) -> None:
    result = replaced_extent(maker, (8, 64, 1, Kind.DATA))
    assert "points past the last frame" in result.damage[0].what


def test_an_extent_of_a_short_frame_of_another_file(maker: Maker) -> None:
    """Only with the other file it is known how long its frames are."""
    a = maker.full("a", clusters(2)[: FRAME + 512])
    update = mapupdate.MapUpdate.replace
    row = np.array([(8, 8, 1, Kind.DATA)], EXTENT_DTYPE)

    def other(self: Any, extents: Any) -> None:
        update(self, row if extents["kind"][0] == Kind.DATA else extents)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mapupdate.MapUpdate, "replace", other)
        b = maker.increment("b", a, {2 * FRAME: clusters()}, size=3 * FRAME)
    assert verified(maker, b).ok
    result = verified(maker, b, chain=True)
    assert ["past the end of a frame" in each.what for each in result.damage] == [True]
    assert unreadable(maker, b) == {2 * FRAME}


def test_a_full_image_names_no_frames_of_others(maker: Maker) -> None:
    a = maker.full("a", clusters(8))
    b = maker.image("b", ImageKind.FULL, a, a, {0: clusters()}, len(a.content))
    result = verified(maker, b)
    assert "a full image names frames of another file" in result.damage[0].what


def test_a_full_image_needs_no_pages_of_others(maker: Maker) -> None:
    """A map without any data, all of it taken over."""
    a = maker.full("a", bytes(8 * FRAME))
    b = maker.image("b", ImageKind.FULL, a, a, {}, len(a.content))
    result = verified(maker, b)
    assert "a full image needs pages of another file" in result.damage[0].what
    cc = maker.image("c", ImageKind.INCREMENTAL, a, a, {}, len(a.content))
    assert verified(maker, cc).ok
    maker.remove(a)
    assert not verified(maker, cc).ok


def test_a_replaced_seal_of_another_chain(maker: Maker) -> None:
    """What a merged image stands for must be of its chain; it is looked at in full."""
    a, b, cc = three(maker)
    merged = maker.merged("m", [b, cc])
    with maker.open(merged) as image:
        ref = image.seal.replaced[0]
        wrong = image.seal.description
    forged = maker.merged("m", [b, cc], place={"replaced": (ref, wrong)})
    result = verified(maker, forged)
    assert ["replaced image" in each.what for each in result.damage] == [True]
    del a


# Increments as they are created


def created(system: MemorySystem, name: str, contents: list[bytes], kind: str, **more: Any) -> str:
    path = f"{ROOT}/{name}.aiv"
    chosen = options(kind, **more)
    sources = [ArraySource(content) for content in contents]
    create_image(path, sources, chosen, None, aipimage.io.system.storage.Storage(system))
    return path


@pytest.mark.parametrize("kind", ["plain", "zstd", "aes"])
def test_created_increments_with_digest_layers(kind: str) -> None:
    """Layers lie in several files; the digests of all are walked."""
    remember_derivations()
    system = MemorySystem()
    content = bytearray(CHANCE.randbytes(3 << 20))
    path = created(system, "0", [bytes(content)], kind)
    storage = aipimage.io.system.storage.Storage(system)
    password = options(kind).password
    protection = {"encrypt": None} if password else {}
    for number in range(1, 5):
        content[number * 300_000 : number * 300_000 + 9000] = CHANCE.randbytes(9000)
        path = created(system, str(number), [bytes(content)], kind, parent=path, **protection)
    with aipimage.volumes.image.open_image(path, password, storage=storage) as image:
        root = image.devices[0].entry.digest_root
        assert image.records.fetch(root, RecordType.DIGEST_LAYER)
        result = image.verify(chain=True, threads=1)
        assert result.ok, result.damage
        assert [member.sequence for member in image.chain] == [0, 1, 2, 3, 4]
        assert image.chain[-1].changed == sum(
            each["changed"] for each in image.metadata["result"]["changes"]
        )
        at = image.locate(root) if image.segments.holds(root.origin) else 0
    assert at
    system.files[path][at + 60] ^= 1
    with aipimage.volumes.image.open_image(path, password, storage=storage) as image:
        assert not image.verify(threads=1).ok


# Without keys


def test_keyless(maker: Maker) -> None:
    """All files of a sealed chain; of a plain one those that are needed, and their links."""
    a, b, cc = three(maker)
    branch = maker.increment("e", a, {0: clusters()})
    result = verify_keyless(cc.path, chain=True, threads=1, storage=maker.storage)
    assert result.ok
    found = {member.image_id for member in result.members}
    assert found == {a.hex, b.hex, cc.hex} | ({branch.hex} if maker.keys else set())
    assert result.members[-1].image_id == cc.hex
    assert result.frames == sum(member.frames for member in result.members)
    flip(maker, a, frame_at(maker, a, 5) + 100)
    flip(maker, cc, frame_at(maker, cc, 0) + 100)
    result = verify_keyless(cc.path, chain=True, threads=1, storage=maker.storage)
    assert [each.path for each in result.damage] == [a.path, None]
    assert verify_keyless(b.path, threads=1, storage=maker.storage).members == ()
    told: list[Progress] = []
    verify_keyless(b.path, chain=True, storage=maker.storage, progress=told.append)
    assert told[-1].done <= told[-1].total


def test_keyless_with_a_missing_or_damaged_member(maker: Maker) -> None:
    a, b, cc = three(maker)
    del maker.files[a.path][-1:]
    result = verify_keyless(cc.path, chain=True, threads=1, storage=maker.storage)
    assert not result.ok
    assert [member.ok for member in result.members] == [False, True, True]
    maker.remove(a)
    result = verify_keyless(cc.path, chain=True, threads=1, storage=maker.storage)
    # Which images a sealed one needs is sealed too.
    assert result.ok == (maker.keys is not None)
    del maker.files[b.path][-1:]
    with pytest.raises(IncompleteError):
        verify_keyless(b.path, chain=True, threads=1, storage=maker.storage)


def test_keyless_with_an_expected_digest(maker: Maker) -> None:
    _, b, cc = three(maker)
    for made, expected in ((cc, True), (b, False)):
        result = verify_keyless(
            cc.path, chain=True, expected_digest=made.digest.hex(), threads=1, storage=maker.storage
        )
        assert result.ok is expected
