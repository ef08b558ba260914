"""Converting realistic disks, stopped at every step and gone on with: the same files in the end."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest

from aipimage import ConvertOptions
from aipimage.converting import rawfile, targets
from aipimage.converting.convert import convert
from aipimage.errors import TargetError
from aipimage.io.reading import copying
from aipimage.io.records import keys
from aipimage.io.system.storage import Storage
from aipimage.vmdk import feed
from aipimage.vmdk.writing.job import write_vmdk
from tests.support.images import remember_derivations
from tests.support.memory import ROOT
from tests.support.memorychains import at
from tests.support.realistic import corpus_disk
from tests.support.realistic_chains import RealisticChain, chain_of
from tests.support.stopping import SharedMemory, Stop, stops

MIB = 1 << 20


class Case(NamedTuple):
    """What is converted: a disk of the corpus, or an image of a chain of it; to which target."""

    disk: str
    protected: str | None
    target: str
    options: dict[str, Any]
    most: int = 10


def vmdk(subformat: str, **more: Any) -> dict[str, Any]:
    return {"subformat": subformat, "cid": 0x1234_ABCD} | more


CASES = {
    "raw of an increment": Case("some", "zstd", "t.raw", {}),
    "raw of encrypted parts": Case("some", "split", "t.raw", {}),
    "raw of used clusters": Case("used", "plain", "t.raw", {}, most=6),
    "raw of raw": Case("whole sectors", None, "t.raw", {}),
    "stream": Case("whole sectors, used and bad", "aes", "t.vmdk", vmdk("streamOptimized")),
    "stream of raw": Case("half-random", None, "t.vmdk", vmdk("streamOptimized")),
    "sparse": Case("whole sectors", "zstd", "t.vmdk", vmdk("monolithicSparse")),
    "flat": Case("whole stripes", "zstd", "t.vmdk", vmdk("monolithicFlat")),
    "sparse extents": Case(
        "whole sectors", "zstd", "t.vmdk", vmdk("twoGbMaxExtentSparse", split=5 * MIB)
    ),
    "flat extents": Case(
        "whole stripes", "plain", "t.vmdk", vmdk("twoGbMaxExtentFlat", split=5 * MIB)
    ),
    "vmfs": Case("whole stripes", "plain", "t.vmdk", vmdk("vmfs")),
    "appliance": Case("whole sectors", "zstd", "t.ova", {"appliance": {}}, most=8),
    "appliance with files": Case("whole sectors", "zstd", "t.ovf", {"appliance": {}}, most=8),
}


@pytest.fixture(scope="module", autouse=True)
def derivations_are_remembered() -> Iterator[None]:
    """Derive each key once; the real function is put back for the other tests."""
    real = keys._slot_keys
    remember_derivations()
    yield
    keys._slot_keys = real


@pytest.fixture(autouse=True)
def many_checkpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint as often as there can be one; small batches, so that there are many."""
    often = functools.partial(write_vmdk, checkpoint_bytes=1, checkpoint_seconds=1e9)
    monkeypatch.setattr(targets, "write_vmdk", often)
    monkeypatch.setattr(rawfile, "CHECKPOINT_BYTES", 300_000)
    monkeypatch.setattr(copying, "BATCH", 256 << 10)
    monkeypatch.setattr(feed, "_WINDOW", 16)
    monkeypatch.setattr(feed, "_ENOUGH", 4)


def sources(case: Case) -> tuple[dict[str, bytes], str, str | None, np.ndarray]:
    """Files, the source among them, its password, and what it must read as."""
    if case.protected is None:
        disk = corpus_disk(case.disk)
        return {at("s.img"): disk.data.tobytes()}, at("s.img"), None, disk.data
    chain: RealisticChain = chain_of(case.disk, 3, case.protected, sizes=case.disk == "some")
    disk = chain.disks[2]
    return chain.files, at("2.aiv"), chain.password, disk.content(used=bool(disk.free))


def made_of(case: Case, files: Any) -> dict[str, bytes]:
    """The files of the target, by name."""
    return {
        path.removeprefix(ROOT + "/"): bytes(data)
        for path, data in files.items()
        if path.startswith(at("t"))
    }


def check_appliance(case: Case, system: SharedMemory, content: np.ndarray) -> None:
    """It names the time it was made at: what it holds is compared, and that is read back."""
    if case.target.endswith(".ovf"):
        (source,) = [p for p in system.files if p.startswith(at("t")) and p.endswith(".vmdk")]
    else:
        source = at(case.target)
    convert(source, at("back.raw"), ConvertOptions(), storage=Storage(system))
    back = system.files.pop(at("back.raw"))
    assert back[: len(content)] == content.tobytes()


