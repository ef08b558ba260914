"""Physical volumes from the specification: kinds of volumes that no tool makes without a device
mapper, and structures that cannot be trusted.
"""

from __future__ import annotations

import time

import pytest

from aipimage.volumes.filesystems.lvm import PARSER
from aipimage.volumes.filesystems.lvm.text import parse
from aipimage.volumes.view import LayoutError
from tests.support.soon import SOON
from tests.support.sources import SparseSource
from tests.volumes.containers import built as build
from tests.volumes.containers.built import EXTENT, FIRST_BYTE, PhysicalVolume, linear, volume
from tests.volumes.containers.made import Ranges, allocation_of, free_of, why_whole

EXTENTS = 40
SIZE = FIRST_BYTE + EXTENTS * EXTENT + 8192


def built(volumes: dict[str, str], **more: object) -> PhysicalVolume:
    return PhysicalVolume(build.group_text(volumes, EXTENTS, **more), SIZE)  # type: ignore[arg-type]


def free_in(made: PhysicalVolume, *more: dict[int, bytes]) -> tuple[Ranges, tuple[str, ...]]:
    """The free extents as (first, extents), and the notes."""
    pieces = made.pieces()
    for piece in more:
        pieces |= piece
    _, allocation = allocation_of(PARSER, SparseSource(made.size, pieces))
    rows = free_of(allocation, made.size)
    assert all(
        (offset - made.first) % EXTENT == 0 and length % EXTENT == 0 for offset, length in rows
    )
    found = [((offset - made.first) // EXTENT, length // EXTENT) for offset, length in rows]
    return found, allocation.notes


def why(made: PhysicalVolume, *more: dict[int, bytes]) -> str:
    pieces = made.pieces()
    for piece in more:
        pieces |= piece
    return why_whole(PARSER, pieces, made.size)


def at(extent: int) -> int:
    return FIRST_BYTE + extent * EXTENT


# What is exact


def test_a_volume_in_several_segments_is_looked_into() -> None:
    """Swap: its header is in the segment that comes first, and not at the lowest place."""
    made = built({"swap": linear((20, 5), (3, 6), (30, 1))})
    free, notes = free_in(made, {at(20): build.swap(12)})
    assert free == [(0, 20), (21, 19)]
    assert notes == ()


def test_metadata_that_goes_on_behind_the_header() -> None:
    made = built({"a": linear((0, 10))})
    assert made.text is not None
    made.text_at = build.MDA[1] - 512
    assert len(made.pieces()) == 4
    assert free_in(made)[0] == [(10, 30)]


def test_two_copies_that_agree() -> None:
    made = built({"a": linear((5, 10))})
    made.areas = [build.MDA, (at(EXTENTS), 8192)]
    assert free_in(made)[0] == [(0, 5), (15, 25)]


_OPAQUE = {
    "raid1": {
        "r": volume([build.segment(0, 4, "raid1", 'device_count = 1\nraids = ["r_m", "r_i"]')]),
        "r_m": linear((0, 1), status=("READ", "WRITE")),
        "r_i": linear((1, 4), status=("READ", "WRITE")),
    },
    "mirror": {
        "m": volume([build.segment(0, 4, "mirror", 'mirror_count = 1\nmirrors = ["m_i", 0]')]),
        "m_i": linear((1, 4), status=("READ", "WRITE")),
    },
    "thin": {
        "t": volume([build.segment(0, 50, "thin", 'thin_pool = "p"\ndevice_id = 1')]),
        "p": volume([build.segment(0, 4, "thin-pool", 'metadata = "p_m"\npool = "p_d"')]),
        "p_m": linear((0, 1), status=("READ", "WRITE")),
        "p_d": linear((1, 4), status=("READ", "WRITE")),
    },
    "cache": {
        "c": volume([build.segment(0, 4, "cache", 'cache_pool = "cp"\norigin = "o"')]),
        "cp": volume([build.segment(0, 2, "cache-pool", 'data = "d"\nmetadata = "o"')]),
        "d": linear((3, 2), status=("READ", "WRITE")),
        "o": linear((0, 3), status=("READ", "WRITE")),
    },
    "stripes": {"s": volume([build.striped(0, 4, [("pv0", 0), ("pv0", 3)])])},
    "stacked": {"s": volume([build.striped(0, 4, [("below", 0)])]), "below": linear((0, 4))},
    "snapshot": {
        "origin": linear((0, 4)),
        "store": linear((4, 2)),
        "snapshot0": volume(
            [
                build.segment(
                    0, 4, "snapshot", 'chunk_size = 8\norigin = "origin"\ncow_store = "store"'
                )
            ],
            status=("READ", "WRITE"),
        ),
    },
    "unusual": {"u": linear((0, 4), status=("READ", "WRITE", "VISIBLE", "LOCKED"))},
    "cache volume": {"u": linear((0, 4), flags=("CACHE_VOL",))},
    "two disks": {
        "u": volume([build.striped(0, 4, [("pv0", 0)]), build.striped(4, 4, [("pv1", 0)])])
    },
}
_OTHER_DISK = 'pv1 {\nid = "x"\npe_start = 32\npe_count = 9\n}\n'


@pytest.mark.parametrize("kind", list(_OPAQUE))
def test_volumes_of_other_kinds_are_taken_whole(kind: str) -> None:
    """Even where swap space seems to lie at their start. Extents of none of them are free."""
    made = built(_OPAQUE[kind], more_disks=_OTHER_DISK)
    swap = build.swap(4)
    free, notes = free_in(made, {at(0): swap, at(1): swap, at(3): swap})
    used = {extent for extent in range(EXTENTS) if not any(a <= extent < a + n for a, n in free)}
    wanted = {
        "stripes": {0, 1, 3, 4},
        "cache": set(range(5)),
        "raid1": set(range(5)),
        "thin": set(range(5)),
        "mirror": {1, 2, 3, 4},
        "snapshot": set(range(6)),
    }
    assert used == wanted.get(kind, {0, 1, 2, 3})
    assert all("counts as in use" in note for note in notes)
    assert notes


def test_a_volume_that_nothing_is_known_of_is_taken_whole() -> None:
    free, notes = free_in(built({"a": linear((2, 10))}))
    assert free == [(0, 2), (12, 28)]
    assert notes == (
        "logical volume vg/a counts as in use: unknown content, nothing known is in it",
    )


def test_containers_within_containers_end() -> None:
    """A physical volume in a logical one, and so on: as deep as is looked, and no deeper."""
    swap = build.swap(4)
    level, size = {0: swap}, 4 * 4096
    for depth in range(7):
        extents = size // EXTENT
        text = build.group_text({"inner": linear((0, extents))}, extents)
        made = PhysicalVolume(text, FIRST_BYTE + extents * EXTENT)
        level = made.pieces() | {FIRST_BYTE + place: data for place, data in level.items()}
        size = made.size
        _, allocation = allocation_of(PARSER, SparseSource(size, level))
        if depth < 4:
            assert allocation.free.total == 3 * 4096
        else:
            assert allocation.free.total == 0
            assert "more than 4 containers" in allocation.notes[0]


# What is not


def replaced(old: str, new: str, **more: object) -> PhysicalVolume:
    made = built({"a": linear((0, 10)), "b": linear((10, 5))}, **more)
    assert made.text is not None
    assert old in made.text
    made.text = made.text.replace(old, new)
    return made


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('"pv0", 10', '"pv0", 9', "overlap"),
        ('"pv0", 10', '"pv0", 36', "outside of its extents"),
        ('"pv0", 10', '"pv0", -1', "overlap or lie outside"),
        ('"pv0", 10', '"pv0", 4294967296', "outside"),
        ('"pv0", 10', '"pv9", 10', "on nothing that is known"),
        ('"pv0", 10', '10, "pv0"', "not a place on a disk"),
        ('"pv0", 10', '"pv0"', "other stripes"),
        ("stripe_count = 1", "stripe_count = 0", "number of stripes"),
        ("stripe_count = 1", "stripe_count = 3", "other stripes"),
        ("extent_count = 5", "extent_count = 0", "extents of a segment"),
        ("extent_count = 5", "extent_count = 99999999999999999999", "value"),
        ("segment_count = 1", "segment_count = 2", "other segments"),
        ("start_extent = 0", "start_extent = 1", "gap or overlap"),
        ("extent_size = 8", "extent_size = 0", "extent size"),
        ("extent_size = 8", "extent_size = 16", "do not lie inside"),
        ("extent_size = 8", "", "does not say extent_size"),
        ("pe_start = 32", "pe_start = 40", "disagree"),
        ("pe_count = 40", "pe_count = 43", "do not lie inside"),
        ("abcdef-GHIJ", "abcdef-GHIK", "does not name it exactly once"),
        ('status = ["READ", "WRITE", "VISIBLE"]', 'status = ["READ", "PVMOVE"]', "pvmove"),
        ('"RESIZEABLE"', '"PVMOVE"', "being changed"),
        ('"RESIZEABLE"', "7", "unknown way"),
        ("version = 1", "version = 2", "unknown version"),
        ("Text Format Volume Group", "Text", "unknown version"),
        ('format = "lvm2"', 'format = "lvm3"', "exactly one volume group"),
        ('type = "striped"', 'type = "raid1"', "right on a disk"),
        ("b {", "a {", "twice"),
        ("seqno = 7", "seqno 7", "no value"),
        ("seqno = 7", "seqno = ", "no value|is none"),
        ('"pv0", 10 ]', '"pv0" 10 ]', "without commas"),
        ("logical_volumes {", "logical_volumes = 3 #", "no name|no section|makes no sense"),
        ("pv0 {", "pv0 { q { q { q { q { q { q {", "too deep"),
        ("# Generated", "} # Generated", "no name"),
    ],
)
def test_metadata_that_makes_no_sense(old: str, new: str, reason: str) -> None:
    text = why(replaced(old, new))
    assert any(part in text for part in reason.split("|")), text


