"""Merging runs of a chain: every kept point stays, bit by bit (docs/format.md, section 9.5)."""

from __future__ import annotations

import itertools
import json
import random
from datetime import datetime
from unittest import mock

import pytest

from aipimage import verify_keyless
from aipimage.errors import PasswordError, RequestError
from aipimage.format import constants as c
from aipimage.format.constants import RecordType
from aipimage.format.seal import decode_seal
from aipimage.io.merge import copying as mergecopy
from aipimage.io.merge import plan as mergeplan
from aipimage.io.records.cipher import RecordCipher
from aipimage.io.records.keys import ChainKeys
from aipimage.io.records.walk import framed_pieces
from aipimage.io.stream import passwords
from aipimage.io.system.storage import Storage
from aipimage.volumes.image import open_image
from tests.chain.chains import (
    Series,
    contents_over_time,
    copy_of,
    frames_named,
    no_frame_opened,
    path_of,
    records_of,
    series,
)
from tests.support.images import CHEAP, PASSWORD

NAMES = ("plain", "zstd", "aes", "auth", "split")
POINTS = 8


@pytest.fixture(scope="module", params=NAMES)
def eight(request: pytest.FixtureRequest) -> Series:
    """A chain of eight images, which no test changes."""
    return series(POINTS, request.param)


def test_older_images_need_not_be_there() -> None:
    """What a merge copies is in the images of the run, and so are the numbers that it reports,
    also where the map of a merged image lies in an older one.
    """
    contents = contents_over_time(2)
    made = Series("zstd")
    for point, content in enumerate([0, 0, 0, 1]):
        made.add(point, contents[content], point - 1 if point else None)
    made.merge("m", [1, 2])
    full = made.system.files[path_of(0)]
    there = made.merge("n", ["m", 3], dry_run=True)
    del made.system.files[path_of(0)]
    away = made.merge("n", ["m", 3])
    for name in ("bytes_copied", "bytes_dropped", "frames_copied", "frames_dropped"):
        assert getattr(there, name) == getattr(away, name)
    made.system.files[path_of(0)] = full
    made.check("n", made.contents["3"])


def test_every_run_of_eight_images(eight: Series) -> None:
    """Each of the 28 runs, its images removed: all points before and behind it are as they were."""
    for first, last in itertools.combinations(range(POINTS), 2):
        made = copy_of(eight)
        split = 16_384 if made.protection == "split" else None
        result = made.merge("m", range(last, first - 1, -1), remove=True, split=split)
        assert result.kind == ("full" if first == 0 else "incremental")
        assert result.sequence == last
        assert result.replaced == tuple(
            made.results[str(k)].image_id for k in range(first, last + 1)
        )
        assert result.removed == tuple(path_of(k) for k in range(last, first - 1, -1))
        made.check("m", made.contents[str(last)])
        for point in (*range(first), *range(last + 1, POINTS)):
            made.check(point)
        left = {name.split(".")[0] for name in made.system.files}
        kept = {path_of(k).split(".")[0] for k in range(POINTS) if not first <= k <= last}
        assert left == kept | {path_of("m").split(".")[0]}
        assert verify_keyless(path_of("m"), storage=Storage(made.system)).ok


@pytest.mark.parametrize("seed", range(4))
def test_merges_of_merges(seed: int) -> None:
    """Whatever is merged with its neighbours until one image is left, all points between stay."""
    chance = random.Random(seed)
    made = series(POINTS, chance.choice(NAMES), seed)
    names: list[object] = list(range(POINTS))
    for number in itertools.count():
        if len(names) == 1:
            break
        first = chance.randrange(len(names) - 1)
        last = chance.randrange(first + 1, min(len(names), first + 4))
        out = f"m{number}"
        made.merge(out, names[first : last + 1], remove=True)
        made.contents[out] = made.contents[str(names[last])]
        names[first : last + 1] = [out]
        for name in names:
            made.check(name)
    with open_image(path_of(names[0]), made.password, storage=Storage(made.system)) as image:
        assert image.kind == "full"
        ids = [ref.origin.hex() for ref in image.seal.replaced]
        points = [made.results[str(k)].image_id for k in range(POINTS)]
        assert [each for each in ids if each in points] == points
        assert not image.header.incompatible & c.Incompatible.FOREIGN_ORIGINS


def test_children_are_added_behind_a_merged_image(eight: Series) -> None:
    """An increment on a merged image; then both are merged, and an older child still reads."""
    made = copy_of(eight)
    made.merge("m", range(5), remove=True)
    made.contents["m"] = made.contents["4"]
    newer = contents_over_time(3, 7)[2]
    made.add("8", newer, "m")
    made.add("9", newer, "8", "incremental")
    made.add("d", contents_over_time(2, 8)[1], "m", "differential")
    for name in ("m", "5", "6", "7", "8", "9", "d"):
        made.check(name)
    # The older branch needs what the newer one has overwritten.
    with pytest.raises(RequestError, match=f"{path_of(5)}: builds on image"):
        made.merge("n", ("8", "m"))
    for name in ("5", "6", "7", "d"):
        del made.system.files[path_of(name)]
    for path in [path for path in made.system.files if "/d.aiv." in path]:
        del made.system.files[path]
    made.merge("n", ("8", "m"), remove=True)
    made.check("n", newer)
    made.check("9")


