"""Virtual disks converted from and to everything, with qemu as the other side."""

from __future__ import annotations

import hashlib
import io
import os
import random
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest

import aipimage
from aipimage.errors import IncompleteError, IntegrityError, RequestError, TargetError
from aipimage.vmdk.model import SUBFORMATS
from tests.support.sources import SparseSource
from tests.support.tools import require_programs, run

MIB = 1 << 20
SIZE = 9 * MIB
QEMU = (
    "monolithicSparse",
    "monolithicFlat",
    "twoGbMaxExtentSparse",
    "twoGbMaxExtentFlat",
    "streamOptimized",
)


def content(seed: int) -> bytes:
    """Whole grains, parts of grains, and nothing."""
    chance = random.Random(seed)
    data = bytearray(SIZE)
    for _ in range(40):
        at = chance.randrange(0, SIZE - 100_000, 512)
        length = chance.choice((512, 4096, 65_536, 99_840))
        data[at : at + length] = chance.randbytes(length)
    data[-512:] = chance.randbytes(512)
    return bytes(data)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two disks, an image of both, encrypted, and an increment of it."""
    folder = tmp_path_factory.mktemp("disks")
    for number in (1, 2):
        (folder / f"disk{number}.raw").write_bytes(content(number))
    sources = [folder / "disk1.raw", folder / "disk2.raw"]
    aipimage.create(folder / "full.aiv", sources, encrypt="aes-256", password="secret")
    shutil.copy(folder / "disk1.raw", folder / "before.raw")
    with (folder / "disk1.raw").open("r+b") as file:
        file.seek(3 * MIB)
        file.write(random.Random(9).randbytes(200_000))
    aipimage.create(folder / "next.aiv", sources, parent=folder / "full.aiv", password="secret")
    return folder


def digest_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def qemu(*arguments: object) -> None:
    require_programs("qemu-img")
    run(["qemu-img", *map(str, arguments)])


def check(path: Path) -> None:
    """qemu-img has a check for sparse disks only."""
    text = path.read_bytes()[: 1 << 16]
    if b"FLAT" not in text and b"VMFS" not in text:
        qemu("check", "-q", "-f", "vmdk", path)


@pytest.mark.parametrize("subformat", SUBFORMATS)
def test_from_an_image_to_qemu(subformat: str, place: Path, tmp_path: Path) -> None:
    """Any member of the chain, encrypted; qemu reads the very bytes, and so do we."""
    target = tmp_path / "a.vmdk"
    for image, raw in (("full.aiv", "before.raw"), ("next.aiv", "disk1.raw")):
        made = aipimage.convert(
            place / image, target, subformat=subformat, password="secret", disk=0
        )
        assert (made.subformat, made.size, made.disks) == (subformat, SIZE, (0,))
        assert sorted(os.listdir(tmp_path)) == sorted(map(os.path.basename, made.files))
        check(target)
        # A disk on a streamOptimized file may be larger by zeros, which compare allows.
        qemu("compare", "-f", "raw", "-F", "vmdk", place / raw, target)
        aipimage.convert(target, tmp_path / "back.img")
        assert digest_of(tmp_path / "back.img") == digest_of(place / raw)
        for each in tmp_path.iterdir():
            each.unlink()


@pytest.mark.parametrize("subformat", QEMU)
def test_from_qemu_and_back(subformat: str, place: Path, tmp_path: Path) -> None:
    """qemu's disk to raw, to an image and to our own disk: all have the same bytes."""
    raw, theirs = place / "disk2.raw", tmp_path / "theirs.vmdk"
    qemu("convert", "-f", "raw", "-O", "vmdk", "-o", f"subformat={subformat}", raw, theirs)
    aipimage.convert(theirs, tmp_path / "a.img")
    assert digest_of(tmp_path / "a.img") == digest_of(raw)
    made = aipimage.convert(theirs, tmp_path / "a.aiv", compress="zstd:1", comment="from qemu")
    assert (made.format, made.source_format, len(made.digest or "")) == ("aiv", "vmdk", 64)
    with aipimage.open(tmp_path / "a.aiv") as image:
        assert image.metadata["description"]["comment"] == "from qemu"
        image.restore(tmp_path / "b.img")
    assert digest_of(tmp_path / "b.img") == digest_of(raw)
    for other in QEMU:
        ours = tmp_path / other / "ours.vmdk"
        ours.parent.mkdir()
        aipimage.convert(theirs, ours, subformat=other)
        qemu("compare", "-f", "vmdk", "-F", "vmdk", theirs, ours)


