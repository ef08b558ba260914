"""A volume group: from the sections of its metadata to volumes, segments and extents.

Source: LVM2, lib/format_text/import_vsn1.c, flags.c, lib/striped/striped.c; lvmsystemid(7),
vgcfgrestore(8).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, TypeVar

from aipimage.volumes.filesystems.lvm.text import Section
from aipimage.volumes.view import LayoutError

_T = TypeVar("_T", int, str, list)  # type: ignore[type-arg]
EXTENT_SECTORS_MAX = 1 << 31
EXTENTS_MAX = (1 << 32) - 1
SEGMENTS_MAX = 1 << 16
STRIPES_MAX = 128
_VOLUME_STATUS = {"READ", "WRITE", "VISIBLE", "FIXED_MINOR"}
_VOLUME_FLAGS = {"ACTIVATION_SKIP", "NOAUTOACTIVATE", "WRITE_LOCKED"}
_GROUP_STATUS = {"RESIZEABLE", "READ", "WRITE", "EXPORTED", "CLUSTERED", "SHARED"}


class ExtentRun(NamedTuple):
    """Extents of a physical volume: its section's name, the first of them, and how many."""

    disk: str
    first: int
    extents: int


class LogicalVolume(NamedTuple):
    """A logical volume.

    Attributes:
        runs: extents that belong to it, in the order of its segments.
        opaque_because: why what is in it cannot be looked at; empty where its bytes are those of
            its runs one after the other.
        names: of others that it lies on or belongs to.
    """

    name: str
    runs: list[ExtentRun]
    opaque_because: str
    names: set[str]


class Group(NamedTuple):
    """A volume group: ``extent_size`` in bytes; ``disk``, ``first_byte`` and ``extents`` are the
    section, start of the data and number of extents of the physical volume that was asked for.
    """

    name: str
    seqno: int
    extent_size: int
    disk: str
    first_byte: int
    extents: int
    volumes: list[LogicalVolume]


def group_of(text: Section, uuid: str) -> Group:
    """Return what the metadata says, as seen from the physical volume ``uuid``.

    Raises:
        LayoutError: something is missing, contradicts itself, or is being changed.
    """
    name, section = _group_section(text)
    if not set(_words(section, "status")) <= _GROUP_STATUS:
        raise LayoutError("its volume group is being changed or is of an unknown kind")
    extent = _inside(_get(section, "extent_size", int), 1, EXTENT_SECTORS_MAX, "extent size")
    disks = _sections(section, "physical_volumes")
    own = [disk for disk in disks if _get(disks[disk], "id", str).replace("-", "") == uuid]
    if len(own) != 1:
        raise LayoutError("its volume group does not name it exactly once")
    disk = disks[own[0]]
    if "MISSING" in _words(disk, "status") + _words(disk, "flags"):
        raise LayoutError("its volume group counts it as missing")
    volumes = _sections(section, "logical_volumes") if "logical_volumes" in section else {}
    return Group(
        name=name,
        seqno=_inside(_get(section, "seqno", int), 0, EXTENTS_MAX, "sequence number"),
        extent_size=extent * 512,
        disk=own[0],
        first_byte=_inside(_get(disk, "pe_start", int), 1, 1 << 53, "first extent") * 512,
        extents=_inside(_get(disk, "pe_count", int), 0, EXTENTS_MAX, "number of extents"),
        volumes=list(_volumes(volumes, set(disks))),
    )


def _group_section(text: Section) -> tuple[str, Section]:
    """The one section beside the settings that describe the text itself."""
    if text.get("contents") != "Text Format Volume Group" or text.get("version") != 1:
        raise LayoutError("its metadata is of an unknown version")
    groups = [(name, value) for name, value in text.items() if isinstance(value, dict)]
    if len(groups) != 1 or groups[0][1].get("format", "lvm2") != "lvm2":
        raise LayoutError("its metadata does not hold exactly one volume group")
    return groups[0]


def _volumes(sections: dict[str, Section], disks: set[str]) -> Iterator[LogicalVolume]:
    left, names = SEGMENTS_MAX, set(sections)
    for name, section in sections.items():
        if "PVMOVE" in _words(section, "status"):
            raise LayoutError("extents of its volume group are being moved (pvmove)")
        left -= len(section)
        if left < 0:
            raise LayoutError("its volume group has more segments than can be looked at")
        yield _volume(name, section, disks, names)