def test_only_live_frames_are_left(eight: Series) -> None:
    """The frames of a merged image are those that its maps name, found another way, and no more."""
    for first, last in ((0, 7), (0, 3), (2, 6)):
        made = copy_of(eight)
        held = {
            key[::2]
            for k in range(first, last + 1)
            for key in records_of(made.system, k, made.password)
            if key[1] == RecordType.FRAME
        }
        result = made.merge("m", range(first, last + 1))
        found = records_of(made.system, "m", made.password)
        frames = {key[::2] for key in found if key[1] == RecordType.FRAME}
        assert frames == frames_named(made.system, "m", made.password) & held
        assert (result.frames_copied, result.frames_dropped) == (
            len(frames),
            len(held) - len(frames),
        )
        assert result.frames_dropped > 0
        assert not [key for key in found if key[1] in (RecordType.CHECKPOINT,)]


def test_records_are_copied_as_they_are(eight: Series) -> None:
    """Nothing but the metadata, segments and seal is new, and no record has other bytes."""
    made = copy_of(eight)
    before: dict[object, bytes] = {}
    for k in range(1, 6):
        before |= records_of(made.system, k, made.password)
    made.merge("m", range(1, 6))
    after = records_of(made.system, "m", made.password)
    new = {key: data for key, data in after.items() if key not in before}
    assert {key[1] for key in new} == {RecordType.METADATA, RecordType.SEGMENTS, RecordType.SEAL}
    assert len({key[0] for key in new}) == 1
    assert all(before[key] == data for key, data in after.items() if key in before)


@pytest.mark.parametrize("protection", ["aes", "auth", "zstd"])
def test_no_frame_is_opened_or_decrypted(protection: str) -> None:
    made = series(4, protection)
    real = RecordCipher.open
    opened = []

    def watching(self: RecordCipher, header: bytes, body: memoryview) -> object:
        opened.append(bytes(header)[4])
        return real(self, header, body)

    with mock.patch.object(RecordCipher, "open", watching), no_frame_opened():
        made.merge("m", range(4))
    assert RecordType.FRAME not in opened
    assert bool(opened) == (made.password is not None)
    made.check("m", made.contents["3"])


def test_one_key_derivation_does_for_the_run() -> None:
    made = series(5, "aes")
    with mock.patch.object(
        ChainKeys, "__init__", autospec=True, side_effect=ChainKeys.__init__
    ) as f:
        made.merge("m", range(5))
    assert f.call_count == 1


def test_the_password_is_that_of_the_newest_image() -> None:
    """Slots of the last image are taken over; the older ones had another password."""
    made = series(3, "aes")
    passwords.change_password(
        path_of(2), PASSWORD, "newer", parameters=CHEAP, storage=Storage(made.system)
    )
    made.merge("m", range(3), password="newer")
    made.password = "newer"
    made.check("m", made.contents["2"])


@pytest.mark.parametrize("first", [0, 1])
def test_merged_files_are_younger_than_their_points_in_time(first: int) -> None:
    """The password is that of the newest point in time, also where a younger file lies before it;
    that of another image is refused, because the new one would not open with it.
    """
    made = series(5, "aes")
    storage = Storage(made.system)
    made.merge("m", range(first, 3))
    made.merge("n", ["m", 3])
    passwords.change_password(path_of(4), PASSWORD, "newest", parameters=CHEAP, storage=storage)
    passwords.change_password(path_of("n"), PASSWORD, "other", parameters=CHEAP, storage=storage)
    members = [*range(first), "n", 4]
    for wrong, named in (("other", path_of(4)), ("wrong", path_of("n"))):
        with pytest.raises(PasswordError, match=f"{named}: the password is wrong"):
            made.merge("o", members, password=wrong)
        assert path_of("o") not in made.system.files
    made.merge("o", members, password="newest")
    made.password = "newest"
    made.check("o", made.contents["4"])


def test_differentials_and_fulls_inside_a_chain() -> None:
    """The kind is that of the first image, and so is the parent."""
    points = contents_over_time(6)
    whole = Series("aes")
    made = whole
    made.add("f", points[0])
    made.add("d", points[1], "f", "differential")
    made.add("e", points[2], "d")
    made.add("g", points[3], "e", "full")
    made.add("h", points[4], "g")
    made.add("k", points[5], "h")
    for out, run, kind, parent in (
        ("de", "de", "differential", "f"),
        ("gh", "gh", "full", "e"),
        ("fde", "fde", "full", None),
        ("all", "fdeghk", "full", None),
        ("deg", "deg", "differential", "f"),
    ):
        made = copy_of(whole)
        result = made.merge(out, run)
        assert result.kind == kind
        with open_image(path_of(out), PASSWORD, storage=Storage(made.system)) as image:
            wanted = made.results[parent].image_id if parent else "0" * 32
            assert image.seal.parent_id.hex() == wanted
            description = image.metadata["description"]
            assert description["kind"] == kind
            assert description.get("parent_id") == (wanted if parent else None)
        made.contents[out] = made.contents[run[-1]]
        for name in made.contents:
            made.check(name)


