"""``IMAGE`` and ``VOLUME:PATH`` of the commands that read files: any disk, and a file in it."""

from __future__ import annotations

import re
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

import aipimage
from aipimage.cli.output import say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aipimage import BlockSource
    from aipimage.files import Files

_PLACE = re.compile(r"(?:(\d{1,9})\.)?(\d{1,9}):(.*)", re.DOTALL)


class FilePlace(NamedTuple):
    """What ``VOLUME:PATH`` says.

    Attributes:
        disk: its number, from 0. volume: ``None``: the only one whose files can be read.
        path: within the volume. prefix: what stood before it, to be shown again.
    """

    disk: int
    volume: int | None
    path: str
    prefix: str


def place_of(text: str | None) -> FilePlace:
    """Split ``VOLUME:PATH``, ``DISK.VOLUME:PATH`` or ``PATH``; nothing stands for the root."""
    found = _PLACE.fullmatch(text or "/")
    if found is None:
        return FilePlace(0, None, text or "/", "")
    disk, volume, path = found.groups()
    return FilePlace(int(disk or 0), int(volume), path or "/", found[0][: -len(path) or None])


def opened_files(
    stack: ExitStack, image: str, place: FilePlace, password: str | None, search: Sequence[str]
) -> Files:
    """Open the files of a volume of any disk; all is closed with the stack. Warnings are shown.

    Raises:
        AipImageError: as opening the disk and its files raises.
    """
    from aipimage import files
    from aipimage.converting.formats import kind_of

    kind = kind_of(image)
    if kind in ("vmdk", "ova", "ovf"):
        if password is not None:
            raise aipimage.PasswordError(f"{image}: needs no password", "unwanted")
        disk = _virtual_disk(stack, image, kind, place.disk, search)
        found = files.open(disk, place.volume)
    else:
        if kind == "raw" and place.disk:
            raise aipimage.RequestError(f"{image}: has no disk {place.disk}; it is disk 0")
        found = files.open(
            image, place.volume, device=place.disk, password=password, search=list(search)
        )
    stack.enter_context(found)
    for text in found.warnings:
        say("warning", text)
    return found


def _virtual_disk(
    stack: ExitStack, image: str, kind: str, number: int, search: Sequence[str]
) -> BlockSource:
    from aipimage.converting.sources import open_appliance, open_disk

    if kind == "vmdk":
        disk = open_disk(image, by_name=True, search=search)
        stack.callback(disk.close)
        disks: Sequence[BlockSource] = (disk,)
    else:
        _, disks = open_appliance(image, kind, stack)
    if number >= len(disks):
        raise aipimage.RequestError(
            f"{image}: has no disk {number}; it has {len(disks)}, numbered from 0"
        )
    return disks[number]
