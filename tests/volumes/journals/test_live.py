"""Whether a source may change while it is read: what is mounted may, what is not may not."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from aipimage.errors import StorageError
from aipimage.io.blocks.sources import open_source
from aipimage.io.system.storage import Storage, StrPath
from aipimage.volumes.journals.live import why_changing
from aipimage.volumes.survey import survey
from tests.support import loop_device, require_loop_devices
from tests.support.sources import SparseSource
from tests.support.tools import mounted, require_programs, run


def test_a_file_by_itself_does_not_change(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(4096))
    source = open_source(tmp_path / "file")
    assert why_changing(source) is None
    source.close()
    assert why_changing(SparseSource(4096, {})) is None


def test_what_is_mounted_may_change(tmp_path: Path) -> None:
    """The file and its device; a device that is attached and no more does not change."""
    require_programs("mke2fs", "mount", "umount")
    require_loop_devices()
    path = tmp_path / "volume"
    path.write_bytes(bytes(8 << 20))
    run(["mke2fs", "-q", "-F", path])
    with loop_device(path) as device:
        source = open_source(Path(device))
        assert why_changing(source) is None
        source.close()
    with mounted(path, tmp_path / "at"):
        source = open_source(path)
        assert "attached to the loop device" in (why_changing(source) or "")
        source.close()


class _GoesOn:
    """A source that has become another one when it is looked at once more."""

    def __init__(self, first: Path, second: Path) -> None:
        self._sources = [open_source(path) for path in (first, second)]
        self.name, self.size, self.sector_size = str(first), self._sources[0].size, 512
        self._looks = 0

    def read_into(self, buffer: bytearray, offset: int) -> None:
        self._looks += offset == 0
        self._sources[self._looks > 1].read_into(buffer, offset)

    def data_ranges(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        yield start, end - start

    def fingerprint(self) -> dict[str, int | str]:
        return {"kind": "some"}

    def close(self) -> None:
        for source in self._sources:
            source.close()


def test_what_goes_on_while_it_is_looked_at_is_taken_whole(tmp_path: Path) -> None:
    """The disk of a machine that runs elsewhere: nothing here says so, but its journal grows."""
    require_programs("mke2fs", "mount", "umount")
    require_loop_devices()
    path, copies = tmp_path / "volume", [tmp_path / f"copy{number}" for number in range(2)]
    path.write_bytes(bytes(24 << 20))
    run(["mke2fs", "-q", "-F", "-t", "ext4", path])
    with mounted(path, tmp_path / "at") as at:
        for copy in copies:
            (at / copy.name).write_bytes(bytes(100_000))
            run(["sync", "-f", at])
            shutil.copyfile(path, copy)
    for other, whole in ((0, None), (1, "it is in use, and has changed while it was looked at")):
        source = _GoesOn(copies[0], copies[other])
        (volume,) = survey(source).volumes
        assert (volume.whole_because or "").startswith(whole or "")
        assert (volume.whole_because is None) is (whole is None)
        source.close()


class _Failing(Storage):
    def read_text(self, path: StrPath, limit: int = 1) -> str:
        raise StorageError(f"{path}: cannot be read")


def test_what_cannot_be_found_out_counts_as_changing(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(4096))
    source = open_source(tmp_path / "file")
    assert why_changing(source, _Failing()) == "whether it is mounted cannot be found out"
    source.close()
