"""What is converted: the disks of an image, a virtual disk, or plain bytes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Self

from aipimage.converting.formats import extent_error, format_of_source, is_piece
from aipimage.converting.request import Request
from aipimage.errors import FormatError, RequestError
from aipimage.io.blocks.containers import container_warning
from aipimage.io.blocks.marks import looks_like_image
from aipimage.io.blocks.sources import BlockSource, open_source
from aipimage.io.reading.device import Device
from aipimage.io.reading.restore import Placed, check_ranges
from aipimage.io.system.storage import DEFAULT, Storage, StrPath
from aipimage.vmdk.opening import open_vmdk
from aipimage.vmdk.ovf.archive import OvaFile, open_ova, open_ovf
from aipimage.vmdk.source import VmdkSource
from aipimage.volumes.image import Image, open_image
from aipimage.volumes.restoring.imagesource import ImageSource
from aipimage.volumes.restoring.notes import left_out_warnings


@dataclass(slots=True)
class OpenedSource:
    """A source that was opened.

    Attributes:
        path: as given. format: one of ``formats.SOURCE_FORMATS``.
        disks: each as a block source. image: of an ``.aiv``, whose disks have the same numbers.
        files: paths of all files that it is known to lie in.
        warnings: sentences.
    """

    path: str
    format: str
    disks: Sequence[BlockSource] = ()
    image: Image | None = None
    files: tuple[str, ...] = ()
    warnings: list[str] = field(default_factory=list)
    _stack: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def check(self, disk: int) -> None:
        """Walk the maps of a disk of an image, before a target is touched.

        Raises:
            FormatError, IntegrityError: a map is damaged, or data was lost before a repair.
            IncompleteError: a file of its chain that holds data of the disk is not there.
        """
        if self.image is not None:
            check_ranges(self.image, disk, [Placed(0, self.disks[disk].size, 0)])
            told = (*self.image.warnings, *left_out_warnings(self.image.devices[disk]))
            self.warnings += [each for each in told if each not in self.warnings]

    def device(self, disk: int) -> Device | BlockSource:
        """A disk as a writer reads it fastest: the image's own device where there is one."""
        return self.image.devices[disk] if self.image is not None else self.disks[disk]


def chosen_disk(request: Request, opened: OpenedSource) -> int:
    """The one disk of a target that holds one; where none was named the first, with a warning if
    there are others.

    Raises:
        RequestError: there is no such disk, or several were named.
    """
    numbers = chosen_disks(request, opened)
    if request.options.disk is None and len(numbers) > 1:
        opened.warnings.append(
            f"{opened.path}: has {len(numbers)} disks, and this is disk 0; name another one "
            "(disk=), or make an appliance of all (format='ova')"
        )
        return 0
    if len(numbers) > 1:
        raise RequestError(
            f"a target of format {request.format} holds one disk; name one of {numbers}"
        )
    return numbers[0]


def chosen_disks(request: Request, opened: OpenedSource) -> tuple[int, ...]:
    """The disks that were named, or all, in their order.

    Raises:
        RequestError: there is no such disk, one is named twice, or none is.
    """
    there, disk = range(len(opened.disks)), request.options.disk
    if disk is None:
        return tuple(there)
    named = (disk,) if isinstance(disk, int) else tuple(disk)
    for number in named:
        if number not in there:
            raise RequestError(
                f"{opened.path}: has no disk {number}; it has {len(there)}, numbered from 0"
            )
    if not named or len(set(named)) < len(named):
        raise RequestError(f"{opened.path}: name each disk once; got {list(named)}")
    return named


def open_for_conversion(
    path: StrPath,
    format: str | None,
    *,
    password: str | None,
    search: Sequence[StrPath],
    allow_outside: bool,
    storage: Storage,
) -> OpenedSource:
    """Open a source as its name says, or as ``format`` does.

    Raises:
        RequestError: it is an extent, an image under another name, or empty; or an option does not
            fit it. FormatError, IntegrityError, PasswordError, SourceError: as opening it raises.
    """
    kind = format_of_source(path, format)
    opened = OpenedSource(os.fspath(path), kind)
    try:
        if kind == "aiv":
            _open_image(opened, password, search, storage)
        elif kind == "vmdk":
            _open_disk(opened, format is None, search, allow_outside, storage)
        elif kind in ("ova", "ovf"):
            _open_appliance(opened, storage)
        else:
            _open_bytes(opened, format is None, storage)
    except BaseException:
        opened._stack.close()
        raise
    for disk in opened.disks:
        if disk.size == 0:
            opened._stack.close()
            raise RequestError(f"{disk.name}: has a size of 0 bytes; there is nothing to convert")
    return opened


