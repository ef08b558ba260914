"""What is no run, what somebody else needs, and what is damaged: refused, and nothing is lost."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest import mock

import pytest

from aipimage.errors import (
    AipImageError,
    FormatError,
    IncompleteError,
    IntegrityError,
    OptionError,
    PasswordError,
    RequestError,
    TargetError,
)
from aipimage.format.constants import RecordType
from aipimage.io.merge import run as mergerun
from aipimage.io.merge.job import merge_images
from aipimage.io.system.storage import Storage
from aipimage.volumes.image import open_image
from tests.chain.chains import (
    Series,
    contents_over_time,
    copy_of,
    frames_named,
    path_of,
    records_of,
    series,
)
from tests.chain.handmade import Maker
from tests.support.ends import damage_trailers
from tests.support.memory import MemorySystem


@pytest.fixture(scope="module", params=["zstd", "aes"])
def five(request: pytest.FixtureRequest) -> Series:
    """A chain of five images, which no test changes."""
    return series(5, request.param)


def refused(
    made: Series,
    names: Any,
    says: str,
    error: type[AipImageError] = RequestError,
    out: object = "m",
    **more: Any,
) -> None:
    """The merge fails with this error, and all files are as they were."""
    before = made.system.snapshot()
    with pytest.raises(error, match=says) as caught:
        made.merge(out, names, **more)
    assert type(caught.value) is error
    assert made.system.snapshot() == before


def test_no_run(five: Series) -> None:
    made = copy_of(five)
    missing = made.results["2"].image_id
    refused(made, (0, 1, 3), f"{path_of(3)}: its parent, image {missing}.*{path_of(0)}")
    refused(made, (4, 2), f"{path_of(4)}: its parent")
    refused(made, (1,), "at least two")
    refused(made, (), "at least two")
    refused(made, (1, 1), f"{path_of(1)} and {path_of(1)}: both stand for image")
    refused(made, (1, 2), r"is one of the images itself", out=2)
    refused(made, (1, 2), "already there", TargetError, out=4)
    refused(made, (1, 2), "threads=0 is not possible", OptionError, threads=0)


def test_another_chain(five: Series) -> None:
    made, other = copy_of(five), series(2, five.protection, 9)
    made.system.files[path_of("x")] = bytearray(other.system.files[path_of(1)])
    refused(made, (0, "x"), f"{path_of('x')}: belongs to another chain than {path_of(0)}")


def test_forks(five: Series) -> None:
    made = copy_of(five)
    points = contents_over_time(4, 5)
    made.add("x", points[1], 1)
    made.add("d", points[2], 0, "differential")
    refused(made, (0, 1, 2, "x"), "both build on .*1.aiv; pass the images of one branch")
    refused(made, (2, "x"), "is not among the images passed|neither builds on the other")
    refused(made, (0, 1), f"{path_of('d')}: builds on image {made.results['0'].image_id}")
    refused(made, (1, 2, 3), f"{path_of('x')}: builds on image {made.results['1'].image_id}")
    refused(made, (1, "x"), f"{path_of(2)}: builds on image")
    # What begins behind the fork, and what ends at it, can be merged.
    made.merge("m", (2, 3, 4), remove=True)
    made.check("m", made.contents["4"])
    made.check("x")
    del made.system.files[path_of("d")]
    made.merge("n", (0, 1), remove=True)
    made.check("n", made.contents["1"])
    for name, contents in (("m", made.contents["4"]), ("x", None)):
        made.check(name, contents)


def test_a_fork_in_another_directory_is_found_where_it_is_searched(
    five: Series, tmp_path: Any
) -> None:
    """The system in memory has one directory, so this uses real ones."""
    near, far = tmp_path / "near", tmp_path / "far"
    near.mkdir()
    far.mkdir()
    made = copy_of(five)
    made.add("x", contents_over_time(2, 5)[1], 1)
    for path, data in made.system.snapshot().items():
        name = path.split("/")[-1]
        (far if name.startswith("x") else near).joinpath(name).write_bytes(data)
    run = [near / f"{k}.aiv" for k in (1, 2, 3)]
    with pytest.raises(RequestError, match=r"x\.aiv: builds on image"):
        merge_images(near / "m.aiv", run, password=made.password, search=[far])
    assert not (near / "m.aiv").exists()
    merge_images(near / "m.aiv", run, password=made.password)


def test_an_inner_image_of_a_merged_one_is_no_parent(five: Series) -> None:
    """``x`` builds on 1; the merged image of 0 to 2 was made where ``x`` was not."""
    made, elsewhere = copy_of(five), copy_of(five)
    made.add("x", contents_over_time(2, 5)[1], 1)
    elsewhere.merge("m", (0, 1, 2))
    made.system.files[path_of("m")] = elsewhere.system.files[path_of("m")]
    refused(made, ("m", "x"), f"{path_of('x')}: builds on image .*, which .*m.aiv replaced")
    refused(made, ("m", 1), "both stand for image")
    refused(made, (1, 3, "m"), "both stand for image")


def test_a_superseded_image_is_in_nobodys_way(five: Series) -> None:
    """The images that a merged one replaced are still there; the merged one is merged on."""
    made = copy_of(five)
    made.merge("m", (0, 1, 2))
    made.merge("n", ("m", 3))
    made.check("n", made.contents["3"])
    for name in range(5):
        made.check(name)


def test_a_longer_merged_image_needs_no_more(five: Series) -> None:
    """``m`` stands for 2 and 3, so that it needs no more of 1 than 2 did."""
    made = copy_of(five)
    made.merge("m", (2, 3))
    for name in (3, 4):
        del made.system.files[path_of(name)]
    made.merge("n", (1, 2), remove=True)
    made.check("m", made.contents["3"])
    made.check("n", made.contents["2"])


def test_passwords(five: Series) -> None:
    made = copy_of(five)
    if made.password is None:
        refused(made, (1, 2), "is not encrypted", PasswordError, password="x")
    else:
        refused(made, (1, 2), "pass its password", PasswordError, password=None)
        refused(made, (1, 2), "the password is wrong", PasswordError, password="x")


def test_an_exchanged_parent(five: Series) -> None:
    """Two images with one id: the run that a child does not mean is refused."""
    made = copy_of(five)
    made.merge("m", (0, 1))
    with open_image(path_of(2), made.password, storage=Storage(made.system)) as image:
        assert image.seal.parent_digest.hex() == made.results["1"].digest
    # The digest that the child expects is changed in what the merge reads of it.
    real = mergerun._read_member

    def other(*arguments: Any) -> Any:
        member = real(*arguments)
        if member.path == path_of(2):
            parent_id, link = member.place
            member.place = parent_id, link._replace(digest=bytes(32))
        return member

    with mock.patch.object(mergerun, "_read_member", other):
        refused(made, (1, 2), "its parent is another image than", IntegrityError, out="o")
        refused(made, ("m", 2), "its parent is another image than", IntegrityError, out="o")


def test_unreadable_files_of_the_chain_stop_a_removal_only(five: Series) -> None:
    made = copy_of(five)
    damage_trailers(made.system.files[path_of(4)])
    refused(made, (1, 2, 3), f"{path_of(4)}: is unreadable, so it may depend", remove=True)
    made.merge("m", (1, 2, 3))
    made.check("m", made.contents["3"])


def spoiled(made: Series, name: object, pick: Callable[[Any], bool]) -> int:
    """Flip a bit in the body of a record of an image that ``pick`` wants; return its place."""
    data = made.system.files[path_of(name)]
    for key, record in records_of(made.system, name, made.password).items():
        if pick(key):
            at = data.index(record)
            data[at + 45] ^= 4
            return at
    raise AssertionError("there is no such record")


def test_the_image_that_is_missing_is_named() -> None:
    """A seal that an image stands for lies in another file, which is gone."""
    maker = Maker()
    full = maker.full("a", bytes(1 << 16))
    between = maker.increment("b", full, {0: b"b" * 4096})
    parent = maker.increment("c", between, {0: b"c" * 4096})
    child = maker.increment("d", parent, {0: b"d" * 4096})
    seals = []
    for each in (full, child):
        with maker.open(each) as image:
            seals.append(image.trailer.seal)
    last = maker.merged("m", [child], place={"replaced": tuple(seals)})
    maker.remove(child)
    maker.remove(full, between)
    with pytest.raises(IncompleteError) as found:
        merge_images(maker.path("n"), [parent.path, last.path], storage=maker.storage, dry_run=True)
    assert (
        f"its parent, image {between.hex} (incremental, number 1 of its chain), is missing"
        in str(found.value)
    )


def test_damage_is_not_copied(five: Series) -> None:
    """A damaged frame that is needed: named by file and place, no new file, the old ones stay."""
    made = copy_of(five)
    live = frames_named(made.system, 3, made.password)
    at = spoiled(made, 2, lambda key: key[1] == RecordType.FRAME and key[::2] in live)
    refused(made, (1, 2, 3), f"{path_of(2)}: at byte {at}: ", IntegrityError, remove=True)


def test_damage_of_what_is_dropped_does_no_harm(five: Series) -> None:
    made = copy_of(five)
    live = frames_named(made.system, 3, made.password)
    spoiled(made, 2, lambda key: key[1] == RecordType.FRAME and key[::2] not in live)
    made.merge("m", (1, 2, 3), remove=True)
    made.check("m", made.contents["3"])
    made.check(4)


@pytest.mark.parametrize("kind", [RecordType.MAP, RecordType.TABLE_LEAF])
def test_damaged_pages(five: Series, kind: RecordType) -> None:
    made = copy_of(five)
    spoiled(made, 3, lambda key: key[1] == kind)
    refused(made, (1, 2, 3), "digest", IntegrityError, remove=True)


@pytest.mark.parametrize("also_the_copy", [False, True])
def test_damaged_metadata_is_no_loss(five: Series, also_the_copy: bool) -> None:
    made = copy_of(five)
    data = made.system.files[path_of(3)]
    for key, record in records_of(made.system, 3, made.password).items():
        if key[1] == RecordType.METADATA:
            data[data.index(record) + 50] ^= 1
            if also_the_copy:
                data[data.index(record) + 50] ^= 1
    made.merge("m", (1, 2, 3), remove=True)
    made.check("m", made.contents["3"])
    made.check(4)


def test_any_flipped_byte_gives_a_right_image_or_an_error(five: Series) -> None:
    """And never another error than one of ours."""
    chance = random.Random(1)
    outcomes = []
    for _ in range(150):
        made = copy_of(five)
        name = chance.choice((1, 2, 3))
        data = made.system.files[path_of(name)]
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        before = made.system.snapshot()
        try:
            made.merge("m", (1, 2, 3))
        except AipImageError as error:
            outcomes.append(str(error))
            unchanged = made.system.snapshot() == before
        else:
            made.check("m", made.contents["3"])
            made.check(4)
            outcomes.append(path_of(name))
            unchanged = True
        assert unchanged
        assert path_of(name) in outcomes[-1]
    assert len(set(outcomes)) > 4


def test_sizes_of_frames_that_differ(five: Series) -> None:
    """Such a chain cannot be made; the check is for files that somebody else wrote."""
    made = copy_of(five)
    real = mergerun._header_of

    def other(storage: Any, path: str) -> Any:
        header = real(storage, path)
        return replace(header, frame_shift=13) if path == path_of(2) else header

    with mock.patch.object(mergerun, "_header_of", other):
        refused(made, (1, 2), f"{path_of(2)}: its frames.* have other sizes", FormatError)


def test_the_system_in_memory_is_left_without_open_files(five: Series) -> None:
    made = copy_of(five)
    refused(made, (0, 1, 3), "its parent")
    made.merge("m", (0, 1, 2, 3), remove=True)
    assert isinstance(made.system, MemorySystem)
    assert made.system.open_descriptors == 0
