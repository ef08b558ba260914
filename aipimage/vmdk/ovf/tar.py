"""Headers of a tar archive: bytes <-> values, each number checked.

An OVA is a tar of the POSIX ustar form (DSP0243 1.1, "Distribution"). Its octal sizes end at 8 GiB;
larger files have GNU's base-256 sizes under the same magic, as VirtualBox writes them, and as
vSphere, ovftool, VirtualBox and GNU tar read them. Extended (pax) headers are never written,
because vSphere does not know them. What other makers' tars have is read: headers of the seventh
edition, which have no magic, GNU's, and pax records.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from aipimage.errors import FormatError, LimitError

BLOCK = 512
END = bytes(2 * BLOCK)
"""Two blocks of zeros end an archive."""
NAME_MAX = 100
OCTAL_MAX = 8**11 - 1
SIZE_MAX = (1 << 63) - 1
PAX_MAX = 1 << 20
"""Bytes of an extended header or a long name at most; the map of a sparse file may be in one."""

_HEADER = struct.Struct("<100s8s8s8s12s12s8s1s100s6s2s32s32s8s8s155s12x")
_FILE, _HARD_LINK, _SPARSE = b"0", b"1", b"S"
_FILES = (_FILE, b"\0", b"7")
"""Ordinary files: of the ustar form, of the seventh edition, and "contiguous" ones."""
KINDS = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a device",
    b"4": "a device",
    b"5": "a folder",
    b"6": "a pipe",
    b"D": "a folder",
    b"M": "the rest of a file that begins in another archive",
    b"V": "the label of an archive",
}
"""What else there may be, in words."""


@dataclass(frozen=True, slots=True)
class TarHeader:
    """One header. ``name``: of the member; ``size``: bytes of content; ``kind``: its type flag."""

    name: str
    size: int
    kind: bytes = _FILE

    @property
    def is_file(self) -> bool:
        """An ordinary file; by the seventh edition, one whose name ends in "/" is a folder."""
        return self.kind in _FILES and not self.name.endswith("/")

    @property
    def is_sparse(self) -> bool:
        """A file of which GNU tar left the holes out."""
        return self.kind == _SPARSE

    @property
    def is_pax(self) -> bool:
        """Not a member: it says something about the next one."""
        return self.kind in (b"x", b"X")

    @property
    def is_long_name(self) -> bool:
        """Not a member: its content is the name of the next one."""
        return self.kind == b"L"

    @property
    def is_remark(self) -> bool:
        """Not a member either: the long target of a link, or what holds of the whole archive."""
        return self.kind in (b"K", b"g", b"N", b"A")


def padding(size: int) -> int:
    """Bytes of zeros after content of ``size`` bytes."""
    return -size % BLOCK


def encode_tar_header(name: str, size: int, mtime: int = 0) -> bytes:
    """Return the 512 bytes before a file.

    Args:
        name: ASCII, at most 100 bytes. size: bytes. mtime: seconds since 1970.
    """
    encoded = name.encode("ascii")
    if not 1 <= len(encoded) <= NAME_MAX:
        raise RuntimeError(f"internal error: a name of {len(encoded)} bytes in a tar archive")
    fields = [
        encoded, b"0000644\0", b"0000000\0", b"0000000\0", _encode_number(size),
        _encode_number(mtime), b" " * 8, _FILE, b"", b"ustar\0", b"00", b"root", b"root",
        b"0000000\0", b"0000000\0", b"",
    ]  # fmt: skip
    fields[6] = f"{sum(_HEADER.pack(*fields)):06o}\0 ".encode()
    return _HEADER.pack(*fields)


def decode_tar_header(block: bytes, name: str) -> TarHeader | None:
    """Return what a header says, or ``None`` for a block of zeros: the end.

    Raises:
        FormatError: no header, or damaged. LimitError: a size over 63 bits.
    """
    if len(block) != BLOCK:
        raise FormatError(f"{name}: the tar archive is cut short")
    if not any(block):
        return None
    fields = _HEADER.unpack(block)
    # The sum is checked first: before it holds, nothing says that this is a tar at all.
    if not _sum_holds(block, fields[6]):
        if fields[9][:5] != b"ustar":
            raise FormatError(f"{name}: is not an OVA: no tar header is where one belongs")
        raise FormatError(f"{name}: the checksum of a tar header is wrong")
    # GNU's own form has times where POSIX has the front part of a long name, and the seventh
    # edition has nothing there.
    prefix = decode_name(fields[15]) if fields[9] == b"ustar\0" else ""
    full = f"{prefix}/{decode_name(fields[0])}" if prefix else decode_name(fields[0])
    # Of a hard link some writers note the size of the file, whose content is not repeated.
    size = 0 if fields[7] == _HARD_LINK else decode_number(fields[4], name)
    return TarHeader(full, size, fields[7])


def _sum_holds(block: bytes, said: bytes) -> bool:
    digits = said.strip(b" \0")
    if not digits or not all(0x30 <= digit <= 0x37 for digit in digits):
        return False
    rest = block[:148] + block[156:]
    # Some old programs added signed bytes up.
    high = sum(byte >= 0x80 for byte in rest)
    return int(digits, 8) - 8 * 0x20 in (sum(rest), sum(rest) - 256 * high)


def decode_pax(data: bytes, header: TarHeader, name: str) -> TarHeader:
    """Return a header with what an extended header (POSIX pax) says of its name and size.

    Raises:
        FormatError: damaged. LimitError: a size over 63 bits.
    """
    return with_pax(pax_records(data, name), header, name)


def pax_records(data: bytes, name: str) -> list[tuple[bytes, bytes]]:
    """Return the records of an extended header, keys and values; ``FormatError`` if damaged."""
    found, at = [], 0
    while at < len(data) and data[at]:
        head, space, _ = data[at : at + 12].partition(b" ")
        length = int(head) if space and head.isdigit() else 0
        record = data[at : at + length]
        key, equals, value = record[len(head) + 1 : -1].partition(b"=")
        if not equals or len(record) != length or not record.endswith(b"\n"):
            raise FormatError(f"{name}: an extended tar header is damaged")
        found.append((key, value))
        at += length
    return found


def with_pax(records: list[tuple[bytes, bytes]], header: TarHeader, name: str) -> TarHeader:
    """Return a header with what records say of its name and size; ``LimitError`` as above."""
    member, size = header.name, header.size
    for key, value in records:
        if key == b"path":
            member = decode_name(value)
        elif key == b"size":
            size = _verified_size(value, name)
    return TarHeader(member, size, header.kind)


def _verified_size(digits: bytes, name: str) -> int:
    if not digits.isdigit() or len(digits) > 19 or int(digits) > SIZE_MAX:
        raise LimitError(f"{name}: an extended tar header says a size of {digits[:40]!r}")
    return int(digits)


def _encode_number(value: int) -> bytes:
    """Eleven octal digits where they do, else base 256 after a first byte of 0x80."""
    if not 0 <= value <= SIZE_MAX:
        raise RuntimeError(f"internal error: {value} in a tar header")
    if value <= OCTAL_MAX:
        return f"{value:011o}\0".encode()
    return b"\x80" + value.to_bytes(11, "big")


def decode_number(field: bytes, name: str) -> int:
    """Return a number, octal or in GNU's base 256; errors as ``decode_tar_header``."""
    if field[0] & 0x80:
        value = int.from_bytes(field, "big") - (0x80 << 8 * (len(field) - 1))
        if not 0 <= value <= SIZE_MAX:
            raise LimitError(f"{name}: a tar header says a size of over 63 bits")
        return value
    digits = field.strip(b" \0") or b"0"
    if not all(0x30 <= digit <= 0x37 for digit in digits):
        raise FormatError(f"{name}: a field of a tar header is not a number: {digits!r}")
    return int(digits, 8)


def decode_name(field: bytes) -> str:
    """Return a name that ends with a NUL byte; bytes that are not UTF-8 are kept."""
    return field.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")


def verified_pax_size(size: int, name: str) -> int:
    """Return the size of an extended header or a long name; ``LimitError`` over 1 MiB."""
    if size > PAX_MAX:
        raise LimitError(f"{name}: an extended tar header of {size} bytes; at most {PAX_MAX}")
    return size


def verified_end(offset: int, size: int, total: int, name: str) -> int:
    """Return where a member ends; ``FormatError`` past the end of the file."""
    if offset + size > total:
        raise FormatError(f"{name}: the tar archive is cut short: a member ends past its end")
    return offset + size
