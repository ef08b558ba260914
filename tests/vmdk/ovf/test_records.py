"""Tar headers and manifests: bytes and values, against Python's tarfile and GNU tar."""

from __future__ import annotations

import contextlib
import os
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aipimage.errors import FormatError, LimitError, RequestError
from aipimage.vmdk.ovf import tar
from aipimage.vmdk.ovf.manifest import (
    ManifestLine,
    decode_manifest,
    encode_manifest,
    manifest_length,
    verified_algorithm,
)
from tests.support.tools import require_programs, run

NAMES = st.text("abcXYZ019._-", min_size=1, max_size=100)
SIZES = st.one_of(st.integers(0, 2**63 - 1), st.integers(8**11 - 2, 8**11 + 2))
EDGES = [0, 1, 511, 512, 513, 8**11 - 1, 8**11, 1 << 40, (1 << 63) - 1]


@given(NAMES, SIZES)
def test_header_as_tarfile_reads_it(name: str, size: int) -> None:
    block = tar.encode_tar_header(name, size, 7)
    found = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
    assert (found.name, found.size, found.mtime, found.mode) == (name, size, 7, 0o644)
    assert found.isreg()
    assert tar.decode_tar_header(block, "x") == tar.TarHeader(name, size)


@given(NAMES, SIZES, st.sampled_from([tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT]))
def test_header_that_tarfile_writes(name: str, size: int, form: int) -> None:
    info = tarfile.TarInfo(name)
    info.size = min(size, tar.OCTAL_MAX) if form == tarfile.USTAR_FORMAT else size
    block = info.tobuf(form, "utf-8", "strict")
    assert tar.decode_tar_header(block, "x") == tar.TarHeader(name, info.size)


@pytest.mark.parametrize("size", EDGES)
def test_sizes_over_8_gib_are_base_256_under_the_posix_magic(size: int) -> None:
    block = tar.encode_tar_header("a", size)
    assert block[257:265] == b"ustar\x0000"
    assert (block[124] == 0x80) == (size > 8**11 - 1)
    assert tar.decode_tar_header(block, "x") == tar.TarHeader("a", size)


def test_gnu_tar_reads_a_member_of_nine_gib(tmp_path: Path) -> None:
    require_programs("tar")
    size = (9 << 30) + 1
    path = tmp_path / "big.ova"
    with path.open("wb") as file:
        file.write(tar.encode_tar_header("big", size))
        file.truncate(512 + size + tar.padding(size))
        file.seek(0, os.SEEK_END)
        file.write(tar.encode_tar_header("after", 0) + tar.END)
    listed = run(["tar", "--list", "--verbose", "--file", path]).splitlines()
    assert [(line.split()[2], line.split()[-1]) for line in listed] == [
        (str(size), "big"),
        ("0", "after"),
    ]


def test_a_flipped_bit_is_an_error() -> None:
    """But for those that make a blank of a leading zero or a NUL in the checksum."""
    block = tar.encode_tar_header("name", 1234)
    passed = []
    for bit in range(8 * 500):
        changed = bytearray(block)
        changed[bit // 8] ^= 1 << bit % 8
        try:
            found = tar.decode_tar_header(bytes(changed), "x")
        except (FormatError, LimitError):
            continue
        assert found == tar.TarHeader("name", 1234)
        passed.append(bit)
    assert passed == [8 * 148 + 4, 8 * 154 + 5, 8 * 155 + 5]


def test_headers_that_no_ova_has() -> None:
    assert tar.decode_tar_header(bytes(512), "x") is None
    with pytest.raises(FormatError, match="cut short"):
        tar.decode_tar_header(b"a" * 511, "x")
    with pytest.raises(FormatError, match="is not an OVA"):
        tar.decode_tar_header(b"a" * 512, "x")
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.CHRTYPE):
        info = tarfile.TarInfo("a")
        info.type = kind
        found = tar.decode_tar_header(info.tobuf(tarfile.GNU_FORMAT), "x")
        assert found is not None
        assert not found.is_file
    with pytest.raises(LimitError, match="63 bits"):
        tar.decode_number(b"\x80" + b"\xff" * 11, "x")
    with pytest.raises(LimitError, match="63 bits"):
        tar.decode_number(b"\xff" * 12, "x")
    with pytest.raises(FormatError, match="not a number"):
        tar.decode_number(b"0009\0", "x")


def test_pax_sizes_and_names_are_read() -> None:
    header = tar.TarHeader("short", 0)
    data = b"20 path=a/long/name\n19 size=9999999999\n15 comment=abc\n"
    found = tar.decode_pax(data.ljust(512, b"\0"), header, "x")
    assert found == tar.TarHeader("a/long/name", 9999999999)


@pytest.mark.parametrize(
    "data",
    [
        b"abc",
        b"0 a=b\n",
        b"5 a=b\n",
        b"999 size=1\n",
        b"10 size=11\n9 size=1",
        b"4 a\n",
        b"6 a=b\n",
        b"-9 size=1\n",
    ],
)
def test_damaged_pax_headers(data: bytes) -> None:
    if data == b"6 a=b\n":
        assert tar.decode_pax(data, tar.TarHeader("n", 3), "x") == tar.TarHeader("n", 3)
        return
    with pytest.raises(FormatError):
        tar.decode_pax(data, tar.TarHeader("n", 3), "x")


