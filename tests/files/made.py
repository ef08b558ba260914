"""Trees with all that makes a reader of files stumble, written through a mount."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import stat
import struct
from pathlib import Path

NAMES = (
    b"\xff\xfe not text", "ä".encode(), "a\u0308".encode(), b"new\nline", b"back\\slash",
    b"n" * 255, b" ", b"...", b"-r", b"CON", b"%2F", "😀".encode(),
)  # fmt: skip


def populate(root: Path, seed: int = 1, *, many: int = 600) -> None:
    """Files of all sizes and kinds; root is needed."""
    chance = random.Random(seed)
    _contents(root, chance)
    _names(root / "names", many)
    _links(root / "links")
    _special(root / "special")
    _attributes(root / "attributes", chance)
    _times(root / "times")


def _contents(root: Path, chance: random.Random) -> None:
    for size in (0, 1, 59, 60, 61, 100, 150, 160, 200, 1023, 1024, 4095, 4096, 4097, 70_000):
        (root / f"size{size}").write_bytes(chance.randbytes(size))
    (root / "large").write_bytes(chance.randbytes(3 << 20))
    with open(root / "sparse", "wb") as file:
        for place in (5_000, 300_000, 2 << 20, 40 << 20):
            file.seek(place)
            file.write(chance.randbytes(3_333))
        file.truncate(41 << 20)
    with open(root / "unwritten", "wb") as file:
        with contextlib.suppress(OSError):  # ext2 and ext3 have no such thing
            os.posix_fallocate(file.fileno(), 0, 300_000)
        file.seek(100_000)
        file.write(chance.randbytes(5_000))
    with open(root / "pieces1", "wb") as one, open(root / "pieces2", "wb") as other:
        for _ in range(60):  # so many extents that they do not fit in an inode
            for file in (one, other):
                file.write(chance.randbytes(4096))
                file.seek(8192, 1)
                file.flush()
                os.fsync(file.fileno())
    with open(root / "grown", "wb") as file:
        file.write(b"inline")
        file.truncate(100)
    deep = root
    for level in range(40):
        deep = deep / f"level{level}"
    deep.mkdir(parents=True)
    (deep / "bottom").write_text("deep")


def _names(root: Path, many: int) -> None:
    root.mkdir()
    folder = os.fsencode(root)
    for name in NAMES:
        (Path(os.fsdecode(folder)) / os.fsdecode(name)).write_bytes(name)
    (root / "hashed").mkdir()
    for number in range(many):
        (root / "hashed" / f"a file with a rather long name, number {number}").touch()
    for number in range(0, many, 3):
        (root / "hashed" / f"a file with a rather long name, number {number}").unlink()
    (root / "small").mkdir()
    for name in ("one", "two", "three"):
        (root / "small" / name).write_text(name)
    (root / "empty").mkdir()


def _links(root: Path) -> None:
    root.mkdir()
    (root / "origin").write_text("one file")
    os.link(root / "origin", root / "second")
    os.link(root / "origin", root / "third")
    for length in (1, 58, 59, 60, 61, 200, 1000, 4095):
        with contextlib.suppress(OSError):  # blocks of 1 KiB hold no longer ones
            (root / f"symlink{length}").symlink_to("x" * length)


def _special(root: Path) -> None:
    root.mkdir()
    os.mkfifo(root / "fifo")
    os.mknod(root / "character", stat.S_IFCHR | 0o600, os.makedev(5, 1))
    os.mknod(root / "block", stat.S_IFBLK | 0o660, os.makedev(259, 70_000))
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as one:
        folder = os.open(root, os.O_RDONLY)
        one.bind(f"/proc/self/fd/{folder}/socket")
        os.close(folder)
    for mode in (0o4755, 0o2750, 0o1777, 0o000):
        (root / f"mode{mode:o}").write_text("x")
        (root / f"mode{mode:o}").chmod(mode)
    (root / "owned").write_text("x")
    os.chown(root / "owned", 100_000, 70_000)


def _attributes(root: Path, chance: random.Random) -> None:
    root.mkdir()
    for size in (0, 5, 40, 600, 3_000, 20_000):
        path = root / f"value{size}"
        path.write_text("x")
        with contextlib.suppress(OSError):  # larger than a block holds, without ea_inode
            os.setxattr(path, "user.value", chance.randbytes(size))
        os.setxattr(path, "trusted.other", b"t")
    entries = struct.pack("<I", 2) + b"".join(
        struct.pack("<HHI", tag, rights, id_)
        for tag, rights, id_ in (
            (1, 6, 0xFFFFFFFF), (2, 4, 1234), (4, 4, 0xFFFFFFFF), (16, 6, 0xFFFFFFFF),
            (32, 4, 0xFFFFFFFF),
        )
    )  # fmt: skip
    (root / "acl").write_text("x")
    os.setxattr(root / "acl", "system.posix_acl_access", entries)
    os.setxattr(root, "system.posix_acl_default", entries)
    (root / "link").symlink_to("nowhere")
    os.setxattr(root / "link", "trusted.of_link", b"l", follow_symlinks=False)


def _times(root: Path) -> None:
    root.mkdir()
    for number, seconds in enumerate((-2_000_000_000, -1, 0, 1, 2**31 - 1, 2**31, 2**32, 10**10)):
        path = root / f"time{number}"
        path.touch()
        os.utime(path, ns=(seconds * 10**9 + 123_456_789, seconds * 10**9 + 987_654_321))