def test_a_missing_disk() -> None:
    assert "missing" in why(built({}, disk_flags=("MISSING",)))


def test_metadata_that_is_being_changed() -> None:
    made = built({})
    made.coming = 2048, 100
    assert why(made) == "its metadata is being changed"


def test_copies_that_differ() -> None:
    made = built({"a": linear((0, 10))})
    made.areas = [build.MDA, (at(EXTENTS), 8192)]
    made.texts = {1: build.group_text({}, EXTENTS, seqno=6)}
    assert why(made) == "the copies of its metadata differ"
    made.texts = {}
    second = made.areas[1][0]
    flipped = bytearray(made.pieces()[second + 512])
    flipped[40] ^= 1
    assert why(made, {second + 512: bytes(flipped)}) == "its metadata has a wrong checksum"


def test_without_metadata() -> None:
    made = built({})
    made.areas = []
    assert why(made) == "its metadata lies on other disks"
    made = built({})
    made.flags = 1
    assert why(made) == "its metadata lies on other disks"


def test_an_empty_volume_that_may_belong_to_a_group() -> None:
    for version, used in ((2, True), (1, False), (0, False)):
        made = PhysicalVolume(None, SIZE, version=version, used=used)
        assert "to which volume group" in why(made)
    made = PhysicalVolume(None, SIZE, used=False)
    assert free_in(made)[0] == [(0, 42)]