@pytest.mark.parametrize("name", CASES)
def test_stopped_at_many_steps(name: str) -> None:
    check_all(CASES[name], CASES[name].most)


@pytest.mark.long
@pytest.mark.parametrize("name", CASES)
def test_stopped_at_every_step(name: str) -> None:
    check_all(CASES[name], 10**9)


def check_all(case: Case, most: int) -> None:
    """Go on, and begin anew, after each stop."""
    files, source, password, content = sources(case)
    resumable = case.options.get("appliance") != {}

    def run(storage: Storage, progress: Any, resume: bool = True) -> Any:
        return convert(
            source,
            at(case.target),
            ConvertOptions(
                password=password, threads=1, resume=resume and resumable, **case.options
            ),
            progress=progress,
            storage=storage,
        )

    whole = SharedMemory(files)
    run(Storage(whole), None)
    wanted = made_of(case, whole.files)
    if case.target == "t.raw":
        assert wanted["t.raw"] == content.tobytes()
    else:
        check_appliance(case, whole, content)
    resumed = []
    for number, stop in enumerate(stops(run, files, most=most)):
        for resume in (True, False) if number % 4 == 0 else (True,):
            check_again(case, stop, files, run, resume, wanted, content, resumed)
    assert not resumable or sum(resumed) > 2


def check_again(
    case: Case,
    stop: Stop,
    files: Any,
    run: Any,
    resume: bool,
    wanted: dict[str, bytes],
    content: np.ndarray,
    resumed: list[bool],
) -> None:
    """Nothing that looks whole is not; what is done again has the result of the first time."""
    system = stop.system()
    for path, data in files.items():
        assert stop.files[path] == data, f"{stop}: {path} was changed"
    if at(case.target) in stop.files:
        found = made_of(case, stop.files)
    else:
        assert not stop.done
        named = [p for p in made_of(case, stop.files) if ".partial" not in p]
        if named and case.target.endswith(".ovf"):
            with pytest.raises(TargetError, match="is already there"):
                run(Storage(system), None, resume)
            return
        made = run(Storage(system), None, resume)
        if resume:
            resumed.append(made.resumed)
        found = made_of(case, system.files)
        assert not [p for p in found if ".partial" in p], f"{stop}: left over"
    if case.options.get("appliance") == {}:
        system.files.update({at(p): bytearray(d) for p, d in found.items()})
        check_appliance(case, system, content)
    else:
        leftovers = {p: d for p, d in found.items() if ".partial" not in p}
        assert leftovers == wanted, f"{stop}: other bytes"


def between_names() -> tuple[SharedMemory, Any]:
    """A disk of which some extents bear their names; and what converts it."""
    case = CASES["flat extents"]
    files, source, password, _ = sources(case)

    def run(storage: Storage, progress: Any) -> Any:
        return convert(
            source,
            at("t.vmdk"),
            ConvertOptions(password=password, threads=1, resume=True, **case.options),
            storage=storage,
        )

    for stop in stops(run, files, ways=("killed",)):
        if at("t-f002.vmdk") in stop.files and at("t-f003.vmdk.partial") in stop.files:
            return stop.system(), run
    raise AssertionError("no such state")


def test_an_extent_of_somebody_else_stays() -> None:
    """Only what the note tells of is taken back."""
    system, run = between_names()
    theirs = system.files[at("t-f002.vmdk")] = bytearray(b"theirs" * 99)
    with pytest.raises(TargetError, match=r"t-f002\.vmdk: is already there"):
        run(Storage(system), None)
    assert system.files[at("t-f002.vmdk")] == theirs == b"theirs" * 99


NOTES = [
    b"",
    b"{",
    b"[" * 100_000,
    b"7",
    b'{"what": "aipimage vmdk names 1", "extents": 5}',
    b'{"what": "aipimage vmdk names 1", "extents": {"../2.aiv": [1, 2], "2.aiv": "x"}}',
    b"\xff\xfe",
]


@pytest.mark.parametrize("text", NOTES)
def test_class_33_a_forged_note(text: bytes) -> None:
    """It is no note, or names what is not there: nothing is renamed."""
    system, run = between_names()
    system.files[at("t.vmdk.partial.names")] = bytearray(text)
    before = system.snapshot()
    with pytest.raises(TargetError, match="is already there"):
        run(Storage(system), None)
    assert system.snapshot() == before
