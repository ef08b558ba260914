"""One disk for each thing that the checker of VMDK files can find, wrong in that and nothing else.

A function's name is the code that must be found, dashes as underscores; ``ALSO`` tells of the few
faults that cannot be without another. The file is long because it is a list: one function a code.
"""

from __future__ import annotations

import inspect
import sys
import zlib
from collections.abc import Callable

from tests.support.virtual import extents as build
from tests.support.virtual.extents import CAPACITY, CID, GRAIN, SECTOR, Disk, Plain, Stream, put

ALSO = {
    "descriptor-place": {"padding-nonzero"},
    "capacity-limit": {"extent-capacity"},
    "grain-overlap": {"grain-misaligned"},
    "grain-misaligned": {"unused-space"},
    "marker-lba": {"grain-without-marker"},
    "eos-not-last": {"footer-missing"},
}
FLAT = ['RW 2048 FLAT "a-flat.vmdk" 0']


def _text(
    create_type: str = "monolithicFlat", lines: list[str] | None = None, **changes: str
) -> Disk:
    return build.flat(build.descriptor(create_type, lines or FLAT, **changes))


def _two(second: str, create_type: str = "custom", sectors: int = CAPACITY) -> Disk:
    """Two extents, the first flat and of half the disk."""
    text = build.descriptor(create_type, ['RW 1024 FLAT "a-flat.vmdk" 0', second], sectors=sectors)
    return build.flat(text, 1024 * SECTOR)


# The descriptor


def not_vmdk() -> Disk:
    return Disk({"a.vmdk": bytearray(b"neither one nor the other" * 40)})


def extent_alone() -> Disk:
    return Disk({"a-s001.vmdk": Plain(embedded=False).build()})


def descriptor_first_line() -> Disk:
    disk = build.flat()
    disk.first[:22] = b"# Disk descriptorFile\n"
    return disk


def descriptor_too_long() -> Disk:
    disk = build.flat()
    disk.first.extend((b"#" * 1023 + b"\n") * (16 << 10))
    return disk


def descriptor_line() -> Disk:
    return _text(add="what is this?")


def key_twice() -> Disk:
    return _text(add="CID=00000001")


def cid_missing() -> Disk:
    return _text(drop="CID=")


def cid_invalid() -> Disk:
    return _text(CID="123456789")


def cid_reserved() -> Disk:
    return _text(CID="ffffffff", ddb__longContentID="f" * 32)


def parent_own_cid() -> Disk:
    return _text(parentCID=f"{CID:08x}")


def create_type_missing() -> Disk:
    return _text(drop="createType")


def create_type_unknown() -> Disk:
    return _text("monolithicRound")


def create_type_device() -> Disk:
    return _text("fullDevice", ['RW 2048 FLAT "/dev/sda" 0'])


def create_type_extents() -> Disk:
    return _two("RW 1024 ZERO", "monolithicFlat")


def create_type_header() -> Disk:
    return build.stream(Stream(create_type="monolithicSparse"))


def descriptor_encoding() -> Disk:
    return _text(encoding='"klingon"')


def descriptor_version() -> Disk:
    return _text(drop="version")


def descriptor_control() -> Disk:
    disk = build.plain()
    at = disk.first.index(b"\n\n") + 1
    disk.first[at] = 0x0B
    return disk


def descriptor_after_end() -> Disk:
    disk = build.plain()
    disk.first[20 * SECTOR] = 0x41
    return disk


def letter_case() -> Disk:
    return _text(lines=['RW 2048 flat "a-flat.vmdk" 0'])


def parent_cid_missing() -> Disk:
    return _text(drop="parentCID")


def long_content_id() -> Disk:
    return _text(ddb__longContentID="0" * 31 + "1")


def key_unknown() -> Disk:
    return _text(add='ddb.colour = "blue"')


def adapter_pvscsi() -> Disk:
    return _text(ddb__adapterType="pvscsi")


def adapter_missing() -> Disk:
    return _text(drop="ddb.adapterType")


def adapter_unknown() -> Disk:
    return _text(ddb__adapterType="mfm")


def geometry_missing() -> Disk:
    return _text(drop="ddb.geometry.heads")


def geometry_invalid() -> Disk:
    return _text(ddb__geometry__heads="0")


def geometry_too_large() -> Disk:
    return _text(ddb__geometry__cylinders="3")


