"""Hostile chains, by class of hostile inputs: a typed refusal, soon, and never other data."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import aipimage
from aipimage.errors import (
    AipImageError,
    FormatError,
    IncompleteError,
    IntegrityError,
    LimitError,
    RequestError,
)
from aipimage.format.constants import ImageKind
from aipimage.format.record import NO_REFERENCE
from aipimage.format.seal import SealDevice
from aipimage.io.creating.imagewriter import DeviceResult
from aipimage.io.records import keys
from aipimage.io.records.numbering import RecordNumbers
from aipimage.volumes.chain import find_chain
from aipimage.volumes.image import Image
from tests.chain.handmade import FRAME, Made, Maker
from tests.support.images import MIB, PASSWORD, remember_derivations
from tests.support.memory import ROOT
from tests.support.soon import SOON

CHANCE = random.Random(13)


def clusters(count: int = 1) -> bytes:
    return CHANCE.randbytes(count * FRAME)


def new_id() -> bytes:
    return RecordNumbers().origin


@pytest.fixture(params=[False, True], ids=["plain", "sealed"])
def maker(request: pytest.FixtureRequest) -> Maker:
    remember_derivations()
    return Maker(sealed=request.param)


@contextmanager
def bounded(seconds: float = 5.0) -> Iterator[None]:
    """What happens inside ends soon, in processor time."""
    began = time.process_time()
    yield
    assert time.process_time() - began < max(seconds, SOON)


@contextmanager
def alarm(seconds: int = 20) -> Iterator[None]:
    """Whoever blocks for ever is stopped, and fails."""
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)


def chain_of(maker: Maker, names: str = "abcd") -> list[Made]:
    """A full image and increments, each with another cluster."""
    made = [maker.full(names[0], clusters(8))]
    for number, name in enumerate(names[1:]):
        made.append(maker.increment(name, made[-1], {number * FRAME: clusters()}))
    return made


def read(image: Image) -> bytes:
    return image.devices[0].open().readall()


def right_or_refused(image: Image, made: Made) -> int:
    """Read cluster by cluster: each is right, or an error; return how many are right."""
    right = 0
    for at in range(0, len(made.content), FRAME):
        buffer = bytearray(FRAME)
        try:
            count = image.devices[0].read_into(buffer, at)
        except AipImageError:
            continue
        assert buffer[:count] == made.content[at : at + FRAME], "silent corruption"
        right += 1
    return right


def refused_by_all(
    maker: Maker, made: Made, error: type[AipImageError], match: str, readable: bool = True
) -> None:
    """The check names it, verification finds it, and nobody reads other data."""
    with bounded(), maker.open(made) as image:
        assert not image.chain.ok
        with pytest.raises(error, match=match) as caught:
            image.chain.check()
        assert "\n" not in str(caught.value)
        right = right_or_refused(image, made)
        assert (right == len(made.content) // FRAME) == readable
        assert not image.verify(chain=True, threads=1).ok
    assert maker.system.open_descriptors == 0


# 16: circles


@pytest.mark.parametrize("length", [2, 3, 60])
def test_class_16_parents_run_in_a_circle(maker: Maker, length: int) -> None:
    a = maker.full("a", clusters())
    ids = [new_id() for _ in range(length)]
    for number, image_id in enumerate(ids):
        place = {"parent_id": ids[number - 1], "parent_sequence": 6, "sequence": 7}
        last = maker.increment(f"b{number:03}", a, {0: clusters()}, image_id=image_id, place=place)
    refused_by_all(maker, last, FormatError, "run in a circle")
    with maker.open(a) as image:
        image.chain.check()
        assert image.chain.newest.image_id == a.hex
    # Somebody stands in front of the circle.
    tail = maker.increment("tail", last, {0: clusters()})
    refused_by_all(maker, tail, FormatError, "run in a circle")
    maker.remove(a)
    with pytest.raises(FormatError, match="circle"):
        find_chain(ROOT, password=maker.password, storage=maker.storage).check()


def test_class_16_an_image_that_is_its_own_parent(maker: Maker) -> None:
    a = maker.full("a", clusters())
    own = new_id()
    made = maker.increment("b", a, {0: clusters()}, image_id=own, place={"parent_id": own})
    with pytest.raises(FormatError, match="names itself as its parent"):
        maker.open(made)
    with maker.open(a) as image:
        assert [member.state for member in image.chain.members_of_tree] == ["damaged", "whole"]


def test_class_16_a_merged_image_that_replaces_its_own_parent(maker: Maker) -> None:
    a, b, c, d = chain_of(maker)
    place = {
        "kind": ImageKind.INCREMENTAL,
        "parent_id": b.image_id,
        "parent_digest": b.digest,
        "parent_kind": b.kind,
        "parent_sequence": b.sequence,
    }
    merged = maker.merged("m", [b, c], place=place)
    maker.remove(b, c)
    refused_by_all(maker, d, FormatError, "run in a circle")
    refused_by_all(maker, merged, FormatError, "run in a circle")
    with maker.open(a) as image:
        image.chain.check()


@pytest.mark.parametrize("field", ["description", "result", "replaced"])
@pytest.mark.parametrize("missing", [False, True])
def test_class_16_what_an_image_says_of_itself_lies_elsewhere(
    maker: Maker, field: str, missing: bool
) -> None:
    """To tell which image of a chain is missing, its images are asked, and must not ask back."""
    a, b, c, d = chain_of(maker)
    with maker.open(a) as image:
        ref = image.seal.description
        data = bytes(image.records.read(ref.origin, ref.offset, ref.record_length))
    if missing:
        ref = ref._replace(origin=new_id())
    place = {"replaced": (ref,)} if field == "replaced" else {field: ref}
    merged = maker.merged("m", [b, c], place=place, spare={ref: data})
    with alarm():
        for made in (merged, d):
            with maker.open(made) as image:
                image.verify(chain=True, threads=1)
                right_or_refused(image, made)
        maker.remove(a)
        with maker.open(merged) as image:
            assert not image.verify(threads=1).ok
            assert not image.verify(chain=True, threads=1).ok
            with pytest.raises(AipImageError):
                read(image)


# 17: depth


def test_class_17_a_chain_of_4096_opens(maker: Maker) -> None:
    """Without recursion: the deepest there may be."""
    made = maker.thin(4095, maker.full("a", clusters(2)))
    with bounded(20), maker.open(made[-1]) as image:
        image.chain.check()
        assert (len(image.chain), image.chain[-1].depth) == (4096, 4095)
        assert read(image) == made[-1].content
    assert maker.system.open_descriptors == 0


def test_class_17_memory_for_each_member_is_small() -> None:
    """A few KiB stay of an image, whatever it holds."""
    maker = Maker()
    made = maker.thin(300, maker.full("a", clusters(2)))
    tracemalloc.start()
    try:
        with maker.open(made[-1]) as image:
            before = tracemalloc.get_traced_memory()[0]
            image.chain.check()
            assert tracemalloc.get_traced_memory()[0] - before < 300 * 8192
            assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_class_17_a_chain_of_400_verifies() -> None:
    """Each file is opened, verified and closed in turn."""
    maker = Maker()
    made = maker.thin(400, maker.full("a", clusters(2)))
    with bounded(20), maker.open(made[-1]) as image:
        result = image.verify(chain=True, threads=1)
        assert result.ok
        assert len(result.members) == 401
        assert maker.system.open_descriptors < 10


@pytest.mark.parametrize("lying", [False, True])
def test_class_17_a_chain_of_10000_is_refused(lying: bool) -> None:
    """Numbers over the limit are refused in each seal; where they lie, there are too many files."""
    maker = Maker()
    place = {"sequence": 3000, "parent_sequence": 2999} if lying else None
    made = maker.thin(9999, maker.full("a", clusters(2)), place)
    with bounded(30):
        if lying:
            with maker.open(made[-1]) as image, pytest.raises(LimitError, match="over 4096"):
                _ = image.chain
        else:
            with pytest.raises(LimitError, match="place in the chain"):
                maker.open(made[-1])
            with maker.open(made[4094]) as image:
                image.chain.check()
                assert len(image.chain) == 4096
    assert maker.system.open_descriptors == 0


def test_class_17_copies_without_end() -> None:
    maker = Maker()
    a = maker.full("a", clusters())
    for number in range(17_000):
        maker.files[maker.path(f"copy{number}")] = maker.files[a.path]
    with bounded(30), maker.open(a) as image, pytest.raises(LimitError, match="files belong to it"):
        _ = image.chain


# 18: an older member


@pytest.mark.parametrize("merged", [False, True])
def test_class_18_an_older_member_in_the_place_of_another(maker: Maker, merged: bool) -> None:
    """The file b once had another content, and somebody puts that back."""
    a = maker.full("a", clusters(8))
    old = maker.increment("b", a, {0: clusters()})
    kept = maker.files[old.path]
    new = maker.increment("b", a, {0: clusters(), FRAME: clusters()}, image_id=old.image_id)
    c = maker.increment("c", new, {2 * FRAME: clusters()})
    if merged:
        maker.merged("m", [a, new])
        maker.remove(a)
    maker.files[old.path] = kept
    if not merged:
        refused_by_all(maker, c, IntegrityError, "was exchanged", readable=False)
    else:
        # The merged image has the right one, which so is found in spite of it.
        with maker.open(c) as image:
            image.chain.check()
            # The file with its id is asked for its frames first; what is wrong there is read from
            # the merged image. Verification reports the file.
            assert right_or_refused(image, c) == 8
            assert not image.verify(chain=True, threads=1).ok


def test_class_18_the_newest_image_by_an_older_one(maker: Maker) -> None:
    """Only who remembers the digest can tell (section 14)."""
    a, b, c, d = chain_of(maker)
    maker.files[d.path] = maker.files[c.path]
    with maker.open(d.path) as image:
        assert read(image) == c.content
    with pytest.raises(IntegrityError, match="not the image that was expected"):
        maker.open(d.path, expected_digest=d.digest.hex())
    del a, b


# 19: foreign members


def test_class_19_an_image_of_another_chain_of_the_same_size(maker: Maker) -> None:
    """It bears the name of the missing one, and is passed over; its data is never taken."""
    made = chain_of(maker)
    foreign = Maker(maker.system, sealed=maker.keys is not None)
    other = chain_of(foreign, "efgh")
    for wrong in (0, 1, 2):
        kept = maker.files[made[wrong].path]
        maker.files[made[wrong].path] = maker.files[other[wrong].path]
        refused_by_all(maker, made[-1], IncompleteError, "is missing", readable=False)
        maker.files[made[wrong].path] = kept
    with maker.open(made[-1]) as image:
        image.chain.check()
        assert len(image.chain.members_of_tree) == 4
        with pytest.raises(RequestError, match="no image"):
            image.chain.open(other[0].hex)


def test_class_19_a_foreign_image_that_claims_the_ids(maker: Maker) -> None:
    """The chain id and the image id are right, digest and key are not."""
    a, b, _, d = chain_of(maker)
    foreign = Maker(maker.system)
    foreign.chain_id = maker.chain_id
    if maker.keys:
        foreign.new_key()
    content = clusters(8)
    foreign.full("a", content, image_id=a.image_id)
    error = aipimage.PasswordError if maker.keys else IntegrityError
    refused_by_all(maker, d, error, "another key" if maker.keys else "exchanged", readable=False)
    with maker.open(d) as image:
        assert content[7 * FRAME :] not in (image.chain[0].reason or "").encode()
    del b


# 20: missing, duplicated, reordered


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_class_20_a_missing_member_is_named(maker: Maker, missing: int) -> None:
    made = chain_of(maker)
    maker.remove(made[missing])
    refused_by_all(maker, made[-1], IncompleteError, f"{made[missing].hex}.* is missing", False)


def test_class_20_duplicated_and_renamed_members(maker: Maker) -> None:
    """Names mean nothing: every order of the files is the same chain."""
    made = chain_of(maker)
    contents = [bytes(maker.files[each.path]) for each in made]
    for order in ((1, 2, 3, 0), (3, 2, 1, 0), (0, 2, 1, 3)):
        for place, each in zip(order, made, strict=True):
            maker.files[made[place].path] = bytearray(contents[made.index(each)])
        maker.files[maker.path("copy")] = bytearray(contents[2])
        with maker.open(made[order[3]].path) as image:
            image.chain.check()
            assert [member.image_id for member in image.chain] == [each.hex for each in made]
            assert len(image.chain.duplicates) == 1
            assert read(image) == made[-1].content
            assert image.verify(chain=True, threads=1).ok


def test_class_20_numbers_out_of_order(maker: Maker) -> None:
    a, b, c, _ = chain_of(maker)
    made = maker.increment("e", c, {0: clusters()}, place={"parent_sequence": 0, "sequence": 1})
    refused_by_all(maker, made, IntegrityError, "another place in the chain")
    with pytest.raises(FormatError):
        maker.open(maker.increment("f", c, {0: clusters()}, place={"sequence": 2}))
    del a, b


# 21: paths


def on_disk(maker: Maker, directory: Path) -> None:
    for path, data in maker.files.items():
        (directory / Path(path).name).write_bytes(data)


def test_class_21_what_is_no_file_is_never_waited_for(tmp_path: Path) -> None:
    maker = Maker()
    *_, last = chain_of(maker)
    on_disk(maker, tmp_path)
    os.mkfifo(tmp_path / "fifo.aiv")
    (tmp_path / "directory.aiv").mkdir()
    os.symlink("/dev/zero", tmp_path / "zero.aiv")
    os.symlink("/dev/tty", tmp_path / "tty.aiv")
    os.symlink("loop.aiv", tmp_path / "loop.aiv")
    os.symlink(tmp_path / "fifo.aiv", tmp_path / "link.aiv")
    os.symlink("nowhere", tmp_path / "dangling.aiv")
    (tmp_path / "empty.aiv").touch()
    (tmp_path / "b\nd\x1b[31m.aiv").write_bytes(b"no image")
    (tmp_path / os.fsdecode(b"\xff.aiv")).write_bytes(b"no image")
    if os.geteuid() == 0:
        os.mknod(tmp_path / "device.aiv", 0o020666, os.makedev(1, 5))
    with alarm(), aipimage.open(tmp_path / Path(last.path).name) as image:
        image.chain.check()
        assert read(image) == last.content
        assert len(image.chain.unreadable) >= 10
        assert image.verify(chain=True, threads=1).ok
        assert aipimage.verify_keyless(image.path, chain=True, threads=1).ok


def test_class_21_a_missing_member_beside_what_is_no_file(tmp_path: Path) -> None:
    """It bears the very name of the image that is looked for."""
    maker = Maker()
    a, *_, last = chain_of(maker)
    for make in (os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/zero", path)):
        on_disk(maker, tmp_path)
        wrong = tmp_path / Path(a.path).name
        wrong.unlink()
        make(wrong)
        with alarm(), aipimage.open(tmp_path / Path(last.path).name) as image:
            with pytest.raises(IncompleteError, match="is missing"):
                image.chain.check()
            assert right_or_refused(image, last) == 3
        wrong.rmdir() if wrong.is_dir() else wrong.unlink()


def test_class_21_links_and_names_lead_to_no_other_data(tmp_path: Path) -> None:
    """A link to the right file is that file; one to a wrong file is found out."""
    maker = Maker()
    a, b, *_, last = chain_of(maker)
    (tmp_path / "images").mkdir()
    (tmp_path / "elsewhere").mkdir()
    on_disk(maker, tmp_path / "images")
    first = tmp_path / "images" / Path(a.path).name
    os.rename(first, tmp_path / "elsewhere" / "secret.raw")
    os.symlink(tmp_path / "elsewhere" / "secret.raw", first)
    with aipimage.open(tmp_path / "images" / Path(last.path).name) as image:
        image.chain.check()
        assert read(image) == last.content
    first.unlink()
    os.symlink(tmp_path / "images" / Path(b.path).name, first)
    with aipimage.open(tmp_path / "images" / Path(last.path).name) as image:
        with pytest.raises(IncompleteError):
            image.chain.check()
        assert right_or_refused(image, last) == 3


def test_class_21_a_directory_to_search_with_a_nul(tmp_path: Path) -> None:
    maker = Maker()
    made = maker.full("a", clusters())
    on_disk(maker, tmp_path)
    for wrong in ("a\0b", "\0"):
        path = tmp_path / Path(made.path).name
        with pytest.raises(aipimage.OptionError, match="NUL"):
            aipimage.open(path, search=[wrong])
        with pytest.raises(aipimage.OptionError, match="NUL"):
            aipimage.find_chain(wrong)


# 22: replaced between check and use


@pytest.mark.parametrize("pooled", [False, True])
def test_class_22_a_parent_replaced_under_an_open_image(
    maker: Maker, pooled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By each other file, cut, or gone: right data or an error, also when files are reopened."""
    if pooled:
        monkeypatch.setattr("aipimage.io.system.filepool.files_open", lambda: 1)
    *_, last = made = chain_of(maker)
    contents = {each.path: bytes(maker.files[each.path]) for each in made}
    for victim in made[:-1]:
        whole = contents[victim.path]
        others = [contents[each.path] for each in made if each is not victim]
        for data in (*others, whole[: len(whole) // 2], b"", bytes(len(whole)), whole[::-1], None):
            with maker.open(last, cache_bytes=0) as image:
                image.chain.check()
                assert image.devices[0].read_into(bytearray(512), 7 * FRAME) == 512
                if data is None:
                    del maker.files[victim.path]
                else:
                    maker.files[victim.path][:] = data
                right_or_refused(image, last)
                image.verify(chain=True, threads=1)
                with pytest.raises(AipImageError):
                    image.chain.open(victim.hex)
            maker.files[victim.path] = bytearray(whole)
    with maker.open(last) as image:
        assert read(image) == last.content


@pytest.mark.parametrize("copied", [False, True])
def test_class_22_a_parent_that_is_gone_from_under_an_open_image(
    maker: Maker, copied: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its file was closed for others: what it held is missing, or read from another file of it."""
    monkeypatch.setattr("aipimage.io.system.filepool.files_open", lambda: 1)
    *_, last = made = chain_of(maker)
    if copied:
        maker.files[maker.path("copy")] = maker.files[made[0].path]
    with maker.open(last, cache_bytes=0) as image:
        assert read(image) == last.content
        maker.remove(made[0])
        # The files of the other parents are read meanwhile.
        assert image.devices[0].read_into(bytearray(FRAME), FRAME) == FRAME
        if copied:
            assert read(image) == last.content
            return
        with pytest.raises(IncompleteError, match=rf"is missing.*{made[0].path}"):
            image.devices[0].read_into(bytearray(FRAME), 7 * FRAME)
        assert right_or_refused(image, last) == 3
        assert not image.verify(chain=True, threads=1).ok


def test_class_22_a_parent_that_changes_all_the_time(maker: Maker) -> None:
    """Two versions take turns while one thread reads: the right data or an error."""
    a = maker.full("a", clusters(8))
    b = maker.increment("b", a, {0: clusters()})
    right = bytes(maker.files[a.path])
    maker.full("a", clusters(8), image_id=a.image_id)
    wrong = bytes(maker.files[a.path])
    ended = threading.Event()

    def exchange() -> None:
        while not ended.is_set():
            for data in (right, wrong):
                maker.files[a.path] = bytearray(data)

    thread = threading.Thread(target=exchange)
    thread.start()
    try:
        until = time.monotonic() + 1
        while time.monotonic() < until:
            with maker.open(b) as image:
                right_or_refused(image, b)
    finally:
        ended.set()
        thread.join()


# 23: a differential on an incremental


def test_class_23_a_differential_on_an_incremental(maker: Maker) -> None:
    a, b, *_ = chain_of(maker)
    kind = ImageKind.DIFFERENTIAL
    honest = maker.increment("e", b, {0: clusters()}, kind=kind)
    with pytest.raises(FormatError, match="builds on one that is not a full image"):
        maker.open(honest)
    lying = maker.increment(
        "f", b, {0: clusters()}, kind=kind, place={"parent_kind": ImageKind.FULL}
    )
    refused_by_all(maker, lying, IntegrityError, "another place in the chain or kind")
    # The same through a merged image, which may be full itself.
    maker.merged("m", [a, b])
    maker.remove(a, b)
    refused_by_all(maker, lying, IntegrityError, "another place in the chain or kind")


def test_class_23_a_differential_on_a_differential(maker: Maker) -> None:
    a = maker.full("a", clusters(8))
    kind = ImageKind.DIFFERENTIAL
    b = maker.increment("b", a, {0: clusters()}, kind=kind)
    with maker.open(b) as image:
        image.chain.check()
    for place in ({}, {"parent_kind": ImageKind.FULL}):
        c = maker.increment("c", b, {0: clusters()}, kind=kind, place=place)
        with pytest.raises(AipImageError), maker.open(c) as image:
            image.chain.check()


# 24: sizes


def test_class_24_a_disk_that_grows_and_shrinks_mid_chain(maker: Maker) -> None:
    """Each point in time has its own size; nothing of an older one shines through."""
    chance = random.Random(24)
    made = [maker.full("0", clusters(8))]
    for number in range(1, 12):
        size = chance.choice([512, FRAME, 3 * FRAME + 512, 5 * FRAME, MIB + FRAME, 3 * MIB + 100])
        at = chance.randrange(0, min(size, len(made[-1].content)), FRAME)
        length = min(FRAME, -(-(size - at) // 512) * 512)
        made.append(maker.increment(str(number), made[-1], {at: clusters()[:length]}, size=size))
    for each in made:
        with maker.open(each) as image:
            image.chain.check()
            assert image.devices[0].size == len(each.content)
            assert read(image) == each.content
            assert image.verify(chain=True, threads=1).ok
            for older in made:
                with maker.open(older) as other:
                    changed = bytearray(older.content[: len(each.content)])
                    changed = changed.ljust(len(each.content), b"\0")
                    for start, length, _ in image.diff(other):
                        changed[start : start + length] = each.content[start : start + length]
                    assert changed == each.content


def test_class_24_a_size_that_the_taken_over_map_does_not_have(maker: Maker) -> None:
    """A root page of the parent under a device of another size."""
    a = maker.full("a", clusters(8))
    for sectors in (-8, 8):
        with maker.open(a) as image:
            entry = image.devices[0].entry
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                "tests.chain.handmade._updated",
                lambda *_, moved=sectors, entry=entry: _forged_device(entry, moved),
            )
            b = maker.increment("b", a, {}, size=len(a.content) + sectors * 512)
        with maker.open(b) as image:
            with pytest.raises(FormatError, match="does not cover its device"):
                read(image)
            assert not image.verify(threads=1).ok


def _forged_device(entry: SealDevice, sectors: int) -> DeviceResult:
    counts = [0, 0, entry.data + sectors, 0, 0, 0]
    return DeviceResult(
        entry.size + sectors * 512, 512, entry.map_level, counts, entry.map_root, NO_REFERENCE
    )


def test_a_password_is_asked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many images there are: one derivation."""
    maker = Maker(sealed=True)
    *_, last = chain_of(maker)
    derived: list[int] = []
    real = keys._slot_keys

    def counting(*arguments: object) -> tuple[bytes, bytes]:
        derived.append(1)
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(keys, "_slot_keys", counting)
    with aipimage.volumes.image.open_image(last.path, PASSWORD, storage=maker.storage) as image:
        image.chain.check()
        for member in image.chain:
            with image.chain.open(member.image_id) as other:
                assert other.chain.ok
        assert image.verify(chain=True, threads=1).ok
    assert len(derived) == 1
