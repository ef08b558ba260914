"""The fuzz target of the readers of files: all that can be asked of a volume, in bounded time."""

from __future__ import annotations

import functools
import struct
import tempfile
from pathlib import Path

from aipimage import files
from aipimage.errors import AipImageError
from aipimage.files.fat.sets import ENTRY_SIZE, set_checksum
from aipimage.volumes.filesystems.exfat.layout import decode_boot_sector
from tests.support.sources import SparseSource
from tests.support.tools import require_programs, run

_BLOCK = 512
_MOST = 400
"""Files that are looked at: mutants lead to many that do not differ."""


def packed(data: bytes) -> bytes:
    """A volume without its blocks of zeros: each block after its number."""
    found = [len(data).to_bytes(4, "little")]
    for at in range(0, len(data), _BLOCK):
        block = data[at : at + _BLOCK]
        if any(block):
            found.append((at // _BLOCK).to_bytes(2, "little") + block.ljust(_BLOCK, b"\0"))
    return b"".join(found)


def unpacked(data: bytes) -> SparseSource:
    """The source of a packed volume, of at most 32 MiB."""
    size = min(int.from_bytes(data[:4], "little"), 32 << 20) // _BLOCK * _BLOCK
    blocks = {}
    for at in range(4, len(data) - _BLOCK - 1, _BLOCK + 2):
        place = int.from_bytes(data[at : at + 2], "little") * _BLOCK
        if place + _BLOCK <= size:
            blocks[place] = data[at + 2 : at + 2 + _BLOCK]
    return SparseSource(max(size, _BLOCK), blocks)


@functools.cache
def seeds() -> list[bytes]:
    """Small volumes of each kind, without checksums where the kind can be without."""
    require_programs("mke2fs", "mkfs.fat", "mcopy", "mkfs.exfat")
    made = []
    with tempfile.TemporaryDirectory() as folder:
        tree, path = Path(folder) / "tree", Path(folder) / "volume"
        (tree / "folder").mkdir(parents=True)
        for name in ("a", "a rather long name", "folder/b", "folder/c"):
            (tree / name).write_bytes(name.encode() * 300)
        for command in (
            ["mke2fs", "-q", "-F", "-t", "ext2", "-b", "1024", "-N", "16", "-d", tree, path],
            ["mke2fs", "-q", "-F", "-t", "ext4", "-b", "1024", "-N", "16",
             "-O", "^metadata_csum,^has_journal,inline_data", "-d", tree, path],
            ["mkfs.fat", "-F", "12", path], ["mkfs.fat", "-F", "16", "-s", "1", path],
            ["mkfs.exfat", path],
        ):  # fmt: skip
            with open(path, "wb") as file:
                file.truncate(6 << 20 if "16" in command or "exfat" in str(command[0]) else 1 << 20)
            run(command)
            if command[0] == "mkfs.fat":
                run(["mcopy", "-s", "-i", path, *sorted(tree.iterdir()), "::"])
            if command[0] == "mkfs.exfat":
                _add_exfat_file(path)
            made.append(packed(path.read_bytes()))
    return made


def _add_exfat_file(path: Path) -> None:
    """Two sets in the root: a file in one piece, not written to its end, and an empty one."""
    data = bytearray(path.read_bytes())
    boot = decode_boot_sector(bytes(data[:512]))
    at = boot.cluster_start(boot.root_cluster)
    while data[at]:
        at += ENTRY_SIZE
    for name, flags, cluster, valid, size in (("a", 3, boot.root_cluster, 3, 9), ("B", 0, 0, 0, 0)):
        head = bytearray(struct.pack("<BB30x", 0x85, 2))
        stream = struct.pack("<BBxB4xQ4xIQ", 0xC0, flags, 1, valid, cluster, size)
        set_ = head + stream + b"\xc1\0" + name.encode("utf-16-le").ljust(30, b"\0")
        set_[2:4] = set_checksum(bytes(set_)).to_bytes(2, "little")
        data[at : at + len(set_)] = set_
        at += len(set_)
    path.write_bytes(data)


def fuzz_files(data: bytes) -> None:
    """Whatever the volume holds: files, or an error of this library. What is read has the size that
    was said.
    """
    source = unpacked(data)
    try:
        with files.open(source) as volume:
            drive(volume)
    except AipImageError:
        return


def drive(volume: files.Files) -> int:
    """Look at everything; return how many files there were."""
    count = 0
    for entry in volume.walk(on_error=lambda _path, _error: None):
        count += 1
        if count > _MOST:
            break
        try:
            assert entry.kind != "symlink" or isinstance(entry.target, str)
            dict(entry.xattrs)
            if entry.kind == "file":
                with volume.open(entry) as file:
                    assert file.size == entry.size
                    assert sum(each.length for each in file.extents()) == file.size
                    assert len(file.read(1 << 16)) == min(1 << 16, file.size)
        except AipImageError:
            continue
    return count
