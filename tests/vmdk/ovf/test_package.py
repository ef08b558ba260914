"""Appliances as a whole: read by tarfile, tar, an XML parser, sha256 and qemu-img."""

from __future__ import annotations

import io
import os
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import aipimage
from aipimage.errors import RequestError
from aipimage.io.system.progress import Progress
from aipimage.vmdk.ovf import write_ova, write_ovf
from aipimage.vmdk.ovf.hardware import CONTROLLERS
from tests.support.sources import SparseSource
from tests.support.tools import require_programs, run
from tests.vmdk.ovf.made import (
    FIXED,
    GRAIN,
    MIB,
    OVF,
    VMW,
    check_manifest,
    check_references,
    disk,
    take,
)
from tests.volumes.fat.efi import efi_volume
from tests.volumes.tables.made import mbr_sector


def raw_of(source: SparseSource, path: Path) -> Path:
    """A raw file with the disk's content, padded as an export is."""
    with path.open("wb") as file:
        for at, data in source.pieces.items():
            file.seek(at)
            file.write(data)
        file.truncate(-(-source.size // MIB) * MIB)
    return path


def same(raw: Path, vmdk: Path) -> None:
    """Compare by qemu-img, which is told both formats."""
    require_programs("qemu-img")
    text = run(["qemu-img", "compare", "-f", "raw", "-F", "vmdk", raw, vmdk], timeout=60)
    assert "identical" in text
    assert "mismatch" not in text


def test_an_ova_as_others_read_it(tmp_path: Path) -> None:
    require_programs("tar", "qemu-img")
    disks = [disk(5 * MIB), disk(3 * MIB + 512, seed=1), SparseSource(2 * MIB, {})]
    result = write_ova(tmp_path / "my server.ova", disks, cids=[1, 2, 3], **FIXED)
    assert result.path == str(tmp_path / "my server.ova")
    assert result.size == os.path.getsize(result.path)
    assert os.listdir(tmp_path) == ["my server.ova"]
    taken = take(tmp_path / "my server.ova")
    assert list(taken.files) == [
        "my_server.ovf",
        "my_server.mf",
        *(f"my_server-disk{n}.vmdk" for n in (1, 2, 3)),
    ]
    check_manifest(taken.files)
    check_references(taken.files, taken.root)
    out = tmp_path / "out"
    out.mkdir()
    run(["tar", "--extract", "--file", result.path, "--directory", out])
    assert {path.name: path.read_bytes() for path in out.iterdir()} == taken.files
    for number, source in enumerate(disks):
        name = f"my_server-disk{number + 1}.vmdk"
        same(raw_of(source, tmp_path / "raw"), out / name)
        run(["qemu-img", "check", "-f", "vmdk", out / name], timeout=60)
    assert [each.capacity for each in result.disks] == [5 * MIB, 4 * MIB, 2 * MIB]
    assert [each.populated for each in result.disks] == [3 * GRAIN, 3 * GRAIN, 0]


def test_numbers_of_the_descriptor(tmp_path: Path) -> None:
    result = write_ova(tmp_path / "a.ova", [disk(), disk(3 * MIB + 512)], **FIXED)
    taken = take(tmp_path / "a.ova")
    told = taken.root.findall(f"{OVF}DiskSection/{OVF}Disk")
    for element, done in zip(told, result.disks, strict=True):
        assert int(element.attrib[f"{OVF}capacity"]) == done.capacity
        assert int(element.attrib[f"{OVF}populatedSize"]) == done.populated
        assert done.size == len(taken.files[done.name])
        assert done.capacity % MIB == 0
    assert any("larger than its source" in text for text in result.warnings)
    assert [text.split(":")[0] for text in result.warnings] == ["a-disk2.vmdk"]


@pytest.mark.parametrize("manifest", ["sha256", "sha1", "none"])
def test_manifests(tmp_path: Path, manifest: str) -> None:
    result = write_ova(tmp_path / "a.ova", [disk()], manifest=manifest, **FIXED)
    taken = take(tmp_path / "a.ova")
    if manifest == "none":
        assert list(taken.files) == ["a.ovf", "a-disk1.vmdk"]
        assert result.disks[0].digest is None
        return
    assert list(taken.files) == ["a.ovf", "a.mf", "a-disk1.vmdk"]
    check_manifest(taken.files, manifest)


@pytest.mark.parametrize("manifest", ["sha256", "none"])
def test_a_pipe_gets_the_bytes_of_a_file(tmp_path: Path, manifest: str) -> None:
    disks = [disk(), disk(2 * MIB + 512, seed=2)]
    options = {"cids": [7, 8], "name": "one", "manifest": manifest, **FIXED}
    write_ova(tmp_path / "a.ova", disks, **options)
    reader, writer = os.pipe()
    with ThreadPoolExecutor(1) as pool, open(reader, "rb") as out:
        piped = pool.submit(out.read)
        with open(writer, "wb") as into:
            result = write_ova(into, disks, **options)
        assert piped.result(60) == (tmp_path / "a.ova").read_bytes()
    assert result.path is None
    assert result.size == os.path.getsize(tmp_path / "a.ova")


def test_the_same_bytes_whatever_the_threads(tmp_path: Path) -> None:
    files = []
    with ThreadPoolExecutor(3) as pool:
        for at, more in enumerate(({"threads": 1}, {"threads": 4}, {"executor": pool})):
            path = tmp_path / f"{at}.ova"
            write_ova(path, [disk(9 * MIB)], name="n", cids=[5], **more, **FIXED)
            files.append(path.read_bytes())
    assert files[0] == files[1] == files[2]
    other = io.BytesIO()
    write_ova(other, [disk(9 * MIB)], name="n", cids=[6], **FIXED)
    assert other.getvalue() != files[0]


def test_a_random_cid_where_none_is_given() -> None:
    outs = [io.BytesIO(), io.BytesIO()]
    for out in outs:
        write_ova(out, [disk(MIB * 3)], **FIXED)
    assert outs[0].getvalue() != outs[1].getvalue()


def test_dense_is_smaller(tmp_path: Path) -> None:
    text = b"".join(b"%d lines of a text, all but the same\n" % at for at in range(60_000))
    source = SparseSource(4 * MIB, {0: text})
    sizes = [
        write_ova(tmp_path / f"{level}.ova", [source], level=level, **FIXED).size
        for level in ("fast", "dense")
    ]
    assert sizes[1] < sizes[0]


@pytest.mark.parametrize("controller", list(CONTROLLERS))
def test_the_adapter_in_the_disk_fits_the_controller(tmp_path: Path, controller: str) -> None:
    write_ova(tmp_path / "a.ova", [disk()], controller=controller, **FIXED)
    taken = take(tmp_path / "a.ova")
    text = taken.files["a-disk1.vmdk"][512 : 512 + 20 * 512].split(b"\0")[0].decode()
    assert f'ddb.adapterType = "{CONTROLLERS[controller].adapter}"' in text
    assert 'ddb.virtualHWVersion = "11"' in text


def test_disks_of_an_image(tmp_path: Path) -> None:
    sources = [disk(5 * MIB), disk(2 * MIB, seed=3)]
    aipimage.create(tmp_path / "d.aiv", sources)
    with aipimage.open(tmp_path / "d.aiv") as image:
        result = write_ova(tmp_path / "d.ova", image.devices)
        direct = io.BytesIO()
        write_ova(direct, sources, name="d", cids=[1, 2], **FIXED)
        told = io.BytesIO()
        write_ova(told, image.devices, name="d", cids=[1, 2], **FIXED)
    assert told.getvalue() == direct.getvalue()
    taken = take(tmp_path / "d.ova")
    for number, source in enumerate(sources, 1):
        (tmp_path / "x.vmdk").write_bytes(taken.files[f"d-disk{number}.vmdk"])
        same(raw_of(source, tmp_path / "raw"), tmp_path / "x.vmdk")
    assert any("no disk was found that a machine starts from" in text for text in result.warnings)


def efi_disk() -> SparseSource:
    """A disk with an EFI system partition that has loaders."""
    head = mbr_sector([(0x80, 0xEF, 2048, 2048)], code=bytes(440))
    return SparseSource(4 * MIB, {0: head, MIB: efi_volume()}, name="efi")


def test_firmware_as_the_disks_tell_it(tmp_path: Path) -> None:
    result = write_ova(tmp_path / "a.ova", [efi_disk()])
    assert result.machine.firmware == "efi"
    values = [
        each.attrib[f"{VMW}value"] for each in take(tmp_path / "a.ova").root.iter(f"{VMW}Config")
    ]
    assert values == ["efi"]
    again = write_ova(tmp_path / "a.ova", [efi_disk()], firmware="bios", overwrite=True)
    assert again.machine.firmware == "bios"
    assert write_ova(io.BytesIO(), [disk()]).machine.firmware == "bios"
    second = write_ova(io.BytesIO(), [disk(), efi_disk()])
    assert second.machine.firmware == "efi"
    assert any("starts from efi, which is disk 1 of the" in text for text in second.warnings)


def test_nothing_is_looked_at_where_all_is_said() -> None:
    source = disk()
    write_ova(io.BytesIO(), [source], **FIXED)
    read = source.bytes_read
    write_ova(io.BytesIO(), [source], firmware="bios")
    assert source.bytes_read > 2 * read


def test_folder(tmp_path: Path) -> None:
    disks = [disk(), disk(2 * MIB, seed=4)]
    result = write_ovf(tmp_path / "näme.ovf", disks, name="Any <name>", **FIXED)
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert set(files) == {"näme.ovf", "näme.mf", "n_me-disk1.vmdk", "n_me-disk2.vmdk"}
    assert result.path == str(tmp_path / "näme.ovf")
    assert result.size == sum(map(len, files.values()))
    order = ["näme.ovf", "näme.mf", "n_me-disk1.vmdk", "n_me-disk2.vmdk"]
    check_manifest({name: files[name] for name in order})
    for number, source in enumerate(disks, 1):
        same(raw_of(source, tmp_path / "raw"), tmp_path / f"n_me-disk{number}.vmdk")


def test_a_folder_without_a_manifest(tmp_path: Path) -> None:
    write_ovf(tmp_path / "a.ovf", [disk()], manifest="none", **FIXED)
    assert sorted(os.listdir(tmp_path)) == ["a-disk1.vmdk", "a.ovf"]
    with pytest.raises(RequestError, match=r"ends in \.ovf"):
        write_ovf(tmp_path / "b.xml", [disk()], **FIXED)


@pytest.mark.parametrize(("kind", "factor"), [("file", 1), ("pipe", 2), ("folder", 1)])
def test_progress_goes_over_all_disks(tmp_path: Path, kind: str, factor: int) -> None:
    seen: list[Progress] = []
    disks = [disk(), disk(6 * MIB, seed=1)]
    if kind == "folder":
        write_ovf(tmp_path / "a.ovf", disks, progress=seen.append, **FIXED)
    else:
        target = tmp_path / "a.ova" if kind == "file" else io.BytesIO()
        write_ova(target, disks, progress=seen.append, **FIXED)
    total = 11 * MIB * factor
    assert {each.total for each in seen} == {total}
    done = [each.done for each in seen]
    assert done == sorted(done)
    assert done[-1] == total
    assert {each.phase for each in seen} == {"export"}


def test_times_of_the_files(tmp_path: Path) -> None:
    write_ova(tmp_path / "a.ova", [disk()], mtime=1_700_000_000, **FIXED)
    with tarfile.open(tmp_path / "a.ova") as tar:
        assert {member.mtime for member in tar.getmembers()} == {1_700_000_000}
    for wrong in (-1, 1 << 40):
        with pytest.raises(RequestError, match="seconds since 1970"):
            write_ova(tmp_path / "b.ova", [disk()], mtime=wrong, **FIXED)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"controller": "scsi"}, "unknown disk controller"),
        ({"manifest": "md5"}, "unknown manifest"),
        ({"level": "best"}, "unknown level"),
        ({"cids": [1, 2]}, "2 content identities for 1 disks"),
        ({"cids": [0xFFFFFFFF]}, "CID"),
        ({"guest": "?"}, "guest system"),
    ],
)
def test_refused_before_anything_is_written(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    out = io.BytesIO()
    for target in (tmp_path / "a.ova", out):
        with pytest.raises(RequestError, match=message):
            write_ova(target, [disk()], **(FIXED | changes))
    assert not out.getvalue()
    assert not os.listdir(tmp_path)


def test_disks_that_no_appliance_can_have(tmp_path: Path) -> None:
    wide = disk()
    wide.sector_size = 4096
    for disks, message in (
        ([], "0 disks"),
        ([disk()] * 5, "1 to 4 on ide"),
        ([SparseSource(0, {})], "0 bytes"),
        ([disk(), SparseSource(1000, {})], "whole sectors"),
        ([wide], "sectors of 4096 bytes"),
    ):
        with pytest.raises(RequestError, match=message):
            write_ova(tmp_path / "a.ova", disks, controller="ide", **FIXED)
    assert not os.listdir(tmp_path)


def test_unreadable_sectors_are_told() -> None:
    source = SparseSource(5 * MIB, {0: b"x" * 100}, bad=((2 * MIB, 1024),))
    result = write_ova(io.BytesIO(), [source], **FIXED)
    assert result.disks[0].unreadable == 1024
    assert any("could not be read" in text for text in result.warnings)
