"""Files that others laid where an interrupted job leaves its own: nothing is followed, used or
changed, and the error names the file.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

import aipimage
from aipimage import RequestError, TargetError
from aipimage.io.blocks.sinks import open_target
from aipimage.io.blocks.sources import open_source
from aipimage.io.changes.wholefile import write_whole
from aipimage.io.system.storage import DEFAULT, File, Storage, SystemCalls
from aipimage.tracking import ChangeTracker
from aipimage.vmdk.writing.job import write_vmdk

MIB = 1 << 20
needs_root = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives files to others"
)


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk.raw"
    path.write_bytes(b"".join(bytes([k]) * 4096 + os.urandom(4096) for k in range(1, 200)))
    return path


@pytest.fixture
def victim(tmp_path: Path, disk: Path) -> Path:
    """A finished image that the stranger leads to."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    aipimage.create(folder / "whole.aiv", [disk])
    return folder / "whole.aiv"


def link(name: Path, victim: Path) -> None:
    name.symlink_to(victim)


def dangling(name: Path, victim: Path) -> None:
    name.symlink_to(victim.parent / "nothing")


def hard_link(name: Path, victim: Path) -> None:
    name.hardlink_to(victim)


def pipe(name: Path, _: Path) -> None:
    os.mkfifo(name)


def directory(name: Path, _: Path) -> None:
    name.mkdir()


def open_to_all(name: Path, victim: Path) -> None:
    name.write_bytes(victim.read_bytes())
    name.chmod(0o666)


def of_another_group(name: Path, victim: Path) -> None:
    name.write_bytes(victim.read_bytes())
    os.chown(name, -1, 12345)
    name.chmod(0o664)


def of_another_user(name: Path, victim: Path) -> None:
    name.write_bytes(victim.read_bytes())
    os.chown(name, 12345, 12345)


STRANGERS = {
    link: "is a symbolic link",
    dangling: "is a symbolic link",
    hard_link: "2 names",
    pipe: "is a named pipe",
    directory: "is a directory",
    open_to_all: "can be written by others",
    of_another_group: "can be written by others",
    of_another_user: "belongs to user 12345",
}
OWNED = {of_another_group, of_another_user}
Lay = Callable[[Path, Path], None]


EACH_STRANGER = [
    pytest.param(lay, id=lay.__name__, marks=[needs_root] if lay in OWNED else [])
    for lay in STRANGERS
]


def merge(disk: Path, out: Path, **options: Any) -> None:
    first, second = out.parent / "0.aiv", out.parent / "1.aiv"
    if not first.exists():
        aipimage.create(first, [disk])
        aipimage.create(second, [disk], parent=first)
    aipimage.merge(out, [first, second], **options)


def split(disk: Path, out: Path) -> None:
    aipimage.create(out.parent / "one.aiv", [disk], overwrite=True)
    aipimage.split(out.parent / "one.aiv", out, 64 << 10)


def repair(disk: Path, out: Path) -> None:
    aipimage.create(out.parent / "hurt.aiv", [disk], overwrite=True)
    aipimage.repair(out.parent / "hurt.aiv", out)


def restore(disk: Path, out: Path) -> None:
    aipimage.create(out.parent / "one.aiv", [disk], overwrite=True)
    with aipimage.open(out.parent / "one.aiv") as image:
        image.restore(out, force=True)


def flat(disk: Path, out: Path) -> None:
    write_vmdk(out, open_source(disk), subformat="monolithicFlat", resume=True)


JOBS: dict[str, tuple[Callable[[Path, Path], Any], str]] = {
    "create": (lambda d, o: aipimage.create(o, [d]), ".partial"),
    "create --resume": (lambda d, o: aipimage.create(o, [d], resume=True), ".partial"),
    "create, a part": (lambda d, o: aipimage.create(o, [d], split=64 << 10), ".002.partial"),
    "merge": (merge, ".partial"),
    "merge, its note": (merge, ".partial.state"),
    "merge --no-resume": (lambda d, o: merge(d, o, resume=False), ".partial"),
    "convert to raw": (lambda d, o: aipimage.convert(d, o, format="raw"), ".partial"),
    "convert to raw --resume": (
        lambda d, o: aipimage.convert(d, o, format="raw", resume=True),
        ".partial",
    ),
    "convert to vmdk": (lambda d, o: aipimage.convert(d, o, format="vmdk"), ".partial"),
    "convert to vmdk, its state": (
        lambda d, o: aipimage.convert(d, o, format="vmdk", resume=True),
        ".partial.state",
    ),
    "convert to a stream": (
        lambda d, o: write_vmdk(o, open_source(d), subformat="streamOptimized", resume=True),
        ".partial",
    ),
    "convert to an appliance": (lambda d, o: aipimage.convert(d, o, format="ova"), ".partial"),
    "split": (split, ".partial"),
    "split, a part": (split, ".003.partial"),
    "repair": (repair, ".partial"),
    "restore": (restore, ".partial"),
    "a flat disk": (flat, ".partial"),
}


