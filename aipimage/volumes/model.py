"""What is known of the volumes of a disk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from aipimage.io.blocks.freespace import FreeSpace, NoFreeSpace
from aipimage.volumes.view import VolumeView


@dataclass(frozen=True, slots=True)
class FileSystem:
    """What a superblock or boot sector says, before its allocation map is looked at.

    Attributes:
        kind: ``"ntfs"``, ``"fat12"``, ``"fat16"``, ``"fat32"``, ``"exfat"``, ``"ext2"``,
            ``"ext3"``, ``"ext4"``, ``"xfs"``, ``"btrfs"``, ``"swap"``, ``"lvm2"``, ``"md"``,
            ``"luks"``, ``"bitlocker"``, ``"vmfs"``, and other names of blkid for what is always
            taken whole.
        label, uuid: as ``blkid`` prints them; empty where there is none.
        size: bytes of the volume that it covers, from its start. cluster_size: bytes of what it
            allocates; 0 where it does not.
        details: what its own parser needs to read the map.
    """

    kind: str
    label: str = ""
    uuid: str = ""
    size: int = 0
    cluster_size: int = 0
    details: object = field(default=None, repr=False, compare=False)


class Allocation(NamedTuple):
    """What a parser makes of an allocation map.

    Attributes:
        free: in bytes of the volume. used_end: byte past the last one in use; the volume cannot
            become smaller than this by cutting its end. 0: not known.
        left_out: names of files whose clusters were marked as free on request (paging files).
        notes: what else a user should know.
        fixed: why the file system cannot become smaller though it is not taken whole, a clause.
    """

    free: FreeSpace
    used_end: int = 0
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    fixed: str = ""


ALL_IN_USE = Allocation(NoFreeSpace())


SAFE, BEST_EFFORT, WHOLE = "safe", "best-effort", "whole"
IN_USE_WAYS = (SAFE, BEST_EFFORT, WHOLE)
"""What is done with volumes in use: kept is what a journal that is understood may need; or what can
be found where it is not; or everything.
"""


def _nothing() -> str | None:
    return None


class SurveyOptions(NamedTuple):
    """What the caller wants to leave out, and what is known of the source.

    Attributes:
        leave_out_paging: count the clusters of pagefile.sys, hiberfil.sys and swapfile.sys as free.
        in_use: what is done with volumes in use: ``"safe"``, ``"best-effort"`` or ``"whole"``.
        changing: says what may write to the source while it is read, or ``None``. An open journal
            is believed only where nothing does.
    """

    leave_out_paging: bool = False
    in_use: str = SAFE
    changing: Callable[[], str | None] = _nothing


class Parser(NamedTuple):
    """One family of file systems.

    Attributes:
        name: of the family, for tests and fuzzing.
        probe: what the view holds, or ``None`` where it is not of this family; raises nothing but
            ``SourceError``; reads at most 256 KiB. A superblock that has the magic and is otherwise
            nonsense is still a find: then ``allocation`` raises.
        allocation: the map, or ``LayoutError`` where there is any doubt. ``None`` where a family is
            always taken whole. It calls ``view.allow`` with what it declares to read.
        whole_because: why such a family is taken whole.
    """

    name: str
    probe: Callable[[VolumeView], FileSystem | None]
    allocation: Callable[[VolumeView, FileSystem, SurveyOptions], Allocation] | None = None
    whole_because: str = ""


@dataclass(frozen=True, slots=True)
class Volume:
    """A volume of a disk and what of it is free.

    Attributes:
        number: of its partition, from 1; 0 for a disk that is one volume.
        start, size: bytes, on the disk.
        type: the partition's: a byte as ``"0x07"``, or a GUID in lower case; empty without a table.
        name, guid: of a GPT partition, else empty. active: the boot flag of the MBR, or legacy BIOS
            bootable of a GPT. logical: in an extended partition.
        filesystem: ``None`` where nothing known is in it.
        allocation: free space and what belongs to it.
        whole_because: why everything counts as in use; ``None`` where the map is trusted.
    """

    number: int
    start: int
    size: int
    type: str = ""
    name: str = ""
    guid: str = ""
    active: bool = False
    logical: bool = False
    filesystem: FileSystem | None = None
    allocation: Allocation = ALL_IN_USE
    whole_because: str | None = None

    @property
    def used(self) -> int:
        """Bytes in use: all that is not known to be free."""
        return self.size - self.allocation.free.total

    def whole(self, because: str) -> Volume:
        """The same volume, all of which counts as in use."""
        return replace(self, allocation=ALL_IN_USE, whole_because=because)

    def with_content(
        self, filesystem: FileSystem | None, allocation: Allocation, whole_because: str | None
    ) -> Volume:
        """The same volume, now that its content was looked at."""
        return replace(
            self, filesystem=filesystem, allocation=allocation, whole_because=whole_because
        )