def geometry_differs() -> Disk:
    return _text(ddb__geometry__cylinders="1")


def geometry_cylinders() -> Disk:
    sectors = 70_000 * 1008
    return Disk({"a.vmdk": build.descriptor("custom", [f"RW {sectors} ZERO"], sectors=sectors)})


def ddb_value() -> Disk:
    return _text(ddb__virtualHWVersion="eleven")


# Extents


def extents_none() -> Disk:
    return _text(drop="RW")


def extent_empty() -> Disk:
    return _text("custom", [*FLAT, "RW 0 ZERO"])


def extent_type() -> Disk:
    return _two('RW 1024 ROUND "a-round.vmdk"')


def extent_offset_missing() -> Disk:
    return _text(lines=['RW 2048 FLAT "a-flat.vmdk"'])


def extent_offset_unwanted() -> Disk:
    return _text("vmfs", ['RW 2048 VMFS "a-flat.vmdk" 0'])


def extent_name_missing() -> Disk:
    return _two("RW 1024 SPARSE")


def extent_outside() -> Disk:
    return _text(lines=['RW 2048 FLAT "../a-flat.vmdk" 0'])


def extent_subfolder() -> Disk:
    return _text(lines=['RW 2048 FLAT "folder/a-flat.vmdk" 0'])


def extent_noaccess() -> Disk:
    return _text("custom", ['NOACCESS 2048 FLAT "a-flat.vmdk" 0'])


def extent_missing() -> Disk:
    return _text(lines=['RW 2048 FLAT "b-flat.vmdk" 0'])


def extent_unreadable() -> Disk:
    return _text(lines=['RW 2048 FLAT "folder" 0'])


def extent_kind() -> Disk:
    text = build.descriptor("twoGbMaxExtentSparse", ['RW 2048 SPARSE "a-s001.vmdk"'])
    return Disk({"a.vmdk": text, "a-s001.vmdk": bytearray(SECTOR)})


def extent_capacity() -> Disk:
    return build.plain_text(build.descriptor("monolithicSparse", ['RW 2176 SPARSE "a.vmdk"']))


def extent_shared() -> Disk:
    return _two('RW 1024 FLAT "a-flat.vmdk" 0')


def flat_short() -> Disk:
    return build.flat(size=CAPACITY * SECTOR - 1)


def flat_long() -> Disk:
    return build.flat(size=CAPACITY * SECTOR + 1)


def split_numbering() -> Disk:
    disk = build.split()
    text = disk.first.replace(b"a-s002", b"a-s003")
    return Disk(
        {
            "a.vmdk": text,
            "a-s001.vmdk": disk.files["a-s001.vmdk"],
            "a-s003.vmdk": disk.files["a-s002.vmdk"],
        }
    )


def split_size() -> Disk:
    sectors = 4_192_257
    lines = [f"RW {sectors} ZERO"]
    return Disk({"a.vmdk": build.descriptor("twoGbMaxExtentFlat", lines, sectors=sectors)})


def descriptor_in_extent() -> Disk:
    data = Plain().build(text=bytearray(b"\0"))
    return Disk({**build.split().files, "a-s001.vmdk": data})


# Parents


def _child(**changes: str) -> Disk:
    lines = ['RW 2048 FLAT "a-flat.vmdk" 0']
    values = {"parentCID": "00000007", "parentFileNameHint": '"parent.vmdk"'} | changes
    return build.flat(build.descriptor("monolithicFlat", lines, **values))


def parent_missing() -> Disk:
    return _child()


def _with_parent(disk: Disk, cid: str) -> Disk:
    disk.files["parent.vmdk"] = build.descriptor("custom", ["RW 2048 ZERO"], CID=cid)
    return disk


def parent_mismatch() -> Disk:
    return _with_parent(_child(), "00000008")


def parent_hint_outside() -> Disk:
    return _with_parent(_child(parentFileNameHint='"/elsewhere/parent.vmdk"'), "00000007")


# Headers


def header_version() -> Disk:
    return build.plain(version=4)


def header_newlines() -> Disk:
    return build.plain(newlines=b"\r\n \n")


def header_compression() -> Disk:
    return build.plain(compression=1)


def header_flags() -> Disk:
    return build.plain(flags=0x23)


def header_unclean() -> Disk:
    return build.plain(unclean=1)


def header_reserved() -> Disk:
    return build.plain(reserved=1)


