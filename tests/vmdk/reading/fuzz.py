"""Fuzz targets for VMDK: descriptor, header, tables, grains, markers, COWD and seSparse.

Each puts its input into a disk that is good everywhere else, and lets the reader and the checker
look at that, which share no parser. Nothing but typed errors may leave either, no file may stay
open, and the reader may not fail on a disk in which the checker finds no error.
"""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from aipimage.errors import AipImageError
from aipimage.vmdk.descriptor import format_descriptor, parse_descriptor
from aipimage.vmdk.inflate import inflate
from aipimage.vmdk.layout import SECTOR, decode_sparse_header, encode_sparse_header
from aipimage.vmdk.lint import LintResult, lint
from aipimage.vmdk.opening import open_vmdk
from tests.support.virtual import extents as build
from tests.support.virtual.extents import Plain, Stream
from tests.support.virtual.memory import FOLDER, in_memory

READ_MAX = 4 << 20
"""Bytes that are read of a disk, a MiB at a time."""
_FULL = build.GRAIN * SECTOR
_POOL = ThreadPoolExecutor(1)


def fuzz_vmdk_descriptor(data: bytes) -> None:
    """A descriptor in a file of its own; what is parsed is written and parsed again."""
    judge({"a.vmdk": data, **_extents()})
    try:
        parsed = parse_descriptor(data, "a.vmdk")
        text = format_descriptor(parsed)
        again = parse_descriptor(text.encode("utf-8", "surrogateescape"), "a.vmdk")
    except (AipImageError, UnicodeEncodeError):
        return
    assert again.extents == parsed.extents
    assert (again.cid, again.parent_cid) == (parsed.cid, parsed.parent_cid)


def fuzz_vmdk_header(data: bytes) -> None:
    """The header of a plain extent; what is decoded encodes to the bytes that it was."""
    head = data[:SECTOR].ljust(SECTOR, b"\0")
    judge({"a.vmdk": head + bytes(_PLAIN[SECTOR:])})
    try:
        header = decode_sparse_header(head, "a.vmdk")
    except AipImageError:
        return
    again = encode_sparse_header(header)
    assert again[:72] + again[73:79] == head[:72] + head[73:79]


def fuzz_vmdk_tables(data: bytes) -> None:
    """Directories and tables of a plain extent, sectors 21 to 30."""
    start, end = 21 * SECTOR, 31 * SECTOR
    judge({"a.vmdk": _PLAIN[:start] + data[: end - start].ljust(end - start, b"\0") + _PLAIN[end:]})


def fuzz_vmdk_grains(data: bytes) -> None:
    """The compressed data of a grain."""
    room = memoryview(bytearray(_FULL))
    with contextlib.suppress(AipImageError):
        assert 0 <= inflate(data, room) <= _FULL
    # No marker of data can say that it has none.
    judge(build.stream(Stream(grains=[(1, data or b"\0")])).files)


def fuzz_vmdk_markers(data: bytes) -> None:
    """All of a stream that follows its descriptor."""
    judge({"a.vmdk": _STREAM[: build.OVERHEAD * SECTOR] + data})


def fuzz_vmdk_cowd(data: bytes) -> None:
    """A COWD extent; behind the input it goes on as a good one."""
    good = build.cowd()
    judge(good.files | {"a-delta.vmdk": data + good.files["a-delta.vmdk"][len(data) :]})


def fuzz_vmdk_sesparse(data: bytes) -> None:
    """A seSparse extent, likewise."""
    good = build.sesparse()
    judge(good.files | {"a-sesparse.vmdk": data + good.files["a-sesparse.vmdk"][len(data) :]})


def judge(files: Mapping[str, bytes | bytearray]) -> LintResult:
    """Check and read a disk, the first file of which is opened."""
    storage, calls = in_memory({name: bytes(data) for name, data in files.items()})
    path = f"{FOLDER}/{next(iter(files))}"
    result = lint(path, executor=_POOL, storage=storage)
    try:
        with open_vmdk(path, storage=storage) as disk:
            view = bytearray(1 << 20)
            for start in range(0, min(disk.size, READ_MAX), len(view)):
                end = min(start + len(view), disk.size)
                disk.read_into(memoryview(view)[: end - start], start)
    except AipImageError as error:
        if result.ok:
            raise AssertionError(f"nothing is found, but it cannot be read: {error}") from error
    assert calls.left_open() == 0
    return result


def _extents() -> dict[str, bytes]:
    return {"a-flat.vmdk": bytes(2048 * SECTOR), "a-s001.vmdk": bytes(_SPLIT)}


_PLAIN = bytes(Plain().build())
_SPLIT = bytes(Plain(embedded=False).build())
_STREAM = bytes(Stream().build())


def seeds_descriptor() -> list[bytes]:
    """Descriptors of each kind, and one as each editor, system or converter leaves it."""
    lines = {
        "monolithicFlat": 'RW 2048 FLAT "a-flat.vmdk" 0',
        "vmfs": 'RW 2048 VMFS "a-flat.vmdk"',
        "twoGbMaxExtentSparse": 'RW 2048 SPARSE "a-s001.vmdk"',
        "custom": "RDONLY 2048 ZERO",
    }
    plain = [bytes(build.descriptor(kind, [line])) for kind, line in lines.items()]
    text = plain[0].rstrip(b"\0").decode()
    named = text.replace("a-flat", "./ソä").replace("UTF-8", "{}")
    return [
        *plain,
        b"\xef\xbb\xbf\n" + text.replace("\n", "\r\n").encode(),
        text.encode("utf-16"),
        text.replace("\n", "\r").encode(),
        text.replace("# Disk DescriptorFile", "# any\nstray words", 1).encode(),
        named.format("GBK").encode("gb18030"),
        named.format("Shift_JIS").encode("cp932", "replace"),
    ]


def seeds_header() -> list[bytes]:
    """A plain header and that of a stream."""
    return [_PLAIN[:SECTOR], _STREAM[:SECTOR]]


def seeds_tables() -> list[bytes]:
    """The tables of two grains."""
    return [_PLAIN[21 * SECTOR : 31 * SECTOR]]


def seeds_grains() -> list[bytes]:
    """A zlib stream, a raw one, and a short one."""
    raw = zlib.compressobj(wbits=-15)
    return [
        zlib.compress(build.content(1)),
        raw.compress(build.content(2)) + raw.flush(),
        zlib.compress(bytes(SECTOR)),
    ]


def seeds_markers() -> list[bytes]:
    """A stream of two grains that are short, so that mutations meet the markers."""
    small = [(number, zlib.compress(bytes([number]) * _FULL)) for number in (1, 5)]
    streams = [Stream(grains=small), Stream(grains=small, spare_table=True), Stream(grains=[])]
    return [bytes(each.build()[build.OVERHEAD * SECTOR :]) for each in streams]


def seeds_cowd() -> list[bytes]:
    """An extent of two grains."""
    return [bytes(build.cowd_extent())]


def seeds_sesparse() -> list[bytes]:
    """An extent of two grains."""
    return [bytes(build.sesparse_extent())]
