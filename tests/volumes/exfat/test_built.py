"""exFAT: what is exact, and every doubt that makes a volume whole."""

from __future__ import annotations

import itertools
import random
import struct
import time
from unittest import mock

import numpy as np
import pytest

from aipimage.volumes.clusters import ClusterMap
from aipimage.volumes.filesystems.exfat import PARSER, bitmap, chain
from aipimage.volumes.filesystems.exfat.layout import boot_checksum
from aipimage.volumes.model import SurveyOptions
from aipimage.volumes.view import LayoutError, VolumeView
from tests.support.soon import SOON
from tests.support.sources import SparseSource
from tests.support.surveyed import surveyed, used_of
from tests.volumes.exfat.built import (
    END,
    ExfatVolume,
    bitmap_entry,
    label_entry,
    two_fats,
    upcase_entry,
)
from tests.volumes.exfat.checked import FILE, OWN, PLAIN, refused, used

GONE = b"\x01\x01".ljust(20, b"\0") + struct.pack("<IQ", 9, 999)
"""An entry of a bitmap that is not in use any more: bit 7 of its type is clear."""


def test_what_is_free_and_what_is_said() -> None:
    volume = PLAIN.but(tail=5000 * 512)
    filesystem, found = surveyed(PARSER, volume.source())
    assert (filesystem.kind, filesystem.uuid, filesystem.label) == ("exfat", "00C0-FFEE", "ÄB")
    assert (filesystem.size, filesystem.cluster_size) == (volume.size, 512)
    assert used(volume) == list(volume.used)
    assert found.free.total == (200 - 5) * 512
    assert found.used_end == volume.heap * 512 + 99 * 512
    ranges = np.concatenate(list(found.free.ranges(0, volume.size + 5000 * 512)))
    assert int(ranges[0, 0]) == volume.heap * 512 + 3 * 512
    assert int(ranges[-1].sum()) == volume.size


def test_bits_behind_the_last_cluster_mean_nothing() -> None:
    assert used(PLAIN.but(clusters=197, used=(2, 3, 4, 199))) == [2, 3, 4]
    refused(PLAIN.but(clusters=197, used=(2, 3)), "calls free what the file system")


def test_a_volume_that_is_cut_off_has_its_label() -> None:
    source = PLAIN.source()
    source.size -= 512
    filesystem = PARSER.probe(VolumeView(source, 0, source.size))
    assert filesystem is not None
    assert filesystem.label == "ÄB"
    with pytest.raises(LayoutError, match="and it has"):
        surveyed(PARSER, source)


def test_the_label() -> None:
    def label(*entries: bytes) -> str:
        return surveyed(PARSER, PLAIN.but(root=(*OWN[1:], *entries)).source())[0].label

    assert label() == ""
    assert label(label_entry("Новый том")) == "Новый том"
    assert label(label_entry("\x1b[2J\u202e")) == "?[2J?"
    assert label(label_entry("x" * 11, count=255)) == "x" * 11
    assert label(label_entry("abc", count=0)) == ""
    assert label(b"\x83\x01\x00\xd8".ljust(32, b"\0")) == "\ufffd"
    assert label(label_entry("gone").replace(b"\x83", b"\x03", 1)) == ""
    assert label(bytes(32), label_entry("behind the end")) == ""


def test_the_root_directory_is_followed() -> None:
    """Its clusters lie apart, and the entries in the second of them."""
    root = (*[FILE] * 14, GONE, *OWN)
    volume = PLAIN.but(
        root=root,
        root_clusters=(6, 4),
        root_cluster=6,
        chains=(END, END, END, 0, 4),
        used=(2, 3, 4, 6),
    )
    assert used(volume) == [2, 3, 4, 6]
    refused(volume.but(chains=(END, END, END, 0, END)), "names 0 bitmaps")
    refused(volume.but(used=(2, 3, 4)), "calls free what the file system")
    refused(volume.but(used=(2, 3, 6)), "calls free what the file system")


