"""Every option of mke2fs that changes where things lie, compared with dumpe2fs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support import loop_device
from tests.support.tools import require_programs, run
from tests.volumes.ext.made import KIB, MIB, TOOLS, agree, look, make, reason, some_files

OLD = "-O ^64bit,^metadata_csum"
# Name, size, options. Every second one is filled from a directory.
MADE: dict[str, tuple[int, str]] = {
    "ext2-1k": (9 * MIB, "-t ext2 -b 1024 -L a-label"),
    "ext2-2k": (40 * MIB, "-t ext2 -b 2048"),
    "ext2-4k": (300 * MIB, "-t ext2 -b 4096"),
    "ext2-8k": (64 * MIB, "-t ext2 -b 8192"),
    "ext2-64k": (64 * MIB, "-t ext2 -b 65536"),
    "ext2-rev0": (20 * MIB, "-t ext2 -r 0 -b 1024"),
    "ext2-sparse": (70 * MIB, "-t ext2 -b 1024 -O ^resize_inode,sparse_super"),
    "ext2-all-supers": (70 * MIB, "-t ext2 -b 1024 -O ^resize_inode,^sparse_super"),
    "ext2-small-groups": (17 * MIB, "-t ext2 -b 1024 -g 256 -N 600"),
    "ext2-odd-groups": (33 * MIB, "-t ext2 -b 1024 -g 1032"),
    "ext2-uninit": (60 * MIB, "-t ext2 -b 1024 -O uninit_bg"),
    "ext2-100k": (100 * KIB, "-t ext2 -b 1024 -O ^resize_inode -N 16"),
    "ext3-1k": (20 * MIB, "-t ext3 -b 1024"),
    "ext3-2k": (33 * MIB, "-t ext3 -b 2048 -J size=4"),
    "ext3-4k": (260 * MIB, "-t ext3 -b 4096"),
    "ext3-inodes-128": (40 * MIB, "-t ext3 -b 1024 -I 128 -N 50000"),
    "ext4-1k": (50 * MIB, "-t ext4 -b 1024"),
    "ext4-2k": (64 * MIB, "-t ext4 -b 2048"),
    "ext4-4k": (300 * MIB, "-t ext4 -b 4096"),
    "ext4-8k": (64 * MIB, "-t ext4 -b 8192"),
    "ext4-16k": (64 * MIB, "-t ext4 -b 16384"),
    "ext4-32k": (300 * MIB, "-t ext4 -b 32768"),
    "ext4-64k": (300 * MIB, "-t ext4 -b 65536"),
    "ext4-64k-uninit": (300 * MIB, f"-t ext4 -b 65536 {OLD},uninit_bg"),
    "ext4-32bit": (60 * MIB, "-t ext4 -b 1024 -O ^64bit"),
    "ext4-32bit-4k": (280 * MIB, "-t ext4 -b 4096 -O ^64bit"),
    "ext4-crc16": (60 * MIB, f"-t ext4 -b 1024 {OLD},uninit_bg"),
    "ext4-crc16-64bit": (60 * MIB, "-t ext4 -b 1024 -O ^metadata_csum,uninit_bg"),
    "ext4-no-checksums": (60 * MIB, f"-t ext4 -b 1024 {OLD},^uninit_bg"),
    "ext4-csum-seed": (60 * MIB, "-t ext4 -b 1024 -O metadata_csum_seed"),
    "ext4-no-flex": (60 * MIB, "-t ext4 -b 1024 -O ^flex_bg"),
    "ext4-no-flex-no-resize": (60 * MIB, "-t ext4 -b 1024 -O ^flex_bg,^resize_inode"),
    "ext4-flex-2": (60 * MIB, "-t ext4 -b 1024 -G 2"),
    "ext4-flex-4": (100 * MIB, "-t ext4 -b 1024 -G 4"),
    "ext4-flex-64": (100 * MIB, "-t ext4 -b 1024 -G 64"),
    "ext4-flex-big": (100 * MIB, "-t ext4 -b 1024 -G 1048576"),
    "ext4-packed": (100 * MIB, "-t ext4 -b 1024 -G 1048576 -E packed_meta_blocks=1"),
    "ext4-meta-bg": (300 * MIB, "-t ext4 -b 1024 -O meta_bg,^resize_inode"),
    "ext4-meta-bg-no-flex": (300 * MIB, "-t ext4 -b 1024 -O meta_bg,^resize_inode,^flex_bg"),
    "ext4-meta-bg-32bit": (100 * MIB, "-t ext4 -b 1024 -g 512 -O meta_bg,^resize_inode,^64bit"),
    "ext4-meta-bg-crc16": (
        290 * MIB,
        f"-t ext4 -b 1024 {OLD},meta_bg,^resize_inode,uninit_bg,^flex_bg",
    ),
    "ext4-meta-bg-sparse2": (
        300 * MIB,
        "-t ext4 -b 1024 -O meta_bg,^resize_inode,sparse_super2,^sparse_super",
    ),
    "ext4-sparse2": (60 * MIB, "-t ext4 -b 1024 -O sparse_super2"),
    "ext4-sparse2-none": (60 * MIB, "-t ext4 -b 1024 -O sparse_super2 -E num_backup_sb=0"),
    "ext4-sparse2-one": (60 * MIB, "-t ext4 -b 1024 -O sparse_super2 -E num_backup_sb=1"),
    "ext4-sparse2-no-resize": (60 * MIB, "-t ext4 -b 1024 -O sparse_super2,^resize_inode"),
    "ext4-bigalloc-1k": (60 * MIB, "-t ext4 -b 1024 -O bigalloc"),
    "ext4-bigalloc-1k-4k": (60 * MIB, "-t ext4 -b 1024 -C 4096 -O bigalloc"),
    "ext4-bigalloc-4k": (300 * MIB, "-t ext4 -b 4096 -C 8192 -O bigalloc"),
    "ext4-bigalloc-256k": (300 * MIB, "-t ext4 -b 4096 -C 262144 -O bigalloc"),
    "ext4-bigalloc-odd": (61 * MIB + 7 * KIB, "-t ext4 -b 1024 -C 16384 -O bigalloc"),
    "ext4-bigalloc-groups": (100 * MIB, "-t ext4 -b 1024 -C 2048 -g 2048 -O bigalloc"),
    "ext4-bigalloc-meta-bg": (
        300 * MIB,
        "-t ext4 -b 1024 -C 2048 -g 4096 -O bigalloc,meta_bg,^resize_inode",
    ),
    "ext4-bigalloc-no-flex": (100 * MIB, "-t ext4 -b 1024 -C 4096 -g 8192 -O bigalloc,^flex_bg"),
    "ext4-bigalloc-64k": (300 * MIB, "-t ext4 -b 65536 -C 1048576 -O bigalloc"),
    "ext4-stride": (100 * MIB, "-t ext4 -b 1024 -E stride=16,stripe_width=64"),
    "ext4-stride-no-flex": (100 * MIB, "-t ext4 -b 1024 -O ^flex_bg -E stride=13,stripe_width=39"),
    "ext4-inline": (40 * MIB, "-t ext4 -b 1024 -O inline_data"),
    "ext4-quota": (40 * MIB, "-t ext4 -b 1024 -O quota,project -I 256"),
    "ext4-verity": (40 * MIB, "-t ext4 -b 4096 -O verity,encrypt,stable_inodes"),
    "ext4-casefold": (40 * MIB, "-t ext4 -b 1024 -O casefold -E encoding=utf8"),
    "ext4-mmp": (40 * MIB, "-t ext4 -b 1024 -O mmp"),
    "ext4-mmp-4k": (40 * MIB, "-t ext4 -b 4096 -O mmp,^metadata_csum"),
    "ext4-ea-inode": (40 * MIB, "-t ext4 -b 1024 -O ea_inode,large_dir"),
    "ext4-fast-commit": (80 * MIB, "-t ext4 -b 1024 -O fast_commit"),
    "ext4-orphan-file": (80 * MIB, "-t ext4 -b 1024 -O orphan_file"),
    "ext4-no-journal": (40 * MIB, "-t ext4 -b 1024 -O ^has_journal"),
    "ext4-journal-blocks": (90 * MIB, "-t ext4 -b 1024 -O ^extent,^64bit -J size=20"),
    "ext4-journal-last": (90 * MIB, "-t ext4 -b 1024 -J size=8,location=80M"),
    "ext4-lazy": (200 * MIB, "-t ext4 -b 1024 -E lazy_itable_init=1,lazy_journal_init=1"),
    "ext4-resize-far": (40 * MIB, "-t ext4 -b 1024 -E resize=8000000"),
    "ext4-inodes-1024": (40 * MIB, "-t ext4 -b 1024 -I 1024"),
    "ext4-inodes-4096": (40 * MIB, "-t ext4 -b 4096 -I 4096 -N 500"),
    "ext4-few-inodes": (300 * MIB, "-t ext4 -b 4096 -N 20"),
    "ext4-many-inodes": (60 * MIB, "-t ext4 -b 1024 -i 1024"),
    "ext4-tiny": (200 * KIB, "-t ext4 -b 1024"),
    "ext4-tiny-4k": (400 * KIB, "-t ext4 -b 4096"),
    "ext4-odd-size": (27 * MIB + 513, "-t ext4 -b 1024"),
    "ext4-small-last": (24 * MIB + 100 * KIB, "-t ext4 -b 1024"),
    "ext4-group-264": (20 * MIB, "-t ext4 -b 1024 -g 264 -O meta_bg,^resize_inode -N 800"),
}
# mke2fs does not count quotas.
WITH_CONTENT = frozenset(list(MADE)[::2]) - {"ext2-100k", "ext4-quota", "ext4-tiny", "ext4-tiny-4k"}


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return some_files(tmp_path_factory.mktemp("content"))


@pytest.mark.parametrize("name", MADE)
def test_class_48_rare_layouts_are_not_refused(name: str, tmp_path: Path, content: Path) -> None:
    require_programs(*TOOLS)
    size, options = MADE[name]
    more = content if name in WITH_CONTENT else None
    path = make(tmp_path / "volume", size, *options.split(), content=more)
    agree(path)


def test_bad_blocks(tmp_path: Path) -> None:
    """Blocks that mke2fs was told to avoid move bitmaps and tables out of their rows."""
    require_programs(*TOOLS)
    listed = tmp_path / "bad"
    listed.write_text("\n".join(map(str, [*range(270, 280), 8500, 16_641, 20_000, 40_000])))
    path = make(tmp_path / "volume", 50 * MIB, "-t", "ext4", "-b", "1024", "-l", listed)
    agree(path)


def test_external_journal(tmp_path: Path) -> None:
    """The volume is trusted, its journal device is not one of files."""
    require_programs(*TOOLS)
    journal = make(tmp_path / "journal", 4 * MIB, "-b", "1024", "-O", "journal_dev")
    assert reason(journal) == "it is the journal of another volume"
    with loop_device(journal) as device:
        path = make(tmp_path / "volume", 20 * MIB, "-b", "1024", "-J", f"device={device}")
        agree(path, checked=False)


def test_shared_blocks_are_taken_whole(tmp_path: Path) -> None:
    require_programs(*TOOLS)
    path = make(tmp_path / "volume", 20 * MIB, "-t", "ext4", "-b", "1024")
    run(["debugfs", "-w", "-R", "feature shared_blocks", path])
    assert reason(path) == "it uses the feature shared_blocks, which is not understood"


@pytest.mark.parametrize("name", ["ext2-1k", "ext3-4k", "ext4-4k", "ext4-meta-bg", "ext4-flex-2"])
def test_partclone_counts_the_same(name: str, tmp_path: Path, content: Path) -> None:
    require_programs(*TOOLS, "partclone.extfs")
    size, options = MADE[name]
    path = make(tmp_path / "volume", size, *options.split(), content=content)
    _, allocation = look(path)
    run(["partclone.extfs", "-c", "-s", path, "-O", tmp_path / "clone", "-L", tmp_path / "log"])
    text = (tmp_path / "log").read_text()
    free = re.search(r"Free Space:.*= (\d+) Blocks", text)
    block = re.search(r"Block size:\s+(\d+)", text, re.IGNORECASE)
    assert free is not None
    assert block is not None
    assert allocation.free.total == int(free[1]) * int(block[1])
