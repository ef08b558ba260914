"""Reading an OVA: its members, as files of a storage, and its disks, as block sources.

Nothing is unpacked. A member is a range of the archive that is read like a file of its own; so
whatever reads a virtual disk reads it in there, too.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import TracebackType
from typing import TYPE_CHECKING

from aipimage.errors import FormatError, LimitError, RequestError, StorageError, UnsupportedError
from aipimage.io.storage import DEFAULT, File, FileInfo, Storage, StrPath, flat_view
from aipimage.vmdk.descriptor import NO_PARENT
from aipimage.vmdk.opening import open_vmdk
from aipimage.vmdk.ovf import tar
from aipimage.vmdk.ovf.manifest import MANIFEST_MAX, ManifestLine, decode_manifest, new_digest
from aipimage.vmdk.ovf.parsing import ENVELOPE_MAX, DiskReference, Envelope, decode_envelope
from aipimage.vmdk.source import VmdkSource

if TYPE_CHECKING:
    from typing_extensions import Buffer

MEMBERS_MAX = 4096
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Member:
    """A file in the archive: where its content begins, and its bytes."""

    name: str
    offset: int
    size: int


def read_members(file: File) -> tuple[Member, ...]:
    """Return the files of a tar archive in their order.

    Raises:
        FormatError: no tar, damaged, cut short, or two members of one name.
        UnsupportedError: an entry that is no file. LimitError: too many.
    """
    total, at = file.size(), 0
    found: dict[str, Member] = {}
    extended: bytes | None = None
    # Every turn goes on by a block at least, and members are bounded too: so is the loop.
    for _ in range(2 * MEMBERS_MAX):
        header = tar.decode_tar_header(file.pread(tar.BLOCK, at), file.name)
        if header is None:
            # A second block of zeros: without it, something may have stood behind.
            if tar.decode_tar_header(file.pread(tar.BLOCK, at + tar.BLOCK), file.name) is None:
                return tuple(found.values())
            raise FormatError(f"{file.name}: the tar archive has a block of zeros inside")
        at += tar.BLOCK
        if extended is not None:
            header, extended = tar.decode_pax(extended, header, file.name), None
        end = tar.verified_end(at, header.size, total, file.name)
        if header.is_pax:
            extended = file.pread(tar.verified_pax_size(header.size, file.name), at)
        elif header.is_file:
            if header.name in found:
                raise FormatError(f"{file.name}: has two members called {header.name!r}")
            found[header.name] = Member(header.name, at, header.size)
        at = end + tar.padding(header.size)
    raise LimitError(f"{file.name}: an OVA with over {MEMBERS_MAX} members")


class MemberFile(File):
    """A member of an archive, read like a file; writing to it is not possible."""

    def __init__(self, archive: File, member: Member) -> None:
        self.name = f"{archive.name}/{member.name}"
        self.is_block_device = False
        self._archive, self._member = archive, member

    def info(self) -> FileInfo:
        """As of the archive, with the member's own size."""
        return replace(self._archive.info(), size=self._member.size)

    def size(self) -> int:
        """Bytes of the member."""
        return self._member.size

    def pread_into(self, buffer: Buffer, offset: int) -> int:
        """Fill `buffer` from `offset` of the member; fewer bytes only at its end."""
        view = flat_view(buffer)
        length = max(0, min(view.nbytes, self._member.size - offset))
        return self._archive.pread_into(view[:length], self._member.offset + offset)

    def advise_sequential(self) -> None:
        """Do nothing: another member may be read elsewhere."""

    def seek_data(self, offset: int) -> int | None:
        """All of it is data."""
        return offset if offset < self._member.size else None

    def seek_hole(self, offset: int) -> int | None:
        """The end of the member."""
        return self._member.size if offset < self._member.size else None

    def close(self) -> None:
        """Do nothing: the archive is closed as a whole."""


class ArchiveStorage(Storage):
    """The members of an archive, as if they lay in a directory of its name; for reading only."""

    def __init__(self, archive: File, members: tuple[Member, ...]) -> None:
        super().__init__()
        self._archive = archive
        self._members = {os.path.join(archive.name, each.name): each for each in members}

    def open_read(self, path: StrPath) -> File:
        """Open a member; ``StorageError`` where there is none of that name."""
        member = self._members.get(os.fspath(path))
        if member is None:
            raise StorageError(f"{os.fspath(path)}: is not in the archive", errno.ENOENT)
        return MemberFile(self._archive, member)

    def stat(self, path: StrPath) -> FileInfo:
        """What is known of a member; ``StorageError`` likewise."""
        if os.fspath(path) == self._archive.name:
            return replace(self._archive.info(), is_regular=False, is_directory=True)
        with self.open_read(path) as file:
            return file.info()

    def resolve(self, path: StrPath) -> str:
        """The path itself: there are no links in an archive."""
        return os.fspath(path)

    def list_directory(self, path: StrPath) -> list[str]:
        """Names of the members."""
        return sorted(each.name for each in self._members.values())


