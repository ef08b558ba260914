"""Finding parents: by CID, where it is allowed, and every reason to refuse."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from aipimage.errors import (
    AipImageError,
    FormatError,
    IncompleteError,
    LimitError,
    RequestError,
    StorageError,
)
from aipimage.io.system.storage import DEFAULT, Storage, SystemCalls
from aipimage.vmdk import opening, parents
from aipimage.vmdk.descriptor import NO_PARENT
from aipimage.vmdk.opening import open_vmdk
from tests.support.faults import FaultySystemCalls, each_fault
from tests.support.virtual.esx import Grains, disk

EMPTY = Grains(512)


def small(
    path: Path,
    cid: int,
    parent: int = NO_PARENT,
    hint: str | None = None,
    kind: str = "cowd",
    mark: int = 0,
) -> Path:
    """A disk of 100 sectors whose first byte is its mark, or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    grain = 65536 if kind == "hosted" else 4096 if kind == "sesparse" else 512
    data = {0: bytes([mark]) * grain} if mark else {}
    return disk(path, kind, 100, Grains(grain, data), cid, parent, hint)


def first_byte(path: Path, search: Sequence[Path] = (), *, allow_outside: bool = False) -> int:
    with open_vmdk(path, search=search, allow_outside=allow_outside) as source:
        data = bytearray(512)
        source.read_into(data, 0)
        return data[0]


@pytest.mark.parametrize(
    "hint", ["base.vmdk", "/vmfs/volumes/5f/vm/base.vmdk", r"C:\VMs\vm\base.vmdk", "../x/base.vmdk",
             "./base.vmdk", None, "", "..", "/", "renamed.vmdk", "x" * 5000, "\udcff.vmdk"]
)  # fmt: skip
def test_a_parent_beside_its_delta(tmp_path: Path, hint: str | None) -> None:
    small(tmp_path / "base.vmdk", 7, mark=9)
    assert first_byte(small(tmp_path / "delta.vmdk", 8, 7, hint)) == 9


@pytest.mark.parametrize("kind", ["hosted", "cowd", "sesparse", "flat"])
@pytest.mark.parametrize("hint", ["base.vmdk", None])
def test_a_parent_in_a_directory_to_search(tmp_path: Path, kind: str, hint: str | None) -> None:
    small(tmp_path / "b" / "base.vmdk", 7, kind=kind, mark=9)
    delta = small(tmp_path / "a" / "delta.vmdk", 8, 7, hint)
    with pytest.raises(IncompleteError, match="00000007 is neither beside it nor"):
        open_vmdk(delta)
    assert first_byte(delta, [tmp_path / "empty-not", tmp_path / "b"][1:]) == 9


def test_a_parent_of_the_same_name_elsewhere(tmp_path: Path) -> None:
    """Workstation's linked clones: the delta's own last name is the hint's."""
    small(tmp_path / "b" / "disk.vmdk", 7, mark=9)
    delta = small(tmp_path / "a" / "disk.vmdk", 7, 7, "/b/disk.vmdk")
    with pytest.raises(IncompleteError, match="pass the parent's directory"):
        open_vmdk(delta)
    assert first_byte(delta, [tmp_path / "b"]) == 9


def test_every_member_is_looked_for_in_all_directories(tmp_path: Path) -> None:
    small(tmp_path / "c" / "base.vmdk", 1, mark=5)
    small(tmp_path / "b" / "middle.vmdk", 2, 1)
    delta = small(tmp_path / "a" / "delta.vmdk", 3, 2, "middle.vmdk")
    assert first_byte(delta, [tmp_path / "c", tmp_path / "b"]) == 5


def test_the_hint_decides_among_disks_of_one_cid(tmp_path: Path) -> None:
    """A delta has its parent's CID until it is written to: so has the one above it."""
    small(tmp_path / "base.vmdk", 7, mark=1)
    small(tmp_path / "d1.vmdk", 7, 7, "base.vmdk", mark=2)
    assert first_byte(small(tmp_path / "d2.vmdk", 7, 7, "d1.vmdk")) == 2
    assert first_byte(small(tmp_path / "d3.vmdk", 7, 7, "base.vmdk")) == 1
    with pytest.raises(RequestError, match=r"base\.vmdk and .*both have the CID 00000007"):
        open_vmdk(small(tmp_path / "d4.vmdk", 8, 7, "gone.vmdk"))


