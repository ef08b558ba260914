"""What of an LVM2 physical volume is free: extents without a logical volume, and what the file
systems of linear logical volumes call free.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from aipimage.io.blocks.freespace import FreeSpace, MappedFree, RangesFree
from aipimage.volumes.filesystems.lvm import layout, text
from aipimage.volumes.filesystems.lvm.group import Group, LogicalVolume, group_of
from aipimage.volumes.filesystems.lvm.layout import Area, Location, PhysicalVolume
from aipimage.volumes.filesystems.signatures import has_partition_table
from aipimage.volumes.filesystems.within import Content, MappedRun, content_of
from aipimage.volumes.model import Allocation, FileSystem, SurveyOptions
from aipimage.volumes.view import LayoutError, VolumeView

NOTES_MAX = 64
Part = tuple[int, FreeSpace, int, int]


def probe(view: VolumeView) -> FileSystem | None:
    """A physical volume has a label in one of its first four sectors."""
    try:
        head = view.read(0, min(view.size, layout.LABEL_SECTORS * layout.SECTOR))
    except LayoutError:
        return None
    sector = layout.find_label(head)
    if sector is None:
        return None
    try:
        uuid = layout.decode_physical_volume(head, sector).uuid
    except LayoutError:
        uuid = ""
    cuts = (0, 6, 10, 14, 18, 22, 26, 32)
    dashed = "-".join(uuid[low:high] for low, high in pairwise(cuts))
    return FileSystem("lvm2", uuid=dashed if uuid else "", size=view.size)


def allocation(view: VolumeView, filesystem: FileSystem, options: SurveyOptions) -> Allocation:
    """See :class:`aipimage.volumes.model.Parser`."""
    head = view.read(0, min(view.size, layout.LABEL_SECTORS * layout.SECTOR))
    sector = layout.find_label(head)
    if sector is None:
        raise LayoutError("its label has gone")
    volume = layout.decode_physical_volume(head, sector)
    if has_partition_table(view):
        raise LayoutError("it also holds a partition table")
    written = [_text_of(view, area) for area in _checked_areas(view, volume)]
    if not written:
        raise LayoutError("its metadata lies on other disks")
    if None in written:
        return _without_group(view, volume, written)
    if len(set(written)) != 1:
        raise LayoutError("the copies of its metadata differ")
    group = group_of(text.parse(written[0] or ""), volume.uuid)
    _check_place(view, volume, group)
    return _allocation_of(view, group, options)


def _checked_areas(view: VolumeView, volume: PhysicalVolume) -> list[Area]:
    """The metadata areas, which must lie inside of the volume."""
    for area in volume.metadata:
        if area.offset + area.size > view.size or area.size <= layout.MDA_HEADER_SIZE:
            raise LayoutError("a metadata area does not lie inside of it")
    if len(volume.data) != 1:
        raise LayoutError(f"it has {len(volume.data)} data areas")
    return volume.metadata


def _text_of(view: VolumeView, area: Area) -> str | None:
    """The text in a metadata area; ``None`` where it holds none."""
    now, coming = layout.decode_metadata_header(
        view.read(area.offset, layout.MDA_HEADER_SIZE), area
    )
    if now.flags & layout.LOCATION_IGNORED:
        raise LayoutError("its metadata lies on other disks")
    if coming.is_set or now.flags or coming.flags:
        raise LayoutError("its metadata is being changed")
    if not now.is_set:
        return None
    data = _read_circular(view, area, now)
    if layout.lvm_crc(data) != now.crc:
        raise LayoutError("its metadata has a wrong checksum")
    try:
        return data.rstrip(b"\0").decode("utf-8", "surrogateescape")
    except ValueError as error:
        raise LayoutError("its metadata is not text") from error


def _read_circular(view: VolumeView, area: Area, at: Location) -> bytes:
    """The bytes at a place; what reaches past the area's end continues after its header."""
    room = area.size - layout.MDA_HEADER_SIZE
    inside = layout.MDA_HEADER_SIZE <= at.offset < area.size
    if not inside or not 0 < at.size <= min(room, text.TEXT_MAX):
        raise LayoutError("its metadata does not lie inside of its area")
    view.allow(at.size)
    first = min(at.size, area.size - at.offset)
    data = view.read(area.offset + at.offset, first)
    return data + view.read(area.offset + layout.MDA_HEADER_SIZE, at.size - first)


