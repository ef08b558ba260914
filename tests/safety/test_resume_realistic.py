"""Interrupted creations of realistic disks that are resumed (classes 29, 33 and 60)."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aipimage import split, verify_keyless
from aipimage.errors import RequestError, StorageError
from aipimage.io.creating.options import CreateOptions
from aipimage.io.increment import grouping, plan
from aipimage.io.merge.job import merge_images
from aipimage.io.system.storage import Storage, SystemCalls
from aipimage.volumes.image import open_image
from tests.safety.resuming import (
    Facts,
    StoppedError,
    chosen,
    cuts_of,
    digests_by_content,
    facts_of,
    given,
    interrupted,
    reads_of,
    records_of,
    run,
    start_of,
    stream_of,
    with_stream,
)
from tests.support.faults import Fault, FaultySystemCalls, each_fault
from tests.support.images import PATH
from tests.support.memory import ROOT, MemorySystem
from tests.support.realistic import STRIPE, RealisticDisk, changed, corpus_disk, mixed_disk

FIRST, THIRD, MERGED = f"{ROOT}/first.aiv", f"{ROOT}/third.aiv", f"{ROOT}/merged.aiv"


def left_near_the_end(
    disks: Sequence[RealisticDisk], options: CreateOptions, used: bool = False, back: int = 1
) -> tuple[dict[str, bytes], Facts]:
    """What a creation leaves that is stopped at one of the last reads; what the whole one is."""
    total = reads_of(MemorySystem(), disks, options, used=used)
    whole, system = MemorySystem(), MemorySystem()
    run(whole, given(disks, used), options)
    assert interrupted(system, disks, options, total - back, used=used)
    return system.snapshot(), facts_of(whole, options.password)


@pytest.mark.parametrize(("name", "stops"), [("hundreds", 2), ("half-random", 4)])
@pytest.mark.parametrize("every", [1, 1 << 20])
def test_class_60_stopped_at_some_stripes(name: str, stops: int, every: int) -> None:
    """Whatever number of stripes lies between two checkpoints."""
    disk, empty = corpus_disk(name), MemorySystem()
    options = chosen(checkpoint_bytes=every)
    total = reads_of(empty, [disk], options)
    whole = MemorySystem()
    run(whole, [disk], options)
    expected, resumed = facts_of(whole), 0
    for reads in range(total // stops, total, total // stops):
        system = MemorySystem()
        assert interrupted(system, [disk], options, reads)
        resumed += run(system, [disk], chosen(checkpoint_bytes=every, resume=True)).resumed
        assert facts_of(system) == expected
    assert resumed
    assert expected.contents == [disk.content().tobytes()]
    assert expected.digests == [digests_by_content(expected.contents[0])]


KINDS: dict[str, tuple[Callable[[], list[RealisticDisk]], str, dict[str, Any]]] = {
    "some": (lambda: [corpus_disk("some")], "plain", {}),
    "none": (lambda: [mixed_disk(9, 12)], "plain", {"block_digests": False}),
    "used": (lambda: [mixed_disk(12, 13, free=True)], "plain", {"used": True}),
    "bad": (lambda: [mixed_disk(12, 14, bad=5)], "plain", {}),
    "used and bad": (lambda: [mixed_disk(12, 15, bad=5, free=True)], "aes", {"used": True}),
    "several": (
        lambda: [mixed_disk(5, 16), mixed_disk(0, 17, tail=70_001), mixed_disk(4, 18, tail=0)],
        "aes",
        {},
    ),
    "gmac": (lambda: [mixed_disk(7, 19)], "gmac", {}),
    "parts": (lambda: [mixed_disk(7, 20)], "plain", {"split": 100_000}),
    "sealed parts": (lambda: [mixed_disk(5, 21)], "aes", {"split": 70_000}),
    "few checkpoints": (lambda: [mixed_disk(14, 22)], "plain", {"checkpoint_bytes": 600_000}),
    "large stripes": (lambda: [mixed_disk(9, 23)], "plain", {"stripe_shift": 22}),
    "one stripe": (lambda: [mixed_disk(0, 24, tail=900_003)], "plain", {}),
    "whole stripes": (lambda: [mixed_disk(7, 25, tail=0)], "aes", {}),
    "half-random": (lambda: [corpus_disk("half-random")], "plain", {"checkpoint_bytes": 1 << 20}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_class_60_cut_at_each_record(kind: str) -> None:
    """The partial image ends anywhere: it is resumed from the last whole checkpoint, or begun anew
    where there is none, and is what the image made in one go is.
    """
    make, name, more = KINDS[kind]
    disks, used = make(), more.get("used", False)
    values = {"checkpoint_bytes": 1, **more}
    values.pop("used", None)
    left, expected = left_near_the_end(disks, chosen(name, **values), used)
    assert expected.contents == [disk.content(used).tobytes() for disk in disks]
    resumed = 0
    cuts = sorted(set(cuts_of(left, 40)))
    for length in cuts[:: max(1, len(cuts) // 40)]:
        system = MemorySystem(with_stream(left, stream_of(left)[:length]))
        ends = [end for _, end, each in records_of(left, start_of(left)) if each == 7]
        result = run(system, given(disks, used), chosen(name, **values, resume=True))
        resumed += result.resumed
        assert result.resumed == any(end <= length for end in ends)
        assert facts_of(system, chosen(name).password) == expected, length
        assert not [path for path in system.files if path.endswith(".partial")]
    assert resumed or kind == "one stripe"


@pytest.mark.parametrize("name", ["plain", "aes"])
def test_resumed_again_and_again(name: str) -> None:
    """Each run is stopped some stripes after it began."""
    disks = [mixed_disk(3, 31), mixed_disk(16, 30)]
    whole, system = MemorySystem(), MemorySystem()
    run(whole, disks, chosen(name))
    runs = 0
    for stripe in (3, 5, 6, 10, 14):

        def stop(offset: int, limit: int = stripe * STRIPE) -> None:
            if offset >= limit:
                raise StoppedError

        disks[1].on_read = stop
        with pytest.raises(StoppedError):
            run(system, disks, chosen(name, checkpoint_bytes=1, resume=True))
        runs += 1
    disks[1].on_read = None
    assert run(system, disks, chosen(name, checkpoint_bytes=1, resume=True)).resumed
    password = chosen(name).password
    assert facts_of(system, password) == facts_of(whole, password)
    with open_image(PATH, password, storage=Storage(system)) as image:
        assert len(image.seal.origins) == runs + 1


# Increments

METHODS = ("tracked", "digests", "data")
GROWN = {"same": 0, "grown": 2 * STRIPE + 70_000, "shrunk": -(STRIPE + 5000)}
CHAINS: dict[str, tuple[str, dict[str, Any], str, dict[str, Any]]] = {
    "plain": ("plain", {}, "same", {}),
    "aes": ("aes", {}, "same", {}),
    "gmac": ("gmac", {}, "grown", {}),
    "grown": ("plain", {}, "grown", {}),
    "shrunk": ("aes", {}, "shrunk", {}),
    "used": ("plain", {"free": True}, "grown", {}),
    "bad": ("plain", {"bad": 4}, "same", {}),
    "no digests": ("plain", {}, "same", {"block_digests": False}),
    "parts": ("aes", {}, "same", {"split": 40_000}),
}


def chain_of(
    case: str, method: str
) -> tuple[MemorySystem, list[RealisticDisk], CreateOptions, bool]:
    """A full image of two disks, and how to make the next image of what became of them."""
    name, shape, size, more = CHAINS[case]
    used = bool(shape.get("free"))
    disks = [mixed_disk(14, 40, **shape), mixed_disk(3, 41, name="sdb")]
    system = MemorySystem()
    run(system, given(disks, used), chosen(name, **more), FIRST)
    later = [changed(disks[0], 5, GROWN[size]), changed(disks[1], 6)]
    ways: dict[str, Any] = {"compare": method}
    if method == "tracked":
        ways = {"changed": [told for _, told in later]}
    ways |= {"kind": "incremental", "parent": FIRST, "encrypt": None, **more}
    if "block_digests" in more:
        del ways["block_digests"]
    options = chosen(name, checkpoint_bytes=1, **ways)
    return system, [disk for disk, _ in later], options, used


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", CHAINS)
def test_class_60_an_increment_cut_at_each_record(
    case: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Likewise, and as the next point of its chain."""
    if case == "no digests" and method == "digests":
        return  # There is nothing to compare with.
    # Small groups and pieces, so that there are checkpoints in small disks.
    monkeypatch.setattr(grouping, "GROUP", 50_000)
    monkeypatch.setattr(plan, "PIECE", STRIPE)
    base, disks, options, used = chain_of(case, method)
    total = reads_of(base, disks, options, used=used)
    whole = MemorySystem(base.snapshot())
    run(whole, given(disks, used), options)
    expected = facts_of(whole, options.password)
    assert expected.contents == [disk.content(used).tobytes() for disk in disks]
    assert interrupted(base, disks, options, total - 1, used=used)
    left, resumed = base.snapshot(), 0
    ends = [end for _, end, each in records_of(left, start_of(left)) if each == 7]
    cuts = sorted(set(cuts_of(left, 10)))
    for length in cuts[:: max(1, len(cuts) // 12)]:
        system = MemorySystem(with_stream(left, stream_of(left)[:length]))
        result = run(system, given(disks, used), replace(options, resume=True))
        resumed += result.resumed
        assert result.resumed == any(end <= length for end in ends)
        assert facts_of(system, options.password) == expected, length
    assert resumed


def test_a_resumed_image_in_its_chain(tmp_path: Path) -> None:
    """It is a parent, is merged, split and verified as any other."""
    disk, system = mixed_disk(12, 50), MemorySystem()
    assert interrupted(system, [disk], chosen("aes", checkpoint_bytes=1), 9, FIRST)
    again = chosen("aes", checkpoint_bytes=1, resume=True)
    assert run(system, [disk], again, FIRST).resumed
    later, _ = changed(disk, 1)
    step = chosen("aes", parent=FIRST, encrypt=None, checkpoint_bytes=1)
    assert interrupted(system, [later], step, reads_of(system, [later], step) - 1)
    assert run(system, [later], replace(step, resume=True)).resumed
    last, _ = changed(later, 2, 3 * STRIPE)
    third = chosen("aes", parent=PATH, encrypt=None)
    run(system, [last], third, THIRD)
    storage, password = Storage(system), third.password
    for path, content in ((FIRST, disk), (PATH, later), (THIRD, last)):
        assert facts_of(system, password, path).contents == [content.content().tobytes()]
        assert verify_keyless(path, storage=storage).ok
    merge_images(MERGED, [FIRST, PATH], password=password, storage=storage)
    assert facts_of(system, password, MERGED).contents == [later.content().tobytes()]
    for path, data in system.snapshot().items():
        (tmp_path / os.path.basename(path)).write_bytes(data)
    first, parts = tmp_path / os.path.basename(FIRST), tmp_path / "parts.aiv"
    split(first, parts, 100_000)
    with open_image(parts, password) as image:
        assert image.verify().ok
        assert image.devices[0].open().readall() == disk.content().tobytes()


@pytest.mark.parametrize("kind", ["full", "differential"])
@pytest.mark.parametrize("name", ["plain", "aes"])
def test_class_60_other_kinds_in_a_chain(
    name: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full image inside a chain has leaves of its own; a differential one has not."""
    monkeypatch.setattr(grouping, "GROUP", 50_000)
    monkeypatch.setattr(plan, "PIECE", STRIPE)
    base, disks, options, _ = chain_of(name, "digests")
    options = replace(options, kind=kind, compare="auto")
    total = reads_of(base, disks, options)
    whole = MemorySystem(base.snapshot())
    run(whole, disks, options)
    expected = facts_of(whole, options.password)
    assert expected.contents == [disk.content().tobytes() for disk in disks]
    assert interrupted(base, disks, options, total - 1)
    left, resumed = base.snapshot(), 0
    cuts = sorted(set(cuts_of(left, 20)))
    for length in cuts[:: max(1, len(cuts) // 10)]:
        system = MemorySystem(with_stream(left, stream_of(left)[:length]))
        resumed += run(system, disks, replace(options, resume=True)).resumed
        assert facts_of(system, options.password) == expected, length
    assert resumed


def test_a_full_image_in_place_of_an_increment_is_resumed() -> None:
    """Whoever gives the same command again asks for an increment again."""
    disk, system = mixed_disk(14, 80), MemorySystem()
    run(system, [disk], chosen(), FIRST)
    step = chosen(parent=FIRST, checkpoint_bytes=1)
    run(system, [disk], step, THIRD)
    away = system.files.pop(FIRST)
    later, _ = changed(disk, 8)
    step = replace(step, parent=THIRD)
    total = reads_of(system, [later], step)
    assert interrupted(system, [later], step, total - 1)
    left = system.snapshot()
    made = run(system, [later], replace(step, resume=True))
    assert (made.kind, made.resumed, made.sequence) == ("full", True, 2)
    assert "could not be read" in str(made.changes[0].reason)
    assert facts_of(system).contents == [later.content().tobytes()]
    # Also where the parent can be read again; an increment of another kind is another image.
    system = MemorySystem({**left, FIRST: bytes(away)})
    assert run(system, [later], replace(step, resume=True)).kind == "full"
    system = MemorySystem({**left, FIRST: bytes(away)})
    with pytest.raises(RequestError):
        run(system, [later], replace(step, resume=True, kind="differential", parent=FIRST))
    assert system.snapshot() == {**left, FIRST: bytes(away)}


@pytest.mark.parametrize("name", ["plain", "aes"])
def test_class_57_the_partial_image_cannot_be_read(name: str) -> None:
    """A disk that fails is no torn end: nothing is cut because of it."""
    disks = [mixed_disk(7, 81)]
    left, _ = left_near_the_end(disks, chosen(name, checkpoint_bytes=1))
    again = chosen(name, checkpoint_bytes=1, resume=True)

    def scenario(inner: SystemCalls) -> None:
        assert isinstance(inner, FaultySystemCalls)
        inner.inner = MemorySystem(left)
        run(inner, disks, again)

    refused = 0
    for fault in each_fault(scenario, kinds=("preadv",)):
        system = MemorySystem(left)
        try:
            run(FaultySystemCalls(fault, inner=system), disks, again)
        except StorageError:
            refused += 1
            assert PATH not in system.files
            run(system, disks, again)
        assert facts_of(system, again.password).contents == [disks[0].content().tobytes()]
    assert refused


def test_class_57_what_cannot_be_read_is_not_cut() -> None:
    disks = [mixed_disk(7, 82)]
    left, _ = left_near_the_end(disks, chosen(checkpoint_bytes=1))
    again = chosen(checkpoint_bytes=1, resume=True)
    for at in range(4):
        system = MemorySystem(left)
        fault = Fault(at, kinds=("preadv",), permanent=True)
        with pytest.raises(StorageError):
            run(FaultySystemCalls(fault, inner=system), disks, again)
        assert system.snapshot() == left