def test_one_file_by_several_names_is_one_candidate(tmp_path: Path) -> None:
    base = small(tmp_path / "base.vmdk", 7, mark=4)
    os.link(base, tmp_path / "same.vmdk")
    (tmp_path / "link.vmdk").symlink_to("base.vmdk")
    delta = small(tmp_path / "delta.vmdk", 8, 7)
    assert first_byte(delta, [tmp_path, tmp_path / "." / "x" / ".."][:1]) == 4


def test_a_disk_opened_by_a_link_has_its_parent_where_it_lies(tmp_path: Path) -> None:
    small(tmp_path / "a" / "base.vmdk", 7, mark=4)
    delta = small(tmp_path / "a" / "delta.vmdk", 8, 7, "base.vmdk", kind="hosted")
    (tmp_path / "link.vmdk").symlink_to(delta)
    assert first_byte(tmp_path / "link.vmdk") == 4


def test_a_parent_that_was_changed_is_refused_by_name(tmp_path: Path) -> None:
    small(tmp_path / "base.vmdk", 0xAB, mark=1)
    delta = small(tmp_path / "delta.vmdk", 8, 7, "base.vmdk")
    with pytest.raises(
        FormatError, match=r"base\.vmdk: was changed after the delta .*000000ab, not"
    ):
        open_vmdk(delta)
    # A copy from before the change, by any name, is the parent all the same.
    small(tmp_path / "backup" / "old.vmdk", 7, mark=3)
    assert first_byte(delta, [tmp_path / "backup"]) == 3


def test_a_hint_at_what_is_no_virtual_disk(tmp_path: Path) -> None:
    (tmp_path / "base.img").write_bytes(bytes(51200))
    with pytest.raises(FormatError, match=r"base\.img: is not a virtual disk"):
        open_vmdk(small(tmp_path / "delta.vmdk", 8, 7, "base.img"))


def test_class_16_self_parents_and_cycles(tmp_path: Path) -> None:
    own = small(tmp_path / "own.vmdk", 7, 7, "own.vmdk")
    with pytest.raises(FormatError, match="its own parent"):
        open_vmdk(own)
    a = small(tmp_path / "x" / "a.vmdk", 1, 2, "b.vmdk")
    small(tmp_path / "x" / "b.vmdk", 2, 1, "a.vmdk")
    with pytest.raises(FormatError, match=r"b\.vmdk: its parent .*a\.vmdk is built on it"):
        open_vmdk(a)
    c = small(tmp_path / "y" / "c.vmdk", 1, 2)
    small(tmp_path / "y" / "d.vmdk", 2, 1)
    with pytest.raises(FormatError, match="is built on it"):
        open_vmdk(c)


def test_class_17_a_chain_that_is_too_deep(tmp_path: Path) -> None:
    for number in range(257):
        small(tmp_path / f"{number}.vmdk", number + 1, number or NO_PARENT, f"{number - 1}.vmdk")
    with pytest.raises(LimitError, match="over 256 disks"):
        open_vmdk(tmp_path / "256.vmdk")


@pytest.mark.parametrize(
    "hint", ["{}/base.vmdk", "../outside/base.vmdk", "link.vmdk", "dir/base.vmdk"]
)
def test_class_21_hints_lead_nowhere_else(tmp_path: Path, hint: str) -> None:
    """Absolute, climbing out, a link to a file, a link to a folder."""
    outside = tmp_path / "outside"
    small(outside / "base.vmdk", 7, mark=6)
    home = tmp_path / "home"
    delta = small(home / "delta.vmdk", 8, 7, hint.format(outside))
    (home / "link.vmdk").symlink_to(outside / "base.vmdk")
    (home / "dir").symlink_to(outside)
    with pytest.raises(IncompleteError, match="00000007"):
        open_vmdk(delta)
    if not hint.startswith("link"):
        assert first_byte(delta, allow_outside=True) == 6
        assert first_byte(delta, [outside]) == 6


def test_a_parent_in_a_folder_below(tmp_path: Path) -> None:
    small(tmp_path / "parents" / "base.vmdk", 7, mark=6)
    assert first_byte(small(tmp_path / "delta.vmdk", 8, 7, "parents/base.vmdk")) == 6