def test_from_raw_to_a_disk_and_to_an_image(place: Path, tmp_path: Path) -> None:
    aipimage.convert(place / "disk1.raw", tmp_path / "a.vmdk")
    aipimage.convert(tmp_path / "a.vmdk", tmp_path / "b.vmdk", subformat="streamOptimized")
    aipimage.convert(
        tmp_path / "b.vmdk", tmp_path / "c.aiv", encrypt="aes-128", password="p", include_free=True
    )
    aipimage.convert(tmp_path / "c.aiv", tmp_path / "d.img", password="p")
    assert digest_of(tmp_path / "d.img") == digest_of(place / "disk1.raw")


def test_another_disk_of_an_image(place: Path, tmp_path: Path) -> None:
    """Without a number it is the first, and a warning says that there are others."""
    made = aipimage.convert(place / "next.aiv", tmp_path / "a.vmdk", password="secret")
    assert "has 2 disks, and this is disk 0" in made.warnings[0]
    made = aipimage.convert(place / "next.aiv", tmp_path / "b.img", password="secret", disk=1)
    assert (made.warnings, made.disks) == ((), (1,))
    assert digest_of(tmp_path / "b.img") == digest_of(place / "disk2.raw")
    with pytest.raises(RequestError, match="holds one disk; name one of"):
        aipimage.convert(place / "next.aiv", tmp_path / "c.img", password="secret", disk=[0, 1])


def test_a_chain_in_several_directories(place: Path, tmp_path: Path) -> None:
    """A missing member is named before anything is written; with --search it is found."""
    shutil.copy(place / "next.aiv", tmp_path)
    target = tmp_path / "a.vmdk"
    with pytest.raises(IncompleteError):
        aipimage.convert(tmp_path / "next.aiv", target, password="secret")
    assert os.listdir(tmp_path) == ["next.aiv"]
    aipimage.convert(tmp_path / "next.aiv", target, password="secret", search=[place])
    qemu("compare", "-f", "raw", "-F", "vmdk", place / "disk1.raw", target)


@pytest.mark.parametrize("flag", ["raw", "vmdk"])
def test_a_delta_and_its_parent(flag: str, place: Path, tmp_path: Path) -> None:
    """A delta is converted with what it stands on; without that nothing is written."""
    base, top = tmp_path / "base.vmdk", tmp_path / "top.vmdk"
    qemu("convert", "-f", "raw", "-O", "vmdk", place / "disk2.raw", base)
    qemu("create", "-q", "-f", "vmdk", "-F", "vmdk", "-b", base, top)
    require_programs("qemu-io")
    run(["qemu-io", "-f", "vmdk", "-c", "write -q -P 0xab 1M 300k", top])
    target = tmp_path / f"out.{flag}"
    made = aipimage.convert(top, target)
    assert made.size == SIZE
    qemu("compare", "-f", "vmdk", "-F", flag, top, target)
    (tmp_path / "elsewhere").mkdir()
    base.rename(tmp_path / "elsewhere" / "base.vmdk")
    target.unlink()
    with pytest.raises(IncompleteError):
        aipimage.convert(top, target)
    assert not target.exists()
    aipimage.convert(top, target, search=[tmp_path / "elsewhere"])
    assert target.exists()


