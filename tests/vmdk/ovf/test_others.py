"""Appliances as other makers' tools write them: the disks are found, and are what they were."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import random
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

import aipimage
from aipimage.errors import AipImageError, FormatError, IncompleteError, UnsupportedError
from aipimage.vmdk.ovf import check_ova, open_ova, write_ova
from aipimage.vmdk.ovf.parsing import decode_envelope
from tests.support.tools import require_programs, run
from tests.vmdk.ovf.made import FIXED, MIB, descriptor, disk, take

SIZE = 5 * MIB


@pytest.fixture(scope="module")
def vmdk() -> bytes:
    """A streamOptimized disk."""
    out = io.BytesIO()
    write_ova(out, [disk(SIZE)], name="d", cids=[1], **FIXED)  # type: ignore[arg-type]
    return next(data for name, data in take(out.getvalue()).files.items() if "vmdk" in name)


def pack(path: Path, files: Mapping[str, str | bytes], form: int = tarfile.USTAR_FORMAT) -> Path:
    """Make a tar of files."""
    with tarfile.open(path, "w", format=form) as tar:
        for name, data in files.items():
            raw = data.encode() if isinstance(data, str) else data
            info = tarfile.TarInfo(name)
            info.size = len(raw)
            tar.addfile(info, io.BytesIO(raw))
    return path


def content(path: Path) -> tuple[bytes, tuple[str, ...]]:
    """What the one disk of an appliance holds, and the warnings."""
    with open_ova(path) as opened:
        assert len(opened.disks) == 1
        with opened.open_disk(0) as source:
            data = bytearray(source.size)
            source.read_into(data, 0)
            return bytes(data), (*opened.warnings, *source.warnings)


def check(path: Path, *expected: str) -> None:
    """The disk is what it was, with just these warnings; so say the command's functions too."""
    found, warnings = content(path)
    assert found == disk(SIZE).content(0, SIZE)
    assert len(warnings) == len(expected), warnings
    for said, part in zip(warnings, expected, strict=True):
        assert part in said
        assert str(path) in said
    target = path.with_suffix(".raw")
    result = aipimage.convert(path, target, overwrite=True)
    assert target.read_bytes() == found
    assert set(warnings) <= set(result.warnings)
    check_ova(path)


# Manifests.

