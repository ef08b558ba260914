"""Volumes that others made, damaged ones among them, where they lie beside the checkout."""

from __future__ import annotations

import bz2
import csv
import gzip
import lzma
from pathlib import Path

import numpy as np
import pytest

from aipimage.volumes.view import LayoutError
from tests.support import SAMPLES
from tests.support.tools import require_programs
from tests.volumes.ext.made import TOOLS, free_by_dumpe2fs, free_ranges, look

_OPENERS = {".bz2": bz2.open, ".xz": lzma.open, ".gz": gzip.open}
_MOST = 600 << 20
# Why a sample is taken whole; each was looked at, and what e2fsck says of it beside it.
WHOLE = {
    "f_journal/image.gz": "its journal cannot be trusted: inode 12 is not a file",
    "f_miss_journal/image.gz": "its journal cannot be trusted: inode 8 is not a file",
    "f_uninit_enable/image.gz": "it was not cleanly unmounted",
    "f_zero_inode_size/image.gz": "its inodes of 0 bytes are out of range",
    "j_corrupt_revoke_rcount/image.gz": (
        "its journal cannot be trusted: a list of revoked blocks in it is damaged"
    ),
    "j_corrupt_sb_magic/image.gz": "its journal cannot be trusted: it has no superblock",
    "m_mmp_bad_magic/image.gz": "its mount protection has no magic number",
    "images-fs/ext4.img.xz": "it has 67,108,864 bytes, and its volume only 8,388,608",
    "images-fs/jbd.img.xz": "it is the journal of another volume",
}
# What is said of those in use: transactions, fast commits, and bytes beyond the map. Of those that
# begin with j_corrupt a block was damaged at which a mount stops as well.
IN_USE = {
    "020-refuse-needs-recovery/ext4.raw.xz": "0 transactions; 0 bytes",
    "j_corrupt_commit_tid/image.gz": "0 transactions; 0 bytes",
    "j_corrupt_descr_tid/image.gz": "0 transactions; 0 bytes",
    "j_corrupt_revoke_block/image.gz": "1 transaction; 0 bytes",
    "j_recover_fast_commit/image.gz": "1 transaction and 1 fast commit; 264,192 bytes",
}


def _unpacked(at: Path) -> list[tuple[str, Path]]:
    """Every sample that begins with a superblock, unpacked into sparse files."""
    with open(SAMPLES / "MANIFEST.tsv", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    found = []
    for row in rows:
        path = SAMPLES / row["repo"] / row["path"]
        if ".tar" in path.name or not row["raw_bytes"].isdigit() or not path.exists():
            continue
        with _OPENERS.get(path.suffix, open)(path, "rb") as packed:
            head = packed.read(2048)
            if int(row["raw_bytes"]) > _MOST or head[1080:1082] != b"\x53\xef":
                continue
            target = at / f"{len(found)}.raw"
            _copy(head, packed, target)
        found.append((row["path"], target))
    return found


def _copy(piece: bytes, packed: object, target: Path) -> None:
    with open(target, "wb") as file:
        while piece:
            if any(piece):
                file.write(piece)
            else:
                file.seek(len(piece), 1)
            piece = packed.read(1 << 20)  # type: ignore[attr-defined]
        file.truncate(file.tell())


@pytest.mark.skipif(not SAMPLES.exists(), reason="no samples beside this checkout")
def test_every_sample_is_right_or_whole(tmp_path: Path) -> None:
    require_programs(*TOOLS)
    reasons, notes, exact = {}, {}, 0
    for name, path in _unpacked(tmp_path):
        try:
            _, allocation = look(path)
        except LayoutError as error:
            reasons["/".join(name.split("/")[-2:])] = str(error)
            continue
        if allocation.notes:
            notes["/".join(name.split("/")[-2:])] = allocation.notes[0]
            continue
        wanted, _ = free_by_dumpe2fs(path)
        size = path.stat().st_size
        assert np.array_equal(free_ranges(allocation, size), np.minimum(wanted, size)), name
        exact += 1
    assert reasons == WHOLE
    assert notes == {
        name: f"in use: its journal was read, {said} are kept beyond its map"
        for name, said in IN_USE.items()
    }
    assert exact >= 19