def header_markers() -> Disk:
    built = Stream()
    data = built.build()
    for at in (0, (built.footer_marker + 1) * SECTOR):
        build.set_header(data, at, flags=0x1_0001)
    return Disk({"a.vmdk": data})


def grain_size() -> Disk:
    return build.plain(grain=100)


def table_entries() -> Disk:
    return build.plain(entries=256)


def capacity_limit() -> Disk:
    return build.plain(capacity=0)


def capacity_unaligned() -> Disk:
    text = build.descriptor("monolithicSparse", ['RW 2047 SPARSE "a.vmdk"'])
    return build.plain_text(text, 2047)


def descriptor_place() -> Disk:
    return build.plain(descriptor=0)


def overhead() -> Disk:
    return build.plain(overhead=29)


def redundant_flag() -> Disk:
    return build.plain(flags=1)


def directory_range() -> Disk:
    return build.plain(gd=1000)


def directory_limit() -> Disk:
    sectors = 1 << 40
    text = build.descriptor(
        "monolithicSparse", [f'RW {sectors} SPARSE "a.vmdk"'], sectors=65_535 * 1008
    )
    return build.plain_text(text, sectors)


# Tables


def _patched(at: int, value: int) -> Disk:
    disk = build.plain()
    put(disk.first, at, "I", value)
    return disk


def gd_rgd_differ() -> Disk:
    disk = _patched(21 * SECTOR, 0)
    disk.first[22 * SECTOR : 26 * SECTOR] = bytes(4 * SECTOR)
    return disk


def gt_rgt_differ() -> Disk:
    return _patched(22 * SECTOR + 4, 256)


def redundant_shared() -> Disk:
    disk = _patched(21 * SECTOR, 27)
    disk.first[22 * SECTOR : 26 * SECTOR] = bytes(4 * SECTOR)
    return disk


def padding_nonzero() -> Disk:
    return _patched(100 * SECTOR, 1)


def table_range() -> Disk:
    disk = _patched(26 * SECTOR, 1000)
    disk.first[27 * SECTOR : 31 * SECTOR] = bytes(4 * SECTOR)
    return disk


def _large(tables: int, **more: dict[int, int]) -> tuple[Plain, bytearray]:
    made = Plain(tables=tables, capacity=tables * 512 * GRAIN, **more)
    text = build.descriptor(
        "monolithicSparse", [f'RW {made.capacity} SPARSE "a.vmdk"'], sectors=made.capacity
    )
    return made, made.build(text=text)


def table_shared() -> Disk:
    made, data = _large(2)
    put(data, made.gd * SECTOR + 4, "I", made.gt)
    return Disk({"a.vmdk": data})


def table_missing() -> Disk:
    disk = build.plain()
    for directory in (21, 26):
        put(disk.first, directory * SECTOR, "I", 0)
        start = (directory + 1) * SECTOR
        disk.first[start : start + 4 * SECTOR] = bytes(4 * SECTOR)
    return Disk({"a.vmdk": disk.first[: 128 * SECTOR]})


def _with_entry(number: int, sector: int, end: int = 384) -> Disk:
    made = Plain()
    data = made.build()
    made.entry(data, number, sector)
    data = data[: end * SECTOR].ljust(end * SECTOR, b"\0")
    return Disk({"a.vmdk": data})


def entry_past_end() -> Disk:
    return _with_entry(16, 128)


def zeroed_unannounced() -> Disk:
    return _with_entry(2, 1)


def grain_range() -> Disk:
    return _with_entry(5, 1024)


def grain_in_metadata() -> Disk:
    made, data = _large(16)
    made.entry(data, 5, 128)
    return Disk({"a.vmdk": data[: 384 * SECTOR]})


def grain_shared() -> Disk:
    return _with_entry(5, 128, end=256)


def grain_overlap() -> Disk:
    return _with_entry(5, 192, end=320)


def grain_misaligned() -> Disk:
    return _with_entry(5, 257, end=385)


def grain_before_overhead() -> Disk:
    disk = build.plain(overhead=256)
    disk.first[128 * SECTOR : 256 * SECTOR] = bytes(128 * SECTOR)
    return disk


def trailing_data() -> Disk:
    disk = build.plain()
    disk.first.extend(bytes(128 * SECTOR))
    return disk


def file_size() -> Disk:
    disk = build.plain()
    disk.first.append(0)
    return disk


