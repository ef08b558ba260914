"""The reader of ext2, ext3 and ext4."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping

from aipimage.errors import AipImageError
from aipimage.files.errors import (
    DamagedVolumeError,
    NoFileError,
    UnreadableFileError,
    layout_errors,
)  # fmt: skip
from aipimage.files.ext import layout
from aipimage.files.ext.attributes import acl_as_shown, attributes_of, full_name, in_inode
from aipimage.files.ext.directories import entries_in_block, entries_inline, text_of
from aipimage.files.ext.inodes import Inode, Inodes, node_of
from aipimage.files.ext.mapping import runs_of
from aipimage.files.model import FILE, NO_RUNS, Content, Item, Node, Runs, Stream
from aipimage.files.window import Window
from aipimage.volumes.filesystems.ext.groups import Groups
from aipimage.volumes.filesystems.ext.layout import INCOMPAT_EA_INODE
from aipimage.volumes.filesystems.ext.superblock import Superblock

_AT_ONCE = 1 << 20
_TARGET_MAX = 4096


class ExtReader:
    """See :class:`~aipimage.files.model.Reader`; an identity is the number of an inode."""

    root = layout.ROOT

    def __init__(
        self, window: Window, kind: str, sb: Superblock, groups: Groups, warnings: list[str]
    ) -> None:
        self.kind, self.warnings = kind, warnings
        self._window, self._sb = window, sb
        self._inodes = Inodes(window, sb, groups)

    def node(self, identity: int) -> Node:
        """See ``Reader.node``."""
        inode = self._inodes.inode(identity)
        if inode.flags & layout.EA_INODE_FL:
            raise NoFileError(f"inode {identity:,} holds an attribute of a file")
        return node_of(inode)

    # Directories

    def entries(self, node: Node) -> Iterator[Item]:
        """See ``Reader.entries``."""
        inode = self._inodes.inode(node.identity)
        encrypted = bool(inode.flags & layout.ENCRYPT_FL)
        if inode.flags & layout.INLINE_DATA_FL:
            blocks = iter([entries_inline(self._sb, self._inline(inode))])
        else:
            blocks = (entries_in_block(self._sb, inode, each) for each in self._blocks(inode))
        for block in blocks:
            for each in block:
                yield Item(text_of(each.name, encrypted), each.number)

    def _blocks(self, inode: Inode) -> Iterator[bytes]:
        """The blocks of a directory, which has no holes."""
        size, at = self._sb.block_size, 0
        for start, place, length in self._runs(inode).tolist():
            if start != at or length % size:
                break
            step = max(size, _AT_ONCE // size * size)
            for low in range(0, length, step):
                data = self._window.structure(place + low, min(step, length - low))
                for inside in range(0, len(data), size):
                    yield data[inside : inside + size]
            at += length
        if at != inode.size:
            raise DamagedVolumeError("damaged: a part of the directory is missing")

    def same(self, directory: Node, one: str, other: str) -> bool:
        """See ``Reader.same``: only in a directory that folds cases."""
        return "casefold" in directory.flags and _folded(one) == _folded(other)

    # Contents

    def content(self, node: Node, stream: str = "") -> Content:
        """See ``Reader.content``."""
        if stream:
            raise NoFileError(f"it has no stream {stream!r}: files of {self.kind} have one content")
        inode = self._inodes.inode(node.identity)
        if inode.flags & layout.ENCRYPT_FL:
            raise UnreadableFileError(
                "it is encrypted, and its key is not in the volume", "encrypted"
            )
        if inode.flags & layout.INLINE_DATA_FL:
            return Content(inode.size, NO_RUNS, self._inline(inode)[: inode.size])
        return Content(inode.size, self._runs(inode))

    def _runs(self, inode: Inode) -> Runs:
        with layout_errors():
            return runs_of(self._window, self._sb, inode)

    def _inline(self, inode: Inode) -> bytes:
        """Data that lies in the inode: its block numbers' place, and an attribute."""
        for each in in_inode(inode):
            if (each.prefix, each.name) == (layout.XATTR_SYSTEM, b"data"):
                if each.number:
                    raise DamagedVolumeError("damaged: its data is in another inode")
                return inode.blocks + each.value
        raise DamagedVolumeError("damaged: the rest of its data is missing")

    def target(self, node: Node) -> str:
        """See ``Reader.target``."""
        inode = self._inodes.inode(node.identity)
        if inode.flags & layout.ENCRYPT_FL:
            raise UnreadableFileError("what it leads to is encrypted", "encrypted")
        if inode.size > _TARGET_MAX:
            raise DamagedVolumeError(f"damaged: a link of {inode.size:,} bytes")
        return self._target(inode).decode("utf-8", "surrogateescape")

    def _target(self, inode: Inode) -> bytes:
        if inode.flags & layout.INLINE_DATA_FL:
            return self._inline(inode)[: inode.size]
        if self._is_fast(inode):
            if inode.size > layout.INLINE_MAX:
                raise DamagedVolumeError("damaged: a link that is longer than its inode")
            return inode.blocks[: inode.size]
        return self._bytes_of(inode)

    def _is_fast(self, inode: Inode) -> bool:
        """Whether a link lies in its inode: as the system decides it."""
        if self._sb.incompat & INCOMPAT_EA_INODE:
            return 0 < inode.size < layout.INLINE_MAX
        attributes = self._sb.ratio * self._sb.block_size // 512 if inode.acl else 0
        return inode.sectors == attributes

    def _bytes_of(self, inode: Inode) -> bytes:
        """A short content, all at once."""
        data = bytearray(inode.size)
        for start, place, length in self._runs(inode).tolist():
            data[start : start + length] = self._window.structure(place, length)
        return bytes(data)

    # Attributes

    def xattrs(self, node: Node) -> Mapping[str, bytes]:
        """See ``Reader.xattrs``."""
        inode, found = self._inodes.inode(node.identity), {}
        for each in attributes_of(self._window, self._sb, inode):
            name = full_name(each)
            if name is not None and name not in found:
                value = self._value(each.number, each.size) if each.number else each.value
                found[name] = acl_as_shown(value) if each.prefix in layout.XATTR_ACLS else value
        return found

    def _value(self, number: int, size: int) -> bytes:
        """A value in an inode of its own."""
        try:
            inode = self._inodes.inode(number)
        except AipImageError as error:
            raise DamagedVolumeError(f"damaged: an attribute of it is missing ({error})") from error
        if not inode.flags & layout.EA_INODE_FL or inode.size != size or inode.kind != FILE:
            raise DamagedVolumeError(f"damaged: inode {number:,} does not hold an attribute")
        return self._bytes_of(inode)

    def streams(self, node: Node) -> tuple[Stream, ...]:
        """None: a file has one content."""
        return ()


def _folded(name: str) -> str:
    """A name as directories that fold cases compare it: NFD of the folded letters."""
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", name).casefold())
