"""The image that an increment builds on: found, refused, far away or damaged."""

from __future__ import annotations

import io
import random
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

import aipimage
from aipimage.errors import AipImageError, IncompleteError, PasswordError, RequestError, TargetError
from aipimage.io.increment.create import create_image
from aipimage.io.increment.job import IncrementJob
from aipimage.io.merge.job import merge_images
from aipimage.io.stream.passwords import change_password
from aipimage.io.system import entropy
from aipimage.io.system.storage import Storage
from aipimage.tracking import ChangeTracker
from tests.chain.increments import METHODS, ODD, altered, disk, given
from tests.support.ends import damage_trailers
from tests.support.images import CHEAP, MIB, PASSWORD, options
from tests.support.memory import MemorySystem
from tests.support.memorychains import Disk, at, change, check, make, opened, scattered

# The parent


def test_a_parent_in_a_directory(tmp_path: Path) -> None:
    """Real files: several chains and disks, names that mean nothing, other files around."""
    raw = {name: tmp_path / f"{name}.raw" for name in ("a", "b")}
    for number, path in enumerate(raw.values()):
        path.write_bytes(scattered(MIB, 20, number))
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "junk.aiv").write_bytes(b"no image")
    (folder / "cut.aiv").write_bytes(b"\x89AIV\r\n\x1a\n")
    made = {}
    for name, path in raw.items():
        made[name] = [aipimage.create(folder / f"z-{name}.aiv", [path], parent=folder)]
        assert made[name][0].kind == "full"
        assert "no image" in str(made[name][0].changes[0].reason)
    for number in range(3):
        for name, path in raw.items():
            data = bytearray(path.read_bytes())
            change(data, random.Random(number))
            path.write_bytes(data)
            result = aipimage.create(folder / f"{9 - number}{name}.aii", [path], parent=folder)
            assert result.parent_id == made[name][-1].image_id
            assert result.kind == "incremental"
            made[name].append(result)
    for name, path in raw.items():
        with aipimage.open(made[name][-1].path) as image:
            assert image.devices[0].open().readall() == path.read_bytes()
            assert len(image.chain) == 4
            assert image.chain.ok


def test_the_tip_is_the_parent_and_not_an_inner_image(system: MemorySystem) -> None:
    """Also where the clock went back, so that the inner one is newer by its time."""
    source = disk()
    first = make(system, "0.aiv", [source])
    early = entropy.now_us() - 10**10
    with mock.patch.object(entropy, "now_us", return_value=early):
        second = make(system, "1.aiv", [source], "0.aiv")
    assert second.parent_id == first.image_id
    assert make(system, "2.aiv", [source], "").parent_id == second.image_id


def test_a_chain_from_the_future_does_not_hide_a_newer_one(system: MemorySystem) -> None:
    """One full image was made with a wrong clock; then a new chain was begun."""
    source = disk()
    far = entropy.now_us() + 70 * 365 * 86_400 * 10**6
    with mock.patch.object(entropy, "now_us", return_value=far):
        make(system, "0.aiv", [source])
    second = make(system, "1.aiv", [source])
    assert make(system, "2.aiv", [source], "").parent_id == second.image_id


def test_two_tips_of_which_one_is_from_the_future(system: MemorySystem) -> None:
    source = disk()
    make(system, "0.aiv", [source])
    far = entropy.now_us() + 70 * 365 * 86_400 * 10**6
    with mock.patch.object(entropy, "now_us", return_value=far):
        make(system, "1.aiv", [source], "0.aiv")
    third = make(system, "2.aiv", [source], "0.aiv")
    assert make(system, "3.aiv", [source], "").parent_id == third.image_id


def test_a_damaged_tip_is_passed_over(system: MemorySystem) -> None:
    source = disk()
    first = make(system, "0.aiv", [source])
    make(system, "1.aiv", [source], "0.aiv")
    damage_trailers(system.files[at("1.aiv")])
    altered(source)
    assert make(system, "2.aiv", [source], "").parent_id == first.image_id
    check(system, "2.aiv", [source.content()])