def unused_space() -> Disk:
    return Disk({"a.vmdk": Plain(entries={5: 256}).build()})


# Streams


def _stream(at: int, form: str, value: int, built: Stream | None = None) -> Disk:
    data = (built or Stream()).build()
    put(data, at, form, value)
    return Disk({"a.vmdk": data})


def _places() -> Stream:
    built = Stream()
    built.build()
    return built


def marker_unknown() -> Disk:
    return _stream(_places().table_marker * SECTOR + 12, "I", 9)


def marker_value() -> Disk:
    return _stream(_places().table_marker * SECTOR, "Q", 5)


def marker_lba() -> Disk:
    return _stream(_places().places[5] * SECTOR, "Q", 641)


def marker_size() -> Disk:
    return _stream(_places().places[5] * SECTOR + 8, "I", 1 << 30)


def marker_reserved() -> Disk:
    return _stream(_places().table_marker * SECTOR + 20, "B", 1)


def grain_padding() -> Disk:
    return _stream(_places().table_marker * SECTOR - 1, "B", 1)


def grain_order() -> Disk:
    return build.stream(Stream(grains=Stream().grains[::-1]))


def grain_unreferenced() -> Disk:
    return build.stream(Stream(entries={5: 0}))


def grain_without_marker() -> Disk:
    return build.stream(Stream(entries={7: 130}))


def table_without_marker() -> Disk:
    """A directory of 512 tables is as long as a table, so that its marker can take one's place."""
    built = Stream(tables=512, capacity=512 * 512 * GRAIN)
    data = built.build()
    put(data, built.table_marker * SECTOR + 12, "I", 2)
    return Disk({"a.vmdk": data})


def table_unreferenced() -> Disk:
    return build.stream(Stream(spare_table=True))


def footer_missing() -> Disk:
    return build.stream(Stream(footer=False))


def footer_marker() -> Disk:
    """A directory of one sector has a marker that leads as far."""
    return _stream(_places().footer_marker * SECTOR + 12, "I", 2)


def footer_differs() -> Disk:
    return _stream((_places().footer_marker + 1) * SECTOR + 12, "Q", 4096)


def eos_missing() -> Disk:
    return Disk({"a.vmdk": Stream().build()[:-SECTOR]})


def eos_not_last() -> Disk:
    return Disk({"a.vmdk": Stream().build() + b"x" * SECTOR})


def _grain(packed: bytes) -> Disk:
    return build.stream(Stream(grains=[(1, packed)]))


def grain_inflate() -> Disk:
    packed = bytearray(zlib.compress(build.content(1)))
    packed[-1] ^= 0x10  # of the checksum
    return _grain(bytes(packed))


def grain_raw_deflate() -> Disk:
    packer = zlib.compressobj(wbits=-15)
    return _grain(packer.compress(build.content(1)) + packer.flush())


def grain_inflated_size() -> Disk:
    return _grain(zlib.compress(build.content(1)[:-SECTOR]))


def grain_trailing() -> Disk:
    return _grain(zlib.compress(build.content(1)) + b"\0\0\0")


def grain_zero() -> Disk:
    return _grain(zlib.compress(bytes(GRAIN * SECTOR)))


# ESX


def directory_size() -> Disk:
    data = build.cowd_extent()
    put(data, 24, "I", 0)
    return build.cowd(data)


def free_sector() -> Disk:
    data = build.cowd_extent()
    put(data, 28, "I", 38)
    return build.cowd(data)


def _se(at: int, value: int) -> Disk:
    data = build.sesparse_extent()
    put(data, at, "Q", value)
    return build.sesparse(data)


def journal_dirty() -> Disk:
    return _se(SECTOR + 24, 1)


def volatile_header() -> Disk:
    return _se(SECTOR, 0)


def region_range() -> Disk:
    return _se(build.SE_AT["backmap"], 1 << 20)


def metadata_overlap() -> Disk:
    return _se(build.SE_AT["journal_header"], 1)


def entry_state() -> Disk:
    return _se(24 * SECTOR, 0x5000_0000_0000_0000)


FAULTS: dict[str, Callable[[], Disk]] = {
    name.replace("_", "-"): made
    for name, made in inspect.getmembers(sys.modules[__name__], inspect.isfunction)
    if made.__module__ == __name__ and not name.startswith("_")
}
"""Code -> what makes the disk."""
