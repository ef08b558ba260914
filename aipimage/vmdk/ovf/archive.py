"""Reading an appliance: its members, as files of a storage, and its disks, as block sources.

Nothing is unpacked. A member of an archive is a range that is read like a file of its own; so
whatever reads a virtual disk reads it in there, too. What is not needed to find the disks is never
a reason to refuse an appliance: it is a warning, and a check judges it.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator
from types import TracebackType

from aipimage.errors import FormatError, LimitError, RequestError, UnsupportedError
from aipimage.io.blocks.containers import HEAD, container_of
from aipimage.io.system.storage import DEFAULT, Storage, StrPath
from aipimage.vmdk.descriptor import NO_PARENT
from aipimage.vmdk.opening import open_vmdk
from aipimage.vmdk.ovf.contents import Beside, Contents, Tarred
from aipimage.vmdk.ovf.locating import Package
from aipimage.vmdk.ovf.manifest import MANIFEST_MAX, ManifestLine, decode_manifest, new_digest
from aipimage.vmdk.ovf.members import Member
from aipimage.vmdk.ovf.parsing import ENVELOPE_MAX, DiskReference, Envelope, decode_envelope
from aipimage.vmdk.ovf.storage import ArchiveStorage, MemberFile
from aipimage.vmdk.source import VmdkSource

_CHUNK = 1 << 20


class OvaFile:
    """An appliance that is open for reading: an OVA, or a descriptor with its files beside it.

    Attributes:
        name: its path. members: its files, in order. envelope: its descriptor. manifest: its
            digests, empty where there is none. warnings: sentences on what is not as it should be.
        faults: those of them that are about the archive itself; none of a folder.
    """

    def __init__(self, contents: Contents) -> None:
        """Take over what lies where; see :func:`open_ova` and :func:`open_ovf` for the errors."""
        self.name, self._contents, self._file = contents.name, contents, contents.file
        descriptor = contents.descriptor
        self.envelope: Envelope = decode_envelope(
            self._content(descriptor, ENVELOPE_MAX), self.path_of(descriptor)
        )
        self.manifest, doubts = self._digests(contents.manifest)
        names = [each.href for each in self.envelope.files]
        listing = contents.listing([*names, *(each.name for each in self.manifest)])
        self.members: tuple[Member, ...] = listing.files
        self._package = Package(
            self.name, posixpath.dirname(descriptor.name), listing, contents.missing
        )
        self.faults: tuple[str, ...] = contents.warnings
        self.warnings: tuple[str, ...] = (
            *self.faults,
            *self.envelope.warnings,
            *doubts,
            *self._not_there(contents.manifest),
            *contents.others,
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
            RequestError: there is no such disk. FormatError: the file is not there, leads
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
        source = open_vmdk(self.path_of(member), parents=False, storage=self.storage(member))
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
        """The files of the appliance, and those that were joined from chunks."""
        return ArchiveStorage(self._file, (*self.members, *joined))

    def path_of(self, member: Member) -> str:
        """The path of a member: of one in an archive, as if that were a folder."""
        return os.path.join(self._file.name, member.name)

    @property
    def files(self) -> tuple[str, ...]:
        """Paths of the files that the appliance lies in."""
        return self._contents.paths(self.members)

    @property
    def size(self) -> int:
        """Bytes of these files."""
        return self._file.size()

    @property
    def is_in_order(self) -> bool:
        """Whether the descriptor comes first, as importers want it that read while they receive."""
        return self.members[0].name.lower().endswith(".ovf") or isinstance(self._contents, Beside)

    def _disk(self, number: int) -> DiskReference:
        if not 0 <= number < len(self.disks):
            raise RequestError(f"{self.name}: has {len(self.disks)} disks, and no disk {number}")
        return self.disks[number]

    def _refuse_other_kinds(self, disk: DiskReference, member: Member) -> None:
        """Refuse what is compressed or no VMDK: by what is said of it, and by its first bytes."""
        assert disk.file is not None
        unpacking = self._contents.unpacking
        found = container_of(MemberFile(self._file, member).pread(HEAD, 0), b"")
        if found is not None and found.is_compressed:
            raise UnsupportedError(
                f"{self.name}: {member.name} is {found.name}: {unpacking}{found.advice}, and pass "
                "the disk itself"
            )
        vmdk = found is not None and found.name.startswith("a VMDK")
        if disk.file.compression and not vmdk:
            raise UnsupportedError(
                f"{self.name}: {member.name} is compressed ({disk.file.compression[:40]!r}): "
                f"{unpacking}unpack it, and pass the disk itself"
            )
        if "vmdk" not in disk.format.lower() and not disk.file.href.lower().endswith(".vmdk"):
            what = f", and this begins like {found.name}" if found is not None else ""
            raise UnsupportedError(
                f"{self.name}: {member.name}: only VMDK disks are read{what}; {unpacking}convert it"
            )

    def _builds_on_parent(self, name: str) -> UnsupportedError:
        return UnsupportedError(
            f"{self.name}: {name} builds on a parent disk; import it with its own product"
        )

    def damaged(self) -> Iterator[str]:
        """Read all that the manifest names, and yield the names of what is missing or has another
        digest.
        """
        seen: set[str] = set()
        for line in self.manifest:
            if line.name not in seen and not self._holds(line):
                seen.add(line.name)
                yield line.name

    def _holds(self, line: ManifestLine) -> bool:
        try:
            member = self._package.member(line.name)
        except FormatError:
            return False
        return member is not None and self._digest(member, line.algorithm) == line.digest

    def close(self) -> None:
        """Close all files; a second call does nothing."""
        self._file.close()

    def _digests(self, member: Member | None) -> tuple[tuple[ManifestLine, ...], tuple[str, ...]]:
        """What the manifest says, and doubts about it."""
        if member is None:
            return (), ()
        try:
            return decode_manifest(self._content(member, MANIFEST_MAX), self.path_of(member))
        except LimitError as error:
            return (), (str(error),)

    def _not_there(self, manifest: Member | None) -> Iterator[str]:
        for missing in dict.fromkeys(each.name for each in self.manifest):
            assert manifest is not None
            try:
                member = self._package.member(missing)
            except FormatError as error:
                yield str(error)
                continue
            if member is None:
                yield (
                    f"{self.path_of(manifest)}: names {missing[:80]!r}, which is not in the "
                    "appliance"
                )

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
        FormatError: it is not one, or damaged.
        LimitError: a number is over a limit. StorageError, RequestError: it cannot be opened.
    """
    file = storage.open_read(path)
    try:
        return OvaFile(Tarred(file))
    except BaseException:
        file.close()
        raise


def open_ovf(path: StrPath, *, storage: Storage = DEFAULT) -> OvaFile:
    """Open a descriptor to read the disks beside it; errors as :func:`open_ova`.

    Files that it names lie in its own folder: not in one below it, and links are not followed.
    """
    contents = Beside(os.fspath(path), storage)
    try:
        return OvaFile(contents)
    except BaseException:
        contents.file.close()
        raise
