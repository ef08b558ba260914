"""Appliances as sources: our own, those of tarfile and of others, and hostile ones."""

from __future__ import annotations

import io
import random
import tarfile
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

import aipimage
from aipimage.errors import AipImageError, FormatError, LimitError, RequestError, UnsupportedError
from aipimage.io.system.storage import DEFAULT
from aipimage.vmdk.lint import lint
from aipimage.vmdk.ovf import check_ova, open_ova, write_ova
from aipimage.vmdk.ovf.members import list_members
from aipimage.vmdk.ovf.parsing import decode_envelope
from aipimage.vmdk.ovf.storage import ArchiveStorage
from tests.support import SAMPLES
from tests.support.soon import SOON
from tests.vmdk.ovf import fuzz as fuzzing_ovf
from tests.vmdk.ovf.fuzz import ENVELOPE, archive
from tests.vmdk.ovf.made import FIXED, MIB, disk, take

GOVMOMI = SAMPLES / "govmomi-ovf"


@pytest.fixture
def ova(tmp_path: Path) -> Path:
    """An OVA with two disks."""
    path = tmp_path / "a.ova"
    write_ova(path, [disk(5 * MIB), disk(3 * MIB, seed=1)], cids=[1, 2], **FIXED)
    return path


def test_disks_are_read_in_the_archive(ova: Path) -> None:
    with open_ova(ova) as opened:
        assert opened.envelope.name == "a"
        assert len(opened.disks) == 2
        for number, source in enumerate((disk(5 * MIB), disk(3 * MIB, seed=1))):
            with opened.open_disk(number) as found:
                assert (found.size, found.subformat) == (source.size, "streamOptimized")
                data = bytearray(found.size)
                found.read_into(data, 0)
                assert data == source.content(0, source.size)
        assert not list(opened.damaged())
        for number in (-1, 2):
            with pytest.raises(RequestError, match="has 2 disks"):
                opened.open_disk(number)


def test_an_image_is_made_of_a_disk_in_an_archive(ova: Path, tmp_path: Path) -> None:
    with open_ova(ova) as opened, opened.open_disk(0) as source:
        aipimage.create(tmp_path / "d.aiv", source)
    with aipimage.open(tmp_path / "d.aiv") as image:
        raw = image.devices[0].open()
        assert raw.read() == disk(5 * MIB).content(0, 5 * MIB)


def test_the_strict_checker_finds_nothing(ova: Path) -> None:
    with DEFAULT.open_read(ova) as file:
        members = list_members(file).files
        storage = ArchiveStorage(file, members)
        disks = [each.name for each in members if each.name.endswith(".vmdk")]
        assert len(disks) == 2
        for name in disks:
            result = lint(ova / name, storage=storage)
            assert result.ok, result.findings
            assert not result.findings
        assert storage.list_directory(ova) == sorted(each.name for each in members)
        assert not storage.exists(ova / "other")


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT, tarfile.PAX_FORMAT])
def test_archives_of_others(ova: Path, tmp_path: Path, form: int) -> None:
    files = take(ova).files
    again = tmp_path / "b.ova"
    again.write_bytes(
        archive({"sub/" + "d" * 95 + "/x.txt": b"", **files}, form)
        if form != tarfile.GNU_FORMAT
        else archive(files, form)
    )
    with open_ova(again) as opened:
        assert not list(opened.damaged())
        with opened.open_disk(1) as found:
            assert found.size == 3 * MIB


def test_members_are_those_of_tarfile(ova: Path) -> None:
    with DEFAULT.open_read(ova) as file, tarfile.open(ova) as tar:
        assert [(each.name, each.offset, each.size) for each in list_members(file).files] == [
            (each.name, each.offset_data, each.size) for each in tar.getmembers()
        ]