def test_a_tip_that_has_a_whole_copy_of_what_is_damaged_is_the_parent(system: MemorySystem) -> None:
    source = disk()
    make(system, "0.aiv", [source])
    second = make(system, "1.aiv", [source], "0.aiv")
    system.files[at("1.aiv")][-100] ^= 1
    altered(source)
    assert make(system, "2.aiv", [source], "").parent_id == second.image_id
    check(system, "2.aiv", [source.content()])


def test_a_merged_image_as_parent(system: MemorySystem) -> None:
    """It is the point in time of its last image: a tracker that counts from that one is right."""
    source = disk()
    tracker = ChangeTracker(source.size, 4096)
    made = [make(system, "0.aiv", [source])]
    for number in (1, 2):
        altered(source, number)
        made.append(make(system, f"{number}.aiv", [source], ""))
    with tracker.begin("t") as generation:
        generation.commit(made[-1].image_id)
    paths = [at(f"{number}.aiv") for number in range(3)]
    merge_images(at("m.aiv"), paths, remove=True, storage=Storage(system))
    for place in altered(source, 3):
        tracker.mark(*place)
    with tracker.begin("t") as generation:
        made.append(make(system, "3.aiv", [source], "", changed=generation))
        generation.commit(made[-1].image_id)
    assert made[-1].changes[0].method == "tracked", made[-1].warnings
    assert made[-1].sequence == 3
    check(system, "3.aiv", [source.content()])


def test_other_passwords_in_a_directory(system: MemorySystem) -> None:
    """Chains of other jobs lie there too; the one whose disk and password fit is found."""
    ours, theirs = disk(seed=1), disk(seed=2, name="sdz")
    made = make(system, "a.aiv", [ours], protected="aes")
    make(system, "b.aiv", [theirs], protected="aes", password="another")
    altered(ours)
    result = make(system, "c.aiv", [ours], "", "aes", encrypt=None)
    assert result.parent_id == made.image_id
    before = system.snapshot()
    with pytest.raises(PasswordError):
        make(system, "d.aiv", [ours], "", "aes", password="wrong", encrypt=None)
    with pytest.raises(PasswordError):
        make(system, "d.aiv", [ours], "")
    assert system.snapshot() == before


def test_a_password_where_a_chain_begins(system: MemorySystem) -> None:
    """A chain that begins is never left unprotected, or half protected, by mistake."""
    with pytest.raises(PasswordError, match="a password needs encryption"):
        make(system, "0.aiv", [disk()], "", password=PASSWORD)
    assert not system.files
    made = make(system, "0.aiv", [disk()], "", "aes")
    assert made.kind == "full"
    assert make(system, "1.aiv", [disk()], "", "aes").sequence == 1


@pytest.mark.parametrize("encrypt", ["aes-128", "authenticate"])
def test_other_encryption_is_refused(system: MemorySystem, encrypt: str) -> None:
    make(system, "0.aiv", [disk()], protected="aes")
    make(system, "p.aiv", [disk()])
    before = system.snapshot()
    with pytest.raises(RequestError, match="protected"):
        make(system, "1.aiv", [disk()], "0.aiv", "aes", encrypt=encrypt)
    with pytest.raises(RequestError):
        make(system, "1.aiv", [disk()], "p.aiv", "aes", encrypt=encrypt)
    with pytest.raises(PasswordError):
        make(system, "1.aiv", [disk()], "p.aiv", password=PASSWORD)
    with pytest.raises(PasswordError):
        make(system, "1.aiv", [disk()], "0.aiv")
    with pytest.raises(PasswordError, match="recovery key"):
        make(system, "1.aiv", [disk()], "0.aiv", "aes", recovery_key="abcd-efgh")
    assert system.snapshot() == before


