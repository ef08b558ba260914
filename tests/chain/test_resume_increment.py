"""Increments that were interrupted and go on, or are refused to (docs/format.md, section 11)."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest

from aipimage.errors import AipImageError, PasswordError, RequestError
from aipimage.format.constants import RecordType
from aipimage.io.creating.results import CreateResult
from aipimage.io.increment import grouping
from aipimage.io.increment import plan as planning
from aipimage.io.merge.job import merge_images
from aipimage.io.system.storage import Storage, SystemCalls
from tests.safety.test_resume import records_of, resealed
from tests.support.faults import FaultySystemCalls, each_fault
from tests.support.images import MIB, PASSWORD
from tests.support.memory import MemorySystem
from tests.support.memorychains import Disk, at, change, check, make

SIZE = 10 * MIB + 700
PARTIAL = at("1.aiv.partial")
METHODS: dict[str, dict[str, Any]] = {
    "tracked": {},
    "digests": {"compare": "digests"},
    "data": {"compare": "data"},
}
NAMES = ["plain", "aes", "split"]


class StoppedError(BaseException):
    """What a test stops a creation with."""


@pytest.fixture(autouse=True)
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small pieces, and groups that end with each of them."""
    monkeypatch.setattr(grouping, "GROUP", 1 << 12)
    monkeypatch.setattr(planning, "PIECE", MIB)
    # The sample is random, and these tests count reads.
    monkeypatch.setattr(planning, "SAMPLES", 0)


def disks() -> list[Disk]:
    """One of five pieces with all that changes in them; a small one; one of two pieces."""
    found = []
    for number, size in enumerate((SIZE, 5000, 2 * MIB)):
        data = bytearray(size)
        chance = random.Random(number)
        for _ in range(20):
            change(data, chance)
        found.append(Disk(bytes(data), f"sd{number}"))
    return found


