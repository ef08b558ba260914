"""ext2, ext3 and ext4 by resize2fs, which does not keep every one of them whole.

Some versions leave the orphan file damaged where the group descriptors grow into it or its inode
gets another number, and stop half-way where a file system grows to more than 1,024 times its size.
So these are avoided, and e2fsck decides about what comes out.
"""

from __future__ import annotations

from typing import NamedTuple

from aipimage.volumes.restoring.checking import verify_sound
from aipimage.volumes.restoring.tools import ToolError, run_tool

TOOLS = ("e2fsck", "resize2fs", "tune2fs", "dumpe2fs")
WAYS: tuple[tuple[str, ...], ...] = ((), ("resize_inode",))
"""Features that are given up, for one attempt after the other: without the resize inode a file
system is as good, and can still grow while it is not mounted.
"""
_APART = ("orphan_file",)
"""Features that are taken off for the step, and put on again: they hold nothing in between."""
_STEP = 512
"""Times that a file system grows at once."""


class _State(NamedTuple):
    """What of a superblock matters: names of features, and bytes."""

    features: frozenset[str]
    size: int


def resize_ext(path: str, size: int, without: tuple[str, ...] = ()) -> None:
    """Give the file system in ``path`` the size of ``size`` bytes, as far as its block size and
    the least size of its last group allow; afterwards e2fsck finds it whole.

    Args:
        without: features that it loses, where it has them.

    Raises:
        ToolError: it could not be done; the file system may be damaged now.
    """
    # Status 1: errors were corrected, such as a count that the kernel keeps only roughly.
    run_tool("e2fsck", "-f", "-p", path, codes=(0, 1))
    before = _state_of(path)
    apart = [name for name in _APART if name in before.features]
    off = [*apart, *(name for name in without if name in before.features)]
    if off:
        run_tool("tune2fs", "-O", ",".join(f"^{name}" for name in off), path)
        run_tool("e2fsck", "-f", "-y", path, codes=(0, 1))
    for step in _steps(before.size, size):
        run_tool("resize2fs", path, f"{step // 1024}K")
    if apart:
        run_tool("tune2fs", "-O", ",".join(apart), path)
    _verify(path, before.size, size)


def least_ext(path: str) -> int:
    """Bytes that resize2fs expects to need at least; 0 where it does not say."""
    try:
        text = run_tool("resize2fs", "-P", path).rpartition(":")[2]
        fields = _fields(path)
        return int(text) * int(fields["Block size"])
    except (ToolError, ValueError, KeyError):
        return 0


def _steps(old: int, size: int) -> list[int]:
    steps = []
    while old and size > old * _STEP:
        old *= _STEP
        steps.append(old)
    return [*steps, size]


def _verify(path: str, old: int, size: int) -> None:
    """Check what resize2fs left, after a repair where it needs one, such as of a bitmap that calls
    the blocks of a former backup used.
    """
    try:
        verify_sound("ext4", path)
    except ToolError:
        run_tool("e2fsck", "-f", "-y", path, codes=(0, 1))
        verify_sound("ext4", path)
    found = _state_of(path).size
    if found > size or (size > old and found <= old):
        raise ToolError(f"resize2fs left it with {found} bytes, and {size} were asked for")


def _state_of(path: str) -> _State:
    fields = _fields(path)
    try:
        size = int(fields["Block count"]) * int(fields["Block size"])
        return _State(frozenset(fields["Filesystem features"].split()), size)
    except (KeyError, ValueError) as error:
        raise ToolError(f"dumpe2fs does not say how large {path} is") from error


def _fields(path: str) -> dict[str, str]:
    lines = run_tool("dumpe2fs", "-h", path).splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
