"""Where the files of an appliance lie: in a tar archive, or beside the descriptor.

Both are read alike, as ranges of one file: that of the archive, or one that the files beside the
descriptor are laid out in, one after the other. Names are only compared with those that are there:
none is ever used for a path of the system (hostile-inputs 21, 36).
"""

from __future__ import annotations

import os
import posixpath
from abc import ABC, abstractmethod
from collections.abc import Iterable

from aipimage.errors import FormatError, LimitError
from aipimage.io.blocks.containers import HEAD, container_of
from aipimage.io.system.storage import File, Storage
from aipimage.vmdk.ovf.beside import FolderFile
from aipimage.vmdk.ovf.locating import Wanted, folded
from aipimage.vmdk.ovf.members import MEMBERS_MAX, Listing, Member, list_members


class Contents(ABC):
    """The files of an appliance.

    Attributes:
        name: of the appliance, for messages. file: what all files are ranges of; closed with the
            appliance. descriptor: the one that counts. manifest: the one that belongs to it, or
            ``None``. warnings: sentences on the archive, which are faults of it. others: sentences
            on files that are not read. unpacking: how to get at a file, as the beginning of advice.
            missing: what to do about a file that is not there.
    """

    name: str
    file: File
    descriptor: Member
    manifest: Member | None
    warnings: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    unpacking: str = ""
    missing: str = ""

    @abstractmethod
    def listing(self, names: Iterable[str]) -> Listing:
        """Return the files, once it is known which ``names`` descriptor and manifest have.

        Raises:
            LimitError: they are too many. StorageError: the folder cannot be looked at.
        """

    @abstractmethod
    def paths(self, members: Iterable[Member]) -> tuple[str, ...]:
        """Return the paths of the files of the system that hold ``members``."""


class Tarred(Contents):
    """The files of an OVA, in the order of the archive."""

    unpacking = "take it out of the appliance (tar -xf), "
    missing = "get the whole appliance again"

    def __init__(self, file: File) -> None:
        """Read the headers.

        Raises:
            FormatError: it is not a tar, is damaged or has no descriptor. LimitError: too many
                files.
        """
        self.name, self.file = file.name, file
        self._listing = _listed(file)
        self.warnings = self._listing.warnings
        self.descriptor = self._descriptor()
        self.manifest = self._manifest()
        self.others = tuple(
            f"{self.name}: {each.name} is not read: {self.descriptor.name} comes first"
            for each in self._of_kind(".ovf")[1:]
        )

    def listing(self, names: Iterable[str]) -> Listing:
        """All files of the archive, whatever is named."""
        return self._listing

    def paths(self, members: Iterable[Member]) -> tuple[str, ...]:
        """The archive's."""
        return (self.name,)

    def _of_kind(self, ending: str) -> list[Member]:
        """Members whose names end so, but for those in which macOS keeps attributes of files."""
        return [
            each
            for each in self._listing.files
            if each.name.lower().endswith(ending)
            and not posixpath.basename(each.name).startswith("._")
        ]

    def _descriptor(self) -> Member:
        """The first descriptor: of several, importers take it too."""
        found = self._of_kind(".ovf")
        if not found:
            raise FormatError(f"{self.name}: is not an OVA: there is no .ovf file in it")
        if found[0].name in self._listing.twice:
            raise FormatError(f"{self.name}: has two members called {found[0].name!r}")
        return found[0]

    def _manifest(self) -> Member | None:
        """The manifest that is called like the descriptor, or the first."""
        found = self._of_kind(".mf")
        stem = posixpath.splitext(self.descriptor.name)[0]
        found.sort(key=lambda each: posixpath.splitext(each.name)[0] != stem)
        return found[0] if found else None


def _listed(file: File) -> Listing:
    """The members; ``FormatError`` says what a file is that is not a tar."""
    try:
        return list_members(file)
    except FormatError as error:
        found = container_of(file.pread(HEAD, 0), b"")
        if found is None or found.is_archive:
            raise
        raise FormatError(
            f"{file.name}: is not an OVA: it begins like {found.name}; {found.advice}"
        ) from error


class Beside(Contents):
    """The files beside a descriptor, as far as it and its manifest name them: a folder may hold
    much else. They lie in the descriptor's own folder, in none below, and are not links.
    """

    missing = "copy it beside the descriptor"

    def __init__(self, path: str, storage: Storage) -> None:
        """Open the descriptor, and look for its manifest.

        Raises:
            FormatError: the descriptor is empty. StorageError, RequestError: it cannot be opened,
                or its folder cannot be read.
        """
        self.name = path
        folder, own = os.path.split(path)
        self.file = self._folder = FolderFile(folder, storage)
        try:
            self.descriptor = self._folder.first(own)
            if not self.descriptor.size:
                raise FormatError(f"{path}: is empty (0 bytes); get it again from where it came")
            self._names = storage.list_directory(folder or os.curdir)
            self.manifest = self._manifest(own)
        except BaseException:
            self._folder.close()
            raise

    def _manifest(self, own: str) -> Member | None:
        """The manifest that is called like the descriptor; others belong to other appliances."""
        wanted = f"{os.path.splitext(own)[0]}.mf"
        alike = [each for each in self._names if folded(each) == folded(wanted)]
        alike.sort(key=lambda each: each != wanted)
        if not alike:
            return None
        found = self._folder.add(alike[0])
        if isinstance(found, Member):
            return found
        self.others = (f"{self.name}: {alike[0]} is {found}: it is not read as the manifest",)
        return None

    def listing(self, names: Iterable[str]) -> Listing:
        """The descriptor, the manifest, and those files of the folder that are named."""
        wanted = Wanted(names)
        files = {each.name: each for each in (self.descriptor, self.manifest) if each is not None}
        others: dict[str, str] = {}
        for name in self._names:
            if name in files or not wanted.has(name):
                continue
            found = self._folder.add(name)
            if isinstance(found, Member):
                files[name] = found
            else:
                others[name] = found
            if len(files) + len(others) > MEMBERS_MAX:
                raise LimitError(f"{self.name}: an appliance of over {MEMBERS_MAX} files")
        return Listing(tuple(files.values()), others, frozenset(), ())

    def paths(self, members: Iterable[Member]) -> tuple[str, ...]:
        """Those of the members themselves."""
        return tuple(self._folder.path_of(each.name) for each in members)
