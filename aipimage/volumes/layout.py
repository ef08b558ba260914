"""The volumes of a disk as an image describes them (docs/format.md, section 9.2)."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from aipimage.errors import FormatError, LimitError, RequestError
from aipimage.io.blocks.containers import container_warning
from aipimage.io.blocks.freespace import FreeSpace, MappedFree, NoFreeSpace, RangesFree
from aipimage.io.blocks.sources import BlockSource
from aipimage.io.blocks.usedsource import UsedSource
from aipimage.io.reading.device import DeviceFile
from aipimage.ranges import difference, joined

if TYPE_CHECKING:
    from aipimage.volumes.model import Volume
    from aipimage.volumes.survey import DiskSurvey

VOLUMES_MAX = 1024
TEXT_MAX = 256
"""Characters of a name or reason that are kept."""


@dataclass(frozen=True, slots=True)
class VolumeInfo:
    """A volume of an image or of a disk.

    Attributes:
        device: number of the disk in the image. number: of the partition, as the system numbers
            them, from 1; 0 where the device is one volume without a partition table.
        start, size: bytes, on the disk. type, name, guid, active, logical: of the partition, see
            :class:`aipimage.volumes.model.Volume`.
        filesystem, label, uuid: as ``blkid`` names them; empty where nothing known is in it.
        cluster_size: bytes; 0 where nothing is allocated in clusters.
        used: bytes in use when it was looked at: all that was not known to be free.
        whole_because: why all of it counts as in use; empty where its allocation map was trusted.
        left_out: paging files whose content was left out. notes: sentences.
        kept: whether it was imaged; ``False`` where it was left out on request.
    """

    device: int
    number: int
    start: int
    size: int
    type: str = ""
    name: str = ""
    guid: str = ""
    active: bool = False
    logical: bool = False
    filesystem: str = ""
    label: str = ""
    uuid: str = ""
    cluster_size: int = 0
    used: int = 0
    whole_because: str = ""
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    kept: bool = True
    _device: Any = field(default=None, repr=False, compare=False)

    def open(self) -> DeviceFile:
        """Return a read-only binary file over the volume of an image.

        Raises:
            RequestError: it is not a volume of an image. ClosedError: the image is closed.
        """
        if self._device is None:
            raise RequestError("only a volume of an opened image can be opened")
        self._device.image.check_open()
        return DeviceFile(self._device, self.start, self.size)


def volume_info(device: int, volume: Volume, kept: bool = True) -> VolumeInfo:
    """What is said of a volume that was looked at."""
    filesystem, allocation = volume.filesystem, volume.allocation
    return VolumeInfo(
        device, volume.number, volume.start, volume.size, volume.type, _text(volume.name),
        volume.guid, volume.active, volume.logical,
        filesystem.kind if filesystem else "", _text(filesystem.label if filesystem else ""),
        _text(filesystem.uuid if filesystem else ""), filesystem.cluster_size if filesystem else 0,
        volume.used, _text(volume.whole_because or ""),
        tuple(map(_text, allocation.left_out)), tuple(map(_text, allocation.notes)), kept,
    )  # fmt: skip


def _text(text: str) -> str:
    """Text of a disk, fit for JSON and not too long."""
    return text[:TEXT_MAX].encode("utf-8", "replace").decode("utf-8")


def layout_of(found: DiskSurvey, kept: Callable[[int], bool]) -> dict[str, Any]:
    """The members ``table`` and ``volumes`` of a device in an image's description."""
    table = found.table
    volumes = []
    for volume in found.volumes:
        if volume.number == 0 and volume.filesystem is None:
            continue
        info = volume_info(0, volume, kept(volume.number))
        values = {each.name: getattr(info, each.name) for each in fields(info)}
        del values["device"]
        # What says nothing is left out, so that a thousand partitions find room.
        volumes.append(
            {name: value for name, value in values.items() if value or name in ("number", "start")}
            | {"kept": info.kept}
        )
    about = {
        "scheme": table.scheme,
        "sector_size": table.sector_size,
        "signature": table.signature,
        "disk_guid": table.disk_guid,
    }
    return {"table": about, "volumes": volumes}


def volumes_of(device: int, size: int, described: Any, path: str) -> tuple[VolumeInfo, ...]:
    """Read the volumes of a device of an image back from its description.

    Raises:
        FormatError: the description is not what section 9.2 says.
    """
    rows = described.get("volumes", []) if isinstance(described, dict) else []
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise FormatError(f"{path}: the description of device {device} has no list of volumes")
    if len(rows) > VOLUMES_MAX:
        raise LimitError(f"{path}: device {device} has {len(rows)} volumes, over {VOLUMES_MAX}")
    return tuple(_read(device, size, row, path) for row in rows)


def _read(device: int, size: int, row: dict[str, Any], path: str) -> VolumeInfo:
    values: dict[str, Any] = {"device": device}
    for each in fields(VolumeInfo)[1:-1]:
        if each.name not in row:
            if each.name in ("number", "start", "size"):
                raise FormatError(f"{path}: a volume of device {device} has no {each.name}")
            continue
        value = row[each.name]
        if each.name in ("left_out", "notes"):
            ok = isinstance(value, list) and all(isinstance(text, str) for text in value)
            value = tuple(value) if ok else value
        elif each.type == "int":
            ok = type(value) is int and 0 <= value < 1 << 63
        else:
            ok = type(value).__name__ == each.type
        if not ok:
            raise FormatError(f"{path}: a volume of device {device} has a wrong {each.name}")
        values[each.name] = value
    if values["start"] + values["size"] > size:
        raise FormatError(f"{path}: a volume of device {device} lies behind its end")
    return VolumeInfo(**values)