def _volume(name: str, section: Section, disks: set[str], others: set[str]) -> LogicalVolume:
    runs: list[ExtentRun] = []
    names: set[str] = set()
    because = _reason_of_status(section)
    position = 0
    for segment in _segments(section):
        count = _inside(_get(segment, "extent_count", int), 1, EXTENTS_MAX, "extents of a segment")
        if _get(segment, "start_extent", int) != position:
            raise LayoutError(f"the segments of its logical volume {name} leave a gap or overlap")
        position += count
        names |= {text for text in _strings(segment) if text in others}
        kind = _get(segment, "type", str)
        if kind not in ("striped", "linear"):
            if any(text in disks for text in _strings(segment)):
                raise LayoutError(f"a segment of the type {kind[:40]} lies right on a disk")
            because = because or f"it is of the type {kind[:40]}"
            continue
        found = _stripes(segment, count, disks, others)
        runs += found
        if len(found) != 1 or _get(segment, "stripe_count", int) != 1:
            because = because or "it is striped or lies on another logical volume"
    return LogicalVolume(name, runs, because, names)


def _reason_of_status(section: Section) -> str:
    status, flags = _words(section, "status"), _words(section, "flags")
    if not set(status) <= _VOLUME_STATUS or not set(flags) <= _VOLUME_FLAGS:
        return "it is in an unusual state"
    return "" if "VISIBLE" in status else "it is a part of another"


def _segments(section: Section) -> Iterator[Section]:
    count = _inside(_get(section, "segment_count", int), 0, SEGMENTS_MAX, "number of segments")
    found = [name for name, value in section.items() if isinstance(value, dict)]
    if sorted(found) != sorted(f"segment{at + 1}" for at in range(count)):
        raise LayoutError("a logical volume has other segments than it says")
    for at in range(count):
        segment = section[f"segment{at + 1}"]
        if isinstance(segment, dict):
            yield segment


def _stripes(segment: Section, count: int, disks: set[str], others: set[str]) -> list[ExtentRun]:
    """The runs of a striped segment that lie on disks; others lie on logical volumes."""
    stripes = _inside(_get(segment, "stripe_count", int), 1, STRIPES_MAX, "number of stripes")
    pairs = _get(segment, "stripes", list)
    if len(pairs) != 2 * stripes or count % stripes:
        raise LayoutError("a segment has other stripes than it says")
    runs = []
    for disk, first in zip(pairs[::2], pairs[1::2], strict=True):
        if not isinstance(disk, str) or not isinstance(first, int):
            raise LayoutError("a stripe of a segment is not a place on a disk")
        if disk in disks:
            runs.append(ExtentRun(disk, first, count // stripes))
        elif disk not in others:
            raise LayoutError("a stripe of a segment lies on nothing that is known")
    return runs


def _strings(segment: Section) -> Iterator[str]:
    """All strings of a segment, also those in lists and in sections within it."""
    for value in segment.values():
        if isinstance(value, str):
            yield value
        elif isinstance(value, list):
            yield from (item for item in value if isinstance(item, str))
        elif isinstance(value, dict):
            yield from _strings(value)


def _get(section: Section, name: str, kind: type[_T]) -> _T:
    value = section.get(name)
    if not isinstance(value, kind):
        raise LayoutError(f"its metadata does not say {name}")
    return value


def _words(section: Section, name: str) -> list[str]:
    """A list of strings; one that is not there is empty, and one string alone counts as a list."""
    value = section.get(name, [])
    words = value if isinstance(value, list) else [value]
    if not all(isinstance(word, str) for word in words):
        raise LayoutError(f"its metadata says {name} in an unknown way")
    return [word for word in words if isinstance(word, str)]


def _sections(section: Section, name: str) -> dict[str, Section]:
    value = section.get(name)
    if not isinstance(value, dict) or not all(isinstance(inner, dict) for inner in value.values()):
        raise LayoutError(f"its metadata has no section {name}")
    return {key: inner for key, inner in value.items() if isinstance(inner, dict)}


def _inside(value: int, low: int, high: int, what: str) -> int:
    if not low <= value <= high:
        raise LayoutError(f"the {what} in its metadata is {value}")
    return value
