"""The file systems' own checks, run on what a tool made larger or smaller; nothing is repaired."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from aipimage.volumes.restoring.tools import run_tool

_EXT = ("ext2", "ext3", "ext4")
_FAT = ("fat12", "fat16", "fat32")


class _Check(NamedTuple):
    """A program that reads a file system and ends with status 0 where it is whole."""

    tool: str
    arguments: Sequence[str]
    of_file: Sequence[str] = ()


_CHECKS = {
    **dict.fromkeys(_EXT, _Check("e2fsck", ("-f", "-n"))),
    "ntfs": _Check("ntfsresize", ("--info", "--force", "--no-progress-bar")),
    "xfs": _Check("xfs_repair", ("-n",), of_file=("-f",)),
    "btrfs": _Check("btrfs", ("check", "--readonly")),
    **dict.fromkeys(_FAT, _Check("fsck.fat", ("-n",))),
}


def check_of(kind: str) -> str:
    """The program that checks file systems of a kind, one of those that can change their size."""
    return _CHECKS[kind].tool


def verify_sound(kind: str, path: str, *, is_device: bool = False) -> str:
    """Run the check of a file system; return what it printed.

    Raises:
        ToolError: it finds a fault, which the message quotes, or is not installed.
    """
    tool, arguments, of_file = _CHECKS[kind]
    return run_tool(tool, *arguments, *(() if is_device else of_file), path)