@dataclass(frozen=True, slots=True)
class Preparation:
    """What is done with each source before it is imaged: free space is found and left out.

    Attributes:
        include_free: keep all. volumes: for each source the numbers of those to keep; ``None``
            keeps all.
        leave_out_paging: leave the content of paging files out.
    """

    include_free: bool = False
    volumes: Sequence[Sequence[int] | None] | None = None
    leave_out_paging: bool = False

    def __call__(self, number: int, source: BlockSource) -> BlockSource:
        """Return the source without what is left out.

        Raises:
            RequestError: a volume that was asked for is not there, or free space is to be both kept
                and left out.
        """
        if self.include_free and self.leave_out_paging:
            raise RequestError("paging files are left out by calling them free, which is kept here")
        from aipimage.volumes.model import SurveyOptions
        from aipimage.volumes.survey import survey

        found = survey(source, SurveyOptions(self.leave_out_paging))
        chosen = self.volumes[number] if self.volumes is not None else None
        if chosen is not None:
            _check_chosen(source.name, found, chosen)
        warnings = [*_container(source), *_warnings(found, chosen)]
        known = found.table.partitions or any(each.filesystem for each in found.volumes)
        if not known and not warnings:
            return source
        kept = _kept(found, chosen)
        layout = layout_of(found, lambda each: each in kept)
        return UsedSource(source, _free(found, kept, self.include_free), layout, warnings)


def _check_chosen(name: str, found: DiskSurvey, chosen: Sequence[int]) -> None:
    there = [volume.number for volume in found.volumes]
    missing = [number for number in chosen if number not in there]
    if missing or not chosen:
        numbers = ", ".join(map(str, there)) or "none"
        raise RequestError(
            f"{name}: has no volume {', '.join(map(str, missing)) or 'chosen'}; it has {numbers}"
        )


def _kept(found: DiskSurvey, chosen: Sequence[int] | None) -> set[int]:
    """Numbers of the volumes that are kept: those chosen, and those whose place is in doubt, since
    the partition table, or a volume that was chosen, may lie in it.
    """
    numbers = {each.number for each in found.volumes}
    return {
        each
        for each in numbers
        if chosen is None or each in chosen or not found.may_leave_out(each)
    }


def _free(found: DiskSurvey, numbers: Container[int], include_free: bool) -> FreeSpace:
    """Free space of the volumes that are kept, and all of those that are not."""
    parts: list[tuple[int, FreeSpace, int, int]] = []
    kept = [each for each in found.volumes if each.number in numbers]
    if not include_free:
        parts += [
            (each.start, each.allocation.free, 0, each.size)
            for each in kept
            if each.whole_because is None
        ]
    if len(kept) < len(found.volumes):
        dropped = [each for each in found.volumes if each not in kept]
        left = difference(_ranges(dropped), _ranges(kept))
        parts += [
            (start, RangesFree(np.array([(0, size)], np.uint64)), 0, size)
            for start, size in left.tolist()
        ]
    return MappedFree(sorted(parts, key=lambda part: part[0])) if parts else NoFreeSpace()


def _ranges(volumes: Sequence[Volume]) -> Any:
    rows = [(each.start, each.size) for each in volumes]
    return joined(np.array(rows, np.uint64).reshape(-1, 2))


def _container(source: BlockSource) -> list[str]:
    """What a user should know first: that it may be no raw disk at all."""
    text = container_warning(source)
    return [] if text is None else [text]


def _warnings(found: DiskSurvey, chosen: Sequence[int] | None) -> list[str]:
    """What a user should know: tables that are not whole, and volumes taken whole out of doubt."""
    from aipimage.volumes.filesystems.registry import parsers

    expected = {parser.whole_because for parser in parsers()}
    doubtful = {part.number for part in found.table.partitions if part.doubt is not None}
    texts = [f"{found.name}: {text}" for text in found.table.warnings]
    if found.table.doubt is not None:
        texts.append(f"{found.name}: all of it was taken: {found.table.doubt}")
    for each in found.volumes:
        if chosen is not None and each.number not in chosen:
            if not found.may_leave_out(each.number):
                texts.append(
                    f"{found.name}: volume {each.number} was not left out: {each.whole_because}"
                )
            continue
        where = f"{found.name}: volume {each.number}" if each.number else found.name
        why = each.whole_because
        kind = f" ({each.filesystem.kind})" if each.filesystem is not None else ""
        if why is not None and why not in expected and (kind or each.number in doubtful):
            texts.append(f"{where}{kind} was taken whole: {why}")
        if each.allocation.left_out:
            texts.append(f"{where}: without the content of {', '.join(each.allocation.left_out)}")
    return texts


@dataclass(frozen=True, slots=True)
class DiskInfo:
    """A disk, or a volume without a table, that was looked at.

    Attributes:
        name: path. size, sector_size: bytes.
        scheme: of its partition table: ``"gpt"``, ``"mbr"`` or ``"none"``.
        signature: of the MBR, eight hexadecimal digits. disk_guid: of a GPT.
        volumes: by number; :attr:`VolumeInfo.device` is 0.
        warnings: sentences: what of it cannot be trusted.
    """

    name: str
    size: int
    sector_size: int
    scheme: str
    signature: str
    disk_guid: str
    volumes: tuple[VolumeInfo, ...]
    warnings: tuple[str, ...]


def disk_info(source: BlockSource) -> DiskInfo:
    """Look at a source; the public form is :func:`aipimage.survey`."""
    from aipimage.volumes.survey import survey

    found = survey(source)
    table = found.table
    volumes = tuple(volume_info(0, volume) for volume in found.volumes)
    return DiskInfo(
        found.name,
        found.size,
        found.sector_size,
        table.scheme,
        table.signature,
        table.disk_guid,
        volumes,
        (*_container(source), *_warnings(found, None)),
    )