def state_of(path: Path) -> tuple[Any, ...]:
    """What must stay as it is, content aside."""
    found = path.lstat()
    return stat.S_IFMT(found.st_mode), found.st_ino, found.st_size, found.st_mtime_ns, found.st_mode


@pytest.mark.timeout(120)
@pytest.mark.parametrize("lay", EACH_STRANGER)
@pytest.mark.parametrize("job", JOBS)
def test_a_stranger_stays_and_is_named(
    job: str, lay: Lay, disk: Path, victim: Path, tmp_path: Path
) -> None:
    run, suffix = JOBS[job]
    room = tmp_path / "room"
    room.mkdir()
    out = room / "out.aiv"
    name = Path(f"{out}{suffix}")
    lay(name, victim)
    before, content = state_of(name), victim.read_bytes()
    with pytest.raises(TargetError) as caught:
        run(disk, out)
    assert str(caught.value).startswith(f"{name}: ")
    assert STRANGERS[lay] in str(caught.value)
    assert "move it away" in str(caught.value)
    assert state_of(name) == before
    assert victim.read_bytes() == content
    assert sorted(os.listdir(victim.parent)) == ["whole.aiv"]
    assert not out.exists()
    assert not list(room.glob(".aipimage-*"))


@pytest.mark.parametrize("suffix", [".state", ".state.new", ".state.partial"])
def test_a_link_for_a_small_file_leads_nowhere(
    suffix: str, disk: Path, victim: Path, tmp_path: Path
) -> None:
    """Checkpoints are written during the job: refused, or replaced without being followed."""
    content = victim.read_bytes()
    Path(f"{tmp_path}/out.raw.partial{suffix}").symlink_to(victim)
    with (
        mock.patch("aipimage.converting.rawfile.CHECKPOINT_BYTES", 4096),
        mock.patch("aipimage.vmdk.writing.job.CHECKPOINT_BYTES", 4096),
    ):
        for form, resume in (("raw", False), ("raw", True), ("vmdk", False), ("vmdk", True)):
            out = tmp_path / "out.raw"
            try:
                aipimage.convert(disk, out, format=form, resume=resume, overwrite=True)
            except TargetError as error:
                assert ".partial.state: is a symbolic link" in str(error)  # noqa: PT017
    assert victim.read_bytes() == content


@pytest.mark.parametrize("lay", EACH_STRANGER)
def test_a_tracker_of_a_stranger(lay: Lay, victim: Path, tmp_path: Path) -> None:
    name = tmp_path / "vm.track"
    lay(name, victim)
    content = victim.read_bytes()
    with pytest.raises(aipimage.AipImageError):
        ChangeTracker.open(name)
    assert victim.read_bytes() == content


@pytest.mark.parametrize("lay", EACH_STRANGER)
def test_a_small_file_beside_a_stranger(lay: Lay, victim: Path, tmp_path: Path) -> None:
    lay(tmp_path / "changes.partial", victim)
    content, before = victim.read_bytes(), state_of(tmp_path / "changes.partial")
    with pytest.raises(TargetError, match="move it away"):
        write_whole(DEFAULT, tmp_path / "changes", [b"x"], replace=True)
    assert victim.read_bytes() == content
    assert state_of(tmp_path / "changes.partial") == before


