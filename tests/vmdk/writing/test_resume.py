"""Going on after an interruption: the same bytes as without one, or an error."""

from __future__ import annotations

import contextlib
import errno
import json
from pathlib import Path
from typing import Any

import pytest

from aipimage import RequestError, StorageError
from aipimage.io.system.storage import Storage
from aipimage.vmdk.model import SUBFORMATS
from tests.support.faults import Fault, FaultySystemCalls, count_calls
from tests.support.sources import SparseSource
from tests.vmdk.writing.made import GRAIN, disk, small_batches, without_syncs, write

# More than one table, an extent without grains, grains in many batches.
SOURCE = disk("tr.tt", ".r.t.", "." * 10, "ttt", "." * 510, "rt.t", tail=1024)
FLAT = disk("tr.tt", ".r.t.", "." * 10, "ttt", "." * 10, "rt.t", tail=1024)
OFTEN = {"resume": True, "checkpoint_bytes": 1, "checkpoint_seconds": 1e9}


@pytest.fixture(autouse=True)
def batches(monkeypatch: pytest.MonkeyPatch) -> None:
    small_batches(monkeypatch)
    without_syncs(monkeypatch)


def options(subformat: str) -> dict[str, Any]:
    split = {"twoGbMaxExtentSparse": 100 * GRAIN, "twoGbMaxExtentFlat": 6 * GRAIN}
    return {"subformat": subformat, "split": split.get(subformat)}


def contents(folder: Path) -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in folder.iterdir()}


def interrupted(folder: Path, at: int, source: SparseSource = SOURCE, **more: Any) -> bool:
    """Write with the ``at``th write failing; return whether it failed."""
    system = FaultySystemCalls(Fault(at, errno.ENOSPC, ("pwritev",), short=True))
    try:
        write(folder / "d.vmdk", source, storage=Storage(system), **more)
    except StorageError:
        return True
    return False


@pytest.mark.parametrize("subformat", SUBFORMATS)
def test_the_same_bytes_from_wherever_it_ended(subformat: str, tmp_path: Path) -> None:
    source = FLAT if "Flat" in subformat or subformat == "vmfs" else SOURCE
    (tmp_path / "whole").mkdir()
    write(tmp_path / "whole" / "d.vmdk", source, **options(subformat))
    whole = contents(tmp_path / "whole")
    resumed = at = 0
    while True:
        folder = tmp_path / f"{at}"
        folder.mkdir()
        if not interrupted(folder, at, source, **options(subformat), **OFTEN):
            break
        left = contents(folder)
        assert "d.vmdk" not in left
        result = write(folder / "d.vmdk", source, **options(subformat), **OFTEN)
        # After the first checkpoint the work goes on, before it nothing had been left.
        assert result.resumed == bool(left)
        assert contents(folder) == whole
        assert result.grains == 13
        resumed += result.resumed
        at += 1
    assert resumed > 10


def test_interrupted_again_and_again(tmp_path: Path) -> None:
    """Each run gets one step further."""
    (tmp_path / "whole").mkdir()
    write(tmp_path / "whole" / "d.vmdk", SOURCE, subformat="streamOptimized")
    runs = 1
    while interrupted(tmp_path, 5, subformat="streamOptimized", **OFTEN):
        runs += 1
    assert runs > 3
    assert (tmp_path / "d.vmdk").read_bytes() == (tmp_path / "whole" / "d.vmdk").read_bytes()


def test_the_cid_is_kept(tmp_path: Path) -> None:
    """A random one is chosen once."""
    assert interrupted(tmp_path, 9, cid=None, **OFTEN)
    state = json.loads((tmp_path / "d.vmdk.partial.state").read_text())
    result = write(tmp_path / "d.vmdk", SOURCE, cid=None, **OFTEN)
    assert result.resumed
    assert result.cid == state["cid"]
    assert state["content_id"].encode() in (tmp_path / "d.vmdk").read_bytes()


def test_without_resume_nothing_is_left(tmp_path: Path) -> None:
    assert interrupted(tmp_path, 6)
    assert not list(tmp_path.iterdir())


def test_unreadable_bytes_are_remembered(tmp_path: Path) -> None:
    source = SparseSource(SOURCE.size, SOURCE.pieces, bad=((512, 512), (3 * GRAIN, 512)))
    system = FaultySystemCalls(Fault(9, errno.EIO, ("pwritev",)))
    with pytest.raises(StorageError):
        write(tmp_path / "d.vmdk", source, storage=Storage(system), **OFTEN)
    result = write(tmp_path / "d.vmdk", source, **OFTEN)
    assert (result.resumed, result.unreadable) == (True, 1024)


