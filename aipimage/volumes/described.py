"""The volumes of a disk as an image describes them (docs/format.md, section 9.2)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from aipimage import volumes
from aipimage.errors import FormatError, LimitError, RequestError
from aipimage.io.reading.device import DeviceFile

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

    @property
    def shadow_copies(self) -> tuple[volumes.ShadowCopy, ...]:
        """The shadow copies (VSS) of an NTFS volume of an image, the oldest first; each has an
        ``identifier``, the time ``created``, a ``size`` in bytes, and a ``source`` that reads it,
        a :class:`BlockSource` that works as long as the image is open.

        Raises:
            RequestError: it is not a volume of an image. ClosedError: the image is closed.
            UnsupportedError: they are not understood.
        """
        from aipimage.volumes.shadowcopies.ofimage import opened_copies

        file = self.open()
        if self.filesystem != "ntfs":
            return ()
        return opened_copies(file, f"{self._device.image.path}: volume {self.number}")


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


def described(found: DiskSurvey, kept: Callable[[int], bool]) -> dict[str, Any]:
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
        raise FormatError(f"{path}: a volume of device {device} ends past the end of the disk")
    return VolumeInfo(**values)
