"""The VMDK samples: each opens and equals what qemu-img and libvmdk read, or is refused."""

from __future__ import annotations

import bz2
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from aipimage import vmdk
from aipimage.errors import AipImageError, FormatError, IncompleteError
from aipimage.vmdk.lint import lint
from tests.support import SAMPLES
from tests.support.tools import require_programs, run
from tests.support.virtual.disks import ranges_to_compare
from tests.support.virtual.judge import PYTHON, READ_BACK

OPENS = {
    "dfvfs/test_data/ext2.vmdk": ("monolithicSparse", 4 << 20),
    "qemu-iotests/iotest-version3.vmdk.bz2": ("streamOptimized", 16 << 30),
    "vmdk-rs/data/monolithicSparse.vmdk": ("monolithicSparse", 10 << 20),
    "vmdk-rs/data/streamOptimized.vmdk": ("streamOptimized", 10 << 20),
    "vmdk-rs/data/twoGbMaxExtentSparse.vmdk": ("twoGbMaxExtentSparse", 10 << 20),
}
"""createType and size in bytes of those that open."""
REFUSED: dict[str, tuple[type[AipImageError], str]] = {
    "qemu-iotests/afl9.vmdk.bz2": (FormatError, "afl9.vmdk"),
    "vmdk-rs/data/monolithicFlat.vmdk": (IncompleteError, "monolithicFlat-flat.vmdk"),
    "vmdk-rs/data/twoGbMaxExtentFlat.vmdk": (IncompleteError, "twoGbMaxExtentFlat-f001.vmdk"),
}
"""The error, and the file that it must name: a made-up one, and two whose extents are missing."""
EXTENTS = ("vmdk-rs/data/twoGbMaxExtentSparse-s001.vmdk",)
"""No disk of its own: an extent of another sample."""

pytestmark = pytest.mark.skipif(not SAMPLES.exists(), reason="no samples beside this checkout")


def unpacked(sample: str, folder: Path) -> Path:
    """Copy a sample, and the extents beside it, to where it may be written."""
    path = SAMPLES / sample
    if path.suffix == ".bz2":
        target = folder / path.stem
        target.write_bytes(bz2.decompress(path.read_bytes()))
        return target
    for beside in path.parent.glob("*.vmdk"):
        shutil.copy(beside, folder)
        (folder / beside.name).chmod(0o644)
    return folder / path.name


def linked_by_its_own_name(path: Path) -> None:
    """Make a renamed disk findable for libvmdk, which goes by the name in the descriptor."""
    text = path.read_bytes()[: 1 << 16]
    named = re.search(rb'^(?:RW|RDONLY) \d+ SPARSE "([^"]+)"', text, re.MULTILINE)
    assert named is not None
    link = path.parent / named[1].decode()
    if not link.exists():
        link.symlink_to(path.name)


def found() -> Iterator[str]:
    for path in SAMPLES.rglob("*"):
        if ".vmdk" in path.name and path.is_file():
            yield path.relative_to(SAMPLES).as_posix()


def test_every_sample_has_an_expectation() -> None:
    assert set(found()) == {*OPENS, *REFUSED, *EXTENTS}


@pytest.mark.parametrize("sample", OPENS)
def test_a_sample_reads_as_qemu_and_libvmdk_read_it(sample: str, tmp_path: Path) -> None:
    require_programs("qemu-img", PYTHON)
    path = unpacked(sample, tmp_path)
    raw = tmp_path / "expected.raw"
    run(["qemu-img", "convert", "-f", "vmdk", "-O", "raw", path, raw], timeout=60)
    subformat, size = OPENS[sample]
    ranges = list(ranges_to_compare(raw))
    compared = 0
    with vmdk.open(path) as source, raw.open("rb") as file:
        assert (source.subformat, source.size) == (subformat, size)
        for offset, length in ranges:
            file.seek(offset)
            data = bytearray(length)
            source.read_into(data, offset)
            assert data == file.read(length), f"at {offset}"
            compared += any(data)
    assert compared
    listed = tmp_path / "ranges"
    listed.write_text("".join(f"{offset} {length}\n" for offset, length in ranges))
    linked_by_its_own_name(path)
    assert int(run([PYTHON, READ_BACK, path, raw, listed], timeout=60)) == size


@pytest.mark.parametrize("sample", OPENS)
def test_holes_of_a_sample_are_zeros(sample: str, tmp_path: Path) -> None:
    """What ``data_ranges`` leaves out reads as zeros by qemu-img too."""
    require_programs("qemu-img")
    path = unpacked(sample, tmp_path)
    raw = tmp_path / "expected.raw"
    run(["qemu-img", "convert", "-f", "vmdk", "-O", "raw", path, raw], timeout=60)
    with vmdk.open(path) as source, raw.open("r+b") as file:
        total = 0
        for offset, length in source.data_ranges(0, source.size):
            file.seek(offset)
            file.write(bytes(length))
            total += length
        assert 0 < total < source.size or source.size == total
    assert not any(any(raw_bytes(raw, offset, length)) for offset, length in ranges_to_compare(raw))


def raw_bytes(path: Path, offset: int, length: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(length)


@pytest.mark.parametrize("sample", REFUSED)
def test_a_sample_is_refused(sample: str, tmp_path: Path) -> None:
    error, named = REFUSED[sample]
    with pytest.raises(error, match=named) as caught:
        vmdk.open(unpacked(sample, tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("sample", EXTENTS)
def test_an_extent_is_no_disk(sample: str, tmp_path: Path) -> None:
    with pytest.raises(AipImageError, match="descriptor"):
        vmdk.open(unpacked(sample, tmp_path))


@pytest.mark.parametrize("sample", OPENS)
def test_lint_finds_no_error_in_what_opens(sample: str, tmp_path: Path) -> None:
    """Others' files may be sloppy, but those that read well are not called broken."""
    result = lint(unpacked(sample, tmp_path))
    assert result.ok, result.findings


@pytest.mark.parametrize("sample", [*REFUSED, *EXTENTS])
def test_lint_reports_what_is_refused(sample: str, tmp_path: Path) -> None:
    result = lint(unpacked(sample, tmp_path))
    assert not result.ok
    assert result.findings