@pytest.mark.parametrize(
    "change",
    [
        {"adapter": "ide"},
        {"hardware": 7},
        {"cid": 5},
        {"subformat": "streamOptimized"},
        {"level": "dense"},
        {"source": disk("t" * 30)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_only_the_same_is_continued(change: dict[str, Any], tmp_path: Path) -> None:
    """Nothing changes; without resuming it is begun anew."""
    assert interrupted(tmp_path, 9, **OFTEN)
    before = contents(tmp_path)
    source = change.pop("source", SOURCE)
    with pytest.raises(RequestError, match=r"another source.*or with other options"):
        write(tmp_path / "d.vmdk", source, **change, **OFTEN)
    assert contents(tmp_path) == before
    write(tmp_path / "d.vmdk", source, **change)
    assert list(contents(tmp_path)) == ["d.vmdk"]


def test_a_checkpoint_without_its_disk_is_forgotten(tmp_path: Path) -> None:
    """As after a power cut between the last renaming and the removal of the checkpoint."""
    assert interrupted(tmp_path, 9, **OFTEN)
    (tmp_path / "d.vmdk.partial").unlink()
    assert not write(tmp_path / "d.vmdk", SOURCE, **OFTEN).resumed
    assert list(contents(tmp_path)) == ["d.vmdk"]


def test_an_extent_that_is_gone(tmp_path: Path) -> None:
    assert interrupted(tmp_path, 9, subformat="monolithicFlat", **OFTEN)
    (tmp_path / "d-flat.vmdk.partial").unlink()
    with pytest.raises(RequestError, match=r"d-flat.vmdk.partial is gone"):
        write(tmp_path / "d.vmdk", SOURCE, subformat="monolithicFlat", **OFTEN)


FORGED: list[Any] = [None, -1, 1 << 70, True, "x", [], {}, 1.5]


@pytest.mark.parametrize("subformat", ["streamOptimized", "monolithicSparse", "monolithicFlat"])
def test_class_33_forged_checkpoint(subformat: str, tmp_path: Path) -> None:
    """Every value replaced by others: refused, or the right disk; never another error."""
    assert interrupted(tmp_path, 9, FLAT, subformat=subformat, **OFTEN)
    state = tmp_path / "d.vmdk.partial.state"
    saved = contents(tmp_path)
    values = json.loads(state.read_text())
    refused = 0
    for path in _paths(values):
        for other in FORGED:
            _restore(tmp_path, saved)
            state.write_text(json.dumps(_replaced(values, path, other)))
            with contextlib.suppress(RequestError):
                write(tmp_path / "d.vmdk", FLAT, subformat=subformat, **OFTEN)
                continue
            refused += 1
    assert refused > 50


@pytest.mark.parametrize("text", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"7", b'{"what": 1}'])
def test_class_33_no_checkpoint_at_all(text: bytes, tmp_path: Path) -> None:
    assert interrupted(tmp_path, 9, **OFTEN)
    (tmp_path / "d.vmdk.partial.state").write_bytes(text)
    with pytest.raises(RequestError, match="cannot be resumed from"):
        write(tmp_path / "d.vmdk", SOURCE, **OFTEN)


def test_class_33_a_directory_that_inflates_without_end(tmp_path: Path) -> None:
    import base64
    import zlib

    assert interrupted(tmp_path, 9, subformat="streamOptimized", **OFTEN)
    state = tmp_path / "d.vmdk.partial.state"
    values = json.loads(state.read_text())
    values["disk"]["directory"] = base64.b64encode(zlib.compress(bytes(1 << 26))).decode()
    state.write_text(json.dumps(values))
    with pytest.raises(RequestError, match="its directory has another size"):
        write(tmp_path / "d.vmdk", SOURCE, subformat="streamOptimized", **OFTEN)


def test_a_disk_that_is_shorter_than_its_checkpoint(tmp_path: Path) -> None:
    for subformat in ("streamOptimized", "monolithicSparse"):
        assert interrupted(tmp_path, 12, subformat=subformat, **OFTEN)
        with (tmp_path / "d.vmdk.partial").open("r+b") as file:
            file.truncate(100_000)
        with pytest.raises(RequestError, match="cannot be resumed from"):
            write(tmp_path / "d.vmdk", SOURCE, subformat=subformat, **OFTEN)
        for each in tmp_path.iterdir():
            each.unlink()


@pytest.mark.parametrize("subformat", ["streamOptimized", "twoGbMaxExtentSparse"])
def test_after_a_failed_sync_nothing_is_kept(subformat: str, tmp_path: Path) -> None:
    """Class 58: what is on the disk is not known then."""

    def run(system: Any) -> None:
        path = tmp_path / "d.vmdk"
        for each in tmp_path.iterdir():
            each.unlink()
        write(path, SOURCE, storage=Storage(system), **options(subformat), **OFTEN)

    # The last is that of the directory, after the names were given.
    total = count_calls(run, ("fsync",))
    for at in range(total - 1):
        with pytest.raises(StorageError):
            run(FaultySystemCalls(Fault(at, errno.EIO, ("fsync",))))
        assert not list(tmp_path.iterdir())
    with pytest.raises(StorageError):
        run(FaultySystemCalls(Fault(total - 1, errno.EIO, ("fsync",))))
    assert (tmp_path / "d.vmdk").exists()


def _paths(values: dict[str, Any], before: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = []
    for name, value in values.items():
        found.append((*before, name))
        if isinstance(value, dict) and name != "request":
            found += _paths(value, (*before, name))
    return found


def _replaced(values: dict[str, Any], path: tuple[str, ...], other: Any) -> dict[str, Any]:
    copy = dict(values)
    copy[path[0]] = _replaced(values[path[0]], path[1:], other) if len(path) > 1 else other
    return copy


def _restore(folder: Path, saved: dict[str, bytes]) -> None:
    for each in folder.iterdir():
        each.unlink()
    for name, data in saved.items():
        (folder / name).write_bytes(data)
