"""Which family of systems a disk holds, and for what processor."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from aipimage.vmdk.guest.contents import Content, Disk
from aipimage.vmdk.guest.parttypes import ARCHITECTURES, EFI_SYSTEM, LINUX, WINDOWS

_LINUX_KINDS = frozenset(
    {"ext2", "ext3", "ext4", "xfs", "btrfs", "swap", "lvm2", "md", "luks", "LVM1_member", "f2fs",
     "bcachefs", "bcache", "jfs", "reiserfs", "stratis"}
)  # fmt: skip
_WINDOWS_KINDS = frozenset({"ntfs", "bitlocker", "ReFS"})
_LOADERS_OF_WINDOWS = ("bootmgr", "ntldr", "Windows")
_NOT_LINUX = frozenset({"boot", "microsoft", "apple", "tools", "refind", "dell", "hp", "lenovo"})
"""Directories in ``\\EFI`` that say nothing of Linux: the fallback, others' systems and tools."""
_EFI_FILES = {"bootx64.efi": "x86-64", "bootaa64.efi": "arm64", "bootia32.efi": "x86"}


class Sign(NamedTuple):
    """One sign of a family: how strong (2 a system itself, 1 what it leaves elsewhere too), the
    bytes of its volume, and a clause.
    """

    family: str
    weight: int
    size: int
    why: str


class Family(NamedTuple):
    """A decision: ``name`` is ``"windows"``, ``"linux"`` or ``None``; ``old``: a Windows that
    starts by ``ntldr``. ``architecture`` may be empty.
    """

    name: str | None
    why: str
    architecture: str
    old: bool
    signs: tuple[str, ...]


def family_of(disk: Disk) -> Family:
    """Decide: a system itself counts more than data, and among equals more bytes."""
    signs = [sign for each in disk.contents for sign in _signs(each)]
    texts = tuple(sign.why for sign in signs)
    architecture = _architecture(disk)
    if not signs:
        return Family(None, "no sign of a system was found", architecture, False, texts)
    best = max((*_score(signs, name), name) for name in {sign.family for sign in signs})[-1]
    mine = [sign for sign in signs if sign.family == best]
    others = {sign.family for sign in signs if sign.weight > 1} - {best}
    why = max(mine, key=lambda sign: (sign.weight, sign.size)).why
    also = f"; there is {others.pop()} too" if others else ""
    return Family(best, why + also, architecture, _is_old(disk), texts)


def _score(signs: list[Sign], name: str) -> tuple[int, int]:
    own = [sign for sign in signs if sign.family == name]
    top = max(sign.weight for sign in own)
    return top, sum(sign.size for sign in own if sign.weight == top)


def _signs(content: Content) -> Iterator[Sign]:
    part, kind = content.partition, content.kind
    where = f"partition {part.number}" if part.number else "the disk"
    found = [name for name in content.names if name in _LOADERS_OF_WINDOWS]
    if found:
        yield Sign("windows", 2, part.size, f"{where} is NTFS with {' and '.join(found)}")
    elif kind in _WINDOWS_KINDS:
        yield Sign("windows", 2 if kind == "bitlocker" else 1, part.size, f"{where} is {kind}")
    elif kind in _LINUX_KINDS:
        yield Sign("linux", 2, part.size, f"{where} is {kind}")
    if part.type in WINDOWS:
        yield Sign("windows", 1, 0, f"{where} is of the type: {WINDOWS[part.type]}")
    # Most tools give any partition the type of Linux data, so that what is in it counts.
    if part.type in LINUX and not kind:
        yield Sign("linux", 1, part.size, f"{where} is of the type: {LINUX[part.type]}")
    if part.type in EFI_SYSTEM:
        yield from _efi_signs(content, where)


def _efi_signs(content: Content, where: str) -> Iterator[Sign]:
    folders = [name for name in content.efi or () if "/" not in name]
    if "microsoft" in folders:
        yield Sign("windows", 2, 0, f"{where} has \\EFI\\Microsoft")
    others = [name for name in folders if name not in _NOT_LINUX]
    if others:
        yield Sign("linux", 1, 0, f"{where} has \\EFI\\{others[0][:40]}")


def _architecture(disk: Disk) -> str:
    """What processor: by files that are named for one, and types of partitions."""
    for each in disk.contents:
        if "Program Files (x86)" in each.names:
            return "x86-64"
        if each.partition.type in ARCHITECTURES:
            return ARCHITECTURES[each.partition.type]
    files = {name.rpartition("/")[2] for each in disk.contents for name in each.efi or ()}
    return next((name for file, name in _EFI_FILES.items() if file in files), "")


def _is_old(disk: Disk) -> bool:
    names = {name for each in disk.contents for name in each.names}
    return "ntldr" in names and "bootmgr" not in names
