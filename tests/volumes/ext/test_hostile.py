"""Volumes that lie: taken whole, with the reason."""

from __future__ import annotations

import itertools
import random
import struct
import time
from pathlib import Path

import numpy as np
import pytest

from aipimage.volumes.crc32c import crc32c_rows
from aipimage.volumes.filesystems.ext import PARSER, layout
from aipimage.volumes.filesystems.ext.crc import crc16_rows
from aipimage.volumes.view import VolumeView
from tests.fuzz.mutate import loop
from tests.support.soon import SOON
from tests.support.sources import SparseSource
from tests.support.tools import require_programs
from tests.volumes.ext import built as ext_builder
from tests.volumes.ext.built import BITMAPS, BLOCK, JOURNAL, MMP, SIZE, Built
from tests.volumes.ext.fuzz import SEEDS, fuzz_ext
from tests.volumes.ext.made import MIB, TOOLS, agree, free_ranges, look, make, merged, reason

KINDS = list(itertools.product(("crc32c", "crc16", ""), (True, False), (True, False)))


@pytest.mark.parametrize(("csum", "is_64bit", "uses_mmp"), KINDS)
def test_class_45_each_bit_is_its_block(csum: str, is_64bit: bool, uses_mmp: bool) -> None:
    """Bits are counted in bytes, least significant first, from the first data block on."""
    built = Built(csum, is_64bit, uses_mmp)
    filesystem, allocation = look(built.source())
    wanted = merged([(block * BLOCK, block * BLOCK + BLOCK) for block in sorted(built.free)])
    assert np.array_equal(free_ranges(allocation, SIZE), wanted)
    assert filesystem.kind == "ext4"
    assert filesystem.uuid == "01020304-0506-0708-090a-0b0c0d0e0f10"


@pytest.mark.parametrize("per_group", [256, 264, 1032, 2056, 8184])
def test_class_45_groups_that_are_no_whole_words(per_group: int, tmp_path: Path) -> None:
    require_programs(*TOOLS)
    options = ["-b", "1024", "-g", str(per_group), "-N", "900", "-O", "^resize_inode,meta_bg"]
    agree(make(tmp_path / "volume", 17 * MIB + 3 * BLOCK, *options))