class OvaFile:
    """An OVA that is open for reading.

    Attributes:
        name: its path. members: in order. envelope: its descriptor. manifest: its digests, empty
            where there is none.
    """

    def __init__(self, file: File) -> None:
        """Take over ``file``; see :func:`open_ova` for the errors."""
        self.name, self._file = file.name, file
        self.members = read_members(file)
        self._by_name = {each.name: each for each in self.members}
        descriptor = self._only(".ovf")
        if descriptor is None:
            raise FormatError(f"{self.name}: is no OVA: there is no .ovf file in it")
        self.envelope: Envelope = decode_envelope(
            self._content(descriptor, ENVELOPE_MAX), f"{self.name}/{descriptor.name}"
        )
        manifest = self._only(".mf")
        self.manifest: tuple[ManifestLine, ...] = ()
        if manifest is not None:
            data = self._content(manifest, MANIFEST_MAX)
            self.manifest = decode_manifest(data, f"{self.name}/{manifest.name}")

    def __enter__(self) -> OvaFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:  # fmt: skip
        self.close()

    @property
    def disks(self) -> tuple[DiskReference, ...]:
        """Disks that lie in a file of the package."""
        return tuple(disk for disk in self.envelope.disks if disk.file is not None)

    def open_disk(self, number: int) -> VmdkSource:
        """Open a disk, by its number among ``disks`` from 0, which must be closed before this is.

        Raises:
            RequestError: there is no such one. FormatError: the file is not in the archive, has
                another size than the descriptor says, or is no virtual disk.
            UnsupportedError: the disk is no VMDK, or builds on a parent, without which what it does
                not have would read as zeros.
        """
        if not 0 <= number < len(self.disks):
            raise RequestError(f"{self.name}: has {len(self.disks)} disks, and no number {number}")
        disk = self.disks[number]
        assert disk.file is not None
        if "vmdk" not in disk.format.lower() and not disk.file.href.lower().endswith(".vmdk"):
            raise UnsupportedError(f"{self.name}: {disk.file.href}: only VMDK disks are read")
        if disk.parent is not None:
            raise self._builds_on_parent(disk.file.href)
        member = self._by_name.get(disk.file.href)
        if member is None:
            raise FormatError(f"{self.name}: {disk.file.href} is named, and not in the archive")
        if disk.file.size not in (None, member.size):
            raise FormatError(
                f"{self.name}: {member.name} has {member.size} bytes, and the descriptor says "
                f"{disk.file.size}"
            )
        path = os.path.join(self.name, member.name)
        storage = ArchiveStorage(self._file, self.members)
        source = open_vmdk(path, parents=False, storage=storage)
        if source.descriptor.parent_cid != NO_PARENT:
            source.close()
            raise self._builds_on_parent(member.name)
        return source

    def _builds_on_parent(self, name: str) -> UnsupportedError:
        return UnsupportedError(
            f"{self.name}: {name} builds on a parent disk; import it with its own product"
        )

    def damaged(self) -> Iterator[str]:
        """Read all that the manifest names, and yield the names of what is missing or has another
        digest.
        """
        for line in self.manifest:
            member = self._by_name.get(line.name)
            if member is None or self._digest(member, line.algorithm) != line.digest:
                yield line.name

    def close(self) -> None:
        """Close the archive; a second call does nothing."""
        self._file.close()

    def _only(self, ending: str) -> Member | None:
        """The first member whose name ends so: of descriptors, importers take the first too."""
        found = (each for each in self.members if each.name.lower().endswith(ending))
        return next(found, None)

    def _content(self, member: Member, limit: int) -> bytes:
        if member.size > limit:
            raise LimitError(f"{self.name}: {member.name} has {member.size} bytes, over {limit}")
        return MemberFile(self._file, member).pread(member.size, 0)

    def _digest(self, member: Member, algorithm: str) -> str:
        file, digest = MemberFile(self._file, member), new_digest(algorithm)
        for at in range(0, member.size, _CHUNK):
            digest.update(file.pread(min(_CHUNK, member.size - at), at))
        return digest.hexdigest()


def open_ova(path: StrPath, *, storage: Storage = DEFAULT) -> OvaFile:
    """Open an OVA to read its disks.

    Raises:
        FormatError: it is none, or damaged. UnsupportedError: made in a way that is not read.
        LimitError: a number is over a limit. StorageError, RequestError: it cannot be opened.
    """
    file = storage.open_read(path)
    try:
        return OvaFile(file)
    except BaseException:
        file.close()
        raise
