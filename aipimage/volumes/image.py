"""An image with the volumes of its disks: the class that the public surface hands out."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from aipimage import checks
from aipimage.checks import Size
from aipimage.errors import OptionTypeError
from aipimage.extents import SECTOR, Kind
from aipimage.io.reading.device import Device
from aipimage.io.reading.image import Image as PlainImage
from aipimage.io.reading.image import open_image
from aipimage.io.system.progress import ProgressCallback
from aipimage.io.system.storage import DEFAULT, Storage, StrPath, absolute, chosen
from aipimage.volumes.layout import VolumeInfo, volumes_of

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from aipimage.io.reading.restore import RestoreResult
    from aipimage.volumes.options import RestoreOptions


class Image(PlainImage):
    """An image opened for reading: its devices, and the volumes on them.

    It is closed by ``close`` or at the end of a ``with`` block.
    """

    def __reduce__(self) -> tuple[Callable[..., Image], tuple[object, ...]]:
        """Pickled as path and digest, and opened again elsewhere: what is another image by then is
        refused. A password is never pickled, so that an image which needs one is not.
        """
        self.check_open()
        if self.keys is not None:
            raise OptionTypeError(
                f"{self.path}: needs its password, which is never pickled; open it where it is used"
            )
        if self.files.storage is not DEFAULT:
            raise OptionTypeError(f"{self.path}: is no file of the system, and cannot be pickled")
        folders = [absolute(each) for each in self.files.directories]
        return _reopened, (absolute(self.path), self.digest, folders)

    _volumes: tuple[VolumeInfo, ...] | None = None

    @property
    def volumes(self) -> tuple[VolumeInfo, ...]:
        """The volumes of all devices, as they were described when the image was made.

        Raises:
            FormatError: the description is not what docs/format.md, section 9.2 says.
        """
        self.check_open()
        if self._volumes is None:
            found: list[VolumeInfo] = []
            for device in self.devices:
                found += [
                    replace(each, _device=device)
                    for each in volumes_of(device.index, device.size, device.metadata, self.path)
                ]
            self._volumes = tuple(found)
        return self._volumes

    def kept_bytes(self) -> tuple[int, ...]:
        """Bytes that the image has as data of each of :attr:`volumes`; its maps are read for it,
        once for all volumes.
        """
        found = [0] * len(self.volumes)
        for device in self.devices:
            mine = [at for at, each in enumerate(self.volumes) if each.device == device.index]
            if mine:
                for at, kept in zip(mine, self._kept(device, mine), strict=True):
                    found[at] = kept
        return tuple(found)

    def _kept(self, device: Device, mine: list[int]) -> list[int]:
        bounds = [(self.volumes[at].start, self.volumes[at].size) for at in mine]
        first = np.array([start // SECTOR for start, _ in bounds], np.int64)
        last = np.array([-(-(start + size) // SECTOR) for start, size in bounds], np.int64)
        places, back = np.unique(np.concatenate((first, last)), return_inverse=True)
        # Sectors of data before each place where a volume begins or ends.
        before = np.zeros(len(places), np.int64)
        done = low = 0
        for at, block in device.map.walk():
            ends = at + np.cumsum(block["length"]).astype(np.int64)
            data = np.where(block["kind"] == int(Kind.DATA), block["length"], 0).astype(np.int64)
            high = int(np.searchsorted(places, ends[-1], "right"))
            inside = places[low:high]
            row = np.minimum(np.searchsorted(ends, inside, "left"), len(ends) - 1)
            over = np.where(data[row] > 0, ends[row] - inside, 0)
            before[low:high] = done + np.cumsum(data)[row] - over
            done, low = done + int(data.sum()), high
        sums = before[back]
        kept: list[int] = ((sums[len(mine) :] - sums[: len(mine)]) * SECTOR).tolist()
        return kept

    def restore(
        self, target: str | os.PathLike[str], *, device: int = 0, force: bool = False,
        set_size: bool = False, size: Size | None = None, new_ids: bool = False,
        boot_code: bool = False, signature: bool = False, scratch: StrPath | None = None,
        executor: Executor | None = None, threads: int | None = None,
        progress: ProgressCallback | None = None, storage: Storage | None = None,
        options: RestoreOptions | None = None,
    ) -> RestoreResult:  # fmt: skip
        """Write a disk back to a file or a block device; every frame is verified before it is
        written.

        A target of the disk's own size gets it byte for byte. On a larger one the partitions stay
        where they are, and a GPT gets its backup at the new end. On a smaller one what lies behind
        the last partition is dropped; where that is not enough, partitions are moved down into
        gaps, and at last made smaller with their file systems. Free clusters read as zeros in a
        file afterwards; on a device they are discarded where it can, and hold anything.

        Args:
            device: number of the disk in the image.
            force: also write over a file that is not empty. A mounted device is refused all the
                same.
            set_size: give an existing file the disk's size. size: bytes that a file is to have.
            new_ids: for a clone: a new disk signature, disk GUID and partition GUIDs.
            boot_code, signature: of a target that has content write only the boot code of its first
                sector, the disk signature, or both.
            scratch: directory for copies of volumes that have to become smaller.
            options: all of these and ``threads`` as one value, instead of keywords.

        Raises:
            TargetError: the target is mounted, too small or not empty; nothing was written.
            RequestError: there is no such device, or its partitions do not fit and cannot be made
                to; nothing was written.
            IntegrityError: stored bytes are damaged.
        """
        from aipimage.volumes.options import RestoreOptions
        from aipimage.volumes.restoring.disk import restore_disk

        self.check_open()
        asked = checks.options(RestoreOptions, options, {
            "device": device, "force": force, "set_size": set_size, "size": size,
            "new_ids": new_ids, "boot_code": boot_code, "signature": signature,
            "scratch": scratch, "threads": threads,
        })  # fmt: skip
        checks.flags(
            force=asked.force,
            set_size=asked.set_size,
            new_ids=asked.new_ids,
            boot_code=asked.boot_code,
            signature=asked.signature,
        )
        checks.jobs(executor, progress)
        result = restore_disk(
            self,
            checks.path("target", target),
            device=checks.whole("device", asked.device),
            force=asked.force,
            set_size=asked.set_size,
            size=checks.optional_size("size", asked.size),
            new_ids=asked.new_ids,
            boot_code=asked.boot_code,
            signature=asked.signature,
            scratch=_scratch(asked.scratch),
            executor=executor,
            threads=checks.threads(asked.threads),
            progress=progress,
            storage=chosen(storage),
        )
        return replace(result, warnings=(*self.warnings, *result.warnings))

    def restore_volume(
        self, target: str | os.PathLike[str], *, device: int | None = None,
        volume: int | None = None, expand: bool = False, force: bool = False,
        set_size: bool = False, size: Size | None = None, scratch: StrPath | None = None,
        executor: Executor | None = None, threads: int | None = None,
        progress: ProgressCallback | None = None, storage: Storage | None = None,
    ) -> RestoreResult:  # fmt: skip
        """Write a volume back into a partition, another block device, or a file.

        Args:
            device: number of the disk that it is on. volume: its number, as the system numbers
                partitions; 0 is a device without a partition table. Neither is needed where the
                image has one volume only.
            expand: where the target is larger, let the file system grow with it by the system's own
                tools; where that cannot be done the result's ``warnings`` say why.
            force, set_size, size, scratch: as for :meth:`restore`.

        Raises:
            RequestError: there is no such volume, or several and none was named.
            TargetError: mounted, not empty, or too small. Nothing was written.
            IntegrityError: stored bytes are damaged.
        """
        from aipimage.volumes.restoring.volume import restore_volume

        self.check_open()
        checks.flags(expand=expand, force=force, set_size=set_size)
        checks.jobs(executor, progress)
        result = restore_volume(
            self,
            checks.path("target", target),
            device=checks.optional_whole("device", device),
            volume=checks.optional_whole("volume", volume),
            expand=expand,
            force=force,
            set_size=set_size,
            size=checks.optional_size("size", size),
            scratch=_scratch(scratch),
            executor=executor,
            threads=checks.threads(threads),
            progress=progress,
            storage=chosen(storage),
        )
        return replace(result, warnings=(*self.warnings, *result.warnings))


def _reopened(path: str, digest: str, folders: list[str]) -> Image:
    image = open_image(path, expected_digest=digest, search=folders, make=Image)
    assert isinstance(image, Image)
    return image


def _scratch(path: StrPath | None) -> str | None:
    return None if path is None else checks.path("scratch", path)