def test_damage_is_found_by_the_manifest(ova: Path) -> None:
    data = bytearray(ova.read_bytes())
    with open_ova(ova) as opened:
        last = opened.members[-1]
    data[last.offset + last.size // 2] ^= 1
    ova.write_bytes(data)
    with open_ova(ova) as opened:
        assert list(opened.damaged()) == [last.name]


@pytest.mark.skipif(not GOVMOMI.exists(), reason="no samples beside this checkout")
def test_real_descriptors() -> None:
    """What they say of files and disks is what another parser finds."""
    read = 0
    for sample in sorted(GOVMOMI.rglob("*.ovf")):
        data = sample.read_bytes()
        found = decode_envelope(data, sample.name)
        read += 1
        root = ET.fromstring(data)
        space = f"{root.tag.partition('}')[0]}}}"
        hrefs = [each.attrib[f"{space}href"] for each in root.iter(f"{space}File")]
        assert [each.href for each in found.files] == hrefs
        for element, each in zip(root.iter(f"{space}Disk"), found.disks, strict=True):
            assert each.id == element.attrib[f"{space}diskId"]
            unit = element.attrib.get(f"{space}capacityAllocationUnits", "byte")
            power = int(unit.split("^")[1]) if "^" in unit else 0
            said = element.attrib[f"{space}capacity"]
            assert each.capacity == (int(said) << power if said.isdigit() else None)
    assert read == 21


def envelope(disk_attributes: str = "", file_attributes: str = "") -> bytes:
    """A descriptor with other attributes behind those that it has."""
    text = ENVELOPE.decode()
    for key in ("o:capacity", "o:capacityAllocationUnits", "o:fileRef", "o:diskId", "o:format"):
        if f"{key}=" in disk_attributes:
            start = text.index(f"{key}=")
            end = text.index('"', start + len(key) + 2) + 1
            text = text[:start] + text[end:]
    text = text.replace("<Disk ", f"<Disk {disk_attributes} ")
    if "o:size=" in file_attributes:
        text = text.replace(' o:size="512"', "")
    return text.replace("<File ", f"<File {file_attributes} ").encode()


@pytest.mark.parametrize(("units", "shift"), [
    ("byte", 0), ("byte * 2^30", 30), ("byte*2^40", 40), ("byte*1024*1024", 20), ("MegaBytes", 20),
    ("byte * 1024", 10), ("bytes*2^30", 30), ("byte * 2 ^ 20", 20), ("GB", 30), ("MiB", 20),
    ("gigabytes", 30), ("byte * 512", 9), ("byte * 1048576", 20), ("byte x 2^10", 10), ("", 0),
    ("byte * 2**40", 40), ("bit * 2^33", 30), ("KiloBytes", 10), (" Byte ", 0),
])  # fmt: skip
def test_units_of_capacities(units: str, shift: int) -> None:
    found = decode_envelope(envelope(f'o:capacity="3" o:capacityAllocationUnits="{units}"'), "x")
    assert found.disks[0].capacity == 3 << shift


@pytest.mark.parametrize(("data", "error", "message"), [
    (b"", FormatError, "well-formed"),
    (b"<a/>", FormatError, "is not an OVF descriptor"),
    (b"<Envelope/>", FormatError, "is not an OVF descriptor"),
    (ENVELOPE[:-3], FormatError, "well-formed"),
    (b'<?xml version="1.0" encoding="nosuch"?>' + ENVELOPE, FormatError, "encoding"),
    (envelope('o:fileRef="g"'), FormatError, "which is not a file"),
    (envelope('o:diskId=""'), FormatError, "has no 'diskId'"),
    (ENVELOPE.replace(b"<References>", b'<References><File o:id="f" o:href="y"/>'), FormatError,
     "two files"),
    (ENVELOPE.replace(b"<Info/>", b'<Disk o:diskId="d" o:capacity="1"/>'), FormatError,
     "two disks"),
])  # fmt: skip
def test_damaged_descriptors(data: bytes, error: type[AipImageError], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        decode_envelope(data, "x.ovf")
    assert str(caught.value).startswith("x.ovf: ")
    assert "\n" not in str(caught.value)


def test_foreign_attributes_of_the_same_name_are_not_taken() -> None:
    data = ENVELOPE.replace(b"o:diskId", b'xmlns:w="urn:w" w:capacity="99" w:diskId="z" o:diskId')
    found = decode_envelope(data, "x").disks[0]
    assert (found.id, found.capacity) == ("d", MIB)


def open_files(path: Path, files: dict[str, bytes]) -> None:
    path.write_bytes(archive(files))
    with open_ova(path) as opened, opened.open_disk(0):
        pass


@pytest.mark.parametrize(
    "href",
    ["/etc/passwd", "../secret.vmdk", "file:///etc/passwd", "http://127.0.0.1/d.vmdk", "sub/../d"],
)
def test_class_36_a_disk_outside_of_the_archive(tmp_path: Path, href: str) -> None:
    (tmp_path / "secret.vmdk").write_bytes(b"secret")
    data = ENVELOPE.replace(b"d.vmdk", href.encode())
    with pytest.raises(FormatError, match="leads out of the appliance"):
        open_files(tmp_path / "a.ova", {"a.ovf": data, "d.vmdk": bytes(512)})


def test_class_36_an_extent_outside_of_the_archive(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(1 << 20))
    for name in (tmp_path / "secret", "../secret", "secret"):
        text = (
            "# Disk DescriptorFile\nversion=1\nCID=00000001\nparentCID=ffffffff\n"
            f'createType="monolithicFlat"\nRW 2048 FLAT "{name}" 0\n'
        )
        data = ENVELOPE.replace(b'"512"', b'"%d"' % len(text))
        with pytest.raises(AipImageError, match="secret"):
            open_files(tmp_path / "a.ova", {"a.ovf": data, "d.vmdk": text.encode()})


DELTA = (
    b"# Disk DescriptorFile\nversion=1\nCID=00000002\nparentCID=00000001\n"
    b'parentFileNameHint="base.vmdk"\ncreateType="custom"\nRW 2048 ZERO\n'
)


@pytest.mark.parametrize("told", ["by the disk", "by the package"])
def test_a_disk_on_a_parent_is_refused(told: str, tmp_path: Path) -> None:
    """What it does not have would read as zeros."""
    text = DELTA if told == "by the disk" else DELTA.replace(b"00000001", b"ffffffff")
    data = ENVELOPE.replace(b'"512"', b'"%d"' % len(text))
    if told == "by the package":
        data = data.replace(b"o:fileRef", b'o:parentRef="p" o:fileRef')
        assert decode_envelope(data, "x").disks[0].parent == "p"
    path = tmp_path / "a.ova"
    with pytest.raises(UnsupportedError, match=r"d\.vmdk builds on a parent disk; import it with"):
        open_files(path, {"a.ovf": data, "d.vmdk": text})
    with pytest.raises(UnsupportedError, match="builds on a parent"):
        aipimage.convert(path, tmp_path / "a.raw")
    found = [(each.severity, each.code) for each in check_ova(path).findings]
    assert found == [("note", "ova-no-manifest"), ("warning", "ova-file")]


def test_class_37_a_raw_disk_is_not_guessed(tmp_path: Path) -> None:
    data = ENVELOPE.replace(b'"512"', b'"2048"')
    with pytest.raises(FormatError, match="is not a virtual disk"):
        open_files(tmp_path / "a.ova", {"a.ovf": data, "d.vmdk": bytes(2048)})
    named = ENVELOPE.replace(b"d.vmdk", b"d.img").replace(b"x#vmdk", b"raw")
    with pytest.raises(UnsupportedError, match="only VMDK"):
        open_files(tmp_path / "a.ova", {"a.ovf": named, "d.img": bytes(512)})


def test_class_40_oversized_descriptors(tmp_path: Path) -> None:
    path = tmp_path / "a.ova"
    started = time.process_time()
    with pytest.raises(LimitError, match="has 8388609 bytes"):
        open_files(path, {"a.ovf": bytes((8 << 20) + 1)})
    path.write_bytes(archive({"a.ovf": ENVELOPE, "a.mf": bytes((1 << 20) + 1)}))
    with open_ova(path) as opened:
        assert not opened.manifest
        assert ["has 1048577 bytes" in each for each in opened.warnings] == [True]
    deep = ENVELOPE.replace(b"<Info/>", b"<a>" * 70 + b"</a>" * 70)
    with pytest.raises(LimitError, match="too deeply"):
        decode_envelope(deep, "x")
    many = b"".join(b'<File o:id="%d" o:href="a"/>' % at for at in range(1025))
    with pytest.raises(LimitError, match="over 1024 files"):
        decode_envelope(ENVELOPE.replace(b"<References>", b"<References>" + many), "x")
    assert time.process_time() - started < SOON


def test_class_40_entities_are_refused() -> None:
    """A billion laughs, and a file that an entity names."""
    laughs = b'<!DOCTYPE l [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>'
    outside = b'<!DOCTYPE l [<!ENTITY a SYSTEM "file:///etc/passwd">]>'
    for declared in (laughs, outside, b"<!DOCTYPE l>"):
        with pytest.raises(FormatError, match="document type declaration"):
            decode_envelope(declared + ENVELOPE, "x")


@pytest.mark.parametrize(
    ("files", "message"),
    [({"a.txt": b""}, "no .ovf file"), ({"a.ovf": ENVELOPE}, "not in the appliance")],
)
def test_archives_that_lack_something(
    tmp_path: Path, files: dict[str, bytes], message: str
) -> None:
    with pytest.raises(FormatError, match=message):
        open_files(tmp_path / "a.ova", files)


def open_both(path: Path) -> None:
    with open_ova(path) as opened:
        assert "has no end" in opened.warnings[0]
        for number in range(2):
            opened.open_disk(number).close()


def test_hostile_1_every_truncation(ova: Path, tmp_path: Path) -> None:
    """Refused, or, where all files are whole, read with a warning."""
    data = ova.read_bytes()
    cut = tmp_path / "cut.ova"
    with open_ova(ova) as opened:
        last = opened.members[-1]
        ends = {each.offset + each.size for each in opened.members}
    lengths = {*range(0, len(data), 997), *range(512, 8192, 512), len(data) - 1025, *ends}
    lengths |= {len(data) - 1, len(data) - 513, len(data) - 1024, last.offset + last.size + 1}
    for length in sorted(lengths):
        cut.write_bytes(data[:length])
        if length >= last.offset + last.size:
            with open_ova(cut) as opened:
                assert ["the tar archive has no end" in each for each in opened.warnings] == [True]
                assert not list(opened.damaged())
                continue
        with pytest.raises(FormatError, match=r"cut short|empty|not an OVA|not in the appliance"):
            open_both(cut)


def test_hostile_8_members_of_one_name(tmp_path: Path) -> None:
    one = archive({"a.ovf": ENVELOPE})
    path = tmp_path / "a.ova"
    path.write_bytes(one[: 512 + len(ENVELOPE) + -len(ENVELOPE) % 512] + one)
    with pytest.raises(FormatError, match="two members"):
        open_ova(path)


def test_hostile_9_too_many_members(tmp_path: Path) -> None:
    path = tmp_path / "a.ova"
    path.write_bytes(
        archive({"n": b""})[:512] * 1
        + b"".join(archive({f"{at}": b""})[:512] for at in range(8200))
    )
    with pytest.raises(LimitError, match="over 4096 members"):
        open_ova(path)


def test_fuzz_smoke() -> None:
    """Mutants of the seeds; only typed errors, each in well under a second."""
    rng = random.Random(5)
    seeds = fuzzing_ovf.seeds()
    for seed in seeds:
        fuzzing_ovf.target(seed)
    for turn in range(400):
        data = bytearray(seeds[turn % len(seeds)])
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(data))
            data[at] = rng.choice((data[at] ^ 1 << rng.randrange(8), rng.randrange(256), 0))
        if rng.random() < 0.7:
            _repair(data)
        fuzzing_ovf.target(bytes(data))


def _repair(data: bytearray) -> None:
    """Make the checksums of tar headers right again, so that mutants come further."""
    for at in range(0, len(data) - 511, 512):
        if data[at + 257 : at + 262] == b"ustar":
            total = sum(data[at : at + 148]) + 8 * 32 + sum(data[at + 156 : at + 512])
            data[at + 148 : at + 156] = b"%06o\0 " % total


def test_the_seeds_are_read(tmp_path: Path) -> None:
    """Else the fuzzer would only see the first check."""
    path = tmp_path / "a.ova"
    seeds = fuzzing_ovf.seeds()
    for seed in (*seeds[1:3], *seeds[4:8]):
        path.write_bytes(seed)
        with open_ova(path) as opened:
            assert [each.id for each in opened.disks] == ["d"]
            assert "d.vmdk" in opened.located(0)[0].name
    assert decode_envelope(seeds[3], "x").name == "n"
    assert decode_envelope(seeds[8], "x").disks[0].capacity == MIB
    out = io.BytesIO()
    write_ova(out, [disk(3 * MIB)], name="f", cids=[1], **FIXED)
    assert out.getvalue().startswith(seeds[0])
