"""XFS, versions 4 and 5 of its format, with its log inside of the volume.

The map is exact: it is what both B+trees of free space of every allocation group list, where the
log is open after a replay in memory. The whole volume is taken where the log is not understood or
lies on another device, where a feature is unknown (such as the metadata directory of 2024) or
repair is called for, where any checksum, count or order is wrong, and where two structures
disagree. Read ``allocation.py`` first; ``inuse.py`` is for a volume whose log is open
(``journals/xfslog``).
"""

from __future__ import annotations

from aipimage.volumes.filesystems.xfs import layout
from aipimage.volumes.filesystems.xfs.allocation import read_allocation
from aipimage.volumes.filesystems.xfs.superblock import read_superblock
from aipimage.volumes.model import FileSystem, Parser
from aipimage.volumes.view import LayoutError, VolumeView


def probe(view: VolumeView) -> FileSystem | None:
    """See :class:`aipimage.volumes.model.Parser`; size and cluster size are 0 where the superblock
    cannot be trusted.
    """
    try:
        raw = layout.records(view.read_array(0, 512)[None], layout.SUPERBLOCK)[0]
    except LayoutError:
        return None
    if raw["magic"] != layout.SUPERBLOCK_MAGIC:
        return None
    label = raw["fname"].tobytes().split(b"\0")[0].decode(errors="replace").rstrip()
    digits = raw["uuid"].tobytes().hex()
    uuid = "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
    try:
        superblock = read_superblock(view)
    except LayoutError:
        return FileSystem("xfs", label, uuid)
    return FileSystem("xfs", label, uuid, superblock.size, superblock.blocksize)


PARSER = Parser("xfs", probe, read_allocation)
