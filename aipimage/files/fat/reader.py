"""The reader of FAT12, FAT16 and FAT32."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from aipimage.files.errors import DamagedVolumeError, NoFileError
from aipimage.files.fat.chains import Chains
from aipimage.files.fat.names import (
    DIRECTORY,
    ENTRY_SIZE,
    FLAG_NAMES,
    LongNames,
    Short,
    decode_short,
    is_file,
)  # fmt: skip
from aipimage.files.fat.times import dos_time
from aipimage.files.model import DIRECTORY as FOLDER
from aipimage.files.model import FILE, Content, Item, Node, Stream
from aipimage.files.window import Window
from aipimage.volumes.filesystems.fat.geometry import Geometry
from aipimage.volumes.filesystems.fat.layout import BootSector

DIRECTORY_MAX = 2 << 20
"""Bytes of a directory (fatgen103, FAT Directory Structure)."""


class FatReader:
    """See :class:`~aipimage.files.model.Reader`; an identity is the byte of the volume at which the
    short entry of a file lies, and 0 for the root.

    Args:
        code_page: of short names, as Python calls it.
    """

    root = 0

    def __init__(
        self, window: Window, boot: BootSector, geometry: Geometry, code_page: str,
        warnings: list[str],
    ) -> None:  # fmt: skip
        self.kind, self.warnings = geometry.kind, warnings
        self._window, self._geometry, self._code_page = window, geometry, code_page
        self._root_cluster = boot.root_cluster
        start = geometry.fat_start + (geometry.active or 0) * geometry.fat_size
        self._chains = Chains(
            window, start, geometry.entry_bits[-1], geometry.clusters, geometry.data_start,
            geometry.cluster_size,
        )  # fmt: skip

    def node(self, identity: int) -> Node:
        """See ``Reader.node``."""
        if identity == self.root:
            return Node(self.root, FOLDER)
        start = self._geometry.root_start if self._geometry.root_size else self._chains.data_start
        if identity % ENTRY_SIZE or not start <= identity < self._geometry.size:
            raise NoFileError(f"there is no directory entry at byte {identity:,}")
        short = decode_short(self._window.structure(identity, ENTRY_SIZE))
        if not is_file(short):
            raise NoFileError(f"the directory entry at byte {identity:,} is not in use")
        return self._node(identity, short)

    def _node(self, identity: int, short: Short) -> Node:
        is_folder = bool(short.attributes & DIRECTORY)
        size = 0 if is_folder else short.size
        cluster = self._chains.cluster_size
        return Node(
            identity=identity,
            kind=FOLDER if is_folder else FILE,
            size=size,
            allocated=-(-size // cluster) * cluster,
            modified=dos_time(short.written_date, short.written_time),
            accessed=dos_time(short.accessed, None),
            created=dos_time(short.date, short.time, short.tens),
            flags=frozenset(name for bit, name in FLAG_NAMES.items() if short.attributes & bit),
        )

    def _cluster(self, node: Node) -> int:
        """The first cluster of a file; only FAT32 has the upper half of it."""
        short = decode_short(self._window.structure(node.identity, ENTRY_SIZE))
        high = short.high if self.kind == "fat32" else 0
        return high << 16 | short.low

    def entries(self, node: Node) -> Iterator[Item]:
        """See ``Reader.entries``."""
        names = LongNames(self._code_page)
        for place, length in self._places(node):
            data = self._window.structure(place, length)
            for each in names.names(data):
                identity = place + each.at
                yield Item(each.name, identity, self._node(identity, each.short))
            if names.ended:
                return

    def _places(self, node: Node) -> Iterator[tuple[int, int]]:
        """Where a directory lies: (byte, bytes)."""
        if node.identity != self.root:
            first = self._cluster(node)
            if not first:
                raise DamagedVolumeError("damaged: a directory without clusters")
            yield from self._chains.directory(first, DIRECTORY_MAX)
        elif self._geometry.root_size:
            yield self._geometry.root_start, self._geometry.root_size
        else:
            yield from self._chains.directory(self._root_cluster, DIRECTORY_MAX)

    def content(self, node: Node, stream: str = "") -> Content:
        """See ``Reader.content``."""
        if stream:
            raise NoFileError(f"it has no stream {stream!r}: files of {self.kind} have one content")
        return Content(node.size, self._chains.chained(self._cluster(node), node.size))

    def target(self, node: Node) -> str:
        """There are no links."""
        return ""

    def xattrs(self, node: Node) -> Mapping[str, bytes]:
        """There are none."""
        return {}

    def streams(self, node: Node) -> tuple[Stream, ...]:
        """None: a file has one content."""
        return ()

    def same(self, directory: Node, one: str, other: str) -> bool:
        """Case does not count."""
        return one.upper() == other.upper()
