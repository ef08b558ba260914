"""The judges can say no: each of them finds what it is there to find, in disks made by qemu-img."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from aipimage import vmdk
from aipimage.io.blocks.sources import open_source
from tests.support.tools import require_programs
from tests.support.virtual import judge as checkers
from tests.support.virtual.disks import GRAIN, MIB, SECTOR, SMALL, Disk
from tests.support.virtual.judge import Case, Tally
from tests.vmdk.matrix.test_roundtrips import QEMU, to_vmdk_by_qemu

FULL = next(disk for disk in SMALL if disk.name.startswith("full"))


def made_by_qemu(disk: Disk, subformat: str, folder: Path) -> Case:
    raw = disk.make(folder / "source.raw")
    return Case(subformat, disk, raw, to_vmdk_by_qemu(raw, folder / "disk.vmdk", subformat))


def changed(path: Path, offset: int) -> None:
    """Flip the lowest bit of a byte."""
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1]))


def data_file(case: Case) -> Path:
    """The file with the data of a disk of one extent."""
    found = [path for path in case.path.parent.glob("disk*.vmdk") if path != case.path]
    return found[0] if found else case.path


@pytest.mark.parametrize("name", ["qemu-img compare", "libvmdk read-back", "reader"])
@pytest.mark.parametrize("subformat", [each for each in QEMU if each != "streamOptimized"])
def test_a_changed_byte_is_found(name: str, subformat: str, tmp_path: Path) -> None:
    require_programs(*checkers.PROGRAMS)
    case = made_by_qemu(FULL, subformat, tmp_path)
    check = {**checkers.OTHERS, **checkers.OURS}[name]
    assert check(case) == "ok"
    file = data_file(case)
    changed(file, file.stat().st_size - 3 * SECTOR)
    with pytest.raises(AssertionError):
        check(case)


LOOKS_AT_DATA = {**checkers.OTHERS, **checkers.OURS}
del LOOKS_AT_DATA["vmdkinfo"]  # It reads the descriptor alone.


@pytest.mark.parametrize("name", LOOKS_AT_DATA)
def test_a_cut_disk_is_found(name: str, tmp_path: Path) -> None:
    """A stream that lacks its last third."""
    require_programs(*checkers.PROGRAMS)
    source = open_source(FULL.make(tmp_path / "source.raw"))
    path = tmp_path / "disk.vmdk"
    try:
        vmdk.write(path, source, subformat="streamOptimized")
    finally:
        source.close()
    case = Case("streamOptimized", FULL, tmp_path / "source.raw", path)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size * 2 // 3 // SECTOR * SECTOR)
    try:
        word = LOOKS_AT_DATA[name](case)
    except Exception:
        return
    assert word == "not asked"


def test_a_disk_of_another_size_is_found(tmp_path: Path) -> None:
    require_programs(*checkers.PROGRAMS)
    case = made_by_qemu(FULL, "monolithicSparse", tmp_path)
    other = replace(case, disk=replace(FULL, size=FULL.size + GRAIN))
    for check in (checkers.qemu_info, checkers.vmdkinfo, checkers.libvmdk_read, checkers.reader):
        assert check(case) == "ok"
        with pytest.raises(AssertionError):
            check(other)


def test_lint_alone_misses_the_end_of_stream_marker(tmp_path: Path) -> None:
    """qemu's streams have none: qemu-img and libvmdk are content, importers and lint are not."""
    require_programs(*checkers.PROGRAMS)
    case = made_by_qemu(FULL, "streamOptimized", tmp_path)
    for check in (checkers.qemu_check, checkers.qemu_compare, checkers.libvmdk_read):
        assert check(case) == "ok"
    with pytest.raises(AssertionError):
        checkers.lint(case)


def test_the_table_counts_words() -> None:
    tally = Tally()
    for word in ("ok", "ok", "not asked"):
        tally.add("vmfs", "7-Zip", word)
    tally.add("vmfs", "reader", "ok")
    assert tally.table().splitlines()[-1] == "| vmfs | 1 not asked, 2 ok | 1 ok |"
    assert tally.table().count("\n") == 3


def test_disks_hold_what_their_names_say(tmp_path: Path) -> None:
    sizes = {disk.name: disk.size for disk in SMALL}
    assert len(sizes) == len(SMALL)
    assert min(sizes.values()) == SECTOR
    contents = {disk.name: disk.make(tmp_path / "raw").read_bytes() for disk in SMALL}
    assert not any(contents["empty, 40 MiB"])
    assert all(any(contents["full, 8 MiB"][at : at + GRAIN]) for at in range(0, 8 * MIB, GRAIN))
    assert not any(contents["last sector only, 100 MiB"][:-SECTOR])
    assert any(contents["last sector only, 100 MiB"][-SECTOR:])