def test_a_password_that_one_member_changed(system: MemorySystem) -> None:
    source = disk()
    make(system, "0.aiv", [source], protected="aes")
    altered(source)
    make(system, "1.aiv", [source], "0.aiv", "aes")
    storage = Storage(system)
    change_password(at("1.aiv"), PASSWORD, "second", parameters=CHEAP, storage=storage)
    altered(source, 2)
    make(system, "2.aiv", [source], "1.aiv", "aes", password="second", encrypt=None)
    check(system, "2.aiv", [source.content()], "second")
    with pytest.raises(PasswordError):
        opened(system, "2.aiv", PASSWORD)
    with opened(system, "0.aiv", PASSWORD) as image:
        assert image.chain.ok


def test_search_finds_what_lies_elsewhere(tmp_path: Path) -> None:
    raw = tmp_path / "d.raw"
    raw.write_bytes(scattered(MIB, 20))
    folders = [tmp_path / name for name in "abc"]
    for folder in folders:
        folder.mkdir()
    aipimage.create(folders[0] / "0.aiv", [raw])
    for number in (1, 2):
        data = bytearray(raw.read_bytes())
        change(data, random.Random(number))
        raw.write_bytes(data)
        parent = folders[number - 1] / f"{number - 1}.aiv"
        made = aipimage.create(
            folders[number] / f"{number}.aiv",
            [raw],
            parent=parent,
            search=folders[:1],
            compare="data",
        )
        assert made.changes[0].method == "data", made.changes
    with aipimage.open(folders[2] / "2.aiv", search=folders[:2]) as image:
        assert image.devices[0].open().readall() == raw.read_bytes()
    with pytest.raises(IncompleteError), aipimage.open(folders[2] / "2.aiv") as image:
        image.devices[0].open().readall()


@pytest.mark.parametrize("kind", ["incremental", "differential", "full"])
def test_an_image_of_the_chain_is_never_replaced(system: MemorySystem, kind: str) -> None:
    source = disk()
    make(system, "0.aiv", [source])
    if kind != "differential":
        make(system, "1.aiv", [source], "0.aiv")
    before = system.snapshot()
    parent = "0.aiv" if kind == "differential" else "1.aiv"
    for name in ("0.aiv", parent):
        with pytest.raises(TargetError, match="same chain"):
            make(system, name, [source], parent, kind=kind, overwrite=True)
        with pytest.raises(TargetError):
            make(system, name, [source], parent, kind=kind)
    assert system.snapshot() == before


def test_class_17_a_chain_at_its_limit(system: MemorySystem) -> None:
    source = disk(MIB)
    make(system, "0.aiv", [source])
    place = IncrementJob._place

    def last(job: IncrementJob) -> Any:
        found = place(job)
        found.sequence, found.parent_sequence = 4095, 4094
        return found

    with mock.patch.object(IncrementJob, "_place", last):
        made = make(system, "1.aiv", [source], "0.aiv")
    assert made.sequence == 4095
    before = system.snapshot()
    for kind in ("incremental", "full"):
        with pytest.raises(RequestError, match="4096 images"):
            make(system, "2.aiv", [source], "1.aiv", kind=kind)
    assert system.snapshot() == before


# A parent that is far away, or damaged


def three(system: MemorySystem, **more: Any) -> Disk:
    """A chain of three: 0.aiv, 1.aiv, 2.aiv."""
    source = Disk(random.Random(9).randbytes(2 * MIB))
    make(system, "0.aiv", [source], **more)
    for number in (1, 2):
        altered(source, number)
        make(system, f"{number}.aiv", [source], "")
    return source


def test_a_parent_whose_older_files_are_far_away(system: MemorySystem) -> None:
    """Digests tell blocks without the data; what is not known then is taken whole."""
    source = three(system)
    away = {name: system.files.pop(at(name)) for name in ("0.aiv", "1.aiv")}
    source.write(700_000, b"!")
    # Without the first image even the map's shared pages are away; a full image is the answer.
    made = make(system, "3.aiv", [source], "2.aiv")
    if made.kind == "incremental":
        assert made.changes[0].changed == 65_536
    system.files |= {at(name): data for name, data in away.items()}
    check(system, "3.aiv", [source.content()])


