"""From a volume to its reader: superblock, group descriptors, and the journal where it is open."""

from __future__ import annotations

from aipimage.errors import UnsupportedError
from aipimage.files.errors import layout_errors
from aipimage.files.ext.reader import ExtReader
from aipimage.files.window import Window
from aipimage.volumes.filesystems.ext import layout
from aipimage.volumes.filesystems.ext.groups import Groups, read_groups
from aipimage.volumes.filesystems.ext.inuse import is_open, replay
from aipimage.volumes.filesystems.ext.superblock import Superblock, fields_of
from aipimage.volumes.filesystems.ext.trust import readable_superblock
from aipimage.volumes.view import LayoutError, VolumeView


def open_ext(window: Window, kind: str) -> ExtReader:
    """Return the reader of a volume.

    Raises:
        DamagedVolumeError: its superblock or descriptors cannot be believed.
        UnsupportedError: it is the journal of another volume.
    """
    if kind == "jbd":
        raise UnsupportedError("it is the journal of another volume, and has no files")
    warnings: list[str] = []
    view = VolumeView(window.source, window.offset, window.size, 1 << 20)
    with layout_errors():
        data = view.read(layout.SUPERBLOCK_OFFSET, layout.SUPERBLOCK_SIZE)
        sb = readable_superblock(data, window.size)
        groups = read_groups(view, sb)
    if is_open(data):
        window, sb, groups = _replayed(window, view, sb, groups, warnings)
    warnings += _doubts(data)
    return ExtReader(window, kind, sb, groups, warnings)


def _replayed(
    window: Window, view: VolumeView, sb: Superblock, groups: Groups, warnings: list[str]
) -> tuple[Window, Superblock, Groups]:
    """The volume as it will be after its journal was replayed; as it is where that is not known."""
    try:
        replayed = replay(view, sb, groups)
        replayed.view.allow(layout.SUPERBLOCK_SIZE)
        data = replayed.view.read(layout.SUPERBLOCK_OFFSET, layout.SUPERBLOCK_SIZE)
        after = readable_superblock(data, window.size)
        groups_after = read_groups(replayed.view, after)
    except LayoutError as error:
        warnings.append(
            f"its journal is open and cannot be replayed ({error}): files are read as they are on "
            "the disk, and the last changes may be missing or half done"
        )
        return window, sb, groups
    if replayed.fast.commits:
        warnings.append(
            "fast commits in its journal are not applied: what changed in the last seconds may be "
            "missing"
        )
    return window.over(replayed.view.source), after, groups_after


def _doubts(data: bytes) -> list[str]:
    fields = fields_of(data)
    if fields["s_state"] & layout.STATE_ERROR:
        return ["it is marked as having errors; check it before its files are relied upon"]
    has_journal = fields["s_feature_compat"] & layout.COMPAT_HAS_JOURNAL
    if not fields["s_state"] & layout.STATE_VALID and not has_journal:
        return ["it was not cleanly unmounted, and has no journal: the last changes may be missing"]
    return []