def test_areas_that_overlap() -> None:
    made = built({})
    made.areas = [(4096, 12_800)]
    assert why(made) == "its areas overlap"
    made = built({})
    made.boot = [(at(3), 512)]
    assert why(made) == "its areas overlap"


def test_damage_to_label_and_headers() -> None:
    made = built({})
    label = bytearray(made.label())
    label[60] ^= 1
    assert why(made, {512: bytes(label)}) == "its label has a wrong checksum"
    header = bytearray(made.metadata(0)[4096])
    header[9] ^= 1
    assert "wrong checksum" in why(made, {4096: bytes(header)})
    other = build.sealed_header(bytes(header[:24]) + b"\1" + bytes(header[25:]))
    assert "does not belong" in why(made, {4096: other})


def test_a_partition_table_besides() -> None:
    sector = bytearray(512)
    sector[446 + 4], sector[446 + 8], sector[446 + 12] = 0x83, 1, 200
    sector[510:] = b"\x55\xaa"
    assert "partition table" in why(built({}), {0: bytes(sector)})


def test_class_03_no_extent_size() -> None:
    """A zero divisor."""
    assert "extent size" in why(replaced("extent_size = 8", "extent_size = 0"))


def test_class_04_counts_that_nothing_backs() -> None:
    """Neither time nor memory goes by a number that nothing has confirmed."""
    start = time.process_time()
    for old, new in (
        ("segment_count = 1", "segment_count = 65536"),
        ("pe_count = 40", "pe_count = 4294967295"),
        ("stripe_count = 1", "stripe_count = 4294967295"),
        ("extent_count = 5", "extent_count = 4294967295"),
    ):
        assert why(replaced(old, new))
    assert time.process_time() - start < SOON


def test_many_volumes_take_linear_time() -> None:
    """As many as there is room for in the metadata that is looked at."""
    volumes = {f"v{number}": "segment_count = 0\n" for number in range(60_000)}
    text = build.group_text(volumes, EXTENTS, first=1 << 22)
    made = PhysicalVolume(text, (1 << 22) + SIZE, 1 << 22, [(4096, (1 << 22) - 4096)])
    start = time.process_time()
    assert free_in(made)[0] == [(0, EXTENTS)]
    assert time.process_time() - start < SOON


def test_class_05_volumes_that_share_extents() -> None:
    assert "overlap" in why(built({"a": linear((0, 10)), "b": linear((9, 3))}))
    assert "overlap" in why(built({"a": linear((0, 4), (0, 4))}))


def test_class_06_metadata_that_points_out_of_its_area() -> None:
    for offset, size in ((0, 100), (511, 100), (12_288, 1), (512, 11_777), (512, 1 << 63)):
        made = built({})
        place = build.struct.pack("<QQII", offset, size, 0, 0)
        header = bytearray(made.metadata(0)[4096])
        header[40:64] = place
        assert "inside of its area" in why(made, {4096: build.sealed_header(bytes(header))})


def test_long_texts_take_linear_time() -> None:
    start = time.process_time()
    assert len(parse("a = [" + "1, " * 300_000 + "]")["a"]) == 300_000  # type: ignore[arg-type]
    for text in (
        '"' * 99_999,
        "#" * 99_999,
        " \n" * 99_999 + "=",
        "a{" * 9999,
        "\\" * 99_999,
        "#" * 99_999 + '\n"',
    ):
        with pytest.raises(LayoutError):
            parse("x = " + text)
    assert time.process_time() - start < SOON