def test_data_that_is_far_away(system: MemorySystem) -> None:
    """Only a middle image is away, which holds data and no page that is needed."""
    source = Disk(random.Random(9).randbytes(2 * MIB))
    make(system, "0.aiv", [source])
    source.write(100_000, b"one")
    make(system, "1.aiv", [source], "")
    source.write(1_500_000, b"two")
    make(system, "2.aiv", [source], "")
    away = system.files.pop(at("1.aiv"))
    source.write(700_000, b"!")
    made = make(system, "3.aiv", [source], "2.aiv")
    assert (made.kind, made.changes[0].method) == ("incremental", "digests")
    assert made.changes[0].changed == 65_536
    tracked = make(system, "4.aiv", [source], "2.aiv", changed=[(700_000, 1)])
    assert (tracked.kind, tracked.changes[0].method) == ("incremental", "tracked")
    assert tracked.changes[0].changed == 4096
    full = make(system, "5.aiv", [source], "2.aiv", compare="data")
    assert (full.kind, full.sequence, full.changes[0].method) == ("full", 3, "full")
    assert "1.aiv" in full.warnings[0] or "missing" in full.warnings[0]
    assert full.changes[0].reason is not None
    check(system, "5.aiv", [source.content()])
    system.files[at("1.aiv")] = away
    for name in ("3.aiv", "4.aiv", "5.aiv"):
        check(system, name, [source.content()])


@pytest.mark.parametrize("changed", [None, [(700_000, 512)]])
@pytest.mark.parametrize("compare", ["auto", "data"])
def test_a_parent_whose_map_is_missing(system: MemorySystem, compare: str, changed: Any) -> None:
    """An image in which nothing changed has its parent's map, which is away."""
    source = disk()
    make(system, "0.aiv", [source])
    make(system, "1.aiv", [source], "0.aiv")
    away = system.files.pop(at("0.aiv"))
    source.write(700_000, b"!")
    made = make(system, "2.aiv", [source], "1.aiv", compare=compare, changed=changed)
    assert (made.kind, made.sequence, made.changes[0].method) == ("full", 2, "full")
    assert "could not be read" in str(made.changes[0].reason)
    check(system, "2.aiv", [source.content()])
    assert not [name for name in system.files if name.endswith(".partial")]
    system.files[at("0.aiv")] = away
    source.write(5, b"?")
    make(system, "3.aiv", [source], "2.aiv", changed=[(5, 1)])
    check(system, "3.aiv", [source.content()])


