"""What of a disk is looked at: its table, its first sector, and each volume's kind and names."""

from __future__ import annotations

from dataclasses import dataclass

from aipimage.errors import AipImageError
from aipimage.io.blocks.sources import BlockSource
from aipimage.vmdk.guest.fatnames import FatNames, Name
from aipimage.volumes.filesystems.fat.layout import BootSector
from aipimage.volumes.filesystems.ntfs import layout as ntfs
from aipimage.volumes.filesystems.ntfs.boot import Geometry
from aipimage.volumes.filesystems.ntfs.directory import Directory
from aipimage.volumes.filesystems.ntfs.streams import Mft
from aipimage.volumes.filesystems.registry import parsers
from aipimage.volumes.filesystems.wholedisk import why_in_doubt
from aipimage.volumes.model import FileSystem
from aipimage.volumes.tables import mbr
from aipimage.volumes.tables.model import Partition, PartitionTable
from aipimage.volumes.tables.reading import read_table
from aipimage.volumes.view import LayoutError, VolumeView

_VOLUMES_MAX = 128
"""Volumes of a disk that are looked into."""
_OUTER = ("md", "bitlocker")
"""Containers that begin like what they hold."""
ROOT_NAMES = ("bootmgr", "ntldr", "Windows", "Program Files (x86)")
"""Names in the root directory of NTFS that point to Windows."""


@dataclass(frozen=True, slots=True)
class Content:
    """A volume and what was seen in it.

    Attributes:
        partition: where it is; a disk that is one volume has number 0 and no type.
        filesystem: ``None`` where nothing known is in it. kind: its name, or empty.
        sector: the first 512 bytes, zeros where they cannot be read.
        efi: on FAT, the directories in ``\\EFI`` and the files in ``\\EFI\\BOOT``, in lower case,
            these with the directory's name before them; ``None`` without ``\\EFI``.
        names: on NTFS, those of ``ROOT_NAMES`` that are in its root directory.
    """

    partition: Partition
    filesystem: FileSystem | None = None
    sector: bytes = bytes(mbr.SIZE)
    efi: tuple[str, ...] | None = None
    names: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        return self.filesystem.kind if self.filesystem else ""

    @property
    def has_boot_sector(self) -> bool:
        """Whether code may begin in its first sector: a jump, and 55 AA at the end."""
        return mbr.has_magic(self.sector) and self.sector[0] in (0xEB, 0xE9, 0xFA, 0x33, 0x31)


@dataclass(frozen=True, slots=True)
class Disk:
    """A disk that was looked at.

    Attributes:
        source: what was looked at. table: its partition table. head: its first sector, zeros where
            it cannot be read. contents: its volumes. doubt: why its table may be that of an array.
    """

    source: BlockSource
    table: PartitionTable
    head: bytes
    contents: tuple[Content, ...]
    doubt: str | None = None

    @property
    def has_boot_code(self) -> bool:
        """Whether its first sector holds code: that of an MBR, or of a volume."""
        if self.table.may_be_volume and self.table.scheme == "none":
            return any(each.has_boot_sector for each in self.contents)
        return mbr.has_magic(self.head) and any(self.head[: mbr.BOOT_CODE])

    def view(self, content: Content) -> VolumeView:
        """A view of a volume."""
        return VolumeView(self.source, content.partition.start, content.partition.size)


def look(source: BlockSource) -> Disk:
    """Look at a disk, at no more than some hundred KiB a volume.

    Raises:
        SourceError: the source failed, not only some of its sectors. IntegrityError: so did an
            image. Nothing that lies on a disk is an error.
    """
    table = read_table(source)
    parts = [part for part in table.partitions if part.doubt is None]
    if table.may_be_volume and source.size:
        parts = [Partition(0, 0, source.size, "")]
    contents = tuple(_content(source, part) for part in parts[:_VOLUMES_MAX])
    doubt = table.doubt
    if table.partitions and doubt is None:
        view = VolumeView(source, 0, source.size)
        doubt = why_in_doubt(view, [(part.start, part.size) for part in table.partitions])
    return Disk(source, table, _first_sector(VolumeView(source, 0, source.size)), contents, doubt)


def _first_sector(view: VolumeView) -> bytes:
    try:
        return view.read(0, mbr.SIZE)
    except LayoutError:
        return bytes(mbr.SIZE)


def _content(source: BlockSource, partition: Partition) -> Content:
    view = VolumeView(source, partition.start, partition.size)
    sector = _first_sector(view)
    filesystem = _kind_of(view)
    try:
        efi = _efi_names(view, filesystem)
        names = _windows_names(view, filesystem)
    except LayoutError:
        return Content(partition, filesystem, sector)
    except (AipImageError, MemoryError):
        raise
    except Exception:
        # A mistake of ours in reading names must not refuse a conversion.
        return Content(partition, filesystem, sector)
    return Content(partition, filesystem, sector, efi, names)


def _kind_of(view: VolumeView) -> FileSystem | None:
    """What a superblock says; the allocation map, which may be large, is not read."""
    found: list[FileSystem] = []
    for parser in parsers():
        view.allow(1 << 20)
        try:
            filesystem = parser.probe(view)
        except LayoutError:
            continue
        except (AipImageError, MemoryError):
            raise
        except Exception:
            continue  # see volumes.filesystems.registry: ours, and here only advice depends on it
        if filesystem is not None:
            found.append(filesystem)
    outer = [each for each in found if each.kind in _OUTER]
    return next(iter(outer or found), None)


def _efi_names(view: VolumeView, filesystem: FileSystem | None) -> tuple[str, ...] | None:
    if filesystem is None or not isinstance(filesystem.details, BootSector):
        return None
    volume = FatNames(view, filesystem.details)
    entries = volume.of("EFI")
    if entries is None:
        return None
    names = [each.text.lower() for each in entries if each.is_directory]
    files: list[Name] = volume.of("EFI", "BOOT") or []
    return (*names, *(f"boot/{each.text.lower()}" for each in files if not each.is_directory))


def _windows_names(view: VolumeView, filesystem: FileSystem | None) -> tuple[str, ...]:
    if filesystem is None or not isinstance(filesystem.details, Geometry):
        return ()
    table = Mft(view, filesystem.details)
    root = Directory(table, table.base_record(ntfs.ROOT), "the root directory")
    return tuple(name for name in ROOT_NAMES if root.find(name))