def test_increments_of_a_virtual_disk_find_their_parent(place: Path, tmp_path: Path) -> None:
    """The path of a virtual disk is its place, however it is given and opened."""
    import aipimage.vmdk.opening as opening

    disk = tmp_path / "a.vmdk"
    aipimage.convert(place / "before.raw", disk)
    with opening.open_vmdk(disk) as source:
        first = aipimage.create(tmp_path / "1.aiv", source)
    aipimage.convert(place / "disk1.raw", disk, overwrite=True)
    relative = os.path.relpath(disk)
    with opening.open_vmdk(relative) as source:
        second = aipimage.create(tmp_path / "2.aiv", source, parent=tmp_path)
    assert second.parent_id == first.image_id
    assert second.kind == "incremental"
    assert 200_000 <= second.changes[0].changed <= 220_000
    aipimage.convert(tmp_path / "2.aiv", tmp_path / "a.img")
    assert digest_of(tmp_path / "a.img") == digest_of(place / "disk1.raw")


def test_options_reach_the_disk(place: Path, tmp_path: Path) -> None:
    target = tmp_path / "a.vmdk"
    made = aipimage.convert(
        place / "before.raw",
        target,
        subformat="twoGbMaxExtentFlat",
        adapter="ide",
        hardware=9,
        cid=0x1234ABCD,
        split=4 * MIB,
    )
    text = target.read_text()
    assert 'ddb.adapterType = "ide"' in text
    assert 'ddb.virtualHWVersion = "9"' in text
    assert "CID=1234abcd" in text
    assert (made.cid, len(made.files)) == (0x1234ABCD, 4)
    assert made.data <= made.stored < SIZE  # holes of flat extents are not counted