def test_pax_numbers_over_a_limit() -> None:
    for value in (b"9223372036854775808", b"1" * 30, b"-1", b"x"):
        record = b" size=" + value + b"\n"
        data = b"%d" % (len(record) + 2) + record
        with pytest.raises(LimitError, match="size of"):
            tar.decode_pax(data, tar.TarHeader("n", 3), "x")
    with pytest.raises(LimitError, match="at most 1048576"):
        tar.verified_pax_size((1 << 20) + 1, "x")


@given(st.binary(max_size=200))
def test_any_pax_bytes(data: bytes) -> None:
    with contextlib.suppress(FormatError):
        assert tar.decode_pax(data, tar.TarHeader("n", 3), "x").size >= 0


@given(st.lists(NAMES, unique=True, max_size=5), st.sampled_from(["sha1", "sha256"]))
def test_manifest_there_and_back(names: list[str], algorithm: str) -> None:
    width = {"sha1": 40, "sha256": 64}[algorithm]
    digests = [(name, f"{at:0{width}x}") for at, name in enumerate(names)]
    text = encode_manifest(algorithm, digests)
    assert len(text) == manifest_length(algorithm, names)
    found, warnings = decode_manifest(text, "x")
    assert not warnings
    assert [(line.name, line.digest) for line in found] == digests
    assert {line.algorithm for line in found} <= {algorithm.upper()}


SHA1, SHA256, MD5 = "0A" * 20, "1f" * 32, "ab" * 16


@pytest.mark.parametrize("text", [
    f"SHA256(c d.vmdk)= {SHA256}", f"SHA2-256(c d.vmdk)= {SHA256}", f"SHA-256(c d.vmdk)={SHA256}",
    f"sha256(c d.vmdk) = {SHA256}", f"SHA256 (c d.vmdk) = {SHA256.upper()}",
    f"\tSha2_256  ( c d.vmdk )  =  {SHA256}  ", f"SHA256(*c d.vmdk)= {SHA256}",
    f"{SHA256}  c d.vmdk", f"{SHA256} *c d.vmdk", f"SHA256(c d.vmdk): {SHA256}",
])  # fmt: skip
@pytest.mark.parametrize(
    "form", ["{}\n", "{}\r\n", "{}", "\ufeff{}\n", "# made today\n\n{}\r\n\r\n", "{}\n\0\0", "{}\r"]
)
def test_manifests_of_others(text: str, form: str) -> None:
    found = decode_manifest(form.format(text).encode(), "x")
    assert found == ((ManifestLine("c d.vmdk", "SHA256", SHA256),), ())


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be"])
def test_a_manifest_in_utf_16(codec: str) -> None:
    """What PowerShell makes of the output of another program."""
    data = f"\ufeffSHA1(ä.vmdk)= {SHA1}\r\nMD5(b)= {MD5}\r\n".encode(codec)
    found = (ManifestLine("ä.vmdk", "SHA1", SHA1.lower()), ManifestLine("b", "MD5", MD5))
    assert decode_manifest(data, "x") == (found, ())


def test_files_with_several_digests() -> None:
    text = f"SHA1(a)= {SHA1}\nSHA256(a)= {SHA256}\nSHA1(a)= {SHA1}\nSHA1(a)= {'0' * 40}\n"
    found, warnings = decode_manifest(text.encode(), "x")
    assert [line.algorithm for line in found] == ["SHA1", "SHA256", "SHA1"]
    assert not warnings


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("SHA1(a)= 12", "digest of 2 digits where SHA1 has 40"),
        ("MD5(a)= 0123", "of 4 digits"),
        (f"SHA1(a) {SHA1}", "cannot be understood"),
        (f"SHA256(a)= {SHA1}", "has 64"),
        ("a", "cannot be understood"),
        (f"WHIRLPOOL(a)= {SHA1}", "unknown kind, 'WHIRLPOOL'"),
        (f"SHA3-999(a)= {SHA1}", "unknown kind"),
    ],
)
def test_lines_that_are_not_understood(text: str, message: str) -> None:
    """A warning names the line, and the others count."""
    found, warnings = decode_manifest(f"SHA1(b)= {SHA1}\n{text}\nMD5(c)= {MD5}\n".encode(), "x")
    assert [line.name for line in found] == ["b", "c"]
    assert len(warnings) == 1
    assert warnings[0].startswith("x: line 2 of the manifest ")
    assert message in warnings[0]


@given(st.binary(max_size=300))
def test_any_manifest_bytes(data: bytes) -> None:
    found, warnings = decode_manifest(data, "x")
    assert len(found) + len(warnings) <= len(data)


def test_a_manifest_that_is_too_long() -> None:
    with pytest.raises(LimitError, match="over 1048576 bytes"):
        decode_manifest(bytes((1 << 20) + 1), "x")


def test_algorithms() -> None:
    assert (verified_algorithm("sha1"), verified_algorithm("none")) == ("sha1", None)
    for name in ("md5", "SHA256", "sha512", ""):
        with pytest.raises(RequestError, match="sha256, sha1, none"):
            verified_algorithm(name)
