"""A password change that is cut short leaves the old set or the new one (class 32)."""

from __future__ import annotations

import errno
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from aipimage.errors import StorageError
from aipimage.io.records import keys
from aipimage.io.stream import passwords
from aipimage.io.system.storage import Storage, SystemCalls
from tests.crypto.made import CHEAP, write_image
from tests.crypto.test_passwords import copies, opens
from tests.support.crash import RecordingSystemCalls, crash_states
from tests.support.faults import Fault, FaultySystemCalls, each_fault

change_password = partial(passwords.change_password, parameters=CHEAP)


@pytest.fixture(autouse=True)
def remembered_derivations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Derive each (password, salt) once: there are thousands of openings below."""
    known: dict[tuple[bytes, bytes], tuple[bytes, bytes]] = {}
    real = keys._slot_keys

    def remembering(slot: keys.Slot, secret: bytes, chain_id: bytes) -> tuple[bytes, bytes]:
        place = (slot.salt, secret)
        if place not in known:
            known[place] = real(slot, secret, chain_id)
        return known[place]

    monkeypatch.setattr(keys, "_slot_keys", remembering)


def state_of(path: Path, *candidates: str) -> str:
    """Return the one password that opens the image."""
    found = [password for password in candidates if opens(path, password)]
    assert len(found) == 1, f"{found} of {candidates} open the image"
    return found[0]


def each_crash(
    recorder: RecordingSystemCalls, scratch: Path, shuffles: int = 6
) -> list[tuple[tuple[str, ...], Path]]:
    return [
        (state.marks, state.materialise(scratch / f"{number}") / "disk.aiv")
        for number, state in enumerate(crash_states(recorder, shuffles=shuffles, tears=7))
    ]


@pytest.mark.parametrize("split", [False, True])
def test_class_32_power_cut_at_every_point(tmp_path: Path, split: bool) -> None:
    root = tmp_path / "disk"
    root.mkdir()
    path = write_image(root / "disk.aiv", "old", split=split)
    system = RecordingSystemCalls(root)
    change_password(path, "old", "new", storage=Storage(system))
    system.mark("new")
    (tmp_path / "states").mkdir()
    seen = set()
    for marks, crashed in each_crash(system, tmp_path / "states"):
        data = crashed.read_bytes()[128 if split else 0 :]
        crashed.write_bytes(data)
        found = state_of(crashed, "old", "new")
        assert found == "new" or not marks
        seen.add(found)
    assert seen == {"old", "new"}


def test_class_32_a_change_after_a_cut_change(tmp_path: Path) -> None:
    """Any crash of one change, then a second one with any crash: never neither, never two."""
    root = tmp_path / "disk"
    root.mkdir()
    path = write_image(root / "disk.aiv", "old")
    system = RecordingSystemCalls(root)
    change_password(path, "old", "new", storage=Storage(system))
    (tmp_path / "first").mkdir()
    for number, (_, crashed) in enumerate(each_crash(system, tmp_path / "first")):
        before = state_of(crashed, "old", "new")
        again = RecordingSystemCalls(crashed.parent)
        change_password(crashed, before, "last", storage=Storage(again))
        again.mark("last")
        scratch = tmp_path / f"second{number}"
        scratch.mkdir()
        for marks, twice in each_crash(again, scratch):
            found = state_of(twice, "old", "new", "last")
            assert found == "last" if marks else found in (before, "last")


def test_class_32_a_change_after_one_that_was_never_synced(tmp_path: Path) -> None:
    """The process dies between write and sync; the next change meets bytes that may not last."""
    root = tmp_path / "disk"
    root.mkdir()
    path = write_image(root / "disk.aiv", "old")
    recorder = RecordingSystemCalls(root)
    dying = FaultySystemCalls(Fault(0, errno.EIO, ("fsync",)), inner=recorder)
    with pytest.raises(StorageError):
        change_password(path, "old", "new", storage=Storage(dying))
    before = state_of(path, "old", "new")
    assert before == "new"
    change_password(path, before, "last", storage=Storage(recorder))
    recorder.mark("last")
    (tmp_path / "states").mkdir()
    for marks, crashed in each_crash(recorder, tmp_path / "states", shuffles=250):
        found = state_of(crashed, "old", "new", "last")
        assert found == "last" or not marks


@pytest.mark.parametrize(
    "options",
    [
        {"errnos": (errno.EIO, errno.ENOSPC)},
        {"errnos": (errno.EIO,), "kinds": ("pwritev",), "short": True},
        {"errnos": (errno.EIO,), "permanent": True},
        {"errnos": (errno.EINTR,)},
        {"errnos": (0,), "kinds": ("preadv", "pwritev"), "short": True},
    ],
)
def test_class_32_every_call_fails_once(tmp_path: Path, options: dict[str, object]) -> None:
    path = tmp_path / "disk.aiv"

    def scenario(system: SystemCalls) -> None:
        write_image(path, "old")
        change_password(path, "old", "new", storage=Storage(system))

    faults = list(each_fault(scenario, **options))  # type: ignore[arg-type]
    assert faults
    for fault in faults:
        run_with(scenario, fault, path)


def run_with(scenario: Callable[[SystemCalls], None], fault: Fault, path: Path) -> None:
    failure = None
    try:
        scenario(FaultySystemCalls(fault))
    except StorageError as error:
        failure = str(error)
    if failure is None:
        assert state_of(path, "old", "new") == "new"
        assert copies(path)[0] == copies(path)[1]
    else:
        assert failure.count("disk.aiv") == 1
        assert state_of(path, "old", "new") in ("old", "new")
    # Whatever happened: the next change works, and leaves two equal copies.
    change_password(path, state_of(path, "old", "new"), "later")
    assert copies(path)[0] == copies(path)[1]
    assert state_of(path, "old", "new", "later") == "later"
