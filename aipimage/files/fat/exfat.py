"""The reader of exFAT."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping

from aipimage.files.errors import DamagedVolumeError, NoFileError
from aipimage.files.fat.chains import Chains
from aipimage.files.fat.names import DIRECTORY, FLAG_NAMES
from aipimage.files.fat.sets import ENTRY_SIZE, SET_MAX, FileSet, decode_set, sets_of
from aipimage.files.fat.sets import FILE as FILE_ENTRY
from aipimage.files.fat.times import exfat_time
from aipimage.files.model import DIRECTORY as FOLDER
from aipimage.files.model import FILE, Content, Item, Node, Runs, Stream
from aipimage.files.window import Window
from aipimage.volumes.filesystems.exfat.layout import (
    ENTRY_UPCASE,
    FLAG_SECOND_FAT,
    BootSector,
    decode_allocated,
)  # fmt: skip

DIRECTORY_MAX = 256 << 20
"""Bytes of a directory (exFAT specification, section 7.4.9)."""
_CHUNK = 1 << 20
_UPCASE_MAX = 2 * 65_536
_SAME_FROM = 0xFFFF
_CONTIGUOUS = 1


class ExfatReader:
    """See :class:`~aipimage.files.model.Reader`. An identity is the byte of the volume at which the
    set of a file begins, plus 1 where its directory is in one piece; 0 for the root.
    """

    kind, root = "exfat", 0

    def __init__(self, window: Window, boot: BootSector, warnings: list[str]) -> None:
        self.warnings = warnings
        self._window, self._boot = window, boot
        start = boot.fat_offset + bool(boot.flags & FLAG_SECOND_FAT) * boot.fat_length
        self._chains = Chains(
            window, start << boot.sector_shift, 32, boot.clusters, boot.heap_start,
            boot.cluster_size, is_exfat=True,
        )  # fmt: skip
        self._upcase: dict[int, int] | None = None

    def node(self, identity: int) -> Node:
        """See ``Reader.node``."""
        if identity == self.root:
            return Node(self.root, FOLDER)
        return self._node(identity, self._set(identity))

    def _node(self, identity: int, found: FileSet) -> Node:
        size, cluster = found.size, self._chains.cluster_size
        return Node(
            identity=identity,
            kind=FOLDER if found.attributes & DIRECTORY else FILE,
            size=size,
            allocated=-(-size // cluster) * cluster if found.cluster else 0,
            modified=exfat_time(*found.modified),
            accessed=exfat_time(found.accessed[0], None, found.accessed[1]),
            created=exfat_time(*found.created),
            flags=frozenset(name for bit, name in FLAG_NAMES.items() if found.attributes & bit),
        )

    def _set(self, identity: int) -> FileSet:
        """The set at a place, which may go on in the next cluster of its directory."""
        place, is_contiguous = identity & ~_CONTIGUOUS, identity & _CONTIGUOUS
        heap, size = self._chains.data_start, self._chains.cluster_size
        if place % ENTRY_SIZE or not heap <= place < heap + self._chains.clusters * size:
            raise NoFileError(f"there is no directory entry at byte {place:,}")
        cluster, inside = divmod(place - heap, size)
        cluster += 2
        data = b""
        while len(data) < SET_MAX * ENTRY_SIZE:
            start = self._chains.place(cluster) + inside
            length = min(size - inside, SET_MAX * ENTRY_SIZE - len(data))
            data, inside = data + self._window.structure(start, length), 0
            following = self._following(cluster, bool(is_contiguous))
            if following is None:
                break
            cluster = following
        count = data[1] + 1
        if data[0] != FILE_ENTRY:
            raise NoFileError(f"the directory entry at byte {place:,} is not in use")
        return decode_set(data[: count * ENTRY_SIZE])

    def _following(self, cluster: int, is_contiguous: bool) -> int | None:
        """The next cluster of a directory; ``None`` at its end."""
        if is_contiguous:
            return cluster + 1 if cluster + 1 < self._chains.clusters + 2 else None
        runs = [*self._chains.runs(cluster, 2)]
        if sum(count for _, count in runs) < 2:
            return None
        return runs[0][0] + 1 if runs[0][1] == 2 else runs[1][0]

    # Directories

    def entries(self, node: Node) -> Iterator[Item]:
        """See ``Reader.entries``."""
        mark = 0
        if node.identity != self.root and self._set(node.identity).is_contiguous:
            mark = _CONTIGUOUS
        for place, data in sets_of(self._pieces(node)):
            try:
                found = decode_set(data)
            except DamagedVolumeError as error:
                yield Item("", place | mark, None, error)
                continue
            yield Item(found.name, place | mark, self._node(place | mark, found))

    def _pieces(self, node: Node) -> Iterator[tuple[int, bytes]]:
        for place, length in self._places(node):
            for at in range(0, length, _CHUNK):
                yield place + at, self._window.structure(place + at, min(_CHUNK, length - at))

    def _places(self, node: Node) -> Iterator[tuple[int, int]]:
        if node.identity == self.root:
            yield from self._chains.directory(self._boot.root_cluster, DIRECTORY_MAX)
            return
        found = self._set(node.identity)
        if found.size > DIRECTORY_MAX:
            raise DamagedVolumeError(f"damaged: a directory of {found.size:,} bytes")
        for _, place, length in self._runs(found, found.size).tolist():
            yield place, length

    def _runs(self, found: FileSet, size: int) -> Runs:
        if not found.cluster and found.size:
            raise DamagedVolumeError(f"damaged: {found.size:,} bytes without clusters")
        if found.is_contiguous:
            self._chains.contiguous(found.cluster, found.size)
            return self._chains.contiguous(found.cluster, size)
        return self._chains.chained(found.cluster, size)

    # Contents

    def content(self, node: Node, stream: str = "") -> Content:
        """See ``Reader.content``: what was not written yet reads as zeros."""
        if stream:
            raise NoFileError(f"it has no stream {stream!r}: files of exFAT have one content")
        found = self._set(node.identity)
        return Content(found.size, self._runs(found, found.valid))

    def target(self, node: Node) -> str:
        """There are no links."""
        return ""

    def xattrs(self, node: Node) -> Mapping[str, bytes]:
        """There are none."""
        return {}

    def streams(self, node: Node) -> tuple[Stream, ...]:
        """None: a file has one content."""
        return ()

    # Names

    def same(self, directory: Node, one: str, other: str) -> bool:
        """Case does not count, by the table of the volume (section 7.2)."""
        return len(one) == len(other) and self._upper(one) == self._upper(other)

    def _upper(self, name: str) -> list[int]:
        if self._upcase is None:
            self._upcase = self._read_upcase()
        data = name.encode("utf-16-le", "surrogatepass")
        letters = struct.unpack(f"<{len(data) // 2}H", data)
        return [self._upcase.get(letter, letter) for letter in letters]

    def _read_upcase(self) -> dict[int, int]:
        """The letters that have another one in capitals."""
        for _, data in self._pieces(Node(self.root, FOLDER)):
            for at in range(0, len(data), ENTRY_SIZE):
                if data[at] == ENTRY_UPCASE:
                    return self._decoded_upcase(data[at : at + ENTRY_SIZE])
                if not data[at]:
                    break
        raise DamagedVolumeError("damaged: it has no table of capital letters")

    def _decoded_upcase(self, entry: bytes) -> dict[int, int]:
        _, _, first, length = decode_allocated(entry)
        if not 0 < length <= _UPCASE_MAX or length % 2:
            raise DamagedVolumeError(f"damaged: a table of capital letters of {length:,} bytes")
        data = b"".join(
            self._window.structure(place, count)
            for _, place, count in self._chains.chained(first, length).tolist()
        )
        letters, found, at = iter(struct.unpack(f"<{length // 2}H", data)), {}, 0
        for letter in letters:
            if letter == _SAME_FROM:  # and the next number says how many letters stay as they are
                at += next(letters, 0)
                continue
            if letter != at:
                found[at] = letter
            at += 1
        return found