@pytest.mark.parametrize("method", METHODS)
def test_a_parent_that_is_damaged_anywhere(system: MemorySystem, method: str) -> None:
    """Each of many bytes of the parent turned over: the image is right, or the error is typed.

    One of them is in the root of its map, so that nothing of it can be kept.
    """
    source = disk(MIB, 30)
    make(system, "0.aiv", [source])
    old = source.content()
    places = altered(source)
    whole = bytes(system.files[at("0.aiv")])
    with opened(system, "0.aiv") as image:
        root = image.devices[0].entry.map_root.offset
    kinds = set()
    for place in [*range(0, len(whole), max(1, len(whole) // 60)), root + 100]:
        system.files = {at("0.aiv"): bytearray(whole)}
        system.files[at("0.aiv")][place] ^= 16
        try:
            made = make(system, "1.aiv", [source], "0.aiv", **given(method, places))
        except AipImageError:
            assert list(system.files) == [at("0.aiv")]
            continue
        kinds.add(made.kind)
        system.files[at("0.aiv")] = bytearray(whole)
        check(system, "1.aiv", [source.content()], verify=False)
    assert "full" in kinds
    assert "incremental" in kinds or method == "data"
    system.files = {at("0.aiv"): bytearray(whole)}
    check(system, "0.aiv", [old])


@pytest.mark.parametrize("size", [MIB, ODD])
@pytest.mark.parametrize("method", METHODS)
def test_a_parent_whose_map_is_damaged(system: MemorySystem, method: str, size: int) -> None:
    """Where a page is damaged that has to be written anew, the image becomes a full one."""
    source = disk(size, 400)
    make(system, "0.aiv", [source])
    places = sorted([*altered(source), *((start + 700, 1) for start in range(0, size, MIB))])
    whole = bytes(system.files[at("0.aiv")])
    with opened(system, "0.aiv") as image:
        root = image.devices[0].entry.map_root
        references = [root, *image.devices[0].map.root().refs.values()]
    assert (len(references) > 1) == (size == ODD)
    for ref in references:
        system.files = {at("0.aiv"): bytearray(whole)}
        system.files[at("0.aiv")][ref.offset + 100] ^= 16
        made = make(system, "1.aiv", [source], "0.aiv", **given(method, places))
        assert (made.kind, made.changes[0].method) == ("full", "full")
        assert "could not be read" in str(made.changes[0].reason)
        check(system, "1.aiv", [source.content()])


def test_a_full_image_follows_an_increment_that_had_begun(system: MemorySystem) -> None:
    """The damage lies behind a checkpoint, and somebody wants to resume: nothing is in the way."""
    source = Disk(random.Random(5).randbytes(20 * MIB))
    make(system, "0.aiv", [source], block_digests=False)
    for start in range(0, source.size, 65_536):
        source.write(start, b"changed")
    frames = system.files[at("0.aiv")]
    frames[len(frames) * 9 // 10] ^= 1
    made = make(system, "1.aiv", [source], "0.aiv", checkpoint_bytes=1, resume=True, compare="data")
    assert made.kind == "full"
    assert not made.resumed
    check(system, "1.aiv", [source.content()])
    assert not [name for name in system.files if name.endswith(".partial")]


def test_a_pipe_is_never_written_twice(system: MemorySystem) -> None:
    """Where the parent fails in the middle, the beginning is in the pipe already."""
    source = disk()
    make(system, "0.aiv", [source])
    make(system, "1.aiv", [source], "0.aiv")
    del system.files[at("0.aiv")]
    altered(source)
    target = io.BytesIO()
    chosen = options(parent=at("1.aiv"))
    with pytest.raises(AipImageError, match="missing"):
        create_image(target, [source], chosen, None, Storage(system))
    assert target.getvalue().count(b"\x89AIV\r\n\x1a\n") == 1


def test_disks_of_one_name_have_chains_of_their_own(tmp_path: Path) -> None:
    """In one directory of images; the disk is told by where it lies, also by a relative path."""
    images = tmp_path / "images"
    images.mkdir()
    for number in (1, 2):
        (tmp_path / f"vm{number}").mkdir()
        (tmp_path / f"vm{number}" / "disk.raw").write_bytes(bytes([number]) * 200_000)
        aipimage.create(images / f"{number}.aiv", tmp_path / f"vm{number}" / "disk.raw")
    for number in (1, 2, 1):
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(tmp_path / f"vm{number}")
            path = images / f"{number}-{len(list(images.iterdir()))}.aiv"
            made = aipimage.create(path, "disk.raw", parent=images, changed=[])
        assert (made.kind, made.changes[0].method) == ("incremental", "tracked")
        with aipimage.open(path) as image, aipimage.open(images / f"{number}.aiv") as first:
            assert image.chain_id == first.chain_id


def test_a_tracker_of_another_disk_of_the_same_name_is_not_believed(tmp_path: Path) -> None:
    """A clone of a disk differs in few places, which no sample finds."""
    images, here, there = (tmp_path / name for name in ("images", "here", "there"))
    for folder in (images, here, there):
        folder.mkdir()
    disk = bytearray(b"same" * 2_000_000)
    (here / "disk.raw").write_bytes(disk)
    disk[5_000_000] ^= 1
    (there / "disk.raw").write_bytes(disk)
    aipimage.create(images / "0.aiv", here / "disk.raw")
    made = aipimage.create(images / "1.aiv", there / "disk.raw", parent=images, changed=[])
    assert made.changes[0].method == "digests"
    assert "name only" in str(made.changes[0].reason)
    with aipimage.open(images / "1.aiv") as image:
        assert image.devices[0].open().readall() == disk
    # Who names the image vouches for it.
    named = aipimage.create(
        images / "2.aiv", there / "disk.raw", parent=images / "1.aiv", changed=[]
    )
    assert named.changes[0].method == "tracked"


class _Named(io.BytesIO):
    """A file object that says which disk it is."""

    def __init__(self, content: bytes, name: str) -> None:
        super().__init__(content)
        self.name = name


@pytest.mark.parametrize("name", [None, "", "<fdopen>"])
def test_a_source_without_a_name_is_not_looked_for_in_a_directory(
    tmp_path: Path, name: str | None
) -> None:
    """Another disk's image would be taken for its parent."""
    one, other = (random.Random(seed).randbytes(MIB) for seed in (1, 2))

    def source(content: bytes) -> io.BytesIO:
        return io.BytesIO(content) if name is None else _Named(content, name)

    aipimage.create(tmp_path / "one.aiv", source(one))
    before = sorted(tmp_path.iterdir())
    for kind in ("incremental", "differential", "full"):
        with pytest.raises(RequestError, match=r"has no name; pass parent= the path"):
            aipimage.create(tmp_path / "x.aiv", source(other), parent=tmp_path, kind=kind)
    assert sorted(tmp_path.iterdir()) == before
    # An empty directory would be no better: the next night would find nothing again.
    (tmp_path / "empty").mkdir()
    with pytest.raises(RequestError, match=r"has no name"):
        aipimage.create(tmp_path / "x.aiv", source(other), parent=tmp_path / "empty")
    made = aipimage.create(tmp_path / "x.aiv", source(other), parent=tmp_path / "one.aiv")
    assert made.sequence == 1
    with aipimage.open(tmp_path / "x.aiv") as image:
        assert image.devices[0].open().readall() == other


def test_names_of_file_objects_tell_them_apart(tmp_path: Path) -> None:
    one, other = (random.Random(seed).randbytes(MIB) for seed in (1, 2))
    first = aipimage.create(tmp_path / "one.aiv", _Named(one, "one"), parent=tmp_path)
    second = aipimage.create(tmp_path / "other.aiv", _Named(other, "other"), parent=tmp_path)
    assert first.sequence == second.sequence == 0
    third = aipimage.create(tmp_path / "2.aiv", _Named(one, "one"), parent=tmp_path)
    assert third.parent_id == first.image_id


def test_sources_without_names_are_told_apart_by_their_places(tmp_path: Path) -> None:
    """Named ones keep to their names, in whatever order they are given."""
    contents = [random.Random(seed).randbytes(MIB) for seed in range(4)]
    sources = [
        _Named(contents[0], "a"),
        io.BytesIO(contents[1]),
        _Named(contents[2], "c"),
        io.BytesIO(contents[3]),
    ]
    aipimage.create(tmp_path / "0.aiv", sources)
    swapped = [sources[2], sources[1], sources[0], sources[3]]
    made = aipimage.create(tmp_path / "1.aiv", swapped, parent=tmp_path / "0.aiv")
    assert [each.changed for each in made.changes] == [0, 0, 0, 0]
    with aipimage.open(tmp_path / "1.aiv") as image:
        found = [device.open().readall() for device in image.devices]
    assert found == [contents[2], contents[1], contents[0], contents[3]]