def _open_image(
    opened: OpenedSource, password: str | None, search: Sequence[StrPath], storage: Storage
) -> None:
    image = open_image(opened.path, password, search=search, storage=storage)
    opened._stack.callback(image.close)
    opened.image = image
    opened.disks = tuple(ImageSource(device) for device in image.devices)
    opened.files = tuple(file.name for file in image.stream.files)


def _open_disk(
    opened: OpenedSource,
    by_name: bool,
    search: Sequence[StrPath],
    allow_outside: bool,
    storage: Storage,
) -> None:
    disk = open_disk(
        opened.path, by_name=by_name, search=search, allow_outside=allow_outside, storage=storage
    )
    opened._stack.callback(disk.close)
    opened.disks = (disk,)
    opened.files = files_of(disk)
    opened.warnings += disk.warnings


def _open_appliance(opened: OpenedSource, storage: Storage) -> None:
    package, disks = open_appliance(opened.path, opened.format, opened._stack, storage)
    opened.disks, opened.files = disks, package.files
    opened.warnings += [*package.warnings, *(each for disk in disks for each in disk.warnings)]


def open_appliance(
    path: StrPath, kind: str, stack: ExitStack, storage: Storage = DEFAULT
) -> tuple[OvaFile, tuple[VmdkSource, ...]]:
    """Open an appliance, of kind ``ova`` or ``ovf``, and all its disks in the order of its
    descriptor; all are closed with the stack.

    Raises:
        RequestError: it has no disks. Others as opening an appliance and a virtual disk raise.
    """
    opener = open_ova if kind == "ova" else open_ovf
    appliance = stack.enter_context(opener(path, storage=storage))
    if not appliance.disks:
        raise RequestError(f"{appliance.name}: an appliance without disks")
    disks = []
    for number in range(len(appliance.disks)):
        disks.append(appliance.open_disk(number))
        stack.callback(disks[-1].close)
    return appliance, tuple(disks)


def open_disk(
    path: StrPath,
    *,
    by_name: bool,
    search: Sequence[StrPath] = (),
    allow_outside: bool = False,
    storage: Storage = DEFAULT,
) -> VmdkSource:
    """Open a virtual disk; a file that by its name may be an extent gets the better advice. A COWD
    extent alone could be a whole disk; called like the extent of a delta it is taken for that.

    Raises:
        RequestError: it is an extent. Others as :func:`aipimage.vmdk.open`.
    """
    piece = by_name and is_piece(path)
    try:
        disk = open_vmdk(path, search=search, allow_outside=allow_outside, storage=storage)
    except FormatError:
        if piece:
            raise extent_error(path) from None
        raise
    if piece and disk.subformat == "vmfsSparse" and disk.members[0].files == (disk.name,):
        disk.close()
        raise extent_error(path)
    return disk


def files_of(disk: VmdkSource) -> tuple[str, ...]:
    """All files of a virtual disk and of its parents."""
    return tuple(path for member in disk.members for path in member.files)


def _open_bytes(opened: OpenedSource, by_name: bool, storage: Storage) -> None:
    disk = open_source(opened.path, storage)
    opened._stack.callback(disk.close)
    opened.disks, opened.files = (disk,), (opened.path,)
    if (text := container_warning(disk)) is not None:
        opened.warnings.append(text)
    if by_name and looks_like_image(opened.path, storage):
        raise RequestError(
            f"{opened.path}: begins like an .aiv image but is not named like one; say what it is "
            "(source_format='aiv' or 'raw')"
        )


def refuse_file(target: StrPath, files: Sequence[str], storage: Storage = DEFAULT) -> None:
    """Refuse a target that is one of the files of a source, under whatever name.

    Raises:
        RequestError: it is.
    """
    if not storage.exists(target):
        return
    place = storage.stat(target)
    for file in files:
        if not storage.exists(file):
            continue
        there = storage.stat(file)
        if (there.device, there.inode) == (place.device, place.inode):
            raise RequestError(
                f"{os.fspath(target)}: is the source itself, or a file of it; choose another "
                "name for the target"
            )