# How a number may be wrong, and a piece of the reason.
WRONG_SUPERBLOCKS = {
    "log_block": ({"s_log_block_size": 7}, "block size"),
    "log_block_64": ({"s_log_block_size": 64}, "block size"),
    "log_cluster": ({"s_log_cluster_size": 1}, "cluster size"),
    "no_blocks": ({"s_blocks_count_lo": 0}, "0 blocks"),
    "one_block": ({"s_blocks_count_lo": 1}, "1 blocks"),
    "too_long": ({"s_blocks_count_lo": SIZE // BLOCK + 1}, "its volume only"),
    "far_too_long": ({"s_blocks_count_hi": 0xFFFFFFFF}, "its volume only"),
    "no_group": ({"s_blocks_per_group": 0}, "in a group"),
    "group_of_1": ({"s_blocks_per_group": 1, "s_clusters_per_group": 1}, "clusters"),
    "group_12": ({"s_blocks_per_group": 12, "s_clusters_per_group": 12}, "clusters"),
    "groups_differ": ({"s_clusters_per_group": 512}, "clusters"),
    "group_too_large": ({"s_blocks_per_group": 16384, "s_clusters_per_group": 16384}, "clusters"),
    "first_block": ({"s_first_data_block": 0}, "first data block"),
    "first_block_far": ({"s_first_data_block": 3899}, "first data block"),
    "no_inodes": ({"s_inodes_per_group": 0, "s_inodes_count": 0}, "0 inodes"),
    "inodes": ({"s_inodes_count": 65}, "counts 65 inodes"),
    "inode_size_0": ({"s_inode_size": 0}, "inodes of 0"),
    "inode_size_2k": ({"s_inode_size": 2048}, "inodes of 2048"),
    "inode_size_130": ({"s_inode_size": 130}, "inodes of 130"),
    "desc_size_0": ({"s_desc_size": 0}, "descriptors of 0"),
    "desc_size_96": ({"s_desc_size": 96}, "descriptors of 96"),
    "desc_size_2k": ({"s_desc_size": 2048}, "descriptors of 2048"),
    "revision": ({"s_rev_level": 2}, "revision 2"),
    "checksum_type": ({"s_checksum_type": 2}, "type 2"),
    "free": ({"s_free_blocks_count_lo": 1}, "superblock counts 1 "),
    "free_high": ({"s_free_blocks_count_hi": 1}, "superblock counts"),
    "reserved": ({"s_reserved_gdt_blocks": 257}, "reserves 257"),
    "reserved_over_bitmaps": ({"s_reserved_gdt_blocks": 1}, "two of its structures"),
    "meta_bg": (
        {
            "s_feature_incompat": layout.INCOMPAT_META_BG | layout.INCOMPAT_64BIT,
            "s_first_meta_bg": 2,
        },
        "meta block group 2",
    ),
    "journal_inum": ({"s_journal_inum": 65}, "inode 65 is out of range"),
    "journal_none": ({"s_journal_inum": 0}, "journal is missing"),
    "journal_no_file": ({"s_journal_inum": 9}, "inode 9 is not a file"),
    "mmp_0": ({"s_mmp_block": 0}, "mount protection at block 0"),
    "mmp_far": ({"s_mmp_block": 1 << 63}, "mount protection at block"),
    "mmp_elsewhere": ({"s_mmp_block": 100}, "no magic"),
}


@pytest.mark.parametrize("name", WRONG_SUPERBLOCKS)
def test_class_47_superblocks_out_of_range(name: str) -> None:
    fields, wanted = WRONG_SUPERBLOCKS[name]
    found = reason(Built().set(**fields).source())
    assert found is not None
    assert wanted in found


@pytest.mark.parametrize("field", [0, 4, 8])
@pytest.mark.parametrize("csum", ["crc32c", "crc16", ""])
def test_class_47_descriptors_that_lead_elsewhere(csum: str, field: int) -> None:
    """Bitmaps and tables outside of the file system, over other structures, or doubled."""
    built = Built(csum)
    for block in (0, 1, 2, BITMAPS, 12, MMP, 1025, 3899, 3900, SIZE // BLOCK, 0xFFFFFFFF):
        for group in range(4):
            at = built.descriptor(group) + field
            (before,) = struct.unpack_from("<I", built.data, at)
            if before != block:
                assert reason(built.put("<I", at, block).source()), (block, group)
                built.put("<I", at, before)
    assert reason(built.source()) is None
    assert reason(built.put("<I", built.descriptor(0) + 0x20 + field, 0xFFFFFFFF).source())


def test_class_47_bitmaps_of_another_group_without_flex_bg() -> None:
    built = Built()
    plain = layout.INCOMPAT_64BIT | layout.INCOMPAT_EXTENTS | layout.INCOMPAT_MMP
    assert "block bitmap of its group 1" in (
        reason(built.set(s_feature_incompat=plain).source()) or ""
    )


def test_class_47_flags_mean_nothing_without_checksums() -> None:
    """BLOCK_UNINIT counts only where descriptors have checksums, as in the kernel."""
    built = Built("")
    _, before = look(built.source())
    _, after = look(built.put("<H", built.descriptor(1) + 0x12, 7).source())
    assert np.array_equal(free_ranges(before, SIZE), free_ranges(after, SIZE))


@pytest.mark.parametrize("group", [0, 1, 2, 3])
def test_class_47_uninit_and_counts_must_agree(group: int) -> None:
    """A group called untouched that has files, and one more or less than its descriptor counts."""
    built = Built()
    at = built.descriptor(group)
    flags, free = (struct.unpack_from("<H", built.data, at + there)[0] for there in (0x12, 0xC))
    assert "free clusters, and its bitmap" in (
        reason(Built().put("<H", at + 0xC, free + 1).source()) or ""
    )
    if group != 2:
        found = reason(Built().put("<H", at + 0x12, flags | 2).source())
        assert found is not None
        assert "free clusters, and its bitmap" in found


@pytest.mark.parametrize("csum", ["crc32c", "crc16", ""])
def test_class_47_bitmaps_that_call_structures_free(csum: str) -> None:
    """Each structure of group 0, with all counts made to agree."""
    for block in range(1, MMP + 1):
        built = Built(csum)
        at = BITMAPS * BLOCK + (block - 1) // 8
        built.data[at] ^= 1 << (block - 1) % 8
        count = built.descriptor(0) + 0xC
        free = struct.unpack_from("<H", built.data, count)[0] + 1
        built.put("<H", count, free).set(s_free_blocks_count_lo=len(built.free) + 1)
        found = reason(built.source())
        if BITMAPS + 16 <= block <= JOURNAL + 7 or block == MMP:
            assert found is not None
            assert "free" in found
        else:
            assert found == "the bitmap of its group 0 calls structures free"


def test_class_47_clusters_behind_the_end() -> None:
    built = Built("")
    at = (BITMAPS + 3) * BLOCK + (3900 - 1 - 3 * 1024) // 8 + 1
    built.data[at] = 0
    assert reason(built.source()) == "its last bitmap calls clusters past the end free"


@pytest.mark.parametrize("csum", ["crc32c", "crc16"])
def test_class_47_each_byte_of_a_checksummed_structure(csum: str) -> None:
    """A flipped bit in a descriptor, or with crc32c in a bitmap or the superblock."""
    places = {Built(csum).descriptor(group) + at for group in range(4) for at in range(64)}
    if csum == "crc32c":
        places |= set(range(1024, 2048)) - {1024 + 0x38, 1024 + 0x39}
        places |= {(BITMAPS + group) * BLOCK + at for group in (0, 1, 3) for at in range(128)}
    built = Built(csum)
    for place in places:
        built.data[place] ^= 1 << place % 8
        assert reason(built.source()) is not None, place
        built.data[place] ^= 1 << place % 8
    assert reason(built.source()) is None


@pytest.mark.parametrize("kind", ["s_feature_incompat", "s_feature_ro_compat"])
def test_class_47_features_that_are_not_known(kind: str) -> None:
    known = layout.INCOMPAT_KNOWN if "incompat" in kind else layout.RO_KNOWN
    for bit in range(32):
        if not known >> bit & 1:
            built = Built("")
            at = 0x460 if "incompat" in kind else 0x464
            now = struct.unpack_from("<I", built.data, at)[0]
            found = reason(built.set(**{kind: now | 1 << bit}).source())
            assert found is not None
            assert "which is not understood" in found


def test_class_47_a_bomb_of_groups_is_refused_soon() -> None:
    """Sizes that would take petabytes of descriptors, on a source that claims to be as large."""
    built = Built("").set(s_blocks_count_hi=1 << 10, s_blocks_per_group=8, s_clusters_per_group=8)
    built.set(s_feature_incompat=layout.INCOMPAT_64BIT, s_desc_size=64)
    start = time.process_time()
    found = reason(built.source(1 << 53))
    assert found is not None
    assert "block groups" in found
    assert time.process_time() - start < SOON


def test_every_truncation_is_whole_or_nothing() -> None:
    built = Built()
    for size in [*range(0, 32 * BLOCK, 512), 3899 * BLOCK, 3900 * BLOCK - 1]:
        source = built.source(size)
        view = VolumeView(source, 0, size)
        if size < 2048:
            assert PARSER.probe(view) is None
        else:
            assert reason(source) == f"it has {3900 * BLOCK:,} bytes, and its volume only {size:,}"
    assert reason(built.source(3900 * BLOCK)) is None


@pytest.mark.parametrize(("offset", "length"), ext_builder.PIECES)
def test_sectors_that_cannot_be_read(offset: int, length: int) -> None:
    source = Built().source()
    bad = SparseSource(SIZE, source.pieces, ((offset, length),))
    if offset == 1024:
        assert PARSER.probe(VolumeView(bad, 0, SIZE)) is None
    elif offset != (BITMAPS + 2) * BLOCK:
        assert "cannot be read" in (reason(bad) or "")
    else:
        # The bitmap of the group that never got one lies between others, and is not read alone.
        assert reason(bad) is None


@pytest.mark.parametrize("length", [1, 2, 3, 30, 36, 63, 64, 1020, 1024, 4096, 8192])
def test_checksums_are_those_of_their_twins(length: int) -> None:
    chance = random.Random(length)
    rows = [chance.randbytes(length) for _ in range(5)]
    array = np.frombuffer(b"".join(rows), np.uint8).reshape(5, length)
    for polynomial, width, function in ((0x82F63B78, 32, crc32c_rows), (0xA001, 16, crc16_rows)):
        for register in (0, (1 << width) - 1, chance.getrandbits(width)):
            wanted = [ext_builder.crc(row, register, polynomial) for row in rows]
            assert function(array, register).tolist() == wanted


def test_a_short_run_of_the_fuzz_target() -> None:
    assert loop(fuzz_ext, SEEDS, 2) > 100


def test_the_seeds_are_accepted() -> None:
    """So that mutants reach what lies behind the checks."""
    for seed in SEEDS:
        volume = ext_builder.expanded(seed)
        assert reason(SparseSource(SIZE, {0: bytes(volume)})) is None