def test_metadata_tells_what_was_merged() -> None:
    made = series(4)
    made.merge("m", (1, 2))
    made.merge("n", ("m", 3))
    storage = Storage(made.system)
    with (
        open_image(path_of("n"), storage=storage) as image,
        open_image(path_of(3), storage=storage) as last,
    ):
        described, then = image.metadata["description"], last.metadata["description"]
        merged = described.pop("merged")
        assert [each["image_id"] for each in merged] == [
            r.origin.hex() for r in image.seal.replaced
        ]
        assert [each["kind"] for each in merged] == ["incremental"] * 4
        assert all(datetime.fromisoformat(each["created"]) for each in merged)
        assert described["created"] == then["created"]
        assert described["devices"] == then["devices"]
        # The seals are there, with what they refer to for people.
        for ref in image.seal.replaced:
            seal = decode_seal(image.records.fetch(ref, RecordType.SEAL).plain)
            text = image.records.fetch(seal.description, RecordType.METADATA).plain
            assert json.loads(bytes(text))["kind"] == "incremental"
            image.records.fetch(seal.result, RecordType.METADATA)


def test_a_dry_run_writes_nothing_and_tells_the_same(eight: Series) -> None:
    made = copy_of(eight)
    before = made.system.snapshot()
    told = made.merge("m", range(1, 7), dry_run=True, remove=True)
    assert made.system.snapshot() == before
    assert (told.image_id, told.digest, told.removed) == (None, None, ())
    real = made.merge("m", range(1, 7))
    for name in ("bytes_copied", "bytes_dropped", "frames_copied", "frames_dropped", "replaced"):
        assert getattr(told, name) == getattr(real, name)
    assert told.bytes_copied > 0 < told.bytes_dropped


@pytest.mark.parametrize("aim", [1, 5, 9])
def test_gaps_are_bridged_where_segments_run_out(aim: int) -> None:
    """Dead records are copied then, and everything reads as before, also after another merge."""
    made = series(POINTS)
    free = made.merge("free", range(6))
    with mock.patch.object(mergeplan, "SEGMENTS_AIM", aim):
        result = made.merge("m", range(6))
        assert result.segments < free.segments
        assert result.bytes_copied > free.bytes_copied
        made.check("m", made.contents["5"])
        made.merge("n", ("m", 6, 7))
    made.check("n", made.contents["7"])


def test_too_many_segments_are_refused() -> None:
    made = series(POINTS)
    with (
        mock.patch.object(mergeplan.c, "SEGMENTS_MAX", 1026),
        pytest.raises(mergeplan.LimitError, match="merge fewer"),
    ):
        made.merge("m", range(POINTS))


def test_batches_smaller_than_a_range() -> None:
    """Ranges that do not fit are read in pieces, and records larger than a piece whole."""
    made = series(4, "aes")
    sizes = []

    def small(*arguments: object) -> object:
        for piece in framed_pieces(*arguments):  # type: ignore[arg-type]
            sizes.append(piece.ends[-1])
            yield piece

    with (
        mock.patch.object(mergecopy, "BATCH", 6000),
        mock.patch.object(mergecopy, "framed_pieces", small),
    ):
        made.merge("m", range(4))
    assert sizes
    made.check("m", made.contents["3"])


def test_all_zeros() -> None:
    """Nothing is named by any map: the seal still lists an origin."""
    made = Series("aes")
    made.add(0, [b"a" * 5000])
    made.add(1, [bytes(5000)], 0)
    made.add(2, [bytes(5000)], 1)
    result = made.merge("m", range(2))
    assert (result.frames_copied, result.frames_dropped) == (0, 2)
    made.check("m", [bytes(5000)])
    made.check(2)
    made.merge("n", ("m", 2), remove=True)
    made.check("n", [bytes(5000)])


def test_a_child_that_lists_dead_origins_verifies() -> None:
    """Its seal names tables that the merged image does not need itself."""
    chance = random.Random(3)
    made = Series()
    points = [[chance.randbytes(5000), b"the same" * 700] for _ in range(5)]
    for k, contents in enumerate(points):
        made.add(k, contents, k - 1 if k else None)
    made.merge("m", range(4), remove=True)
    with open_image(path_of("m"), storage=Storage(made.system)) as image:
        # Its own, that of the last image, and of the first, which wrote the other disk's map.
        assert len(image.seal.origins) == 3
    made.check(4)


def test_replaced_lists_end_with_the_newest() -> None:
    """Over the limit the oldest are left out: nobody outside of the run builds on those."""
    made = series(5)
    with mock.patch.object(mergeplan.c, "REPLACED_MAX", 3):
        result = made.merge("m", range(5), remove=True)
    assert result.replaced == tuple(made.results[str(k)].image_id for k in (2, 3, 4))
    made.check("m", made.contents["4"])
