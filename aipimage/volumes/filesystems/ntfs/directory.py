"""Looking up names in a directory: a B-tree of file names, in index records."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from aipimage.volumes.filesystems.ntfs import layout
from aipimage.volumes.filesystems.ntfs.records import Record, Reference
from aipimage.volumes.filesystems.ntfs.streams import Mft, Stream
from aipimage.volumes.fixups import fixed_up
from aipimage.volumes.view import LayoutError

NAMES = "$I30".encode("utf-16-le")
DEPTH_MAX = 16
RECORDS_MAX = 256
"""Index records that one look-up reads at most; more would need as many names that differ only in
the case of their letters."""
Name = tuple[int, ...]
"""UTF-16 words, in capitals."""


class Entry(NamedTuple):
    """A name in a node; ``name`` is ``None`` in the mark at its end.

    Attributes:
        reference: the file. child: VCN of the node with what comes before the name, or ``None``.
    """

    reference: Reference
    name: Name | None
    child: int | None


class Directory:
    """The index of a directory's names.

    Args:
        record: the directory's first record.
    """

    def __init__(self, mft: Mft, record: Record, title: str) -> None:
        self._mft, self._record, self._title = mft, record, title
        if not record.flags & layout.IS_DIRECTORY:
            raise LayoutError(f"{title} is not a directory")
        root = mft.value(record, layout.INDEX_ROOT, NAMES, f"the index of {title}")
        if len(root) < layout.ROOT_OF_INDEX.size + layout.NODE_IN_ROOT:
            raise LayoutError(f"the index of {title} is cut short")
        indexed, _, self._node_size = layout.ROOT_OF_INDEX.unpack_from(root)
        size = self._node_size
        if indexed != layout.INDEX_OF_NAMES or not 512 <= size <= 65536 or size & (size - 1):
            raise LayoutError(f"the index of {title} is none of names")
        cluster = mft.geometry.cluster_size
        self._unit = cluster if cluster <= size else 512
        self._root = list(entries(root, layout.NODE_IN_ROOT, title))
        self._blocks: Stream | None = None

    def find(self, name: str) -> list[Reference]:
        """Every file of that name, whatever the case of its letters; ``name`` is ASCII.

        Raises:
            LayoutError: the index cannot be followed.
        """
        key = tuple(_upper(ord(letter)) for letter in name)
        found: list[Reference] = []
        todo = [_Part(self._root, 0, None, None)]
        read: set[int] = set()
        while todo:
            part = todo.pop()
            _verify_order(part, self._title)
            for at in _relevant(part.node, key):
                entry = part.node[at]
                if entry.name == key:
                    found.append(entry.reference)
                if entry.child is None:
                    continue
                if entry.child in read or part.depth >= DEPTH_MAX or len(read) >= RECORDS_MAX:
                    raise LayoutError(f"the index of {self._title} is not a tree")
                read.add(entry.child)
                todo.append(part.below(at, self._node(entry.child)))
        return found

    def _node(self, vcn: int) -> list[Entry]:
        """The entries of an index record ("$INDEX_ALLOCATION", INDX Record)."""
        what = f"an index record of {self._title}"
        if self._blocks is None:
            stream = self._mft.stream(self._record, layout.INDEX_ALLOCATION, NAMES, what)
            self._blocks = stream.verified_plain()
        self._mft.view.allow(self._node_size)
        data = self._blocks.read(vcn * self._unit, self._node_size)
        fixed = fixed_up(data, layout.INDEX_MAGIC, what)
        if int.from_bytes(fixed[16:24], "little") != vcn:
            raise LayoutError(f"{what} lies in another's place")
        return list(entries(fixed, layout.NODE_IN_RECORD, self._title))


class _Part(NamedTuple):
    """A node on the way: how deep it lies, and the names that its own lie between."""

    node: list[Entry]
    depth: int
    low: Name | None
    high: Name | None

    def below(self, at: int, node: list[Entry]) -> _Part:
        """The node that is the child of the entry at a place."""
        low = self.node[at - 1].name if at else self.low
        high = self.node[at].name
        return _Part(node, self.depth + 1, low, self.high if high is None else high)


def _verify_order(part: _Part, title: str) -> None:
    """``LayoutError`` where names are not in their order: a look-up could miss one.

    Names of other letters than ASCII are passed over: their order needs all of $UpCase.
    """
    names = [part.low, *(entry.name for entry in part.node), part.high]
    plain = [name for name in names if name is not None and max(name, default=0) < 128]
    if any(one > other for one, other in pairwise(plain)):
        raise LayoutError(f"the index of {title} is not in order")


def _relevant(node: list[Entry], key: Name) -> Iterator[int]:
    """Places of the entries that equal the key, and of the first after them: what comes before an
    entry is in its child, so the key can be in the children of these alone.
    """
    for at, entry in enumerate(node):
        if entry.name is None or entry.name >= key:
            yield at
            if entry.name != key:
                return


def entries(data: bytes, at: int, title: str) -> Iterator[Entry]:
    """Read the node whose header lies at a byte, up to its end mark ("Index Header").

    Raises:
        LayoutError: an entry does not fit, or there is no end mark.
    """
    first, end, _, _ = layout.NODE.unpack_from(data, at)
    offset, end = at + first, at + end
    if first < layout.NODE.size or end > len(data):
        raise LayoutError(f"a node of the index of {title} runs out of its record")
    while offset + layout.ENTRY_BYTES <= end:
        length, key_length, flags = layout.ENTRY.unpack_from(data, offset)
        reserved = layout.ENTRY_BYTES + (8 if flags & layout.HAS_CHILD else 0)
        if length < reserved + key_length or length % 8 or offset + length > end:
            raise LayoutError(f"an entry of the index of {title} runs out of its node")
        entry = data[offset : offset + length]
        child = int.from_bytes(entry[-8:], "little") if flags & layout.HAS_CHILD else None
        reference = Reference.decode(entry[:8])
        if flags & layout.IS_LAST:
            yield Entry(reference, None, child)
            return
        yield Entry(reference, _name(entry[layout.ENTRY_BYTES :][:key_length], title), child)
        offset += length
    raise LayoutError(f"a node of the index of {title} has no end")


def _name(key: bytes, title: str) -> Name:
    """The name of a key ("$FILE_NAME") as names are compared: in capitals."""
    size = 2 * key[layout.KEY_NAME_AT] if len(key) >= layout.KEY_BYTES else -1
    name = key[layout.KEY_BYTES :]
    if size < 0 or size > len(name):
        raise LayoutError(f"a name in the index of {title} runs out of its entry")
    return tuple(_upper(name[at] | name[at + 1] << 8) for at in range(0, size, 2))


def _upper(letter: int) -> int:
    """Capital letters, as $UpCase has them for ASCII. No other letter becomes one of ASCII, nor is
    any ordered before one, so that a look-up of an ASCII name needs no more of the table.
    """
    return letter - 32 if 97 <= letter <= 122 else letter