SPELLINGS: dict[str, Callable[[str, str], str]] = {
    "openssl3": lambda name, digest: f"SHA2-256({name})= {digest}\n",
    "dash": lambda name, digest: f"SHA-256({name})= {digest}\n",
    "small": lambda name, digest: f"sha256({name}) = {digest}\n",
    "bsd, crlf": lambda name, digest: f"SHA256 ({name}) = {digest}\r\n",
    "coreutils": lambda name, digest: f"{digest} *{name}\n",
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_manifests(spelling: str, vmdk: bytes, tmp_path: Path) -> None:
    """Read without a word; and a check compares the digests."""
    files: dict[str, str | bytes] = {"m.ovf": descriptor(), "d.vmdk": vmdk}
    lines = {
        name: hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()
        for name, data in files.items()
    }
    text = "".join(SPELLINGS[spelling](name, digest) for name, digest in lines.items())
    path = pack(tmp_path / "a.ova", files | {"m.mf": text})
    check(path)
    assert check_ova(path).ok
    wrong = text.replace(lines["d.vmdk"], lines["m.ovf"])
    result = check_ova(pack(tmp_path / "b.ova", files | {"m.mf": wrong}))
    assert [each.message for each in result.findings if each.code == "ova-manifest"] == [
        "d.vmdk is missing or not what the manifest says"
    ]


def test_a_manifest_that_is_odd_is_a_warning(vmdk: bytes, tmp_path: Path) -> None:
    text = f"# by hand\nnonsense\nWHIRLPOOL(d.vmdk)= {'0' * 128}\nSHA1(gone.iso)= {'0' * 40}\n"
    files = {"m.ovf": descriptor(), "m.mf": text, "d.vmdk": vmdk}
    path = pack(tmp_path / "a.ova", files)
    check(path, "line 2", "unknown kind, 'WHIRLPOOL'", "names 'gone.iso', which is not in")
    result = check_ova(path)
    assert not result.ok
    assert [each.severity for each in result.findings] == ["warning"] * 3 + ["error"]


def test_the_manifest_is_that_of_the_descriptor(vmdk: bytes, tmp_path: Path) -> None:
    right = f"SHA1(d.vmdk)= {hashlib.sha1(vmdk).hexdigest()}\n"
    files = {"m.ovf": descriptor(), "a.mf": "SHA1(x)= 00", "m.mf": right, "d.vmdk": vmdk}
    path = pack(tmp_path / "a.ova", files)
    check(path)
    with open_ova(path) as opened:
        assert [line.name for line in opened.manifest] == ["d.vmdk"]


# Where members lie.


@pytest.mark.parametrize(("href", "member", "folder"), [
    ("d.vmdk", "sub/d.vmdk", "sub/"), ("d.vmdk", "./d.vmdk", "./"), ("./d.vmdk", "d.vmdk", ""),
    ("disks/d.vmdk", "sub/disks/d.vmdk", "sub/"), ("disks/d.vmdk", "disks/d.vmdk", ""),
    ("my%20disk.vmdk", "my disk.vmdk", ""), ("my%20disk.vmdk", "my%20disk.vmdk", ""),
    ("my disk.vmdk", "my disk.vmdk", ""), ("disks\\d.vmdk", "disks/d.vmdk", ""),
    ("disks\\d.vmdk", "disks\\d.vmdk", ""), (".\\d.vmdk", "d.vmdk", ""),
    ("disks%2Fd.vmdk", "disks/d.vmdk", ""), ("Gr%C3%B6%C3%9Fe.vmdk", "Größe.vmdk", ""),
    ("sub/d.vmdk", "sub/d.vmdk", "sub/"), ("D.VMDK", "d.vmdk", ""), ("d.vmdk", "D.VMDK", ""),
    ("disks//d.vmdk", "disks/d.vmdk", ""), ("o\u0308.vmdk", "ö.vmdk", ""),
    ("d.vmdk", "a/very/deep/folder/d.vmdk", "a/very/deep/folder/"), ("100%.vmdk", "100%.vmdk", ""),
    ("d.vmdk", "/abs/d.vmdk", "/abs/"), ("a#b?c.vmdk", "a#b?c.vmdk", ""),
])  # fmt: skip
def test_places_of_members(
    href: str, member: str, folder: str, vmdk: bytes, tmp_path: Path
) -> None:
    text = descriptor(href, size=len(vmdk))
    digests = f"SHA1({os.path.basename(member)})= {hashlib.sha1(vmdk).hexdigest()}\n"
    files = {f"{folder}m.OVF": text, f"{folder}m.MF": digests, member: vmdk}
    path = pack(tmp_path / "a.ova", files)
    found, warnings = content(path)
    assert found == disk(SIZE).content(0, SIZE)
    if os.path.dirname(member) == folder.rstrip("/"):
        assert not warnings
        with open_ova(path) as opened:
            assert not list(opened.damaged())


@pytest.mark.parametrize("href", [
    "/etc/passwd", "../d.vmdk", "sub/../d.vmdk", "..", "%2e%2e/d.vmdk", "..%2fd.vmdk", "..\\d.vmdk",
    "%2Fetc%2Fpasswd", "sub/..", "sub%5c..%5cd.vmdk", "\\d.vmdk", "C:\\d.vmdk", "c:/d.vmdk",
    "file:///d.vmdk", "http://host/d.vmdk", "https://host/d.vmdk", "//host/d.vmdk", "d.vmdk%00",
])  # fmt: skip
@pytest.mark.parametrize("folder", ["", "sub/"])
def test_class_36_no_reference_leads_out(
    href: str, folder: str, vmdk: bytes, tmp_path: Path
) -> None:
    """Not even where the archive has a file of that name."""
    (tmp_path / "d.vmdk").write_bytes(vmdk)
    files = {f"{folder}m.ovf": descriptor(href), href: vmdk, "d.vmdk": vmdk, f"sub/{href}": vmdk}
    path = pack(tmp_path / "a.ova", files)
    with pytest.raises(FormatError, match="leads out of the appliance and is not followed"):
        content(path)


def test_descriptors_beside_the_first(vmdk: bytes, tmp_path: Path) -> None:
    """Importers take the first; what macOS calls ``._m.ovf`` holds attributes of a file."""
    other = descriptor("other.vmdk")
    files = {
        "._m.ovf": b"\0\5\x16\7" + bytes(90),
        "m.ovf": descriptor(),
        "n.ovf": other,
        "._d.vmdk": bytes(90),
        "d.vmdk": vmdk,
    }
    check(pack(tmp_path / "a.ova", files), "n.ovf is not read: m.ovf comes first")


def test_what_no_disk_needs_may_be_anything(vmdk: bytes, tmp_path: Path) -> None:
    """Links, folders, devices, files that are there twice, certificates, other files."""
    path = tmp_path / "a.ova"
    files = {"m.ovf": descriptor(), "m.cert": "-----BEGIN", "d.vmdk": vmdk, "x.nvram": b"1"}
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        for kind in (
            tarfile.DIRTYPE,
            tarfile.SYMTYPE,
            tarfile.LNKTYPE,
            tarfile.CHRTYPE,
            tarfile.FIFOTYPE,
            b"V",
            b"Q",
        ):
            info = tarfile.TarInfo(f"entry-{kind.decode()}")
            info.type, info.linkname = kind, "l" * 150
            tar.addfile(info)
        for name, data in (*files.items(), ("x.nvram", b"2")):
            raw = data.encode() if isinstance(data, str) else data
            info = tarfile.TarInfo(name)
            info.size = len(raw)
            tar.addfile(info, io.BytesIO(raw))
    check(path)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_a_disk_that_is_a_link_is_named(kind: bytes, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    path = pack(tmp_path / "a.ova", {"m.ovf": descriptor()})
    with tarfile.open(path, "a") as tar:
        info = tarfile.TarInfo("d.vmdk")
        info.type, info.linkname = kind, str(tmp_path / "secret")
        tar.addfile(info)
    with pytest.raises(FormatError, match=r"'d\.vmdk' is a (hard|symbolic) link in the appliance"):
        content(path)


def test_a_disk_that_is_there_twice_is_refused(vmdk: bytes, tmp_path: Path) -> None:
    path = pack(tmp_path / "a.ova", {"m.ovf": descriptor(), "d.vmdk": vmdk, "./d.vmdk": vmdk})
    with pytest.raises(FormatError, match=r"two members called 'd\.vmdk'"):
        content(path)


# Dialects of tar.

LONG = "x" * 110 + ".vmdk"


@pytest.mark.parametrize("form", ["ustar", "v7", "gnu", "oldgnu", "posix"])
@pytest.mark.parametrize("sparse", [False, True])
def test_dialects_of_gnu_tar(form: str, sparse: bool, vmdk: bytes, tmp_path: Path) -> None:
    """Long names where the dialect has them; sparse files in the forms of GNU and of pax."""
    require_programs("tar")
    if sparse and form in ("ustar", "v7"):
        pytest.skip("has no sparse files")
    name = "d.vmdk" if form in ("ustar", "v7") else LONG
    (tmp_path / "m.ovf").write_text(descriptor(name))
    with (tmp_path / name).open("wb") as file:
        file.write(vmdk)
        if sparse:
            file.truncate(len(vmdk) + (900 << 10))
    command = ["tar", f"--format={form}", "-C", tmp_path, *(["-S"] if sparse else [])]
    run([*command, "-cf", tmp_path / "a.ova", "m.ovf", name])
    expected = [f"has {900 << 10} bytes after its end"] if sparse else []
    found, warnings = content(tmp_path / "a.ova")
    assert found == disk(SIZE).content(0, SIZE)
    assert [each.split(": ")[1] for each in warnings] == expected


def holed(path: Path) -> bytes:
    """A file with so many holes that its map needs further blocks."""
    data = bytearray(60 << 16)
    with path.open("wb") as file:
        file.truncate(len(data))
        for at in range(0, len(data), 1 << 16):
            piece = random.Random(at).randbytes(5000)
            os.pwrite(file.fileno(), piece, at)
            data[at : at + len(piece)] = piece
    return bytes(data)


@pytest.mark.parametrize(
    "form",
    [
        ["--format=gnu"],
        ["--format=posix", "--sparse-version=0.0"],
        ["--format=posix", "--sparse-version=0.1"],
        ["--format=posix", "--sparse-version=1.0"],
    ],
)
def test_sparse_files_with_many_pieces(form: list[str], tmp_path: Path) -> None:
    require_programs("tar")
    data = holed(tmp_path / "d.vmdk")
    (tmp_path / "m.ovf").write_text(descriptor())
    digest = hashlib.sha256(data).hexdigest()
    (tmp_path / "m.mf").write_text(f"SHA256(d.vmdk)= {digest}\n")
    path = tmp_path / "a.ova"
    run(["tar", *form, "-S", "-C", tmp_path, "-cf", path, "m.ovf", "m.mf", "d.vmdk"])
    with open_ova(path) as opened:
        member = opened.members[-1]
        assert (member.name, member.size) == ("d.vmdk", len(data))
        assert len(member.ranges) >= 60
        assert not list(opened.damaged())
        file = opened.storage().open_read(path / "d.vmdk")
        rng = random.Random(7)
        for _ in range(300):
            at, length = rng.randrange(len(data) + 10), rng.randrange(1, 200_000)
            assert file.pread(length, at) == data[at : at + length]


def test_hostile_maps_of_sparse_files(tmp_path: Path) -> None:
    require_programs("tar")
    data = holed(tmp_path / "d.vmdk")
    (tmp_path / "m.ovf").write_text(descriptor())
    path = tmp_path / "a.ova"
    run(["tar", "--format=gnu", "-S", "-C", tmp_path, "-cf", path, "m.ovf", "d.vmdk"])
    whole = path.read_bytes()
    header = whole.index(b"d.vmdk\0")
    for at, value in (
        (386, b"77777777777\0"),
        (398, b"77777777777\0"),
        (410, b"00000000000\0"),
        (483, b"0" * 12),
        (398, b"00000000001\0"),
        (386, b"\xff" * 12),
        (482, b"\0"),
    ):
        changed = bytearray(whole)
        changed[header + at : header + at + len(value)] = value
        block = changed[header : header + 512]
        total = sum(block[:148]) + 256 + sum(block[156:])
        changed[header + 148 : header + 156] = b"%06o\0 " % total
        path.write_bytes(changed)
        with pytest.raises(FormatError, match=r"sparse file|63 bits|no tar header|checksum"):
            content(path)
    assert len(data) == 60 << 16


def test_archives_without_an_end(vmdk: bytes, tmp_path: Path) -> None:
    files = {"m.ovf": descriptor(), "d.vmdk": vmdk + bytes(-len(vmdk) % 512)}
    path = pack(tmp_path / "a.ova", files)
    with tarfile.open(path) as tar:
        end = tar.getmembers()[-1].offset_data + len(files["d.vmdk"])
    data = path.read_bytes()
    for rest, said in (
        (b"", "has no end"),
        (bytes(512), "has no end"),
        (bytes(100), "has no end"),
        (bytes(512) + b"rest" * 128, "single block of zeros"),
    ):
        path.write_bytes(data[:end] + rest)
        check(path, said)
        assert not check_ova(path).ok
    path.write_bytes(data[:end] + bytes(1024) + b"rest")
    check(path)


def test_old_sums_of_signed_bytes(vmdk: bytes, tmp_path: Path) -> None:
    path = pack(tmp_path / "a.ova", {"m.ovf": descriptor("ä.vmdk"), "ä.vmdk": vmdk})
    data = bytearray(path.read_bytes())
    at = data.index("ä.vmdk\0".encode() + bytes(50))
    total = int(data[at + 148 : at + 154], 8)
    data[at + 148 : at + 156] = b"%06o\0 " % (total - 2 * 256)
    path.write_bytes(data)
    check(path)


# What the descriptor says.


@pytest.mark.parametrize(
    "space",
    [
        "http://schemas.dmtf.org/ovf/envelope/2",
        "http://www.vmware.com/schema/ovf/1/envelope",
        "http://schemas.dmtf.org/ovf/1/envelope",
        "http://schemas.dmtf.org/ovf/envelope/1/",
        "https://schemas.dmtf.org/ovf/envelope/1",
        "http://schemas.dmtf.org/ovf/envelope/1.1.0",
        "",
    ],
)
def test_name_spaces(space: str, vmdk: bytes, tmp_path: Path) -> None:
    text = descriptor(size=len(vmdk), space=space)
    if not space:
        text = text.replace('xmlns="" xmlns:ovf=""', "").replace("ovf:", "")
    check(pack(tmp_path / "a.ova", {"m.ovf": text, "d.vmdk": vmdk}))


def test_sections_of_ovf_0_9(vmdk: bytes, tmp_path: Path) -> None:
    space = "http://www.vmware.com/schema/ovf/1/envelope"
    text = (
        f'<ovf:Envelope xmlns:ovf="{space}" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">'
        '<References><File ovf:href="d.vmdk" ovf:id="f1"/></References>'
        '<Section xsi:type="ovf:DiskSection_Type"><Info>d</Info>'
        f'<Disk ovf:capacity="{SIZE}" ovf:diskId="d1" ovf:fileRef="f1" ovf:format="http://www.vmware'
        '.com/specifications/vmdk.html#sparse"/></Section>'
        '<Content ovf:id="v" xsi:type="ovf:VirtualSystem_Type"><Info/><Name>old</Name></Content>'
        "</ovf:Envelope>"
    )
    path = pack(tmp_path / "a.ova", {"m.ovf": text, "d.vmdk": vmdk})
    check(path)
    with open_ova(path) as opened:
        assert opened.envelope.name == "old"
        assert opened.disks[0].capacity == SIZE


@pytest.mark.parametrize(
    ("size", "said"),
    [
        ("", None),
        (" ", None),
        ("x", "is not a number: 'x'"),
        ("-1", "is not a number"),
        (str(1 << 70), "is not a number"),
        ("1", "bytes, and the descriptor says 1"),
        ("99999999", "bytes, and the descriptor says 99999999"),
    ],
)
def test_sizes_that_are_wrong(size: str, said: str | None, vmdk: bytes, tmp_path: Path) -> None:
    text = descriptor(file=f'ovf:size="{size}"')
    path = pack(tmp_path / "a.ova", {"m.ovf": text, "d.vmdk": vmdk})
    check(path, *([said] if said else []))
    assert check_ova(path).ok == (said is None or "not a number" in said)


@pytest.mark.parametrize(
    ("about", "said"),
    [
        ("", None),
        ('ovf:capacity=""', None),
        ('ovf:capacity="${disk}"', None),
        ('ovf:capacity="1e9"', "capacity of the disk 'd1' is not a number"),
        ('ovf:capacity="5.0"', "is not a number"),
        ('ovf:capacity="-1"', "is not a number"),
        ('ovf:capacity="9223372036854775808"', "is not a number"),
        ('ovf:capacity="9" ovf:capacityAllocationUnits="byte * 2^62"', "cannot be"),
        ('ovf:capacity="9" ovf:capacityAllocationUnits="parsec"', "unknown unit of a capacity"),
        ('ovf:capacity="9" ovf:capacityAllocationUnits="byte * 0"', "unknown unit of a capacity"),
    ],
)
def test_capacities_that_are_wrong(
    about: str, said: str | None, vmdk: bytes, tmp_path: Path
) -> None:
    """The disk itself knows better."""
    path = pack(tmp_path / "a.ova", {"m.ovf": descriptor(about=about or " "), "d.vmdk": vmdk})
    check(path, *([said] if said else []))
    with open_ova(path) as opened:
        assert opened.disks[0].capacity is None


@pytest.mark.parametrize("reference", ["f1", "ovf:/file/f1", "/file/f1", "file/f1", "d.vmdk"])
def test_references_to_files(reference: str, vmdk: bytes, tmp_path: Path) -> None:
    text = descriptor().replace('fileRef="f1"', f'fileRef="{reference}"')
    check(pack(tmp_path / "a.ova", {"m.ovf": text, "d.vmdk": vmdk}))


@pytest.mark.parametrize(
    ("prolog", "codec"),
    [
        ('\ufeff<?xml version="1.0" encoding="UTF-8"?>', "utf-8"),
        ("\r\n \r\n", "utf-8"),
        ('\n<?xml version="1.0"?>', "utf-8"),
        ('\ufeff<?xml version="1.0" encoding="UTF-16"?>', "utf-16-le"),
        ('<?xml version="1.0" encoding="GBK"?>', "gbk"),
        ("<?xml version='1.0' encoding='Shift_JIS'?>", "shift_jis"),
        ('<?xml version="1.0" encoding="windows-1252"?>', "cp1252"),
    ],
)
def test_encodings_of_the_descriptor(prolog: str, codec: str, vmdk: bytes, tmp_path: Path) -> None:
    name = "Größe.vmdk" if codec == "cp1252" else "系統.vmdk"
    data = descriptor(name, prolog=prolog).encode(codec)
    check(pack(tmp_path / "a.ova", {"m.ovf": data, name: vmdk}))


def test_files_that_are_not_needed_may_be_incomplete(vmdk: bytes, tmp_path: Path) -> None:
    text = descriptor().replace("</References>", '<File ovf:href="x"/><File/></References>')
    path = pack(tmp_path / "a.ova", {"m.ovf": text, "d.vmdk": vmdk})
    check(path, "has no id or no href", "has no id or no href")


# Chunks.


def chunks(vmdk: bytes, size: int, name: str = "d.vmdk") -> dict[str, str | bytes]:
    """A disk in pieces, as DSP0243 calls them."""
    return {f"{name}.{at // size:09d}": vmdk[at : at + size] for at in range(0, len(vmdk), size)}


@pytest.mark.parametrize("told", ['ovf:chunkSize="20000"', "", 'ovf:chunkSize=""'])
@pytest.mark.parametrize("folder", ["", "sub/"])
def test_chunks_are_joined(told: str, folder: str, vmdk: bytes, tmp_path: Path) -> None:
    files = {f"{folder}m.ovf": descriptor(size=len(vmdk), file=told)}
    pieces = chunks(vmdk, 20_000, f"{folder}d.vmdk")
    assert len(pieces) > 3
    path = pack(tmp_path / "a.ova", files | dict(reversed(pieces.items())))
    check(path)
    assert check_ova(path).ok


@pytest.mark.parametrize("size", ["7516192768", "20000", "0", "x"])
def test_a_file_that_is_not_in_chunks(size: str, vmdk: bytes, tmp_path: Path) -> None:
    text = descriptor(size=len(vmdk), file=f'ovf:chunkSize="{size}"')
    check(pack(tmp_path / "a.ova", {"m.ovf": text, "d.vmdk": vmdk}))


@pytest.mark.parametrize("gap", [0, 1, -1])
def test_a_gap_is_named(gap: int, vmdk: bytes, tmp_path: Path) -> None:
    files = chunks(vmdk, 20_000)
    missing = sorted(files)[gap]
    del files[missing]
    text = descriptor(size=len(vmdk), file='ovf:chunkSize="20000"')
    path = pack(tmp_path / "a.ova", {"m.ovf": text, **files})
    with pytest.raises(IncompleteError, match=f"{missing}, a chunk of the disk d.vmdk, is not in"):
        content(path)
    assert [each.code for each in check_ova(path).findings] == ["ova-no-manifest", "ova-file"]


# What is compressed.


def test_compressed_disks_are_named(vmdk: bytes, tmp_path: Path) -> None:
    text = descriptor("d.vmdk.gz", file='ovf:compression="gzip"')
    path = pack(tmp_path / "a.ova", {"m.ovf": text, "d.vmdk.gz": gzip.compress(vmdk)})
    with pytest.raises(UnsupportedError, match=r"d\.vmdk\.gz is a gzip file: .*\(gunzip\)"):
        content(path)
    untold = {"m.ovf": descriptor(), "d.vmdk": gzip.compress(vmdk)}
    with pytest.raises(UnsupportedError, match="is a gzip file"):
        content(pack(tmp_path / "b.ova", untold))
    strange = descriptor(file='ovf:compression="http://x/y"')
    with pytest.raises(UnsupportedError, match="is compressed"):
        content(pack(tmp_path / "c.ova", {"m.ovf": strange, "d.vmdk": b"?" * 600}))
    for said in ('ovf:compression="identity"', 'ovf:compression="gzip"'):
        # What is called compressed and is not is read.
        check(pack(tmp_path / "d.ova", {"m.ovf": descriptor(file=said), "d.vmdk": vmdk}))


@pytest.mark.parametrize(
    ("magic", "name"),
    [
        (b"\x1f\x8b\x08\0", "a gzip file"),
        (b"\xfd7zXZ\0", "an xz file"),
        (b"BZh91AY&SY", "a bzip2 file"),
        (b"PK\3\4", "a zip archive"),
        (b"(\xb5/\xfd", "a zstd file"),
        (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
        (b"KDMV\1", "a VMDK disk"),
        (b"QFI\xfb", "a qcow2 disk"),
    ],
)
def test_whole_archives_that_are_something_else(magic: bytes, name: str, tmp_path: Path) -> None:
    path = tmp_path / "a.ova"
    path.write_bytes(magic + random.Random(1).randbytes(3000))
    with pytest.raises(FormatError, match=rf"is not an OVA: it begins like {name}"):
        open_ova(path)


def test_disks_of_other_kinds_are_named(vmdk: bytes, tmp_path: Path) -> None:
    text = descriptor("d.img").replace("vmdk.html", "x")
    path = pack(tmp_path / "a.ova", {"m.ovf": text, "d.img": b"QFI\xfb" + bytes(508)})
    with pytest.raises(UnsupportedError, match=r"only VMDK disks .* like a qcow2 disk"):
        content(path)


def test_any_error_is_one_line(vmdk: bytes, tmp_path: Path) -> None:
    """Whatever a descriptor calls a file."""
    for href in ("a&#10;b", "&#x202e;", "&#9;"):
        path = pack(tmp_path / "a.ova", {"m.ovf": descriptor(href), "d.vmdk": vmdk})
        with pytest.raises(AipImageError) as caught:
            content(path)
        assert str(caught.value).isprintable()
    assert decode_envelope(descriptor().encode(), "x").files[0].compression == ""
