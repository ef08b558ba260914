"""Volumes that are not clean: mounted, crashed, frozen, claimed by another host."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.support import require_loop_devices
from tests.support.tools import mounted, require_programs, run
from tests.volumes.ext.built import BLOCK, JOURNAL, JOURNAL_INODE_AT, MMP, Built
from tests.volumes.ext.made import MIB, TOOLS, agree, look, make, reason


def test_class_50_a_journal_that_was_not_replayed() -> None:
    """Though the superblock does not say so; and a journal that cannot be read."""
    at = JOURNAL * BLOCK
    for offset, value, wanted in (
        (28, 1, "it was not replayed"),
        (32, 5, "it was ended by an error"),
        (0, 0, "it has no superblock"),
        (4, 1, "it has no superblock"),
    ):
        found = reason(Built().put(">I", at + offset, value).source())
        assert found == f"its journal cannot be trusted: {wanted}"


@pytest.mark.parametrize(
    ("state", "wanted"),
    [(0, "not cleanly unmounted"), (2, "errors"), (3, "errors"), (5, "0x5"), (0x21, "0x21")],
)
def test_class_50_states_that_are_not_clean(state: int, wanted: str) -> None:
    assert wanted in (reason(Built().set(s_state=state).source()) or "")


@pytest.mark.parametrize("sequence", [1, 0xE24D4D50, 0xE24D4D4F, 0])
def test_class_50_mounted_by_another_host(sequence: int) -> None:
    found = reason(Built().put("<I", MMP * BLOCK + 4, sequence).source())
    assert found == "a host has it mounted, or did not unmount it"


def test_class_50_journals_through_broken_extents() -> None:
    """Depths, counts and blocks of the journal's extents; trees that lead to themselves."""
    at = JOURNAL_INODE_AT + 40
    for form, offset, value in (
        ("<H", 0, 0), ("<H", 2, 0), ("<H", 2, 5), ("<H", 4, 6), ("<H", 6, 1), ("<H", 6, 6),
        ("<H", 6, 0xFFFF), ("<I", 12, 1), ("<H", 16, 0), ("<H", 16, 0xFFFF), ("<H", 18, 1),
        ("<I", 20, 0), ("<I", 20, 3899), ("<I", 20, 0xFFFFFFFF), ("<I", 20, 30),
    ):  # fmt: skip
        found = reason(Built().put(form, at + offset, value).source())
        assert found is not None, (offset, value)
        assert found.startswith("its journal cannot be trusted")
    itself = Built().put("<H", at + 6, 1).put("<IIHH", at + 12, 0, JOURNAL, 0, 0)
    itself.put("<HHHHIIIHH", JOURNAL * BLOCK, 0xF30A, 1, 84, 1, 0, 0, JOURNAL, 0, 0)
    assert "contradict" in (reason(itself.source()) or "")


@pytest.mark.parametrize("kind", ["ext2", "ext3", "ext4"])
def test_class_50_a_mounted_volume(kind: str, tmp_path: Path) -> None:
    """Without a journal it is whole while it is mounted; with one that was read it is not, nor when
    it is frozen or unmounted.
    """
    require_programs(*TOOLS, "fsfreeze")
    require_loop_devices()
    path, copy = make(tmp_path / "volume", 16 * MIB, "-t", kind), tmp_path / "copy"
    with mounted(path, tmp_path / "at", "-t", kind) as there:
        (there / "file").write_bytes(b"x" * 100_000)
        run(["sync", "-f", there])
        shutil.copyfile(path, copy)
        if kind == "ext2":
            assert reason(copy) == "it was not cleanly unmounted"
        else:
            assert "its journal was read" in look(copy)[1].notes[0]
        if kind != "ext2":
            run(["fsfreeze", "-f", there])
            shutil.copyfile(path, copy)
            run(["fsfreeze", "-u", there])
            agree(copy)
    agree(path)


@pytest.mark.parametrize("features", ["^orphan_file", "orphan_file"])
def test_class_50_a_frozen_volume_with_orphans(features: str, tmp_path: Path) -> None:
    """A file that is deleted and open keeps its blocks; the journal is clean, and so is the map."""
    require_programs(*TOOLS, "fsfreeze")
    require_loop_devices()
    path, copy = (
        make(tmp_path / "volume", 16 * MIB, "-t", "ext4", "-O", features),
        tmp_path / "copy",
    )
    with mounted(path, tmp_path / "at", "-t", "ext4") as there:
        file = os.open(there / "file", os.O_CREAT | os.O_WRONLY)
        os.write(file, b"x" * 1_000_000)
        os.fsync(file)
        (there / "file").unlink()
        run(["fsfreeze", "-f", there])
        shutil.copyfile(path, copy)
        run(["fsfreeze", "-u", there])
        os.close(file)
    _, frozen = agree(copy, checked=False)
    _, later = agree(path)
    assert frozen.free.total + 1_000_000 <= later.free.total
