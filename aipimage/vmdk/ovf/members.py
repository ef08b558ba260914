"""What is in a tar archive: its files, each as the places where its bytes lie.

Nothing is unpacked. A file is a range of the archive; of a sparse one, and of one that lies in the
archive in chunks, several ranges.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from aipimage.errors import FormatError, LimitError
from aipimage.io.system.storage import File, FileInfo
from aipimage.vmdk.ovf import tar
from aipimage.vmdk.ovf.tarsparse import SparseMap, old_gnu_map, pax_map, verified_pieces

MEMBERS_MAX = 4096


@dataclass(frozen=True, slots=True)
class Member:
    """A file in the archive.

    Attributes:
        name: as in the archive, without ``./`` in front. offset: where its content begins. size:
            its bytes. pieces: (offset in the file, offset in the archive, length) of each range,
            ascending, where it is not one range; what lies between them is zeros. info: what the
            system knows of it, where it is a file of its own.
    """

    name: str
    offset: int
    size: int
    pieces: tuple[tuple[int, int, int], ...] | None = None
    info: FileInfo | None = field(default=None, compare=False)

    @property
    def ranges(self) -> tuple[tuple[int, int, int], ...]:
        """The pieces, of a file in one range too."""
        return ((0, self.offset, self.size),) if self.pieces is None else self.pieces


@dataclass(frozen=True, slots=True)
class Listing:
    """What an archive holds.

    Attributes:
        files: in their order. others: what is not a file, by its name, in words. twice: names
            that several files have. warnings: sentences on what is not as it should be.
    """

    files: tuple[Member, ...]
    others: Mapping[str, str]
    twice: frozenset[str]
    warnings: tuple[str, ...]


def clean_name(name: str) -> str:
    """Return the name of a member without what says nothing: ``./``, doubled and leading slashes.
    No name is ever used for a path: it is only compared.
    """
    return "/".join(part for part in re.split("/+", name) if part not in ("", "."))


def list_members(file: File) -> Listing:
    """Return what a tar archive holds.

    Raises:
        FormatError: not a tar, damaged, or cut short in a file. LimitError: too many members.
    """
    return _Walk(file).run()


class _Walk:
    """Goes from header to header."""

    def __init__(self, file: File) -> None:
        self._file, self._total = file, file.size()
        self._files: dict[str, Member] = {}
        self._others: dict[str, str] = {}
        self._twice: set[str] = set()
        self._warnings: list[str] = []
        # What the headers before an entry say of it.
        self._long_name: str | None = None
        self._records: list[tuple[bytes, bytes]] = []

    def run(self) -> Listing:
        at = 0
        if not self._total:
            raise FormatError(
                f"{self._file.name}: is empty (0 bytes); get it again from where it came"
            )
        # Every turn advances by a block at least, and members are bounded too: so is the loop.
        for _ in range(3 * MEMBERS_MAX):
            block = self._read(tar.BLOCK, at)
            if at and self._ends(block, at):
                return self._listing()
            header = tar.decode_tar_header(block, self._file.name)
            if header is None:
                raise FormatError(f"{self._file.name}: is not an OVA: it begins with zeros")
            at = self._entry(header, block, at + tar.BLOCK)
            if len(self._files) + len(self._others) > MEMBERS_MAX:
                break
        raise LimitError(f"{self._file.name}: an OVA with over {MEMBERS_MAX} members")

    def _read(self, length: int, offset: int) -> bytes:
        return self._file.pread(length, offset)

    def _ends(self, block: bytes, at: int) -> bool:
        """Whether the archive ends here: by two blocks of zeros, or as its makers left it."""
        if any(block) or (0 < len(block) < tar.BLOCK and self._records):
            return False
        if self._records or self._long_name is not None:
            raise FormatError(f"{self._file.name}: the tar archive is cut short")
        second = self._read(tar.BLOCK, at + tar.BLOCK)
        if any(second):
            # GNU tar stops here, too. What would follow is not looked at.
            self._warn("the tar archive ends at a single block of zeros; bytes follow it")
        elif len(block) + len(second) < 2 * tar.BLOCK:
            self._warn("the tar archive has no end; it may have been cut short between two files")
        return True

    def _warn(self, text: str) -> None:
        self._warnings.append(f"{self._file.name}: {text}")

    def _entry(self, header: tar.TarHeader, block: bytes, at: int) -> int:
        """Take one entry, whose content is at ``at``; return where the next header is."""
        name = self._file.name
        if header.is_pax or header.is_long_name:
            end = tar.verified_end(at, header.size, self._total, name)
            data = self._read(tar.verified_pax_size(header.size, name), at)
            if header.is_pax:
                self._records += tar.pax_records(data, name)
            else:
                self._long_name = tar.decode_name(data)
            return end + tar.padding(header.size)
        if header.is_remark:
            return tar.verified_end(at, header.size, self._total, name) + tar.padding(header.size)
        if self._long_name is not None:
            header = replace(header, name=self._long_name)
        header = tar.with_pax(self._records, header, name)
        end = self._member(header, block, at)
        self._records, self._long_name = [], None
        return end

    def _member(self, header: tar.TarHeader, block: bytes, at: int) -> int:
        name, stored = self._file.name, header.size
        found: SparseMap | None = None
        if header.is_sparse:
            found = old_gnu_map(block, self._read, at, name)
            # Of this form the size is that of the content, without the map.
            stored += found.taken
        end = tar.verified_end(at, stored, self._total, name)
        if found is None:
            found = pax_map(self._records, self._read, at, stored, name)
        if found is not None:
            pieces = verified_pieces(found, at, stored, name)
            called = clean_name(found.name or header.name)
            self._add(Member(called, at + found.taken, found.size, pieces))
        elif header.is_file:
            self._add(Member(clean_name(header.name), at, stored))
        else:
            what = tar.KINDS.get(header.kind, f"an entry of the unknown type {header.kind!r}")
            self._others[clean_name(header.name)] = what
        return end + tar.padding(stored)

    def _add(self, member: Member) -> None:
        if member.name in self._files:
            self._twice.add(member.name)
            return
        self._files[member.name] = member

    def _listing(self) -> Listing:
        return Listing(
            tuple(self._files.values()), self._others, frozenset(self._twice), tuple(self._warnings)
        )
