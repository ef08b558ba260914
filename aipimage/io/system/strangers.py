"""Whether a file that an earlier run seems to have left is ours to resume from.

The names of such files can be guessed (``NAME.partial``), and they may lie in a folder where others
may write too. So what is found there is used only if it is a file of its own that we alone could
have made. Else a link could redirect what is written, or another user could change it.
"""

from __future__ import annotations

import os
import stat
from typing import Protocol

_KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
}
_WRITE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


class Status(Protocol):
    """The fields of ``os.stat_result`` that are looked at."""

    @property
    def st_mode(self) -> int: ...
    @property
    def st_nlink(self) -> int: ...
    @property
    def st_uid(self) -> int: ...
    @property
    def st_gid(self) -> int: ...
    @property
    def st_dev(self) -> int: ...


def not_a_file_of_its_own(found: Status) -> str | None:
    """Say what is found instead of a regular file that has one name; ``None`` where it is one."""
    kind = stat.S_IFMT(found.st_mode)
    if kind != stat.S_IFREG:
        return f"is {_KINDS.get(kind, 'of an unknown kind')}"
    if found.st_nlink > 1:
        return f"has {found.st_nlink} names (hard links), so it is another file as well"
    return None


def not_only_ours(found: Status, folder: Status) -> str | None:
    """Say why others may have made a regular file, or may change it; ``None`` where it is ours.

    The system's plain rule: owned by us, writable by no other user (a group may be our own), and on
    the device of its folder.
    """
    if not hasattr(os, "geteuid"):
        return None
    if found.st_uid != os.geteuid():
        return f"belongs to user {found.st_uid}, and not to {os.geteuid()}, who runs this"
    others = found.st_mode & _WRITE_BY_OTHERS
    if others & stat.S_IWOTH or (others and found.st_gid != os.getegid()):
        return f"can be written by others (mode {stat.S_IMODE(found.st_mode):04o})"
    if found.st_dev != folder.st_dev:
        return "is on another device than its folder"
    return None


def as_a_new_file(found: Status, new: Status) -> bool:
    """Whether a file is what a file would be that we make in the same folder now.

    Some file systems keep no owners or modes (FAT, many network shares), others number devices
    their own way (overlays), and a shared folder may give its group to all files in it.
    """
    return (
        found.st_uid == new.st_uid
        and found.st_dev == new.st_dev
        and (found.st_gid == new.st_gid or not found.st_mode & stat.S_IWGRP)
        and not (found.st_mode & ~new.st_mode & _WRITE_BY_OTHERS)
    )