def began(name: str = "plain", **more: Any) -> tuple[MemorySystem, list[Disk], list[Any]]:
    """A full image, and the disks with changes since: data, zeros, bad sectors; in every piece."""
    system, sources = MemorySystem(), disks()
    make(system, "0.aiv", sources, protected=name, **more)
    told = []
    for number, source in enumerate(sources):
        chance, places = random.Random(number + 50), []
        for start in range(0, source.size - 4000, MIB // 2):
            piece = chance.randbytes(3000) if start % MIB else bytes(3000)
            source.write(start + 123, piece)
            places.append((start + 123, 3000))
        told.append(places)
    sources[0].bad = [(MIB + 512, 512), (8 * MIB, 1024)]
    told[0] = [(0, SIZE)]
    return system, sources, told


def run(
    system: SystemCalls, sources: Sequence[Disk], told: Any, method: str, name: str, **more: Any
) -> CreateResult:
    chosen: dict[str, Any] = {
        "checkpoint_bytes": 1,
        "checkpoint_seconds": 1e9,
        "kind": "incremental",
        **METHODS[method],
        **more,
    }
    if method == "tracked":
        chosen["changed"] = told
    return make(system, "1.aiv", sources, chosen.pop("parent_name", "0.aiv"), name, **chosen)


def reads_of(base: MemorySystem, sources: Sequence[Disk], told: Any, method: str, name: str) -> int:
    """How many reads a creation takes."""
    for source in sources:
        source.reads.clear()
    run(MemorySystem(base.snapshot()), sources, told, method, name)
    return sum(len(source.reads) for source in sources)


def interrupt(
    system: SystemCalls,
    sources: Sequence[Disk],
    told: Any,
    method: str,
    name: str,
    reads: int,
    **more: Any,
) -> bool:
    """Create until the n-th read; return whether it was interrupted."""
    left = reads

    def stop(offset: int) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise StoppedError

    for source in sources:
        source.on_read = stop
    try:
        run(system, sources, told, method, name, **more)
    except StoppedError:
        return True
    finally:
        for source in sources:
            source.on_read = None
    return False


def assert_right(system: MemorySystem, sources: Sequence[Disk], name: str) -> None:
    word = PASSWORD if name != "plain" else None
    check(system, "1.aiv", [source.content() for source in sources], word, sources[0].bad)
    assert not [path for path in system.files if path.endswith(".partial")]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("method", METHODS)
def test_class_60_stopped_at_many_reads(method: str, name: str) -> None:
    resumed = 0
    base, sources, told = began(name)
    total = reads_of(base, sources, told, method, name)
    for reads in range(0, total, max(1, total // 14)):
        system = MemorySystem(base.snapshot())
        assert interrupt(system, sources, told, method, name, reads)
        assert at("1.aiv") not in system.files
        result = run(system, sources, told, method, name, resume=True)
        resumed += result.resumed
        assert_right(system, sources, name)
    assert resumed >= 3, "no resume went on from a checkpoint"


def test_the_last_piece_is_never_before_its_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several pieces of little data make one group, which ends behind its last boundary."""
    monkeypatch.setattr(grouping, "GROUP", 1 << 20)
    base, sources, told = began()
    resumed = 0
    for method in METHODS:
        total = reads_of(base, sources, told, method, "plain")
        for reads in (total - 1, total - 2):
            system = MemorySystem(base.snapshot())
            assert interrupt(system, sources, told, method, "plain", reads)
            resumed += run(system, sources, told, method, "plain", resume=True).resumed
            assert_right(system, sources, "plain")
    assert resumed


def test_methods_and_reasons_may_differ_when_it_goes_on() -> None:
    """What was done before the checkpoint is kept, whatever the rest is found by."""
    base, sources, told = began()
    for before in METHODS:
        for after in METHODS:
            system = MemorySystem(base.snapshot())
            reads = reads_of(base, sources, told, before, "plain") - 1
            assert interrupt(system, sources, told, before, "plain", reads)
            result = run(system, sources, told, after, "plain", resume=True, grain=512)
            assert_right(system, sources, "plain")
            assert result.unreadable_ranges


@pytest.mark.parametrize("method", METHODS)
def test_interrupted_again_and_again(method: str) -> None:
    system, sources, told = began("aes")
    total = reads_of(system, sources, told, method, "aes")
    times = 0
    for reads in (total * 9 // 10, total // 2, total // 3, total // 9):
        times += interrupt(system, sources, told, method, "aes", reads, resume=True)
        if at("1.aiv") in system.files:
            break
    else:
        assert run(system, sources, told, method, "aes", resume=True).resumed
    assert times > 1
    assert_right(system, sources, "aes")
    altered = random.Random(8)
    place = change(sources[0].data, altered)
    sources[0].bad = []
    made = make(system, "2.aiv", sources, "1.aiv", "aes", changed=[[place], [], []])
    assert made.sequence == 2
    check(system, "2.aiv", [source.content() for source in sources], PASSWORD)


def test_what_a_resumed_image_says() -> None:
    """All that changed counts, from before and after; it lies in two origins of one file."""
    system, sources, told = began()
    other = MemorySystem(system.snapshot())
    whole = run(other, sources, told, "digests", "plain")
    reads = reads_of(system, sources, told, "digests", "plain")
    assert interrupt(system, sources, told, "digests", "plain", reads - 1)
    result = run(system, sources, told, "digests", "plain", resume=True)
    assert result.resumed
    assert (result.data, result.zero, result.unreadable) == (
        whole.data,
        whole.zero,
        whole.unreadable,
    )
    assert [each.changed for each in result.changes] == [each.changed for each in whole.changes]
    assert sorted(result.unreadable_ranges) == sorted(whole.unreadable_ranges)
    merge_images(at("m.aiv"), [at("0.aiv"), at("1.aiv")], remove=True, storage=Storage(system))
    contents = [source.content() for source in sources]
    check(system, "m.aiv", contents, bad=sources[0].bad)


# Refusals


def left(name: str = "plain", **more: Any) -> tuple[MemorySystem, list[Disk], list[Any]]:
    system, sources, told = began(name)
    reads = reads_of(system, sources, told, "digests", name)
    assert interrupt(system, sources, told, "digests", name, reads - 1, **more)
    assert PARTIAL in system.files
    return system, sources, told


def test_class_33_another_parent_or_kind_is_refused() -> None:
    system, sources, told = left()
    make(system, "b.aiv", sources, "0.aiv")
    make(system, "c.aiv", disks())
    before = system.snapshot()
    others: list[dict[str, Any]] = [
        {"parent_name": "b.aiv"},
        {"parent_name": "c.aiv"},
        {"kind": "differential"},
        {"kind": "full"},
        {"split": 32_768},
    ]
    for other in others:
        with pytest.raises(AipImageError):
            run(system, sources, told, "digests", "plain", resume=True, **other)
        assert system.snapshot() == before, other
    with pytest.raises(RequestError, match="another kind"):
        make(system, "1.aiv", sources, resume=True)
    assert system.snapshot() == before
    run(system, sources, told, "digests", "plain", resume=True)
    assert_right(system, sources, "plain")


def test_class_33_a_parent_of_the_same_name_is_refused() -> None:
    """The parent's file is another image now."""
    system, sources, told = left()
    del system.files[at("0.aiv")]
    make(system, "0.aiv", disks())
    before = system.snapshot()
    with pytest.raises(AipImageError):
        run(system, sources, told, "digests", "plain", resume=True)
    assert system.snapshot() == before


@pytest.mark.parametrize("how", ["mark", "size", "content", "more", "less", "order"])
def test_class_33_another_source_is_refused(how: str) -> None:
    system, sources, told = left()
    before = system.snapshot()
    given = list(sources)
    if how == "mark":
        given[2].mark += 1
    elif how == "size":
        given[2].resize(given[2].size + 512)
        given[2].mark -= 1
    elif how == "content":
        for start in range(0, SIZE, 4096):
            given[0].data[start] ^= 1
    elif how == "more":
        given.append(Disk(b"x" * 512))
    elif how == "less":
        given.pop()
    else:
        given.reverse()
    with pytest.raises(RequestError):
        run(system, given, told, "digests", "plain", resume=True)
    assert at("1.aiv") not in system.files
    assert system.files[at("0.aiv")] == before[at("0.aiv")]


def test_another_password_is_refused() -> None:
    system, sources, told = left("aes")
    before = system.snapshot()
    with pytest.raises(PasswordError):
        run(system, sources, told, "digests", "aes", resume=True, password="wrong")
    assert system.snapshot() == before


def test_a_partial_file_of_another_chain_is_refused() -> None:
    """Keys of the parent's chain open nothing of another one."""
    system, sources, told = left("aes")
    partial = system.files[PARTIAL]
    other, _, _ = began("aes")
    other.files[PARTIAL] = partial
    before = other.snapshot()
    with pytest.raises(AipImageError):
        run(other, sources, told, "digests", "aes", resume=True)
    assert other.snapshot() == before


def test_without_resuming_it_begins_anew() -> None:
    system, sources, told = left()
    result = run(system, sources, told, "digests", "plain")
    assert not result.resumed
    assert_right(system, sources, "plain")


# Damage to what was left


def test_a_partial_file_cut_or_damaged_anywhere() -> None:
    """Right, or a typed error; a plain one that is cut is always gone on with."""
    system, sources, told = left("aes")
    partial, base = bytes(system.files[PARTIAL]), system.snapshot()
    wrong = 0
    for place in range(0, len(partial), max(1, len(partial) // 10)):
        for damage in ("cut", "flip"):
            system = MemorySystem(base)
            if damage == "cut":
                del system.files[PARTIAL][place:]
            else:
                system.files[PARTIAL][place] ^= 4
            try:
                run(system, sources, told, "digests", "aes", resume=True)
            except AipImageError:
                wrong += 1
                assert at("1.aiv") not in system.files
                continue
            # A copy of the key area that is damaged stays so; verification tells.
            contents = [source.content() for source in sources]
            check(system, "1.aiv", contents, PASSWORD, sources[0].bad, verify=place > 16_384)
    assert wrong < 10


def test_class_33_forged_notes_and_frames_that_overlap() -> None:
    """Without a suite anybody can write a partial file whose digests are right."""
    system, sources, told = left()
    partial = bytes(system.files[PARTIAL])
    refused = 0
    for place, length, kind in records_of(partial):
        if kind != RecordType.CHECKPOINT or length <= 56 + 56:
            continue
        # Device, count and sector; then the place, the length and the kind of a note.
        for inside, value in (
            (48, 1),
            (96, 0),
            (104, 1 << 40),
            (96, 9 << 48),
            (112, 2),
            (48, 1 << 50),
        ):
            again = MemorySystem(system.snapshot())
            forged = resealed(partial, place, length, inside, value.to_bytes(8, "little"))
            # Without what follows nothing but the checkpoint itself tells.
            again.files[PARTIAL] = bytearray(forged[: place + length])
            try:
                run(again, sources, told, "digests", "plain", resume=True)
            except AipImageError:
                refused += 1
                assert at("1.aiv") not in again.files
    assert refused


@pytest.mark.parametrize("method", METHODS)
def test_a_resuming_run_fails_at_each_write(method: str) -> None:
    system, sources, told = began()
    reads = reads_of(system, sources, told, method, "plain")
    assert interrupt(system, sources, told, method, "plain", reads - 1)
    base = system.snapshot()

    def scenario(inner: SystemCalls) -> None:
        assert isinstance(inner, FaultySystemCalls)
        inner.inner = MemorySystem(base)
        run(inner, sources, told, method, "plain", resume=True)

    for fault in list(each_fault(scenario, kinds=("pwritev", "ftruncate")))[::4]:
        system = MemorySystem(base)
        with pytest.raises(AipImageError):
            run(FaultySystemCalls(fault, inner=system), sources, told, method, "plain", resume=True)
        assert at("1.aiv") not in system.files
        run(system, sources, told, method, "plain", resume=True)
        assert_right(system, sources, "plain")
