"""What of a Btrfs volume is in use, as ``btrfs inspect-internal`` and partclone tell it, and the
test that needs no oracle: a volume whose free space is garbage must be as good as before.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from aipimage.io.blocks.sources import open_source
from aipimage.volumes.filesystems.btrfs import PARSER
from aipimage.volumes.model import Allocation, FileSystem, SurveyOptions
from aipimage.volumes.view import VolumeView
from tests.support.tools import run

Bools = npt.NDArray[np.bool_]
GARBAGE = b"\xa5" * (1 << 20)
SECTOR = 4096
_CHUNK = re.compile(r"CHUNK_ITEM (\d+)\).*?\n\s+length (\d+) (.*?)(?=\n\titem|\Z)", re.S)
_STRIPE = re.compile(r"stripe \d+ devid \d+ offset (\d+)")
_NODE = re.compile(r"^(?:leaf|node) (?=\d+ (?:items|level))", re.M)
_OWNER = re.compile(r" owner TREE_LOG$")
_NAMED = re.compile(r"(?:extent|prealloc) data disk byte (\d+) nr (\d+)")
_EXTENT = re.compile(r"item \d+ key \((\d+) (EXTENT_ITEM|METADATA_ITEM) (\d+)\)")

_ALL = SurveyOptions()


def survey(volume: Path, options: SurveyOptions = _ALL) -> tuple[FileSystem, Allocation]:
    """What the parser makes of a volume in a file."""
    with contextlib.closing(open_source(volume)) as source:
        view = VolumeView(source, 0, source.size)
        found = PARSER.probe(view)
        assert found is not None
        assert PARSER.allocation is not None
        return found, PARSER.allocation(view, found, options)


def used_by_parser(allocation: Allocation, size: int) -> Bools:
    """One flag for each sector of 4 KiB."""
    used = np.ones(-(-size // SECTOR), np.bool_)
    for rows in allocation.free.ranges(0, size):
        for start, length in rows.tolist():
            assert start % SECTOR == length % SECTOR == 0
            used[start // SECTOR : (start + length) // SECTOR] = False
    return used


def dumped(volume: Path, tree: str) -> str:
    """The text of a tree."""
    return run(["btrfs", "inspect-internal", "dump-tree", "-t", tree, volume])


def superblock(volume: Path) -> dict[str, str]:
    """The superblock's fields, as text."""
    text = run(["btrfs", "inspect-internal", "dump-super", volume])
    return dict(line.split(None, 1) for line in text.splitlines() if len(line.split(None, 1)) > 1)


def used_by_tools(volume: Path) -> Bools:
    """The same from the trees that btrfs-progs print."""
    used = _extents(volume, data_only=False)
    used[: (1 << 20) // SECTOR] = True
    for copy in (64 << 20, 256 << 30):
        used[copy // SECTOR : (copy + 65536) // SECTOR] = True
    return used


def data_by_tools(volume: Path) -> Bools:
    """The same, only the extents in chunks for data."""
    return _extents(volume, data_only=True)


def log_by_tools(volume: Path) -> Bools:
    """What the log trees occupy, and the extents that they name."""
    node = int(superblock(volume)["nodesize"])
    text = run(["btrfs", "inspect-internal", "dump-tree", volume])
    extents = []
    for part in _NODE.split(text)[1:]:
        if _OWNER.search(part.split("\n", 1)[0]):
            extents.append((int(part.split()[0]), node))
            named = [(int(at), int(length)) for at, length in _NAMED.findall(part)]
            extents += [row for row in named if row[0]]
    return _placed(volume, extents, data_only=False)


def _extents(volume: Path, data_only: bool) -> Bools:
    node = int(superblock(volume)["nodesize"])
    extents = [
        (int(address), int(offset) if kind == "EXTENT_ITEM" else node)
        for address, kind, offset in _EXTENT.findall(dumped(volume, "extent"))
    ]
    return _placed(volume, extents, data_only)


def _placed(volume: Path, extents: list[tuple[int, int]], data_only: bool) -> Bools:
    """One flag for each sector of the device in which (logical address, bytes) lie."""
    used = np.zeros(int(superblock(volume)["dev_item.total_bytes"]) // SECTOR, np.bool_)
    chunks = [
        (int(start), int(length), "type DATA" in text, [int(at) for at in _STRIPE.findall(text)])
        for start, length, text in _CHUNK.findall(dumped(volume, "chunk"))
    ]
    for start, length in extents:
        chunk, chunk_length, is_data, places = next(
            row for row in chunks if row[0] <= start < row[0] + row[1]
        )
        assert start + length <= chunk + chunk_length
        for place in places if is_data or not data_only else ():
            low = (place + start - chunk) // SECTOR
            used[low : low + length // SECTOR] = True
    return used


def used_by_partclone(volume: Path, log: Path) -> Bools:
    """The same as partclone's list of what it would clone, a log as ddrescue keeps them."""
    log.unlink(missing_ok=True)
    run(["partclone.btrfs", "-D", "-s", volume, "-o", log, "-L", log.with_suffix(".log")])
    used = np.zeros(volume.stat().st_size // SECTOR, np.bool_)
    for start, length in re.findall(r"^0x(\w+)\s+0x(\w+)\s+\+", log.read_text(), re.M):
        used[int(start, 16) // SECTOR : -(-(int(start, 16) + int(length, 16)) // SECTOR)] = True
    return used


def fill_with_garbage(volume: Path, allocation: Allocation) -> None:
    """Overwrite all that the map calls free."""
    with volume.open("r+b") as file:
        for rows in allocation.free.ranges(0, volume.stat().st_size):
            for start, length in rows.tolist():
                file.seek(start)
                while length:
                    length -= file.write(GARBAGE[:length])


def check(volume: Path) -> None:
    """``btrfs check`` with the checksums of all data."""
    run(["btrfs", "check", "--readonly", "--check-data-csum", volume])


def contents(root: Path) -> dict[str, str]:
    """What is in a directory: a digest, link target or kind by path, with size and mode."""
    return dict(_contents(root))


def _contents(root: Path) -> Iterator[tuple[str, str]]:
    for folder, names, files in os.walk(root):
        for name in sorted(names + files):
            path = Path(folder, name)
            status = path.lstat()
            content = ""
            if stat.S_ISREG(status.st_mode):
                content = hashlib.blake2b(path.read_bytes()).hexdigest()
            elif stat.S_ISLNK(status.st_mode):
                content = os.readlink(path)
            size = 0 if stat.S_ISDIR(status.st_mode) else status.st_size
            yield str(path.relative_to(root)), f"{status.st_mode:o} {size} {content}"
