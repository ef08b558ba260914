"""Finds the files of a delta's parents, by their CIDs, in directories that the caller has named.

A path that a file gives is wrong after the first move, and a risk where the file is not one's own
(hostile-inputs class 21). So ``parentFileNameHint`` only chooses among files that lie beside the
delta or in the directories passed; what decides is that the CID is the delta's ``parentCID``
(note, "The Header": a CID changes with the first write after opening).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from aipimage.errors import (
    AipImageError,
    FormatError,
    IncompleteError,
    LimitError,
    RequestError,
    StorageError,
)
from aipimage.io.system.storage import DEFAULT, File, Storage, StrPath
from aipimage.vmdk.descriptor import NO_PARENT, TEXT_MAX, Descriptor, parse_descriptor
from aipimage.vmdk.descriptortext import HEAD, looks_like_descriptor, other_spellings
from aipimage.vmdk.extents.header import embedded_type
from aipimage.vmdk.layout import SECTOR, SPARSE_MAGIC, decode_sparse_header
from aipimage.vmdk.textcodes import codec_named

DEPTH_MAX = 256
"""Disks of a chain at most; ESX makes 32, Workstation some more."""
FILES_MAX = 10_000
"""Files that are looked at for the parents of one disk."""


@dataclass(frozen=True, slots=True)
class Member:
    """A disk of a chain: its file (``path``), and what its descriptor said.

    ``identity`` is the file's device and inode. A second opening compares the descriptors:
    the file may have been replaced in between (hostile-inputs class 22).
    """

    path: str
    descriptor: Descriptor
    identity: tuple[int, int]


def find_chain(
    path: StrPath,
    descriptor: Descriptor,
    *,
    search: Sequence[StrPath] = (),
    allow_outside: bool = False,
    storage: Storage = DEFAULT,
) -> tuple[Member, ...]:
    """Return the chain of a disk, newest first: itself, its parent and so on to the base. Whether
    all have the same size shows when they are opened: a header may know better than a descriptor.

    Args:
        path, descriptor: the disk. search: directories in which parents may lie, beside the folder
            of each delta. allow_outside: follow hints and links that lead anywhere else, too.

    Raises:
        IncompleteError: a parent is not there. FormatError: a parent was changed after the delta
        was made, or the chain leads back to itself. LimitError: it is too long, or the directories
        have too many files. RequestError: several files could be the parent. StorageError: a
        directory cannot be read.
    """
    finder = _Finder(search, allow_outside, storage)
    info = storage.stat(path)
    chain = [Member(os.fspath(path), descriptor, (info.device, info.inode))]
    while (child := chain[-1]).descriptor.parent_cid != NO_PARENT:
        if len(chain) >= DEPTH_MAX:
            raise LimitError(f"{chain[0].path}: a chain of over {DEPTH_MAX} disks")
        chain.append(finder.parent(child, chain))
    return tuple(chain)


class _Finder:
    """Looks into every directory once, when it is first needed."""

    def __init__(self, search: Sequence[StrPath], outside: bool, storage: Storage) -> None:
        self._search = [os.fspath(each) for each in search]
        self._outside, self._storage = outside, storage
        self._listed: dict[str, list[Member]] = {}
        self._left = FILES_MAX

    def parent(self, child: Member, chain: Sequence[Member]) -> Member:
        """The parent of ``child``; what is in the chain already cannot be it."""
        roots = [os.path.dirname(child.path) or os.curdir, *self._search]
        # A link to a disk stands for the disk: its own folder is where the link leads.
        roots.append(os.path.dirname(self._storage.resolve(child.path)))
        wanted, used = child.descriptor.parent_cid, {each.identity for each in chain}
        doubts: list[AipImageError] = []
        for number, path in enumerate(_hinted(child.descriptor, roots)):
            try:
                found = self._member(path, roots)
            except AipImageError as error:
                doubts.append(error)
                continue
            if found is None or (number and found.identity == child.identity):
                # A parent elsewhere may well have the delta's own last name.
                continue
            if found.identity in used:
                doubts.append(_loop(child, found))
            elif found.descriptor.cid != wanted:
                doubts.append(_changed(child, found))
            else:
                return found
        others = {each.identity: each for root in roots for each in self._of(root, wanted, roots)}
        # Until the first write ESX gives a delta the CID of its parent: no loop.
        others.pop(child.identity, None)
        fitting = [each for identity, each in others.items() if identity not in used]
        return _only(child, fitting, [*doubts, *(_loop(child, each) for each in others.values())])

    def _of(self, root: str, cid: int, roots: list[str]) -> Iterator[Member]:
        """The disks with a CID in a directory."""
        if root not in self._listed:
            self._listed[root] = list(self._disks(root, roots))
        return (each for each in self._listed[root] if each.descriptor.cid == cid)

    def _disks(self, root: str, roots: list[str]) -> Iterator[Member]:
        for name in self._storage.list_directory(root):
            self._left -= 1
            if self._left < 0:
                raise LimitError(
                    f"{root}: over {FILES_MAX} files to look for parents in; move the disks of the "
                    "chain into a directory of their own"
                )
            try:
                found = self._member(os.path.join(root, name), roots)
            except AipImageError:
                # Whatever else lies there, damaged or not readable: not what is looked for.
                continue
            if found is not None:
                yield found

    def _member(self, path: str, roots: list[str]) -> Member | None:
        """The disk in a file; ``None`` where there is no regular file, or one outside.

        Raises:
            FormatError: it is not a disk, or is damaged. StorageError: it cannot be read.
        """
        try:
            info = self._storage.stat(path)
        except (StorageError, RequestError):
            return None
        if not info.is_regular or not (self._outside or self._inside(path, roots)):
            return None
        with self._storage.open_read(path) as file:
            info = file.info()
            descriptor = descriptor_in(file)
        if descriptor is None:
            raise FormatError(f"{path}: is not a virtual disk with a descriptor")
        return Member(path, descriptor, (info.device, info.inode))

    def _inside(self, path: str, roots: list[str]) -> bool:
        """Whether a path, with all links followed, lies below one of the directories."""
        real = self._storage.resolve(path)
        tops = (self._storage.resolve(root).rstrip(os.sep) + os.sep for root in roots)
        return any(real.startswith(top) for top in tops)


def descriptor_in(file: File) -> Descriptor | None:
    """Return the descriptor that a file is, or that is embedded in it; ``None`` for other files.

    Raises:
        FormatError: damaged. StorageError: it cannot be read.
    """
    head = file.pread(HEAD, 0)
    if looks_like_descriptor(head):
        # One byte more than is possible, so that what is too long is refused and not cut.
        return parse_descriptor(file.pread(min(file.size(), TEXT_MAX + 1), 0), file.name)
    if head[:4] != SPARSE_MAGIC or len(head) < SECTOR:
        return None
    header = decode_sparse_header(head[:SECTOR], file.name)
    if not header.descriptor_offset:
        return None
    start = header.descriptor_offset * SECTOR
    length = min(header.descriptor_size * SECTOR, TEXT_MAX, max(file.size() - start, 0))
    return parse_descriptor(
        file.pread(length, start), file.name, embedded=True, create_type=embedded_type(header)
    )


def _hinted(child: Descriptor, roots: list[str]) -> list[str]:
    """Where a hint may lead: as it stands, then its last name in each directory; in each spelling
    that the encoding of the descriptor gives it.
    """
    if child.parent_hint is None:
        return []
    codec, paths = codec_named(child.encoding), []
    for hint in (child.parent_hint, *other_spellings(child.parent_hint, child.parent_hint, codec)):
        base = re.split(r"[/\\]", hint)[-1]
        if base not in ("", os.curdir, os.pardir):
            paths.append(os.path.join(roots[0], hint.replace("\\", "/")))
            paths += [os.path.join(root, base) for root in roots]
    return list(dict.fromkeys(paths))


def _only(child: Member, fitting: list[Member], doubts: list[AipImageError]) -> Member:
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        names = " and ".join(each.path for each in fitting[:2])
        raise RequestError(
            f"{child.path}: {names} both have the CID {child.descriptor.parent_cid:08x} of its "
            "parent; move the wrong one to another directory"
        )
    if doubts:
        raise doubts[0]
    hint = child.descriptor.parent_hint
    raise IncompleteError(
        f"{child.path}: its parent{f' {hint!r}' if hint else ''} with the CID "
        f"{child.descriptor.parent_cid:08x} is neither beside it nor in the directories to search; "
        "pass the parent's directory"
    )


def _changed(child: Member, parent: Member) -> FormatError:
    return FormatError(
        f"{parent.path}: was changed after the delta {child.path} was made: its CID is "
        f"{parent.descriptor.cid:08x}, not {child.descriptor.parent_cid:08x}; take the parent from "
        "a backup"
    )


def _loop(child: Member, parent: Member) -> FormatError:
    if child.identity == parent.identity:
        return FormatError(f"{child.path}: says that it is its own parent")
    return FormatError(f"{child.path}: its parent {parent.path} is built on it")
