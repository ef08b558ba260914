"""Whether a block device or file is in use on this Linux system: asked before anything is written.

Devices overlap: a disk holds its partitions, a partition may be held by RAID, LVM or encryption, a
file or device may be behind a loop device. Writing to a target destroys what lies on it (the
devices *above* it) and writes into what it lies on (those *below* it), so the target is in use when
any of these is mounted or swap, or when anything at all holds it. A neighbour does not count: one
partition may be restored while another of the same disk is mounted.

The kernel's own claim (``Storage.open_update(exclusive=True)``) is the lock; this page names what
is in the way before anything is opened, and knows loop devices, which claim nothing.

Sources: proc(5) for /proc/self/mountinfo (proc_pid_mountinfo) and /proc/swaps;
Documentation/ABI/stable/sysfs-block and testing/sysfs-block-loop of Linux.
"""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field

from aipimage.errors import RequestError, StorageError
from aipimage.io.system.storage import Storage

_OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(slots=True)
class _Device:
    """A block device of /sys/class/block and what it shares sectors with, by name."""

    above: set[str] = field(default_factory=set)
    below: set[str] = field(default_factory=set)
    holders: set[str] = field(default_factory=set)


class SystemUse:
    """A snapshot of what is mounted, swap, or held, taken when it is made.

    Everything but Linux gives an empty snapshot.

    Args:
        storage: how /proc and /sys are read.
        root: a directory in which ``proc`` and ``sys`` lie; for tests.

    Raises:
        StorageError: the tables cannot be read; then nothing may be written.
    """

    def __init__(self, storage: Storage, root: str = "/") -> None:
        self._storage = storage
        self._root = root
        self._devices: dict[str, _Device] = {}
        self._names: dict[int, str] = {}
        self._uses: dict[str, str] = {}
        self._busy_files: dict[tuple[int, int], str] = {}
        if sys.platform.startswith("linux"):
            self._read_devices()
            self._read_loops()
            self._read_mounts()
            self._read_swaps()

    def of_device(self, device_number: int) -> str | None:
        """Say what uses the block device of this number (``st_rdev``); ``None`` when nothing."""
        name = self._names.get(device_number)
        if name is None:
            return None
        above = self._closure(name, lambda device: device.above)
        below = self._closure(name, lambda device: device.below)
        for other in (name, *sorted(above), *sorted(below)):
            if other in self._uses:
                what = "it" if other == name else f"/dev/{other}, which shares sectors with it,"
                return f"{what} is {self._uses[other]}"
        for other in (name, *sorted(above)):
            if holders := self._devices[other].holders:
                return f"/dev/{other} is held by /dev/{min(holders)}"
        return None

    def of_file(self, device: int, inode: int) -> str | None:
        """Say what uses the regular file (``st_dev``, ``st_ino``); ``None`` when nothing."""
        return self._busy_files.get((device, inode))

    def _closure(self, name: str, step: Callable[[_Device], set[str]]) -> set[str]:
        found: set[str] = set()
        todo = [name]
        while todo:
            for other in step(self._devices[todo.pop()]):
                if other not in found and other in self._devices:
                    found.add(other)
                    todo.append(other)
        found.discard(name)
        return found

    # Reading the tables

    def _path(self, *parts: str) -> str:
        return os.path.join(self._root, *parts)

    def _read_devices(self) -> None:
        base = self._path("sys/class/block")
        for name in self._list(base):
            number = self._text(os.path.join(base, name, "dev"))
            if number is None:
                continue  # unplugged while we look
            self._devices[name] = _Device()
            self._names[_device_number(number)] = name
        for name, device in self._devices.items():
            folder = os.path.join(base, name)
            device.holders = set(self._list(os.path.join(folder, "holders")))
            device.above |= device.holders
            device.below |= set(self._list(os.path.join(folder, "slaves")))
            if self._text(os.path.join(folder, "partition")) is not None:
                disk = os.path.basename(os.path.dirname(self._storage.resolve(folder)))
                self._stack(name, disk)

    def _stack(self, upper: str, lower: str) -> None:
        """Note that device `upper` lies on `lower`."""
        if upper in self._devices and lower in self._devices:
            self._devices[upper].below.add(lower)
            self._devices[lower].above.add(upper)

    def _read_loops(self) -> None:
        for name in list(self._devices):
            path = self._text(self._path("sys/class/block", name, "loop/backing_file"))
            if path is None:
                continue
            self._note_file(path, f"attached to the loop device /dev/{name}", upper=name)

    def _read_mounts(self) -> None:
        for line in self._required("proc/self/mountinfo").splitlines():
            left, _, right = line.partition(" - ")
            fields, rest = left.split(" "), right.split(" ")
            if len(fields) < 5 or len(rest) < 2:
                raise StorageError(f"/proc/self/mountinfo: a line that cannot be read: {line!r}")
            use = f"mounted at {_unescaped(fields[4])}"
            name = self._names.get(_device_number(fields[2]))
            if name is not None:
                self._uses.setdefault(name, use)
            elif rest[1].startswith("/"):
                # btrfs and others show a number of their own; the source still names the device.
                self._note_file(_unescaped(rest[1]), use, only_devices=True)

    def _read_swaps(self) -> None:
        for line in self._required("proc/swaps").splitlines()[1:]:
            self._note_file(_unescaped(line.split()[0]), "in use as swap")

    def _note_file(
        self, path: str, use: str, *, upper: str | None = None, only_devices: bool = False
    ) -> None:
        """Note a use of what `path` leads to; with `upper`, the loop device that lies on it."""
        path = path.removesuffix("\\040(deleted)").removesuffix(" (deleted)")
        try:
            info = self._storage.stat(path)
        except (StorageError, RequestError):
            return  # a path of another mount namespace, or removed: not a target that one can name
        if info.is_block_device:
            name = self._names.get(info.device_number)
            if name is not None and upper is not None:
                self._stack(upper, name)
                self._devices[name].holders.add(upper)
            elif name is not None:
                self._uses.setdefault(name, use)
        elif info.is_regular and not only_devices:
            self._busy_files[info.device, info.inode] = use

    def _required(self, path: str) -> str:
        return self._storage.read_text(self._path(path))

    def _text(self, path: str) -> str | None:
        try:
            return self._storage.read_text(path).strip("\n")
        except StorageError as error:
            if error.errno in _ABSENT:
                return None
            raise

    def _list(self, path: str) -> list[str]:
        try:
            return self._storage.list_directory(path)
        except StorageError as error:
            if error.errno in _ABSENT:
                return []
            raise


# ENODEV and ENXIO: sysfs, for a device that goes away while it is looked at.
_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ENODEV, errno.ENXIO)


def _device_number(text: str) -> int:
    major, _, minor = text.strip().partition(":")
    return os.makedev(int(major), int(minor))


def _unescaped(text: str) -> str:
    r"""Undo the octal escapes of mountinfo and swaps, such as ``\040`` for a space."""
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), text)
