"""Descriptors as people, editors and other programs leave them: read where qemu reads them."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import aipimage
from aipimage import vmdk
from aipimage.errors import AipImageError, FormatError, IncompleteError, RequestError
from aipimage.vmdk.descriptor import NO_PARENT, parse_descriptor
from aipimage.vmdk.textcodes import codec_named

MIB = 1 << 20
SIZE = 4 * MIB
CONTENT = random.Random(3).randbytes(MIB).ljust(SIZE, b"\0")
NAME = "disk-f001.vmdk"


def text(
    name: str = NAME,
    *,
    encoding: str = "UTF-8",
    first: str = "# Disk DescriptorFile",
    line: str = "",
    cid: str = "12345678",
    kind: str = "twoGbMaxExtentFlat",
) -> str:
    """A descriptor of a flat disk."""
    return (
        f'{first}\nversion=1\nencoding="{encoding}"\nCID={cid}\nparentCID=ffffffff\n'
        f'createType="{kind}"\n\n# Extent description\n'
        + (line or f'RW {SIZE // 512} FLAT "{name}" 0')
        + '\n\n# The Disk Data Base\n#DDB\n\nddb.adapterType = "lsilogic"\n'
        'ddb.virtualHWVersion = "4"\n'
    )


def make(folder: Path, data: str | bytes, name: str | bytes = NAME) -> Path:
    """Write a descriptor and its extent."""
    folder.mkdir(exist_ok=True)
    path = folder / "disk.vmdk"
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    raw = name if isinstance(name, bytes) else name.encode()
    with open(os.fsencode(folder) + b"/" + raw, "wb") as file:
        file.write(CONTENT)
    return path


def check(path: Path, *warnings: str) -> vmdk.VmdkSource:
    """The disk is read and holds what it should, with just these warnings."""
    with vmdk.open(path) as disk:
        assert disk.size == SIZE
        data = bytearray(SIZE)
        disk.read_into(data, 0)
        assert data == CONTENT
        assert len(disk.warnings) == len(warnings), disk.warnings
        for said, part in zip(disk.warnings, warnings, strict=True):
            assert part in said
            assert said.startswith(f"{path}: ")
        return disk


# First lines and what stands around the text.


@pytest.mark.parametrize("first", [
    "# Disk DescriptorFile  ", "# DISK DESCRIPTORFILE", "# Disk Descriptor File",
    "#Disk DescriptorFile", "#Disk Descriptor File", "#  Disk  DescriptorFile",
    "\n# Disk DescriptorFile", "\r\n \t\r\n# Disk DescriptorFile", "  # Disk DescriptorFile",
    "\ufeff# Disk DescriptorFile", "\ufeff\n# Disk DescriptorFile", "#\tDisk DescriptorFile",
    "\u00a0# Disk\u00a0DescriptorFile", "# comment\n# Disk DescriptorFile",
])  # fmt: skip
def test_first_lines(first: str, tmp_path: Path) -> None:
    odd = ["does not begin with the line"] if "comment" in first else []
    check(make(tmp_path / "d", text(first=first)), *odd)


@pytest.mark.parametrize("first", ["# made by a script", "", "# a\n# b\n"])
def test_no_first_line(first: str, tmp_path: Path) -> None:
    """qemu wants comments and a setting."""
    check(make(tmp_path / "d", text(first=first)), "does not begin with the line '# Disk Desc")


@pytest.mark.parametrize("data", [
    b"# Disk", b"hello", b"\0" * 600, b"<?xml?>", b"[Disk]\nversion=1\n", b"PK\3\4",
    b".encoding = \"x\"\nconfig.version = \"8\"\n", random.Random(9).randbytes(3000),
])  # fmt: skip
def test_other_files_are_no_descriptors(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="is not a virtual disk"):
        vmdk.open(make(tmp_path / "d", data))


def test_an_empty_file_is_called_empty(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"is empty \(0 bytes\)"):
        vmdk.open(make(tmp_path / "d", b""))


FORMS: dict[str, Callable[[str], bytes]] = {
    "crlf": lambda text: text.replace("\n", "\r\n").encode(),
    "cr": lambda text: text.replace("\n", "\r").encode(),
    "mixed": lambda text: text.replace("\n", "\r", 3).replace("\n", "\r\n", 2).encode(),
    "nul": lambda text: text.encode().ljust(10_240, b"\0"),
    "tabs": lambda text: text.replace(" ", "\t").encode(),
    "blanks": lambda text: text.replace("\n", " \t\n  ").encode(),
    "utf-16-le": lambda text: b"\xff\xfe" + text.encode("utf-16-le"),
    "utf-16-be": lambda text: b"\xfe\xff" + text.encode("utf-16-be"),
    "utf-16 without a mark": lambda text: text.encode("utf-16-le") + bytes(512),
    "utf-8 with a mark, crlf": lambda text: text.replace("\n", "\r\n").encode("utf-8-sig"),
    "no last newline": lambda text: text.rstrip().encode(),
    "no-break spaces": lambda text: text.replace("\n", "\u00a0\n").encode(),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_text(form: str, tmp_path: Path) -> None:
    check(make(tmp_path / "d", FORMS[form](text())))


def test_utf_16_with_other_letters(tmp_path: Path) -> None:
    data = text("Größe-系统.vmdk", encoding="UTF-16").encode("utf-16")
    path = make(tmp_path / "d", data, "Größe-系统.vmdk")
    check(path)
    assert "descriptor-encoding" in {each.code for each in vmdk.lint(path).findings}


# Lines.


@pytest.mark.parametrize("line", [
    f'rw {SIZE // 512} flat "{NAME}" 0', f'Rw {SIZE // 512} Flat "{NAME}"',
    f'RW\t{SIZE // 512}\tFLAT\t"{NAME}"\t0', f"RW {SIZE // 512} FLAT {NAME} 0",
    f"RW {SIZE // 512} FLAT '{NAME}' 0", f'RW 0000{SIZE // 512} FLAT "{NAME}" 000',
    f'RW +{SIZE // 512} FLAT "{NAME}" +0', f'RW {SIZE // 512} FLAT "{NAME}" 0x0',
    f'RW {SIZE // 512} FLAT "{NAME}" 0 partition 1 2', f'   RW   {SIZE // 512}  FLAT "{NAME}"   0 ',
    f'RW {SIZE // 512} FLAT "./{NAME}" 0', f'RW {SIZE // 512} FLAT ".\\{NAME}" 0',
    f'RW {SIZE // 512} FLAT ".//.\\{NAME}" 0', f'RDONLY {SIZE // 512} VMFS "{NAME}"',
])  # fmt: skip
def test_extent_lines(line: str, tmp_path: Path) -> None:
    path = make(tmp_path / "d", text(line=line))
    check(path)
    assert "extent-missing" not in {each.code for each in vmdk.lint(path).findings}


def test_an_offset_counts(tmp_path: Path) -> None:
    line = f'RW {SIZE // 512 - 2048} FLAT "{NAME}" 0x800'
    with vmdk.open(make(tmp_path / "d", text(line=line))) as disk:
        assert disk.size == SIZE - MIB
        data = bytearray(100)
        disk.read_into(data, 0)
        assert data == CONTENT[MIB : MIB + 100]


@pytest.mark.parametrize("line", [
    f'RW {SIZE // 512} FLAT "{NAME} 0', "RW", "RW x", f'RW {SIZE // 512}', f"RW -8 FLAT {NAME} 0",
    f'RW 1e3 FLAT "{NAME}" 0', f'RW {SIZE // 512} "{NAME}" 0', f'RW {SIZE // 512} FLAT "{NAME}" z',
    f'RW {SIZE // 512} FLAT "{NAME}" -1', "RW " + "9" * 31 + f' FLAT "{NAME}" 0',
    f'RW {"9" * 25} FLAT "{NAME}" 0',
])  # fmt: skip
def test_a_line_of_an_extent_is_never_passed_over(line: str, tmp_path: Path) -> None:
    whole = f'RW {SIZE // 512} FLAT "{NAME}" 0\n{line}'
    with pytest.raises(FormatError, match=r"cannot be understood|is not a number|sectors"):
        vmdk.open(make(tmp_path / "d", text(line=whole)))


@pytest.mark.parametrize(("change", "said"), [
    (("#DDB", "stray words"), "line 12 of the descriptor cannot be understood"),
    (("#DDB", "// stray"), "cannot be understood"), (("#DDB", "[section]"), "cannot be understood"),
    (("#DDB", "= x"), "cannot be understood"), (("version=1", "version"), "cannot be understood"),
    (("#DDB", "cid=12345679"), "CID is there twice"), (("#DDB", "CID=12345678"), None),
    (("#DDB", 'CREATETYPE="x"'), "createType is there twice"),
    (("CID=12345678", "CID = 12345678"), None), (("CID=12345678", 'cid="12345678"'), None),
    (("CID=12345678", "Cid=0x12345678"), None), (("CID=12345678", "CID=345678"), None),
    (("parentCID=ffffffff", "PARENTCID=FFFFFFFF"), None), (("parentCID=ffffffff", ""), None),
    (("parentCID=ffffffff", "parentCID=0xffffffff"), None), (("version=1", ""), None),
    (('createType="twoGbMaxExtentFlat"', "createtype=twoGbMaxExtentFlat"), None),
    (('createType="twoGbMaxExtentFlat"', "createType='twoGbMaxExtentFlat'"), None),
    (('createType="twoGbMaxExtentFlat"', 'createType="TWOGBMAXEXTENTFLAT"'), None),
    (('createType="twoGbMaxExtentFlat"', 'createType="twoGbMaxExtentFlat'), None),
    (('createType="twoGbMaxExtentFlat"', "createType=\u201ctwoGbMaxExtentFlat\u201d"), None),
    (('"lsilogic"', '"lsilogic" "x"'), None), (('encoding="UTF-8"', ""), None),
    (('encoding="UTF-8"', 'encoding="Klingon"'), "unknown encoding, 'Klingon'"),
    (('encoding="UTF-8"', 'encoding="hex"'), "unknown encoding, 'hex'"),
])  # fmt: skip
def test_settings(change: tuple[str, str], said: str | None, tmp_path: Path) -> None:
    data = text()
    assert change[0] in data
    found = check(make(tmp_path / "d", data.replace(*change, 1)), *([said] if said else []))
    assert found.descriptor.cid == (0x345678 if change[1] == "CID=345678" else 0x12345678)
    assert found.descriptor.parent_cid == NO_PARENT
    assert found.subformat.lower() == "twogbmaxextentflat"


# Encodings.

ENCODED = [
    ("GBK", "gbk", "系统盘-f001.vmdk"),
    ("GB2312", "gbk", "系统盘.vmdk"),
    ("gb18030", "gb18030", "㐀.vmdk"),
    ("windows-1252", "cp1252", "Größe-f001.vmdk"),
    ("CP1252", "cp1252", "€uro.vmdk"),
    ("Shift_JIS", "shift_jis", "ソフト表.vmdk"),
    ("windows-31j", "cp932", "①.vmdk"),
    ("Big5", "big5", "功蓋.vmdk"),
    ("EUC-KR", "euc_kr", "디스크.vmdk"),
    ("EUC-JP", "euc_jp", "日本.vmdk"),
    ("windows-1251", "cp1251", "диск.vmdk"),
    ("KOI8-R", "koi8-r", "диск.vmdk"),
    ("windows-1250", "cp1250", "žluť.vmdk"),
    ("ISO-8859-1", "latin-1", "Größe.vmdk"),
    ("windows-936-2000", "gbk", "磁盘.vmdk"),
    ("ibm-943_P15A-2003", "cp932", "表示.vmdk"),
    ("windows-1255", "cp1255", "דיסק.vmdk"),
    ("cp850", "cp850", "Größe.vmdk"),
]


@pytest.mark.parametrize(("encoding", "codec", "name"), ENCODED)
@pytest.mark.parametrize("place", ["as text", "as bytes"])
def test_encodings(encoding: str, codec: str, name: str, place: str, tmp_path: Path) -> None:
    """The file was copied by what turns names into UTF-8, or byte by byte."""
    data = text(name, encoding=encoding).encode(codec)
    path = make(tmp_path / "d", data, name if place == "as text" else name.encode(codec))
    assert check(path).descriptor.extents[0].name == name
    assert not {"extent-missing", "extent-outside", "extent-subfolder"} & {
        each.code for each in vmdk.lint(path).findings
    }
    result = aipimage.create(tmp_path / "d.aiv", [vmdk.open(path)])
    assert result.size == SIZE


@pytest.mark.parametrize(("encoding", "codec", "name"), ENCODED)
def test_a_descriptor_that_was_made_utf_8(
    encoding: str, codec: str, name: str, tmp_path: Path
) -> None:
    """Its encoding is still the old one, and so may be the name of the file."""
    data = text(name, encoding=encoding)
    check(make(tmp_path / "a", data, name))
    check(make(tmp_path / "b", data, name.encode(codec)))


def test_two_letters_that_are_also_utf_8(tmp_path: Path) -> None:
    """The bytes of some letters are UTF-8 by chance: then the file that is there counts."""
    name = "模.vmdk"
    assert name.encode("gbk").decode("utf-8") == "ģ.vmdk"
    data = text(name, encoding="GBK").encode("gbk")
    check(make(tmp_path / "a", data, name))
    check(make(tmp_path / "b", data, "ģ.vmdk"))


def test_a_missing_extent_is_named_as_people_read_it(tmp_path: Path) -> None:
    data = text("系统盘.vmdk", encoding="GBK").encode("gbk")
    with pytest.raises(IncompleteError, match=r"its extent '系统盘\.vmdk' is missing"):
        vmdk.open(make(tmp_path / "d", data))
    # The encoding is not said: nobody can know.
    with pytest.raises(IncompleteError, match="is missing"):
        vmdk.open(make(tmp_path / "d", text("系统盘.vmdk").encode("gbk"), "系统盘.vmdk"))


@pytest.mark.parametrize("encoding", ["GBK", "Shift_JIS", "windows-1252"])
@pytest.mark.parametrize(
    "name",
    [
        "../s\u00e9cret",
        "/s\u00e9cret",
        "sub/s\u00e9cret",
        "..\\s\u00e9cret",
        "./../s\u00e9cret",
        "C:\\s\u00e9cret",
    ],
)
def test_class_36_encodings_lead_nowhere(encoding: str, name: str, tmp_path: Path) -> None:
    codec = "cp1252" if encoding == "windows-1252" else "utf-8"
    (tmp_path / "d" / "sub").mkdir(parents=True)
    for place in (tmp_path, tmp_path / "d" / "sub"):
        (place / "s\u00e9cret").write_bytes(CONTENT)
    data = text(name, encoding=encoding).encode(codec)
    with pytest.raises(RequestError, match="allow_outside"):
        vmdk.open(make(tmp_path / "d", data))


def test_class_36_a_link_in_another_spelling(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(CONTENT)
    path = make(tmp_path / "d", text("Größe.vmdk", encoding="windows-1252").encode("cp1252"))
    (tmp_path / "d" / "Größe.vmdk").symlink_to(secret)
    with pytest.raises(RequestError, match="allow_outside"):
        vmdk.open(path)


def test_deltas_whose_parents_have_other_letters(tmp_path: Path) -> None:
    base = text("Größe-f001.vmdk", encoding="windows-1252").encode("cp1252")
    make(tmp_path, base, "Größe-f001.vmdk")
    (tmp_path / "disk.vmdk").rename(tmp_path / "Größe.vmdk")
    (tmp_path / "other.vmdk").write_bytes(base)
    delta = text(line=f"RW {SIZE // 512} ZERO", encoding="windows-1252", kind="custom", cid="2")
    hint = 'parentCID=12345678\nparentFileNameHint="Größe.vmdk"'
    delta = delta.replace("parentCID=ffffffff", hint)
    (tmp_path / "delta.vmdk").write_bytes(delta.encode("cp1252"))
    with vmdk.open(tmp_path / "delta.vmdk") as disk:
        assert disk.chain[1] == str(tmp_path / "Größe.vmdk")


def test_codecs_are_a_list() -> None:
    for name in ("hex", "rot13", "zip", "idna", "punycode", "utf-7", "unicode_escape", "mbcs", ""):
        assert codec_named(name) is None
    for encoding, codec, name in ENCODED:
        found = codec_named(encoding)
        assert found is not None
        assert name.encode(codec).decode(found) == name


# Descriptors inside of a disk.


@pytest.fixture
def stream(tmp_path: Path) -> Path:
    """A streamOptimized disk."""
    (tmp_path / "s.raw").write_bytes(CONTENT)
    aipimage.convert(tmp_path / "s.raw", tmp_path / "s.vmdk", subformat="streamOptimized")
    return tmp_path / "s.vmdk"


def embedded(path: Path, change: Callable[[str], str]) -> None:
    """Change the descriptor in a disk."""
    data = bytearray(path.read_bytes())
    size = 20 * 512
    old = bytes(data[512 : 512 + size]).rstrip(b"\0").decode()
    data[512 : 512 + size] = change(old).encode().ljust(size, b"\0")
    path.write_bytes(data)


@pytest.mark.parametrize(
    "first",
    ["# Disk Descriptor File", "#Disk DescriptorFile", "# VMDK", "", "hello", "\n", "\ufeff#"],
)
def test_any_first_line_in_a_stream(first: str, stream: Path) -> None:
    embedded(stream, lambda old: old.replace("# Disk DescriptorFile", first, 1))
    with vmdk.open(stream) as disk:
        assert disk.subformat == "streamOptimized"
        data = bytearray(SIZE)
        disk.read_into(data, 0)
        assert data == CONTENT
        assert bool(disk.warnings) == ("isk" not in first)
    assert not vmdk.lint(stream).ok


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('createType="streamOptimized"', "", "has no createType"),
        ("RW ", "rw ", None),
        ('RW 8192 SPARSE "s.vmdk"', 'RW 8192 SPARSE "s.vmdk', "cannot be understood"),
        ('RW 8192 SPARSE "s.vmdk"', "", "says 0 sectors"),
    ],
)
def test_the_header_of_a_stream_counts(old: str, new: str, said: str | None, stream: Path) -> None:
    assert old in stream.read_bytes()[512:2048].decode()
    embedded(stream, lambda text: text.replace(old, new, 1))
    with vmdk.open(stream) as disk:
        assert (disk.size, disk.subformat) == (SIZE, "streamOptimized")
        assert any((said or "") in each for each in disk.warnings) == bool(said)


def test_a_disk_without_a_cid_could_be_a_delta(stream: Path) -> None:
    embedded(stream, lambda old: old.replace("CID=", "XID=", 1))
    with pytest.raises(FormatError, match="has no CID"):
        vmdk.open(stream)


# What others read.


@pytest.mark.skipif(shutil.which("qemu-img") is None, reason="needs qemu-img")
@pytest.mark.parametrize(
    "first",
    ["# Disk Descriptor File", "#Disk DescriptorFile", "# any comment", "# Disk DescriptorFile"],
)
def test_what_qemu_reads_is_read(first: str, tmp_path: Path) -> None:
    path = make(tmp_path / "d", text(first=first))
    told = subprocess.run(
        ["qemu-img", "info", "-f", "vmdk", path], capture_output=True, check=False
    )
    assert told.returncode == 0
    with vmdk.open(path) as disk:
        assert disk.size == SIZE


def test_mutants_of_text_have_typed_errors(tmp_path: Path) -> None:
    rng = random.Random(11)
    seeds = [form(text()) for form in FORMS.values()]
    seeds += [text(name, encoding=each).encode(codec) for each, codec, name in ENCODED]
    for turn in range(600):
        data = bytearray(seeds[turn % len(seeds)])
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data))] = rng.choice((0, 10, 13, 34, 61, 92, rng.randrange(256)))
        with contextlib.suppress(AipImageError):
            parse_descriptor(bytes(data), "x")
            path = make(tmp_path / "d", bytes(data))
            vmdk.open(path).close()
