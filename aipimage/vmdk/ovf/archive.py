"""Reading an OVA: its members, as files of a storage, and its disks, as block sources.

Nothing is unpacked. A member is a range of the archive that is read like a file of its own; so
whatever reads a virtual disk reads it in there, too. What is not needed to find the disks is never
a reason to refuse an appliance: it is a warning, and a check judges it.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator
from types import TracebackType

from aipimage.errors import FormatError, LimitError, RequestError, UnsupportedError
from aipimage.io.blocks.containers import container_of
from aipimage.io.system.storage import DEFAULT, File, Storage, StrPath
from aipimage.vmdk.descriptor import NO_PARENT
from aipimage.vmdk.opening import open_vmdk
from aipimage.vmdk.ovf.locating import Package
from aipimage.vmdk.ovf.manifest import MANIFEST_MAX, ManifestLine, decode_manifest, new_digest
from aipimage.vmdk.ovf.members import Listing, Member, list_members
from aipimage.vmdk.ovf.parsing import ENVELOPE_MAX, DiskReference, Envelope, decode_envelope
from aipimage.vmdk.ovf.storage import ArchiveStorage, MemberFile
from aipimage.vmdk.source import VmdkSource

_CHUNK = 1 << 20


class OvaFile:
    """An OVA that is open for reading.

    Attributes:
        name: its path. members: in order. envelope: its descriptor. manifest: its digests, empty
            where there is none. warnings: sentences on what is not as it should be.
        faults: those of them that are about the archive itself.
    """

    def __init__(self, file: File) -> None:
        """Take over ``file``; see :func:`open_ova` for the errors."""
        self.name, self._file = file.name, file
        listing = _listed(file)
        self.members: tuple[Member, ...] = listing.files
        descriptor = self._descriptor(listing)
        self._package = Package(self.name, posixpath.dirname(descriptor.name), listing)
        self.envelope: Envelope = decode_envelope(
            self._content(descriptor, ENVELOPE_MAX), f"{self.name}/{descriptor.name}"
        )
        self.manifest, doubts = self._digests(descriptor)
        self.faults: tuple[str, ...] = listing.warnings
        several = self._of_kind(".ovf")[1:]
        self.warnings: tuple[str, ...] = (
            *self.faults,
            *self.envelope.warnings,
            *doubts,
            *(
                f"{self.name}: {each.name} is not read: {descriptor.name} comes first"
                for each in several
            ),
        )

    def __enter__(self) -> OvaFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def disks(self) -> tuple[DiskReference, ...]:
        """Disks that lie in a file of the package."""
        return tuple(disk for disk in self.envelope.disks if disk.file is not None)

    def open_disk(self, number: int) -> VmdkSource:
        """Open a disk, by its number among ``disks`` from 0, which must be closed before this is.

        Raises:
            RequestError: there is no such one. FormatError: the file is not in the archive, leads
                out of it, or is not a virtual disk. IncompleteError: a chunk of it is missing.
            UnsupportedError: the disk is not a VMDK, is compressed, or builds on a parent, without
                which what it does not have would read as zeros.
        """
        disk = self._disk(number)
        assert disk.file is not None
        member, odd = self.located(number)
        if disk.parent is not None:
            raise self._builds_on_parent(member.name)
        self._refuse_other_kinds(disk, member)
        path = os.path.join(self.name, member.name)
        source = open_vmdk(path, parents=False, storage=self.storage(member))
        if source.descriptor.parent_cid != NO_PARENT:
            source.close()
            raise self._builds_on_parent(member.name)
        source.members[0].warnings += tuple(odd)
        return source

    def located(self, number: int) -> tuple[Member, list[str]]:
        """The file of a disk, whose chunks are joined, and sentences on what is odd about it;
        errors as ``open_disk``.
        """
        disk = self._disk(number)
        assert disk.file is not None
        return self._package.disk_file(disk.file)

    def storage(self, *joined: Member) -> ArchiveStorage:
        """The files of the archive, and those that were joined from chunks."""
        return ArchiveStorage(self._file, (*self.members, *joined))

    def _disk(self, number: int) -> DiskReference:
        if not 0 <= number < len(self.disks):
            raise RequestError(f"{self.name}: has {len(self.disks)} disks, and no number {number}")
        return self.disks[number]

    def _refuse_other_kinds(self, disk: DiskReference, member: Member) -> None:
        """Refuse what is compressed or no VMDK: by what is said of it, and by its first bytes."""
        assert disk.file is not None
        file = MemberFile(self._file, member)
        found = container_of(file.pread(_CHUNK, 0), b"")
        if found is not None and found.is_compressed:
            raise UnsupportedError(
                f"{self.name}: {member.name} is {found.name}: take it out of the appliance "
                f"(tar -xf), {found.advice}, and give the disk itself"
            )
        vmdk = found is not None and found.name.startswith("a VMDK")
        if disk.file.compression and not vmdk:
            raise UnsupportedError(
                f"{self.name}: {member.name} is compressed ({disk.file.compression[:40]!r}): "
                "take it out of the appliance (tar -xf), unpack it, and give the disk itself"
            )
        if "vmdk" not in disk.format.lower() and not disk.file.href.lower().endswith(".vmdk"):
            what = f", and this begins like {found.name}" if found is not None else ""
            raise UnsupportedError(
                f"{self.name}: {member.name}: only VMDK disks are read{what}; take it out of the "
                "appliance (tar -xf) and convert it"
            )

    def _builds_on_parent(self, name: str) -> UnsupportedError:
        return UnsupportedError(
            f"{self.name}: {name} builds on a parent disk; import it with its own product"
        )

    def damaged(self) -> Iterator[str]:
        """Read all that the manifest names, and yield the names of what is missing or has another
        digest.
        """
        told: set[str] = set()
        for line in self.manifest:
            if line.name not in told and not self._holds(line):
                told.add(line.name)
                yield line.name

    def _holds(self, line: ManifestLine) -> bool:
        try:
            member = self._package.member(line.name)
        except FormatError:
            return False
        return member is not None and self._digest(member, line.algorithm) == line.digest

    def close(self) -> None:
        """Close the archive; a second call does nothing."""
        self._file.close()

    def _of_kind(self, ending: str) -> list[Member]:
        """Members whose names end so, but for those in which macOS keeps attributes of files."""
        return [
            each
            for each in self.members
            if each.name.lower().endswith(ending)
            and not posixpath.basename(each.name).startswith("._")
        ]

    def _descriptor(self, listing: Listing) -> Member:
        """The first descriptor: of several, importers take it too."""
        found = self._of_kind(".ovf")
        if not found:
            raise FormatError(f"{self.name}: is not an OVA: there is no .ovf file in it")
        if found[0].name in listing.twice:
            raise FormatError(f"{self.name}: has two members called {found[0].name!r}")
        return found[0]

    def _digests(self, descriptor: Member) -> tuple[tuple[ManifestLine, ...], list[str]]:
        """The manifest that is called like the descriptor, or the first; and doubts about it."""
        found = self._of_kind(".mf")
        if not found:
            return (), []
        stem = posixpath.splitext(descriptor.name)[0]
        found.sort(key=lambda each: posixpath.splitext(each.name)[0] != stem)
        name = f"{self.name}/{found[0].name}"
        try:
            lines, doubts = decode_manifest(self._content(found[0], MANIFEST_MAX), name)
        except LimitError as error:
            return (), [str(error)]
        return lines, [*doubts, *self._not_there(lines, name)]

    def _not_there(self, lines: tuple[ManifestLine, ...], name: str) -> Iterator[str]:
        for missing in dict.fromkeys(each.name for each in lines):
            try:
                member = self._package.member(missing)
            except FormatError as error:
                yield str(error)
                continue
            if member is None:
                yield f"{name}: names {missing[:80]!r}, which is not in the archive"

    def _content(self, member: Member, limit: int) -> bytes:
        if member.size > limit:
            raise LimitError(f"{self.name}: {member.name} has {member.size} bytes, over {limit}")
        return MemberFile(self._file, member).pread(member.size, 0)

    def _digest(self, member: Member, algorithm: str) -> str:
        file, digest = MemberFile(self._file, member), new_digest(algorithm)
        for at in range(0, member.size, _CHUNK):
            digest.update(file.pread(min(_CHUNK, member.size - at), at))
        return digest.hexdigest()


def _listed(file: File) -> Listing:
    """The members; ``FormatError`` says what a file is that is not a tar."""
    try:
        return list_members(file)
    except FormatError as error:
        found = container_of(file.pread(_CHUNK, 0), b"")
        if found is None or found.is_archive:
            raise
        raise FormatError(
            f"{file.name}: is not an OVA: it begins like {found.name}; {found.advice}"
        ) from error


def open_ova(path: StrPath, *, storage: Storage = DEFAULT) -> OvaFile:
    """Open an OVA to read its disks.

    Raises:
        FormatError: it is not one, or damaged.
        LimitError: a number is over a limit. StorageError, RequestError: it cannot be opened.
    """
    file = storage.open_read(path)
    try:
        return OvaFile(file)
    except BaseException:
        file.close()
        raise