def test_class_21_what_else_lies_in_the_folder(tmp_path: Path) -> None:
    """Pipes, folders, dead links, devices, damaged disks, long texts: all are passed by."""
    os.mkfifo(tmp_path / "0-pipe.vmdk")
    (tmp_path / "1-folder.vmdk").mkdir()
    (tmp_path / "2-link.vmdk").symlink_to("nowhere")
    (tmp_path / "3-null.vmdk").symlink_to("/dev/null")
    (tmp_path / "4.vmdk").write_bytes(b"KDMV" + b"\xff" * 508)
    (tmp_path / "5.vmdk").write_bytes(b"# Disk DescriptorFile\nCID=7\n")
    (tmp_path / "6.vmdk").write_bytes(b"# Disk DescriptorFile\n" + b"#" * 100)
    with (tmp_path / "7.vmdk").open("wb") as file:
        file.write(b"# Disk DescriptorFile\nCID=7\ncreateType=x\n")
        file.truncate(1 << 40)
    (tmp_path / "8.vmdk").write_bytes(b"")
    small(tmp_path / "base.vmdk", 7, mark=6)
    assert first_byte(small(tmp_path / "delta.vmdk", 8, 7)) == 6
    assert first_byte(small(tmp_path / "delta.vmdk", 8, 7, "0-pipe.vmdk")) == 6


def test_class_22_a_parent_replaced_between_check_and_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = small(tmp_path / "base.vmdk", 7, mark=1)
    delta = small(tmp_path / "delta.vmdk", 8, 7, "base.vmdk")
    found = parents.find_chain

    def and_replace(*args: object, **kwargs: object) -> tuple[parents.Member, ...]:
        chain = found(*args, **kwargs)  # type: ignore[arg-type]
        small(base, 99, mark=2)
        return chain

    monkeypatch.setattr(opening, "find_chain", and_replace)
    with pytest.raises(FormatError, match="was changed while the chain was opened"):
        open_vmdk(delta)


def test_too_many_files_to_look_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parents, "FILES_MAX", 20)
    small(tmp_path / "base.vmdk", 7, mark=1)
    for number in range(20):
        (tmp_path / f"z{number}").touch()
    with pytest.raises(LimitError, match="over 20 files"):
        open_vmdk(small(tmp_path / "delta.vmdk", 8, 7))
    assert first_byte(small(tmp_path / "delta.vmdk", 8, 7, "base.vmdk")) == 1


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    small(tmp_path / "base.vmdk", 7)
    delta = small(tmp_path / "delta.vmdk", 8, 7)
    with pytest.raises(AipImageError, match="nowhere"):
        open_vmdk(delta, search=[tmp_path / "nowhere"])


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_class_57_every_failing_call_while_a_chain_is_opened(tmp_path: Path) -> None:
    """Each is an error of ours or makes no difference, and no file stays open."""
    small(tmp_path / "base.vmdk", 1, mark=1, kind="hosted")
    small(tmp_path / "middle.vmdk", 2, 1, mark=2)
    delta = small(tmp_path / "delta.vmdk", 3, 2, "middle.vmdk", kind="sesparse")

    def scenario(system: SystemCalls) -> int:
        with open_vmdk(delta, storage=Storage(system)) as source:
            data = bytearray(512)
            source.read_into(data, 0)
            return data[0]

    assert scenario(SystemCalls()) == 2
    before, failed = open_files(), 0
    for fault in each_fault(scenario):
        try:
            assert scenario(FaultySystemCalls(fault)) == 2
        except AipImageError:
            failed += 1
    assert failed > 10
    assert open_files() == before


def test_find_chain_names_what_it_found(tmp_path: Path) -> None:
    base = small(tmp_path / "base.vmdk", 1, kind="hosted")
    delta = small(tmp_path / "delta.vmdk", 2, 1)
    with DEFAULT.open_read(delta) as file:
        descriptor = parents.descriptor_in(file)
    assert descriptor is not None
    found = parents.find_chain(delta, descriptor)
    assert [(each.path, each.descriptor.cid) for each in found] == [(str(delta), 2), (str(base), 1)]
    with pytest.raises(StorageError):
        parents.find_chain(tmp_path / "gone", descriptor)