def _without_group(
    view: VolumeView, volume: PhysicalVolume, written: list[str | None]
) -> Allocation:
    """A physical volume that belongs to no group: its data area is free."""
    if any(written) or volume.used or volume.version < 2:
        raise LayoutError("it is not known to which volume group it belongs")
    start, size = volume.data[0]
    end = start + size if size else min(view.size, volume.size)
    _check_apart(view, volume, start, end)
    rows = np.array([(start, end - start)], np.uint64)
    return Allocation(RangesFree(rows), notes=("it belongs to no volume group",))


def _check_place(view: VolumeView, volume: PhysicalVolume, group: Group) -> None:
    if group.first_byte != volume.data[0].offset:
        raise LayoutError("its header and its volume group disagree on where its extents begin")
    end = group.first_byte + group.extents * group.extent_size
    _check_apart(view, volume, group.first_byte, end)


def _check_apart(view: VolumeView, volume: PhysicalVolume, start: int, end: int) -> None:
    """The data lies inside of the volume, and no other area lies in it."""
    if not layout.LABEL_SECTORS * layout.SECTOR <= start <= end <= view.size:
        raise LayoutError("its extents do not lie inside of it")
    for area in volume.metadata + volume.boot:
        if area.offset < end and start < area.offset + area.size:
            raise LayoutError("its areas overlap")


def _allocation_of(view: VolumeView, group: Group, options: SurveyOptions) -> Allocation:
    gaps = _free_extents(group)
    parts: list[Part] = [
        (offset, RangesFree(gaps), offset, length) for offset, length in gaps.tolist()
    ]
    notes: list[str] = []
    left_out: list[str] = []
    below = set().union(*(volume.names for volume in group.volumes))
    for volume in group.volumes:
        if not any(run.disk == group.disk for run in volume.runs):
            continue
        found = _content(view, group, volume, below, options)
        where = f"logical volume {group.name}/{volume.name}"
        if isinstance(found, str):
            notes.append(f"{where} counts as in use: {found}")
            continue
        parts += _placed(group, volume, found.allocation.free)
        left_out += [f"{name} of {where}" for name in found.allocation.left_out]
        notes += [f"{where}: {note}" for note in found.allocation.notes]
    parts.sort(key=lambda part: part[0])
    return Allocation(MappedFree(parts), 0, tuple(left_out), tuple(notes[:NOTES_MAX]))


def _free_extents(group: Group) -> np.ndarray[tuple[int, int], np.dtype[np.uint64]]:
    """The bytes of the extents that no logical volume lies on."""
    runs = sorted(
        (run.first, run.extents)
        for volume in group.volumes
        for run in volume.runs
        if run.disk == group.disk
    )
    rows, end = [], 0
    for first, count in [*runs, (group.extents, 0)]:
        if first < end or first + count > group.extents:
            raise LayoutError("its logical volumes overlap or lie outside of its extents")
        if first > end:
            rows.append((end, first - end))
        end = first + count
    found = np.array(rows, np.uint64).reshape(-1, 2) * np.uint64(group.extent_size)
    found[:, 0] += np.uint64(group.first_byte)
    return found


def _pieces(group: Group, volume: LogicalVolume) -> list[MappedRun]:
    pieces, offset = [], 0
    for run in volume.runs:
        length = run.extents * group.extent_size
        pieces.append(MappedRun(offset, group.first_byte + run.first * group.extent_size, length))
        offset += length
    return pieces


def _content(
    view: VolumeView, group: Group, volume: LogicalVolume, below: set[str], options: SurveyOptions
) -> Content | str:
    """What a logical volume holds, or why it counts as in use."""
    if volume.opaque_because:
        return volume.opaque_because
    # What a snapshot shares with its origin is in use for as long as the snapshot lives.
    if volume.name in below:
        return "another logical volume is made from it"
    if any(run.disk != group.disk for run in volume.runs):
        return "it lies on other disks too"
    name = f"{view.source.name}: {group.name}/{volume.name}"
    found = content_of(view, _pieces(group, volume), name, options)
    return found if found.whole_because is None else f"{found.kind}, {found.whole_because}"


def _placed(group: Group, volume: LogicalVolume, free: FreeSpace) -> list[Part]:
    return [(origin, free, offset, length) for offset, origin, length in _pieces(group, volume)]