def test_the_name_of_an_imaged_file_is_no_file_here(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A virtual disk can be made where the one lay that was imaged, also over it."""
    import aipimage.vmdk

    monkeypatch.chdir(tmp_path)
    aipimage.convert(place / "disk1.raw", "a.vmdk")
    with aipimage.vmdk.open("a.vmdk") as disk:
        aipimage.create("a.aiv", disk)
    aipimage.convert("a.aiv", "a.vmdk", overwrite=True, subformat="streamOptimized")
    qemu("compare", "-f", "raw", "-F", "vmdk", place / "disk1.raw", "a.vmdk")


@pytest.mark.parametrize("level", ["fast", "dense"])
def test_into_a_pipe(level: str, place: Path, tmp_path: Path) -> None:
    """The bytes are those of a file, and streamOptimized is what a pipe gets."""
    stream = io.BytesIO()
    made = aipimage.convert(
        place / "full.aiv", stream, format="vmdk", password="secret", cid=7, level=level
    )
    assert (made.subformat, made.target, made.stored) == (
        "streamOptimized",
        None,
        len(stream.getvalue()),
    )
    (tmp_path / "a.vmdk").write_bytes(stream.getvalue())
    qemu("compare", "-f", "raw", "-F", "vmdk", place / "before.raw", tmp_path / "a.vmdk")
    with pytest.raises(RequestError, match="cannot be written to a pipe"):
        aipimage.convert(
            place / "before.raw", io.BytesIO(), format="vmdk", subformat="monolithicSparse"
        )


def test_an_image_into_a_pipe(place: Path, tmp_path: Path) -> None:
    stream = io.BytesIO()
    aipimage.convert(place / "before.raw", stream, format="aiv")
    (tmp_path / "a.aiv").write_bytes(stream.getvalue())
    aipimage.convert(tmp_path / "a.aiv", tmp_path / "a.img")
    assert digest_of(tmp_path / "a.img") == digest_of(place / "before.raw")


def test_an_appliance_of_all_disks(place: Path, tmp_path: Path) -> None:
    made = aipimage.convert(
        place / "next.aiv", tmp_path / "a.ova", password="secret",
        appliance={"name": "server", "cpus": 4, "memory": 512 * MIB, "networks": ["A", "B"],
                   "nic": "VmxNet3", "os": "linux", "firmware": "efi", "manifest": "sha1"},
    )  # fmt: skip
    assert (made.disks, made.format, made.files) == ((0, 1), "ova", (str(tmp_path / "a.ova"),))
    assert made.stored == (tmp_path / "a.ova").stat().st_size
    with tarfile.open(tmp_path / "a.ova") as tar:
        names = tar.getnames()
        assert names[0].endswith(".ovf")
        assert "SHA1(" in tar.extractfile(names[1]).read().decode()  # type: ignore[union-attr]
        disks = [name for name in names if name.endswith(".vmdk")]
        for name, raw in zip(disks, ("disk1.raw", "disk2.raw"), strict=True):
            tar.extract(name, tmp_path, filter="data")
            qemu("compare", "-f", "raw", "-F", "vmdk", place / raw, tmp_path / name)
    stream = io.BytesIO()
    one = aipimage.convert(place / "next.aiv", stream, format="ova", password="secret", disk=1)
    assert one.disks == (1,)
    assert stream.getvalue()[:100].rstrip(b"\0").endswith(b".ovf")


def test_an_appliance_in_several_files(place: Path, tmp_path: Path) -> None:
    made = aipimage.convert(place / "disk1.raw", tmp_path / "a.ovf", adapter="pvscsi")
    assert sorted(map(os.path.basename, made.files)) == sorted(set(os.listdir(tmp_path)) - {"a.mf"})
    qemu("compare", "-f", "raw", "-F", "vmdk", place / "disk1.raw", tmp_path / "a-disk1.vmdk")
    with pytest.raises(RequestError, match="has files beside it"):
        aipimage.convert(place / "disk1.raw", io.BytesIO(), format="ovf")


def test_what_the_new_machine_needs_is_told(place: Path, tmp_path: Path) -> None:
    """Notes of a virtual disk, none of plain bytes."""
    made = aipimage.convert(place / "disk1.raw", tmp_path / "a.vmdk", adapter="ide")
    assert any("adapter ide" in note for note in made.notes)
    made = aipimage.convert(place / "disk1.raw", tmp_path / "a.ova", adapter="sata")
    assert any("adapter sata" in note for note in made.notes)
    assert not aipimage.convert(place / "disk1.raw", tmp_path / "a.img").notes


def test_extents_of_the_source_are_no_targets(place: Path, tmp_path: Path) -> None:
    """Every file of a virtual disk is its own, and stays."""
    disk = tmp_path / "a.vmdk"
    aipimage.convert(place / "disk1.raw", disk, subformat="monolithicFlat")
    flat = tmp_path / "a-flat.vmdk"
    before = (disk.read_bytes(), flat.read_bytes())
    for target, options in (
        (disk, {}),
        (flat, {"format": "raw"}),
        (flat, {"format": "aiv"}),
        (flat, {"format": "ova"}),
        (disk, {"format": "vmdk", "subformat": "streamOptimized"}),
    ):
        with pytest.raises(RequestError, match="is the source itself, or a file of it"):
            aipimage.convert(disk, target, overwrite=True, **options)
    assert before == (disk.read_bytes(), flat.read_bytes())


def test_what_is_there_is_kept(place: Path, tmp_path: Path) -> None:
    for name in ("a.vmdk", "a.aiv", "a.ova", "a.ovf", "a.img"):
        (tmp_path / name).write_bytes(b"precious")
        with pytest.raises(TargetError, match="already there"):
            aipimage.convert(place / "disk1.raw", tmp_path / name)
        assert (tmp_path / name).read_bytes() == b"precious"
    assert len(os.listdir(tmp_path)) == 5


def test_a_disk_of_large_sectors_is_refused(place: Path, tmp_path: Path) -> None:
    """4Kn: its partitions would not be found on a virtual disk; plain bytes are possible."""

    class Large(SparseSource):
        sector_size = 4096

    aipimage.create(tmp_path / "a.aiv", Large(SIZE, {0: b"x" * 4096}))
    for target in ("a.vmdk", "a.ova"):
        with pytest.raises(RequestError, match="has 4,096-byte sectors"):
            aipimage.convert(tmp_path / "a.aiv", tmp_path / target)
    assert os.listdir(tmp_path) == ["a.aiv"]
    aipimage.convert(tmp_path / "a.aiv", tmp_path / "a.img")


def test_odd_sizes_are_refused_or_exact(tmp_path: Path) -> None:
    """Bytes that are no whole sectors fit no virtual disk."""
    odd = tmp_path / "odd.raw"
    odd.write_bytes(b"x" * 70_001)
    with pytest.raises(RequestError, match="70001 bytes"):
        aipimage.convert(odd, tmp_path / "a.vmdk")
    odd.write_bytes(b"x" * 70_144)
    made = aipimage.convert(odd, tmp_path / "a.vmdk")
    assert made.size == 131_072
    assert any("filled with zeros" in each for each in made.warnings)


def test_lost_data_is_refused_before_anything_is_written(place: Path, tmp_path: Path) -> None:
    """What a repair could not save never becomes zeros, in no format."""
    aipimage.create(tmp_path / "a.aiv", place / "disk1.raw", compress="none")
    data = bytearray((tmp_path / "a.aiv").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "a.aiv").write_bytes(data)
    aipimage.repair(tmp_path / "a.aiv", tmp_path / "b.aiv")
    for target in ("a.vmdk", "a.img", "a.ova"):
        with pytest.raises(IntegrityError, match="lost"):
            aipimage.convert(tmp_path / "b.aiv", tmp_path / target)
    assert sorted(os.listdir(tmp_path)) == ["a.aiv", "b.aiv"]


@pytest.fixture
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A disk of several batches."""
    path = tmp_path_factory.mktemp("large") / "large.raw"
    path.write_bytes(random.Random(5).randbytes(24 * MIB))
    return path


@pytest.fixture
def stopped(large: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Begins a conversion that is cancelled behind a checkpoint."""
    monkeypatch.setattr("aipimage.io.system.progress._TICK", 0)
    monkeypatch.setattr("aipimage.vmdk.writing.state.Checkpoints.is_due", lambda *_: True)

    def stop(subformat: str) -> Path:
        target = tmp_path / "a.vmdk"
        with pytest.raises(aipimage.CancelledError):
            aipimage.convert(
                large,
                target,
                subformat=subformat,
                cid=5,
                threads=1,
                progress=lambda now: now.done < 10 * MIB,
            )
        assert sorted(os.listdir(tmp_path)) == ["a.vmdk.partial", "a.vmdk.partial.state"]
        return target

    return stop


@pytest.mark.parametrize("subformat", ["streamOptimized", "monolithicSparse"])
def test_an_interrupted_disk_is_resumed(
    subformat: str, stopped: Any, large: Path, tmp_path: Path
) -> None:
    """Checkpoints are kept without being asked for, as those of an image are."""
    target = stopped(subformat)
    made = aipimage.convert(large, target, subformat=subformat, cid=5, resume=True)
    assert made.resumed
    whole = tmp_path / "whole" / "a.vmdk"
    whole.parent.mkdir()
    aipimage.convert(large, whole, subformat=subformat, cid=5)
    assert target.read_bytes() == whole.read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["a.vmdk", "whole"]


def test_an_abandoned_run_is_begun_anew(stopped: Any, place: Path, tmp_path: Path) -> None:
    """Without --resume what is left does not matter, of whatever source it is."""
    target = stopped("streamOptimized")
    raw = place / "disk1.raw"
    with pytest.raises(RequestError, match="was begun from another source"):
        aipimage.convert(raw, target, resume=True, subformat="streamOptimized")
    assert not aipimage.convert(raw, target, subformat="streamOptimized").resumed
    assert os.listdir(tmp_path) == ["a.vmdk"]
    qemu("compare", "-f", "raw", "-F", "vmdk", raw, target)
