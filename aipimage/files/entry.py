"""A file as it is handed out: under one of its names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aipimage.files.model import Node, Stream

if TYPE_CHECKING:
    from aipimage.files.volume import Files


@dataclass(frozen=True, slots=True)
class Entry(Node):
    """A file under a name; see :class:`~aipimage.files.model.Node` for what else is known of it.

    Attributes:
        name: the last part of its path; empty for the root, and for what was asked for by identity.
        path: from the root on, ``/`` first; empty for what was asked for by identity.
    """

    name: str = ""
    path: str = ""
    _files: Files | None = field(default=None, repr=False, compare=False)

    @property
    def files(self) -> Files:
        """The volume that it is of."""
        if self._files is None:
            raise RuntimeError("internal error: an entry of no volume")
        return self._files

    @property
    def owner(self) -> str:
        """``UID:GID``, or an empty text where the file system keeps no owner."""
        return "" if self.uid is None else f"{self.uid}:{self.gid}"

    @property
    def target(self) -> str:
        """What a symbolic link leads to, as it stands there; empty for all else. Read when asked
        for.

        Raises:
            UnreadableFileError: it is encrypted.
        """
        return self.files.target(self)

    @property
    def xattrs(self) -> Mapping[str, bytes]:
        """Extended attributes by their names; read when asked for."""
        return self.files.xattrs(self)

    @property
    def streams(self) -> tuple[Stream, ...]:
        """Contents besides the one that has no name; read when asked for."""
        return self.files.streams(self)


def entry_of(node: Node, name: str, path: str, files: Files) -> Entry:
    """A node under a name."""
    return Entry(
        node.identity, node.kind, node.size, node.allocated, node.modified, node.accessed,
        node.changed, node.created, node.mode, node.uid, node.gid, node.links, node.flags,
        node.device, name, path, files,
    )  # fmt: skip
