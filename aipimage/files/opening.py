"""From a disk of any kind to the files of one of its volumes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from typing import BinaryIO, NamedTuple

from aipimage import checks
from aipimage.errors import PasswordError, RequestError
from aipimage.files.errors import UnreadableFileError
from aipimage.files.ext.opening import open_ext
from aipimage.files.fat.opening import open_exfat, open_fat
from aipimage.files.model import Reader
from aipimage.files.volume import Files
from aipimage.files.window import Window
from aipimage.io.blocks.marks import looks_like_image
from aipimage.io.blocks.sources import BlockSource, open_source
from aipimage.io.reading.device import Device
from aipimage.io.system.storage import Storage, StrPath, chosen
from aipimage.volumes.filesystems.registry import filesystem_of
from aipimage.volumes.image import Image, open_image
from aipimage.volumes.journals.live import why_changing
from aipimage.volumes.restoring.imagesource import ImageSource
from aipimage.volumes.tables.reading import read_table
from aipimage.volumes.view import VolumeView

FilesSource = StrPath | BinaryIO | BlockSource | Image | Device
CODE_PAGE = "cp850"
READABLE = ("ext2", "ext3", "ext4", "fat12", "fat16", "fat32", "exfat")
"""File systems whose files can be read, as ``blkid`` names them."""


class Place(NamedTuple):
    """A volume of a disk: its number, its place in bytes, and its file system, empty where none is
    known.
    """

    number: int
    start: int
    size: int
    filesystem: str


def open_files(
    source: FilesSource,
    volume: int | None = None,
    *,
    device: int = 0,
    password: str | None = None,
    code_page: str = CODE_PAGE,
    search: StrPath | Sequence[StrPath] | None = None,
    storage: Storage | None = None,
) -> Files:
    """Open the files of a volume.

    Args:
        source: path of an image, a raw disk or a device; a binary file object or a
            :class:`~aipimage.BlockSource`, such as a virtual disk or a file in another volume; an
            open image or one of its devices. What is passed open stays open, and has to.
        volume: its number, as the system numbers partitions, from 1; 0 for a disk that is one
            volume. ``None``: the only one whose files can be read.
        device: number of the disk in an image. password: of an image. search: directories in which
            the other images of its chain lie.
        code_page: of the short names of FAT, as Python calls it.

    Raises:
        RequestError: there is no such volume, or several. UnreadableFileError: its file system
            cannot be read (yet), or is encrypted. DamagedVolumeError: it is damaged.
        SourceError, FormatError, PasswordError, IntegrityError: as opening and reading raise.
    """
    checks.texts(code_page=code_page)
    number = checks.optional_whole("volume", volume)
    with ExitStack() as stack:
        disk, places = _opened(source, device, password, search, chosen(storage), stack)
        place = _chosen(disk, places, number)
        name = f"{disk.name}, volume {place.number}" if place.number else disk.name
        window = Window(disk, place.start, place.size, name)
        try:
            reader = _reader(window, place.filesystem, code_page)
        except Exception as error:
            if error.args and isinstance(error.args[0], str) and name not in error.args[0]:
                error.args = (f"{name}: {error.args[0]}", *error.args[1:])
            raise
        changing = why_changing(disk, chosen(storage))
        if changing is not None:
            reader.warnings.append(f"it may change while it is read: {changing}; take a snapshot")
        return Files(reader, window, stack.pop_all())
    raise RuntimeError("internal error: the end of an open stack")


def _opened(
    source: FilesSource,
    device: int,
    password: str | None,
    search: StrPath | Sequence[StrPath] | None,
    storage: Storage,
    stack: ExitStack,
) -> tuple[BlockSource, list[Place]]:
    """The disk, and its volumes; what is opened for it is closed with the stack."""
    if isinstance(source, (str, os.PathLike)) and looks_like_image(source, storage):
        folders = checks.paths("search", search)
        source = stack.enter_context(open_image(source, password, search=folders, storage=storage))
    elif password is not None and not isinstance(source, (Image, Device)):
        raise PasswordError(f"{source}: is not an image and needs no password", "unwanted")
    if isinstance(source, Image):
        source = _device(source, device)
    if isinstance(source, Device):
        return _of_device(source)
    disk = open_source(source, storage)
    if isinstance(source, (str, os.PathLike)):
        stack.callback(disk.close)
    return disk, places_of(disk)


def _device(image: Image, number: int) -> Device:
    if not 0 <= number < len(image.devices):
        raise RequestError(f"{image.path}: has no disk {number}; it has {len(image.devices)}")
    return image.devices[number]


def _of_device(device: Device) -> tuple[BlockSource, list[Place]]:
    """A disk of an image, and the volumes of it that were kept, as the image describes them."""
    disk, image = ImageSource(device), device.image
    if isinstance(image, Image):
        described = [each for each in image.volumes if each.device == device.index]
        if described:
            return disk, [
                Place(each.number, each.start, each.size, each.filesystem)
                for each in described
                if each.kept
            ]
    return disk, places_of(disk)


def places_of(disk: BlockSource) -> list[Place]:
    """The volumes of a disk, by its partition table."""
    table = read_table(disk)
    if table.may_be_volume:
        return [_place(disk, 0, 0, disk.size)]
    return [_place(disk, each.number, each.start, each.size) for each in table.partitions]


def _place(disk: BlockSource, number: int, start: int, size: int) -> Place:
    found = filesystem_of(VolumeView(disk, start, size, 0))
    return Place(number, start, size, found.kind if found is not None else "")


def _chosen(disk: BlockSource, places: Sequence[Place], number: int | None) -> Place:
    if number is not None:
        found = [each for each in places if each.number == number]
    else:
        found = [each for each in places if each.filesystem in READABLE]
    if len(found) == 1:
        return found[0]
    there = ", ".join(f"{each.number} ({each.filesystem or 'unknown'})" for each in places)
    if number is not None:
        raise RequestError(f"{disk.name}: has no volume {number}; it has {there or 'none'}")
    if found:
        raise RequestError(f"{disk.name}: has several volumes with files: {there}; name one")
    raise UnreadableFileError(
        f"{disk.name}: has no volume whose files can be read; it has {there or 'none'}",
        "file system",
    )


def _reader(window: Window, kind: str, code_page: str) -> Reader:
    if kind in ("ext2", "ext3", "ext4", "jbd"):
        return open_ext(window, kind)
    if kind in ("fat12", "fat16", "fat32"):
        return open_fat(window, code_page)
    if kind == "exfat":
        return open_exfat(window)
    if kind in ("luks", "bitlocker"):
        raise UnreadableFileError(f"it is encrypted ({kind}); unlock it first", "encrypted")
    if not kind:
        raise UnreadableFileError("it holds no file system that is known", "file system")
    raise UnreadableFileError(f"files of {kind} cannot be read yet", "file system")
