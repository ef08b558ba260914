"""Whether a source may change while it is read: what is mounted may, what is not may not."""

from __future__ import annotations

from pathlib import Path

from aipimage.errors import StorageError
from aipimage.io.blocks.sources import open_source
from aipimage.io.system.storage import Storage, StrPath
from aipimage.volumes.journals.live import why_changing
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


class _Failing(Storage):
    def read_text(self, path: StrPath, limit: int = 1) -> str:
        raise StorageError(f"{path}: cannot be read")


def test_what_cannot_be_found_out_counts_as_changing(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(4096))
    source = open_source(tmp_path / "file")
    assert why_changing(source, _Failing()) == "whether it is mounted cannot be found out"
    source.close()