def test_a_state_that_is_no_state_is_refused_with_all_kept(disk: Path, tmp_path: Path) -> None:
    partial = tmp_path / "out.raw.partial"
    partial.write_bytes(b"work of many hours")
    (tmp_path / "out.raw.partial.state").write_text("{")
    with pytest.raises(RequestError, match=r"out\.raw\.partial\.state: is not the state"):
        aipimage.convert(disk, tmp_path / "out.raw", format="raw", resume=True)
    assert partial.read_bytes() == b"work of many hours"


# How Storage.open_left judges


def left(path: Path, mode: int = 0o644) -> Path:
    path.write_bytes(b"left")
    path.chmod(mode)
    return path


def opened(path: Path, storage: Storage = DEFAULT) -> File:
    file = storage.open_left(path)
    assert file is not None
    return file


def test_what_is_ours_is_opened(tmp_path: Path) -> None:
    with opened(left(tmp_path / "a")) as file:
        file.pwrite(b"more", 0)
    assert (tmp_path / "a").read_bytes() == b"more"
    assert DEFAULT.open_left(tmp_path / "none") is None
    assert DEFAULT.open_left(tmp_path / "a" / "none") is None


def test_a_group_that_is_our_own_may_write(tmp_path: Path) -> None:
    """As with umask 002 and a group of one's own."""
    path = left(tmp_path / "a", 0o664)
    os.chown(path, -1, os.getegid())
    with opened(path):
        pass


@needs_root
def test_what_the_folder_makes_of_every_file_is_no_stranger(tmp_path: Path) -> None:
    """A folder with set-group-id and umask 002 gives each of our files its group."""
    tmp_path.chmod(0o2775)
    os.chown(tmp_path, -1, 12345)
    old = os.umask(0o002)
    try:
        (tmp_path / "a").write_bytes(b"left")
        with opened(tmp_path / "a"):
            pass
        assert os.listdir(tmp_path) == ["a"]
        left(tmp_path / "a", 0o666)
        with pytest.raises(TargetError, match="can be written by others"):
            DEFAULT.open_left(tmp_path / "a")
    finally:
        os.umask(old)


class Mapping(SystemCalls):
    """A file system on which all belongs to one user and may be written by all."""

    def _mapped(self, found: os.stat_result) -> os.stat_result:
        values = list(found)
        values[0] |= 0o777
        values[4] = 65534
        return os.stat_result(values, {"st_blocks": 0, "st_rdev": 0, "st_mtime_ns": 0})

    def lstat(self, path: str) -> os.stat_result:
        return self._mapped(super().lstat(path))

    def fstat(self, descriptor: int) -> os.stat_result:
        return self._mapped(super().fstat(descriptor))


def test_a_file_system_without_owners(tmp_path: Path) -> None:
    with opened(left(tmp_path / "a"), Storage(Mapping())):
        pass
    assert os.listdir(tmp_path) == ["a"]
    (tmp_path / "b").hardlink_to(tmp_path / "a")
    with pytest.raises(TargetError, match="2 names"):
        Storage(Mapping()).open_left(tmp_path / "a")


def test_a_link_that_is_laid_while_it_is_opened(tmp_path: Path) -> None:
    """Between looking and opening the name becomes a link."""
    name, victim = left(tmp_path / "a"), left(tmp_path / "victim")

    class Swapping(SystemCalls):
        def open(self, path: str, flags: int, mode: int = 0o666) -> int:
            name.unlink()
            name.symlink_to(victim)
            return super().open(path, flags, mode)

    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(TargetError, match="is a symbolic link"):
        Storage(Swapping()).open_left(name)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_hard_link_that_is_laid_while_it_is_opened(tmp_path: Path) -> None:
    name, victim = left(tmp_path / "a"), left(tmp_path / "victim")

    class Swapping(SystemCalls):
        def open(self, path: str, flags: int, mode: int = 0o666) -> int:
            name.unlink()
            name.hardlink_to(victim)
            return super().open(path, flags, mode)

    with pytest.raises(TargetError, match="2 names"):
        Storage(Swapping()).open_left(name)


def test_a_target_that_a_user_names_may_be_a_link(tmp_path: Path) -> None:
    """Only names that can be guessed are guarded: what a user names is followed."""
    left(tmp_path / "disk")
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    sink = open_target(tmp_path / "link", 4, force=True)
    sink.write(b"mine", 0)
    sink.finish()
    assert (tmp_path / "disk").read_bytes() == b"mine"
