"""Containers that nobody here made, compared with the reference tools where these take them."""

from __future__ import annotations

import gzip
import lzma
import re
from pathlib import Path

import pytest

from aipimage.volumes.filesystems.md.layout import bears_magic, decode, places
from tests.support import SAMPLES, loop_device
from tests.support.tools import require_programs, run
from tests.volumes.containers.lvm import Group
from tests.volumes.containers.made import free_of, looked_at_file

_OPENERS = {".gz": gzip.open, ".xz": lzma.open}
_MOST = 64 << 20
_VOLUMES = "dissect_volume*/tests/_data"
_BLKID = "util-linux/tests/ts/blkid/images-fs"
_LEVELS = {-1: "linear", 0: "raid0", 1: "raid1", 4: "raid4", 5: "raid5", 6: "raid6", 10: "raid10"}

pytestmark = pytest.mark.skipif(not SAMPLES.exists(), reason="no samples beside this checkout")


def listed(pattern: str) -> list[Path]:
    return sorted(SAMPLES.glob(pattern))


def unpacked(sample: Path, at: Path) -> Path:
    """At most the first 64 MiB."""
    volume = at / "volume"
    with _OPENERS[sample.suffix](sample, "rb") as packed:
        volume.write_bytes(packed.read(_MOST))
    return volume


@pytest.mark.parametrize(
    "sample", listed("dissect_volume*/tests/_data/lvm/*"), ids=lambda p: p.name
)
def test_lvm(sample: Path, tmp_path: Path) -> None:
    """All of them are trusted; the free extents are those of ``pvs``."""
    require_programs("lvm")
    volume = unpacked(sample, tmp_path)
    filesystem, allocation, because = looked_at_file(volume)
    assert filesystem is not None
    assert (filesystem.kind, because) == ("lvm2", None)
    with loop_device(volume) as device:
        group = Group(tmp_path, [device], [volume])
        assert free_of(allocation, volume.stat().st_size) == group.free_extents()


@pytest.mark.parametrize("sample", listed(f"{_VOLUMES}/md/*"), ids=lambda path: path.name)
def test_md(sample: Path, tmp_path: Path) -> None:
    """What the superblock says is what ``mdadm --examine`` says."""
    require_programs("mdadm")
    volume = unpacked(sample, tmp_path)
    filesystem, allocation, because = looked_at_file(volume)
    assert filesystem is not None
    assert filesystem.kind == "md"
    assert because
    assert allocation.free.total == 0
    data = volume.read_bytes()
    found = [
        decode(data[at : at + 4096], version, at, len(data))
        for version, at in places(len(data))
        if bears_magic(data[at : at + 4096], version)
    ]
    assert len(found) == 1
    said = dict(re.findall(r"^ *([\w ]+?) : (.*)$", run(["mdadm", "--examine", volume]), re.M))
    assert "correct" in said["Checksum"]
    assert said["Version"].startswith(found[0].version)
    assert said["Raid Level"] == _LEVELS[found[0].level]
    if "Data Offset" in said:
        assert found[0].data == int(said["Data Offset"].split()[0]) * 512
    if found[0].level == 1:
        assert ("clean" not in said["State"]) == ("not clean" in because)
        # Only one of them is told where they are the same.
        told = re.match(r"\d+", said.get("Used Dev Size", said.get("Avail Dev Size", "")))
        assert told is not None
        unit = 1024 if found[0].version == "0.90" else 512
        assert found[0].size == int(told[0]) * unit


@pytest.mark.parametrize(
    ("pattern", "kind", "label", "uuid"),
    [
        (
            "dissect_vmfs*/tests/_data/vmfs/*",
            "vmfs",
            "vmfs5",
            "68626efc-23ce1cd0-1f8b-bc2411b17e28",
        ),
        (f"{_BLKID}/vmfs.img.xz", "vmfs", "toto", "49edf844-ebfc28f3-65cb-0021280083cf"),
        (f"{_BLKID}/vmfs_volume.img.xz", "vmfs", "", "49edf842-dcb35d37-b383-0021280083cf"),
        (f"{_BLKID}/bitlocker-win7.img.xz", "bitlocker", "", ""),
        (f"{_BLKID}/lvm2.img.xz", "lvm2", "", "Vynv4k-APH8-xQER-HSBb-8VJ3-SvFF-PB5O1U"),
    ],
)
def test_others(pattern: str, kind: str, label: str, uuid: str, tmp_path: Path) -> None:
    samples = listed(pattern)
    assert samples
    for sample in samples:
        filesystem, allocation, because = looked_at_file(unpacked(sample, tmp_path))
        assert filesystem is not None
        assert (filesystem.kind, filesystem.label, filesystem.uuid) == (kind, label, uuid)
        assert because
        assert allocation.free.total == 0
