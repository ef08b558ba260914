"""The harness that stops operations knows every call, and its ways to end differ."""

from __future__ import annotations

from typing import Any

from aipimage.io.system.storage import Storage
from tests.support.faults import KINDS
from tests.support.memory import ROOT
from tests.support.stopping import HARMLESS, STEPS, WAYS, stops

BASE = {f"{ROOT}/old": b"old" * 1000}


def operation(storage: Storage, progress: Any) -> None:
    """Replace a file as it should be done."""
    with storage.create(f"{ROOT}/new") as file:
        file.pwrite(b"1" * 2048, 0)
        file.pwrite(b"2" * 2048, 2048)
        file.sync()
    storage.rename(f"{ROOT}/new", f"{ROOT}/old")
    storage.sync_directory(ROOT)


def test_each_call_is_known() -> None:
    """A call that changes the disk, and that nobody records, would be left out of every test."""
    assert sorted([*STEPS, *HARMLESS]) == sorted(KINDS)


def test_what_is_left() -> None:
    left = {way: [each.files for each in stops(operation, BASE, ways=(way,))] for way in WAYS[:3]}
    new = b"1" * 2048 + b"2" * 2048
    contents = {each.get(f"{ROOT}/new") for each in left["killed"]}
    assert contents == {None, b"", b"1" * 2048, new}
    torn = {each.get(f"{ROOT}/new") for each in left["power"]} - contents
    assert torn
    for found in left.values():
        olds = {each[f"{ROOT}/old"] for each in found}
        assert olds <= {BASE[f"{ROOT}/old"], new}
        assert len(found) == len({frozenset(each.items()) for each in found})
    assert new in {each[f"{ROOT}/old"] for each in left["killed"]}
