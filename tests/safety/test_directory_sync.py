"""Directories that cannot be synced: the file is whole and durable, so it is a warning; a directory
whose sync fails is an error.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import aipimage
from aipimage import StorageError
from aipimage.io.blocks.sources import open_source
from aipimage.io.system.storage import Storage, SystemCalls
from aipimage.retention import KeepRules, carry_out, plan, points_of
from aipimage.tracking import ChangeTracker
from aipimage.vmdk.ovf import write_ova, write_ovf
from aipimage.vmdk.writing.job import write_vmdk

CODES = ("EOPNOTSUPP", "ENOTSUP", "ENOSYS", "EINVAL", "ENOTTY")
SAYS = "the directory cannot be synced"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A disk, a chain of two images, a damaged one; made while directories can be synced."""
    folder = tmp_path_factory.mktemp("made")
    disk = folder / "disk.raw"
    disk.write_bytes(b"".join(bytes([k]) * 4096 + os.urandom(4096) for k in range(1, 100)))
    aipimage.create(folder / "0.aiv", [disk])
    aipimage.create(folder / "1.aiv", [disk], parent=folder / "0.aiv")
    shutil.copy(folder / "0.aiv", folder / "hurt.aiv")
    return folder


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[str]:
    code: str = request.param
    number, real = getattr(errno, code), os.fsync

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    return code


def restored(made: Path, out: Path) -> Any:
    with aipimage.open(made / "0.aiv") as image:
        return image.restore(out)


def volume(made: Path, out: Path) -> Any:
    with aipimage.open(made / "0.aiv") as image:
        return image.restore_volume(out)


JOBS: dict[str, Callable[[Path, Path], Any]] = {
    "create": lambda m, o: aipimage.create(o, [m / "disk.raw"]),
    "create in parts": lambda m, o: aipimage.create(o, [m / "disk.raw"], split=64 << 10),
    "increment": lambda m, o: aipimage.create(o, [m / "disk.raw"], parent=m / "0.aiv", search=[m]),
    "merge": lambda m, o: aipimage.merge(o, [m / "0.aiv", m / "1.aiv"]),
    "split": lambda m, o: aipimage.split(m / "0.aiv", o, 64 << 10),
    "join": lambda m, o: aipimage.join(m / "0.aiv", o),
    "repair": lambda m, o: aipimage.repair(m / "hurt.aiv", o),
    "restore": restored,
    "restore a volume": volume,
    "convert to raw": lambda m, o: aipimage.convert(m / "0.aiv", o, format="raw"),
    "convert to vmdk": lambda m, o: aipimage.convert(m / "0.aiv", o, format="vmdk"),
    "convert to aiv": lambda m, o: aipimage.convert(m / "disk.raw", o, format="aiv"),
    "convert to ova": lambda m, o: aipimage.convert(m / "0.aiv", o, format="ova"),
    "write_vmdk": lambda m, o: write_vmdk(o, open_source(m / "disk.raw")),
    "write_ova": lambda m, o: write_ova(o, [open_source(m / "disk.raw")]),
    "write_ovf": lambda m, o: write_ovf(f"{o}.ovf", [open_source(m / "disk.raw")]),
}


@pytest.mark.parametrize("failing", ["EOPNOTSUPP", "ENOSYS"], indirect=True)
@pytest.mark.parametrize("job", JOBS)
def test_a_warning_on_the_result(job: str, failing: str, made: Path, tmp_path: Path) -> None:
    result = JOBS[job](made, tmp_path / "out")
    said = [text for text in result.warnings if SAYS in text]
    assert len(said) == 1, failing
    assert str(tmp_path) in said[0]
    assert os.strerror(getattr(errno, failing)) in said[0]
    assert not list(tmp_path.glob("*.partial*"))


@pytest.mark.parametrize("failing", CODES, indirect=True)
def test_whatever_the_system_calls_it(failing: str, made: Path, tmp_path: Path) -> None:
    result = aipimage.create(tmp_path / "a.aiv", [made / "disk.raw"])
    assert [SAYS in text for text in result.warnings] == [True], failing
    with aipimage.open(tmp_path / "a.aiv") as image:
        assert image.verify().ok


@pytest.mark.parametrize("failing", ["EIO", "ENOSPC", "EDQUOT"], indirect=True)
@pytest.mark.parametrize("job", JOBS)
def test_a_sync_that_fails_is_an_error(job: str, failing: str, made: Path, tmp_path: Path) -> None:
    with pytest.raises(StorageError) as caught:
        JOBS[job](made, tmp_path / "out")
    assert caught.value.errno == getattr(errno, failing)


@pytest.mark.parametrize("failing", ["EOPNOTSUPP"], indirect=True)
def test_what_has_no_result_works_too(failing: str, made: Path, tmp_path: Path) -> None:
    """Trackers, files of changes, retention."""
    del failing
    tracker = ChangeTracker.create(tmp_path / "vm.track", size=1 << 20)
    tracker.mark(0, 4096)
    tracker.close()
    ChangeTracker.open(tmp_path / "vm.track", size=1 << 20).close()
    for name in ("0.aiv", "1.aiv"):
        shutil.copy(made / name, tmp_path / name)
    found = plan(points_of(aipimage.find_chain(tmp_path)), KeepRules.parse("last=1"))
    assert carry_out(found)
    assert not (tmp_path / "0.aiv").exists()


@pytest.mark.parametrize("code", ["EOPNOTSUPP", "EIO"])
def test_the_command(code: str, made: Path, tmp_path: Path) -> None:
    """A scheduled job sees exit status 0, and a warning."""
    script = (
        "import errno, os, stat, sys\n"
        "real = os.fsync\n"
        "def fsync(fd):\n"
        "    if stat.S_ISDIR(os.fstat(fd).st_mode):\n"
        f"        raise OSError(errno.{code}, os.strerror(errno.{code}))\n"
        "    return real(fd)\n"
        "os.fsync = fsync\n"
        "from aipimage.cli import main\n"
        "sys.exit(main())\n"
    )
    for number, arguments in enumerate(
        (
            ["createimage", "-o", "a.aiv", made / "disk.raw"],
            ["merge", "m.aiv", made / "0.aiv", made / "1.aiv"],
            ["split", made / "0.aiv", "s.aiv", "--size", "64K"],
            ["restoredisk", made / "0.aiv", "r.raw"],
        )
    ):
        ended = subprocess.run(
            [sys.executable, "-c", script, *map(str, arguments)],
            cwd=tmp_path,
            check=False,
            capture_output=True,
            text=True,
        )
        if code == "EIO":
            assert ended.returncode == 1, number
            assert "cannot make the directory durable: Input/output error" in ended.stderr
        else:
            assert ended.returncode == 0, ended.stderr
            assert "aipimage: warning: " in ended.stderr
            assert SAYS in ended.stderr


def test_a_folder_that_one_may_write_into_but_not_open(made: Path, tmp_path: Path) -> None:
    """Mode 0300, as of a letter box."""

    class LetterBox(SystemCalls):
        def open(self, path: str, flags: int, mode: int = 0o666) -> int:
            if flags & os.O_DIRECTORY:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            return super().open(path, flags, mode)

    result = aipimage.join(made / "0.aiv", tmp_path / "a.aiv", storage=Storage(LetterBox()))
    assert [SAYS in text for text in result.warnings] == [True]
