"""The image as the public surface hands it out: all that is asked of it as a whole."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Unpack

import numpy as np

import aipimage.volumes
from aipimage import checks, hints
from aipimage.checks import Size
from aipimage.errors import OptionError, OptionTypeError, RequestError
from aipimage.extents import SECTOR, Extent, Kind
from aipimage.io.checking.results import VerifyResult
from aipimage.io.reading.device import Device
from aipimage.io.reading.explaining import explain_what_is_missing
from aipimage.io.reading.image import HowToOpen, ImageReader, Opened, opening
from aipimage.io.reading.results import RestoreResult
from aipimage.io.system.progress import ProgressCallback
from aipimage.io.system.storage import DEFAULT, Storage, StrPath, absolute, chosen
from aipimage.volumes.described import VolumeInfo, volumes_of
from aipimage.volumes.restoreoptions import RestoreOptions

if TYPE_CHECKING:
    import aipimage.files
    from aipimage.volumes.chain import Chain


class Image(ImageReader):
    """One image file (or set of parts), opened for reading. Use it as a context manager.

    Safe for threads: several may read its devices at once. Get one from :func:`aipimage.open`.

    Attributes:
        path: of the file, of the first part where it is split.
        devices: the imaged disks and volumes, in order.
    """

    def __init__(self, opened: Opened) -> None:
        super().__init__(opened)
        self._volumes: tuple[VolumeInfo, ...] | None = None
        self._chain: Chain | None = None
        explain_what_is_missing(self.foreign, self, lambda image: image.chain)

    def __dir__(self) -> list[str]:
        return sorted({*_PUBLIC, *(name for name in Image.__dict__ if name[0] != "_")})

    def __reduce__(self) -> tuple[Callable[..., Image], tuple[object, ...]]:
        """Pickled as path and digest, and opened again elsewhere: what is another image by then is
        refused. A password is never pickled, so that an image which needs one is not.
        """
        self.check_open()
        if self.keys is not None:
            raise OptionTypeError(
                f"{self.path}: needs its password, which is never pickled; open it where it is used"
            )
        if self.beside.storage is not DEFAULT:
            raise OptionTypeError(
                f"{self.path}: is not a file of the system, so it cannot be pickled"
            )
        folders = [absolute(each) for each in self.beside.directories]
        return _reopened, (absolute(self.path), self.digest, folders)

    @property
    def created(self) -> datetime | None:
        """The time that the content is from, in UTC; of a merged image that of the last one that
        it stands for. ``None`` where nothing readable says it.
        """
        from aipimage.io.chain.files import created_of

        self.check_open()
        return created_of(self)

    @property
    def tags(self) -> dict[str, str]:
        """The tags that it got when it was made."""
        from aipimage.io.chain.files import tags_of

        self.check_open()
        return dict(tags_of(self))

    @property
    def chain(self) -> aipimage.volumes.Chain:
        """The chain that the image belongs to, found by ids in the directories that are searched;
        looked for when it is first asked for.

        Raises:
            LimitError: over 4096 images belong to it. StorageError: a directory cannot be listed.
        """
        self.check_open()
        if self._chain is None:
            from aipimage.volumes.chain import chain_of

            self._chain = chain_of(self)
            self.check_open()
        return self._chain

    def extents(self, device: int = 0, kind: Kind | None = None) -> Iterator[Extent]:
        """Yield what a device holds as extents in bytes, see :meth:`aipimage.Device.extents`.

        Raises:
            RequestError: there is no such device.
        """
        checks.instance("kind", kind, (Kind, type(None)), "a Kind, or None for all")
        return self._device(device).extents(kind)

    def diff(self, other: Image, *, device: int = 0) -> Iterator[Extent]:
        """Yield in bytes where a device may differ from what it is in ``other``, an earlier or
        later image of the same chain; only the maps are read, and of them only what differs.

        The kind is that of this image; unused and zero read alike and do not differ. What this
        device has beyond the end of the other one differs.

        Raises:
            RequestError: one of them has no such device, or they are of different chains.
        """
        from aipimage.io.index.diff import diff_maps

        checks.instance("other", other, ImageReader, "another opened image of the chain")
        if other.seal.chain_id != self.seal.chain_id:
            raise RequestError(f"{self.path} and {other.path}: are not of the same chain")
        new, old = self._device(device), other._device(device)
        runs = diff_maps(new.map, new.entry, self.origins, old.map, old.entry, other.origins)
        return self._while_open(other, new.size, runs)

    def _while_open(
        self, other: Image, size: int, runs: Iterable[tuple[int, int, int]]
    ) -> Iterator[Extent]:
        """Runs of sectors as extents in bytes, as long as both images are open."""
        self._check_both(other)
        for at, count, kind in runs:
            yield Extent(at * SECTOR, min(count * SECTOR, size - at * SECTOR), Kind(kind))
            self._check_both(other)

    def _check_both(self, other: Image) -> None:
        self.check_open()
        other.check_open()

    def _device(self, device: int) -> Device:
        self.check_open()
        device = checks.whole("device", device, -checks.SIZE_MAX)
        if not 0 <= device < len(self.devices):
            raise OptionError(
                f"{self.path}: has no device {device}; it has {len(self.devices)}, numbered from 0"
            )
        return self.devices[device]

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

    def files(
        self, volume: int | None = None, *, device: int = 0, code_page: str = "cp850"
    ) -> aipimage.files.Files:
        """Open the files of a volume, read-only; see :func:`aipimage.files.open`.

        Args:
            volume: its number; ``None``: the only one whose files can be read.
            device: number of the disk in the image. code_page: of the short names of FAT.

        Raises:
            RequestError: there is no such volume. UnsupportedError: its files cannot be read.
            FormatError: its file system is damaged.
        """
        from aipimage.files.opening import open_files

        self.check_open()
        return open_files(self, volume, device=device, code_page=code_page)

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

    def verify(
        self,
        *,
        chain: bool = False,
        sample: float | None = None,
        executor: hints.Executor | None = None,
        threads: int | None = None,
        progress: ProgressCallback | None = None,
    ) -> VerifyResult:
        """Check everything that is stored in the image's own file against the seal (section 13),
        and all pages of its map, wherever they lie.

        Args:
            chain: also check every image that this one cannot be read without, each as it is and as
                the parent it should be, and that all data of this one's map is there.
            sample: percent of the frames to check, over 0 to 100; ``None`` checks all, and every
                other byte too.
            executor: any ``concurrent.futures`` executor for the work; its workers must share this
                process's memory.

        Returns:
            what was checked and the damage that was found; damage is not raised.
        """
        from aipimage.io.checking.chainverify import verify_with_chain
        from aipimage.io.checking.verify import verify_image

        self.check_open()
        checks.flags(chain=chain)
        checks.jobs(executor, progress)
        threads = checks.threads(threads)
        if sample is not None:
            sample = checks.number("sample", sample, 0, 100, above=True)
        if chain:
            return verify_with_chain(self, self.chain, sample, executor, threads, progress)
        return verify_image(self, sample, executor, threads, progress)

    def restore(
        self, target: str | os.PathLike[str], *, device: int = 0, force: bool = False,
        set_size: bool = False, size: Size | None = None, new_ids: bool = False,
        boot_code: bool = False, signature: bool = False, scratch: StrPath | None = None,
        executor: hints.Executor | None = None, threads: int | None = None,
        progress: ProgressCallback | None = None, storage: Storage | None = None,
        options: RestoreOptions | None = None,
    ) -> RestoreResult:  # fmt: skip
        """Write a disk back to a file or a block device; every frame is verified before it is
        written.

        A target of the disk's own size gets it byte for byte. On a larger one the partitions stay
        where they are, and a GPT gets its backup at the new end. On a smaller one what lies after
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
        from aipimage.volumes.restoring.disk import restore_disk

        asked = checks.options(RestoreOptions, options, locals())
        self.check_open()
        checks.jobs(executor, progress)
        name, storage = checks.path("target", target), chosen(storage)
        result = restore_disk(self, name, asked, executor, progress, storage)
        return replace(result, warnings=(*self.warnings, *result.warnings))

    def restore_volume(
        self, target: str | os.PathLike[str], *, device: int | None = None,
        volume: int | None = None, expand: bool = False, force: bool = False,
        set_size: bool = False, size: Size | None = None, scratch: StrPath | None = None,
        executor: hints.Executor | None = None, threads: int | None = None,
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
            scratch=checks.optional_path("scratch", scratch),
            executor=executor,
            threads=checks.threads(threads),
            progress=progress,
            storage=chosen(storage),
        )
        return replace(result, warnings=(*self.warnings, *result.warnings))


_PUBLIC = (
    "path", "devices", "close", "closed", "image_id", "chain_id", "digest", "kind", "sequence",
    "parent_id", "encryption", "stored", "parts", "metadata",
)  # fmt: skip
"""What is shown of an image beside its own names; the rest is for the library."""


def open_image(path: StrPath, password: str | None = None, **how: Unpack[HowToOpen]) -> Image:
    """Open an image; the public form is :func:`aipimage.open`."""
    with opening(path, password, **how) as found:
        return Image(found)


def _reopened(path: str, digest: str, folders: list[str]) -> Image:
    return open_image(path, expected_digest=digest, search=folders)