def scattered(clusters: int, order: list[int]) -> ExfatVolume:
    """A volume whose bitmap lies in the given clusters of 512 bytes."""
    chains = [END, END, END, *[0] * (max(order) - 4)]
    chains[order[-1] - 2] = END
    for here, there in itertools.pairwise(order):
        chains[here - 2] = there
    root = (bitmap_entry(order[0], -(-clusters // 8)), upcase_entry(3, 100))
    return PLAIN.but(clusters=clusters, chains=tuple(chains), root=root)


def source_with_bitmap(volume: ExfatVolume, order: list[int], bits: bytes) -> SparseSource:
    """The volume's source with its bitmap put where it lies."""
    data = bytearray(volume.head_bytes())
    for number, cluster in enumerate(order):
        start = volume.heap * 512 + (cluster - 2) * 512
        data = data.ljust(start + 512, b"\0")
        data[start : start + 512] = bits[number * 512 : (number + 1) * 512].ljust(512, b"\0")
    return SparseSource(volume.size, {0: bytes(data)})


@pytest.mark.parametrize("piece", [64, 700, 4 << 20])
def test_a_bitmap_in_pieces(piece: int) -> None:
    """Read in arrays of any length, as the FAT says and not as they lie."""
    clusters, order = 20_000, [9, 8, 2, 6, 7]
    numbers = random.Random(1).sample(range(10, clusters), 3000)
    bits = bytearray(-(-clusters // 8))
    for number in sorted({*numbers, 2, 3, 4, 6, 7, 8, 9}):
        bits[(number - 2) // 8] |= 1 << (number - 2) % 8
    volume = scattered(clusters, order)
    with mock.patch.object(bitmap, "PIECE", piece):
        found = surveyed(PARSER, source_with_bitmap(volume, order, bytes(bits)))[1]
    expected = sorted({*numbers, 2, 3, 4, 6, 7, 8, 9})
    assert (np.flatnonzero(used_of(found)) + 2).tolist() == expected


def test_a_bitmap_that_lacks_its_own_pieces() -> None:
    clusters, order = 20_000, [9, 8, 2, 6, 7]
    for missing in (*order, 3, 4):
        bits = bytearray(b"\xff" * (clusters // 8))
        bits[(missing - 2) // 8] &= ~(1 << (missing - 2) % 8)
        with pytest.raises(LayoutError, match="calls free what the file system"):
            surveyed(PARSER, source_with_bitmap(scattered(clusters, order), order, bytes(bits)))


@pytest.mark.parametrize(
    ("chains", "reason"),
    [
        ((2, END, END), "meets itself"),
        ((4, END, END), "ends before its 3"),
        ((0, END, END), "leads to number 0"),
        ((1, END, END), "leads to number 1"),
        ((END, END, END), "ends before its 3"),
        ((0xFFFF_FFF7, END, END), "leads to number 4,294,967,287"),
        ((0xFFFF_FFF8, END, END), "leads to number"),
        ((12_002, END, END), "leads to number 12,002"),
        ((3, 9, END), "ends before|meets itself|leads to"),
    ],
)
def test_chains_that_make_no_sense(chains: tuple[int, ...], reason: str) -> None:
    refused(PLAIN.but(clusters=12_000, chains=chains, used=tuple(range(2, 12))), reason)


def test_a_root_directory_that_runs_in_a_circle() -> None:
    full = (*OWN, *[FILE] * 13)
    refused(PLAIN.but(root=full, chains=(END, END, 4)), "meets itself")
    # Where the directory ends before, its chain does not matter.
    assert used(PLAIN.but(chains=(END, END, 4))) == list(PLAIN.used)


def test_a_chain_in_very_many_pieces_is_given_up() -> None:
    clusters, order = 40_000, [*range(9, 29, 2)]
    volume = scattered(clusters, order)
    with (
        mock.patch.object(chain, "RUNS_MAX", 5),
        mock.patch.object(chain, "WINDOW", 1 << 20),
        pytest.raises(LayoutError, match="too many pieces"),
    ):
        surveyed(PARSER, source_with_bitmap(volume, order, b"\xff" * 5000))


@pytest.mark.parametrize(
    ("root", "reason"),
    [
        ((), "names 0 bitmaps"),
        ((bitmap_entry(2, 25), *OWN), "names 2 bitmaps"),
        ((bitmap_entry(2, 25, 1), OWN[2]), "names 1 bitmaps where it has 1 FATs"),
        (OWN[:2], "names 0 up-case tables"),
        ((*OWN, OWN[2]), "names 2 up-case tables"),
        ((bitmap_entry(3, 25), OWN[2]), "meets itself"),
        ((bitmap_entry(4, 25), OWN[2]), "meets itself"),
        ((bitmap_entry(202, 25), OWN[2]), "leads to number 202"),
        ((bitmap_entry(0, 25), OWN[2]), "leads to number 0"),
        ((OWN[1], upcase_entry(3, 0)), "0 bytes long"),
        ((OWN[1], upcase_entry(3, 2**64 - 1)), "bytes long"),
        ((OWN[1], upcase_entry(3, 513)), "ends before its 2"),
        ((OWN[1], upcase_entry(0xFFFF_FFFF, 99)), "leads to number"),
    ],
)
def test_a_root_directory_that_makes_no_sense(root: tuple[bytes, ...], reason: str) -> None:
    refused(PLAIN.but(root=root), reason)


@pytest.mark.parametrize(("length", "right"), [(0, 25), (24, 25), (25, 25), (26, 25), (2**63, 25)])
def test_class_44_a_bitmap_too_small_for_the_clusters(length: int, right: int) -> None:
    volume = PLAIN.but(bitmap_length=length)
    if length < right:
        refused(volume, f"bitmap is {length} bytes long where its volume needs {right}")
    else:
        assert used(volume) == list(PLAIN.used)


@pytest.mark.parametrize("clusters", [3, 7, 8, 9, 31, 32, 33, 63, 64, 65, 4095, 4096])
def test_class_45_bits_bytes_and_words_are_not_mixed_up(clusters: int) -> None:
    """The last cluster alone is in use beside the first ones: any slip of a bit shows."""
    last = clusters + 1
    volume = PLAIN.but(clusters=clusters, used=tuple(sorted({2, 3, 4, last})))
    found = surveyed(PARSER, volume.source())[1]
    assert used(volume) == sorted({2, 3, 4, last})
    assert found.used_end == volume.size
    assert found.free.total == (clusters - len({2, 3, 4, last})) * 512


def test_class_46_a_count_of_clusters_that_overflows() -> None:
    for count in (201, 0x7FFF_FFFF, 0xFFFF_FFF5):
        value = struct.pack("<I", count)
        refused(PLAIN.but(boot=((92, value),)), "too small for|past its last sector")
        refused(PLAIN.but(boot=((92, value), (84, b"\0\0\0\x02"))), "before the end|past its last")
    refused(PLAIN.but(boot=((92, b"\xff" * 4),)), "says 4,294,967,295 clusters")
    refused(PLAIN.but(boot=((92, bytes(4)),)), "says 0 clusters")


def test_class_48_layouts_that_are_rare() -> None:
    for sector_shift in (9, 10, 11, 12):
        for cluster_shift in (0, 1, 6, 8):
            volume = PLAIN.but(sector_shift=sector_shift, cluster_shift=cluster_shift, clusters=40)
            assert used(volume.but(used=(2, 3, 4, 9, 41))) == [2, 3, 4, 9, 41]
    # A volume smaller than its partition, fewer clusters than would fit, a gap before them.
    assert used(PLAIN.but(tail=1 << 20)) == list(PLAIN.used)
    longer = struct.pack("<Q", PLAIN.size // 512 + 900)
    assert used(PLAIN.but(boot=((72, longer),), tail=1 << 20)) == list(PLAIN.used)
    # Flags and percentage of the backup may be old; so may those that the checksum leaves out.
    old = ((106, b"\x02\0"), (112, b"\x55"))
    assert used(PLAIN.but(backup=old, main=((112, b"\x63"), (106, b"\x08")))) == list(PLAIN.used)


def test_class_48_the_largest_cluster() -> None:
    volume = PLAIN.but(cluster_shift=16, clusters=20, used=(2, 3, 4, 9))
    pieces, end = {}, volume.heap * 512
    head = volume.but(cluster_shift=0).head_bytes()
    boots = volume.region(())
    pieces[0] = boots + boots + head[2 * 12 * 512 : end]
    for number in range(3):
        pieces[end + number * volume.cluster] = head[end + number * 512 : end + (number + 1) * 512]
    found = surveyed(PARSER, SparseSource(volume.size, pieces))[1]
    assert (np.flatnonzero(used_of(found)) + 2).tolist() == [2, 3, 4, 9]


def test_class_48_two_fats() -> None:
    """TexFAT: what either bitmap calls used is kept, whichever is in force."""
    for flags in (0, 1):
        volume = two_fats(flags=flags)
        assert used(volume) == [2, 3, 4, 5, 9, 11]
        assert surveyed(PARSER, volume.source())[1].notes
        refused(volume.but(second_used=(2, 3, 4, 11), used=(2, 3, 4, 9)), "calls free what")
        refused(volume.but(root=OWN), "names 1 bitmaps where it has 2 FATs")
        twice = (*OWN, bitmap_entry(5, 25, 0))
        refused(volume.but(root=twice), "names 2 bitmaps")
    refused(PLAIN.but(flags=1), "second FAT is in force, and it has one")


def test_the_fat_in_force_is_followed() -> None:
    """The root directory goes on in cluster 6 by the first, and in cluster 7 by the second."""
    root = (*[FILE] * 16, *two_fats().entries())
    for flags, cluster in ((0, 6), (1, 7)):
        volume = two_fats(
            flags=flags,
            root=root,
            root_clusters=(4, cluster),
            used=tuple(range(2, 8)),
            second_used=tuple(range(2, 8)),
            chains=(END, END, 6, END, END, END),
        )
        data = bytearray(volume.head_bytes())
        second = (24 + volume.fat_sectors) * 512 + 4 * 4
        data[second : second + 4] = struct.pack("<I", 7)
        assert surveyed(PARSER, SparseSource(volume.size, {0: bytes(data)}))[0].label == "ÄB"
        data[106] = data[12 * 512 + 106] = 1 - flags
        with pytest.raises(LayoutError, match="names 0 bitmaps"):
            surveyed(PARSER, SparseSource(volume.size, {0: bytes(data)}))


def test_class_50_a_volume_whose_medium_failed() -> None:
    refused(PLAIN.but(flags=4), "its medium failed")


def test_checksums_and_the_backup() -> None:
    for at in (300, 512 + 7, 9 * 512, 10 * 512, 11 * 512, 12 * 512 - 1):
        refused(PLAIN.but(main=((at, b"\x77"),)), "checksum of its boot region")
        refused(PLAIN.but(backup=((at, b"\x77"),)), "checksum of its backup|backup of it disagree")
    for at in (72, 80, 92, 96, 100):
        refused(PLAIN.but(backup=((at, b"\x77"),)), "backup of it disagree")


def test_the_checksum_of_a_region() -> None:
    """Bytes 106, 107 and 112 do not count."""
    data = bytearray(PLAIN.region(()))[: 11 * 512]
    before = boot_checksum(bytes(data))
    for at in (106, 107, 112):
        data[at] ^= 0xFF
    assert boot_checksum(bytes(data)) == before
    data[113] ^= 1
    assert boot_checksum(bytes(data)) != before
    assert boot_checksum(b"\1\2\3") == ((0x8000_0000 + 2) >> 1) + 3


@pytest.mark.parametrize(
    ("at", "value", "reason"),
    [
        (0, b"\0", "not one of exFAT"),
        (40, b"\1", "not one of exFAT"),
        (510, b"\0\0", "not one of exFAT"),
        (104, b"\0\2", "revision 0x0200"),
        (108, b"\x08", "sectors of 2.8 bytes"),
        (108, b"\x0d", "sectors of 2.13 bytes"),
        (109, b"\x11", "more than 32 MiB"),
        (109, b"\xff", "more than 32 MiB"),
        (110, b"\0", "says 0 FATs"),
        (110, b"\3", "says 3 FATs"),
        (72, b"\xff" * 8, "and it has"),
        (72, struct.pack("<Q", 100), "past its last sector"),
        (80, b"\x17\0\0\0", "inside of the boot regions"),
        (84, b"\1\0\0\0", "too small for"),
        (88, b"\x18\0\0\0", "before the end of its FAT"),
        (88, b"\xff\xff\xff\xff", "past its last sector"),
        (96, b"\1\0\0\0", "root directory begins in cluster 1"),
        (96, struct.pack("<I", 202), "root directory begins in cluster 202"),
    ],
)
def test_fields_out_of_range(at: int, value: bytes, reason: str) -> None:
    refused(PLAIN.but(boot=((at, value),)), reason)


def test_sectors_that_cannot_be_read() -> None:
    start = PLAIN.heap * 512
    for bad in (3 * 512, 20 * 512, 24 * 512, start, start + 2 * 512):
        source = SparseSource(PLAIN.size, {0: PLAIN.head_bytes()}, bad=((bad, 512),))
        with pytest.raises(LayoutError, match="cannot be read"):
            surveyed(PARSER, source)


def test_what_is_no_exfat() -> None:
    for source in (
        SparseSource(1 << 20, {}),
        SparseSource(9, {}),
        SparseSource(4096, {}, bad=((0, 512),)),
        PLAIN.but(boot=((3, b"NTFS    "),)).source(),
    ):
        assert PARSER.probe(VolumeView(source, 0, source.size)) is None


def test_the_root_directory_is_searched_up_to_a_bound() -> None:
    """20 MiB of files and no end: what was found in the first 16 MiB counts."""
    count, cluster = 640, 32 << 10
    chains = (END, END, *range(5, 4 + count), END)
    volume = PLAIN.but(
        clusters=1000, cluster_shift=6, chains=chains, root=(), used=tuple(range(2, 4 + count))
    )
    start = volume.heap * 512
    head = volume.head_bytes()[: start + 2 * cluster]
    own = bitmap_entry(2, 125) + upcase_entry(3, 100)
    files = FILE * (count * cluster // 32 - 2)
    near = SparseSource(volume.size, {0: head, start + 2 * cluster: own + files})
    assert surveyed(PARSER, near)[1].free.total == (1000 - 2 - count) * cluster
    assert near.bytes_read < 20 << 20
    far = SparseSource(volume.size, {0: head, start + 2 * cluster: files + own})
    with pytest.raises(LayoutError, match="names 0 bitmaps"):
        surveyed(PARSER, far)


def test_probing_reads_little() -> None:
    """A root directory each cluster of which has its entry in another sector of the FAT."""
    clusters = 100_000
    order = [4, *range(2000, 98_000, 1100)]
    chains = [END] * clusters
    for here, there in itertools.pairwise(order):
        chains[here - 2] = there
    volume = PLAIN.but(clusters=clusters, chains=tuple(chains), root=(FILE,) * 16)
    data = volume.head_bytes()[: volume.heap * 512 + 5 * 512]
    start = volume.heap * 512
    pieces = {start + (cluster - 2) * 512: FILE * 16 for cluster in order[1:]}
    source = SparseSource(volume.size, {0: data, **pieces})
    filesystem = PARSER.probe(VolumeView(source, 0, source.size))
    assert filesystem is not None
    assert (filesystem.label, filesystem.size) == ("", volume.size)
    assert source.bytes_read <= 256 << 10


def test_four_terabytes_take_little_time() -> None:
    """In clusters of 4 KiB: 2^30 bits, every other 32 KiB of which are used."""
    clusters = 1 << 30
    length = clusters // 8
    own = length // 4096
    volume = PLAIN.but(clusters=clusters, cluster_shift=3, root_cluster=own + 3)
    first = 2 + own
    table = np.arange(1, first + 3, dtype="<u4")
    table[[first - 1, first, first + 1]] = END
    root = bitmap_entry(2, length) + upcase_entry(first, 100)
    boots = volume.region(())
    start = volume.heap * 512
    bits = np.tile(np.array([0xFF, 0], np.uint8), length // 2)
    bits[: own // 8 + 1] = 0xFF
    pieces = {
        0: boots + boots,
        24 * 512: table.tobytes(),
        start: bits.tobytes(),
        start + (own + 1) * 4096: root,
    }
    source = SparseSource(volume.size, pieces)
    began = time.process_time()
    view = VolumeView(source, 0, source.size)
    filesystem = PARSER.probe(view)
    assert filesystem is not None
    found = PARSER.allocation(view, filesystem, SurveyOptions())
    took = time.process_time() - began
    assert isinstance(found.free, ClusterMap)
    used_bits = int(np.bitwise_count(bits).sum())
    assert found.free.free_clusters == clusters - used_bits
    assert took < SOON, took
