"""Which file system a volume holds, and what of it is free."""

from __future__ import annotations

import importlib
from functools import cache

from aipimage.errors import AipImageError
from aipimage.volumes.model import ALL_IN_USE, Allocation, FileSystem, Parser, SurveyOptions
from aipimage.volumes.view import LayoutError, VolumeView

_FAMILIES = (
    "ntfs", "fat", "exfat", "ext", "xfs", "btrfs", "swap", "lvm", "md", "luks", "bitlocker",
    "vmfs", "opaque",
)  # fmt: skip
_CONTAINERS = {"md", "bitlocker"}
"""These begin like a file system: a mirror's member with its superblock at the end like what it
holds, BitLocker To Go like a FAT volume that asks for the password.
"""
_FAILED = object()
Found = tuple[FileSystem | None, Allocation, str | None]


@cache
def parsers() -> tuple[Parser, ...]:
    """All families that are known."""
    return tuple(
        importlib.import_module(f"aipimage.volumes.filesystems.{name}").PARSER for name in _FAMILIES
    )


def probe_volume(view: VolumeView, options: SurveyOptions) -> Found:
    """Return what a volume holds, what of it is free, and why it is taken whole, if it is.

    Nothing that a volume contains is an error: in any doubt all of it counts as in use.

    Raises:
        SourceError: the source failed, not only some of its sectors.
    """
    found = _all_found(view)
    if not found:
        return None, ALL_IN_USE, "nothing known is in it"
    outer = [each for each in found if each[1].kind in _CONTAINERS]
    if len(found) > 1 and len(outer) != 1:
        names = " and ".join(filesystem.kind for _, filesystem in found)
        return found[0][1], ALL_IN_USE, f"it looks like {names}"
    parser, filesystem = (outer or found)[0]
    if filesystem.details is _FAILED:
        return filesystem, ALL_IN_USE, "internal error in looking at it"
    if parser.allocation is None:
        return filesystem, ALL_IN_USE, parser.whole_because
    try:
        allocation = parser.allocation(view, filesystem, options)
    except LayoutError as error:
        return filesystem, ALL_IN_USE, str(error)
    except AipImageError:
        raise
    except Exception as error:
        # Ours, but no reason to leave the volume without a backup.
        return filesystem, ALL_IN_USE, f"internal error in reading its map ({error!r})"
    return filesystem, allocation, None


def filesystem_of(view: VolumeView) -> FileSystem | None:
    """What a volume holds, as :func:`probe_volume` says; no allocation map is read."""
    found = _all_found(view)
    outer = [each for each in found if each[1].kind in _CONTAINERS]
    chosen = outer if len(outer) == 1 else found
    return chosen[0][1] if chosen else None


def _all_found(view: VolumeView) -> list[tuple[Parser, FileSystem]]:
    found = [(parser, _probed(parser, view)) for parser in parsers()]
    return [(parser, filesystem) for parser, filesystem in found if filesystem is not None]


def _probed(parser: Parser, view: VolumeView) -> FileSystem | None:
    view.allow(1 << 20)
    try:
        return parser.probe(view)
    except LayoutError:
        return None
    except (AipImageError, MemoryError):
        raise
    except Exception:
        # Not None: then another family might claim the volume alone.
        return FileSystem(parser.name, details=_FAILED)
