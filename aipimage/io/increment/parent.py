"""The image that an increment builds on: found, checked, and its devices matched with the sources
(docs/format.md, section 9.4).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from aipimage.errors import (
    AipImageError,
    FormatError,
    IntegrityError,
    PasswordError,
    RequestError,
    StorageError,
)
from aipimage.format import constants as c
from aipimage.format.constants import ImageKind
from aipimage.io.blocks.sources import BlockSource, is_name, place_of
from aipimage.io.chain.chain import open_in_chain
from aipimage.io.chain.files import replaced_seal
from aipimage.io.chain.unlocking import chain_keys
from aipimage.io.reading.device import Device
from aipimage.io.reading.image import ImageReader
from aipimage.io.reading.members import Candidate, MemberFiles, searched, stat_is_directory
from aipimage.io.records.keys import ChainKeys
from aipimage.io.system import entropy
from aipimage.io.system.storage import Storage


class ParentUnusableError(AipImageError):
    """The parent cannot be read as far as it is needed; a full image is made instead."""


@contextlib.contextmanager
def reading_parent() -> Iterator[None]:
    """Mark a failure to read the parent, so that it differs from one to read the source."""
    try:
        yield
    except ParentUnusableError:
        raise
    except (FormatError, IntegrityError) as error:
        raise ParentUnusableError(str(error)) from error


def _guard_reads(image: ImageReader) -> None:
    """Where pages of the parent are read the new image is written too. So a failure of the storage
    is marked where the parent is read.
    """
    read = image.records.read

    def guarded(origin: bytes, offset: int, length: int) -> bytearray:
        try:
            return read(origin, offset, length)
        except (FormatError, StorageError) as error:
            raise ParentUnusableError(str(error)) from error

    image.records.read = guarded


@dataclass(slots=True)
class Parent:
    """What the new image builds on.

    Attributes:
        image: open for reading; the caller of :func:`find_parent` closes it.
        devices: for each source the device of the image that it continues, or ``None``.
        sure: whether that is the same disk beyond doubt: the caller named the image, or the source
            lies where it lay. Two disks may share a name, and what a tracker says of one must not
            be used for the other.
        kind: of the new image.
    """

    image: ImageReader
    devices: list[Device | None]
    sure: list[bool]
    kind: ImageKind

    @property
    def path(self) -> str:
        """Name of the file, for messages."""
        return self.image.path

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of the point in time that the parent is, the one that a tracker knows first. Of a
        merged image that is the last image that it stands for (section 9.5), which may be a merged
        one itself; the parent's own id is the last.
        """
        found = [self.image.seal.image_id]
        replaced = self.image.seal.replaced
        # A seal that cannot be read costs a comparison: the tracker is then doubted.
        with contextlib.suppress(AipImageError):
            while replaced and replaced[-1].origin not in found:
                found.append(replaced[-1].origin)
                replaced = replaced_seal(self.image, replaced[-1]).replaced
        return tuple(each.hex() for each in reversed(found))

    def check_files(self) -> None:
        """Look for the files that hold the parent's data, as far as the roots of its maps name
        them: an increment must not take longer in a long chain. A file of the right name is not
        opened.

        Raises:
            IncompleteError: one is missing.
            ParentUnusableError: the root of a map is damaged.
        """
        image = self.image
        for device in self.devices:
            if device is not None:
                with reading_parent():
                    device.map.root()
        for entry in image.origins.entries():
            if not image.segments.holds(entry.origin) and not image.foreign.has_named(entry):
                image.foreign.holder(entry.origin)


def find_parent(
    where: str | os.PathLike[str],
    kind: ImageKind,
    sources: Sequence[BlockSource],
    password: str | None,
    search: Sequence[str | os.PathLike[str]] | None,
    storage: Storage,
) -> Parent | None:
    """Open the parent; in a directory, the newest image of these sources, or ``None`` for none.

    Raises:
        RequestError: the image named cannot be the parent of one of this kind; or a source without
            a name is to be looked for in a directory.
    """
    path = os.fspath(where)
    if stat_is_directory(storage, path):
        _check_named(path, sources)
        image = _newest_in(storage, path, kind, sources, password, search)
        named = False
    else:
        image = open_in_chain(path, password, search=search, storage=storage)
        named = True
    if image is None:
        return None
    try:
        _check_place(image, kind)
        _guard_reads(image)
        return Parent(image, *_matched(image, sources, named), kind)
    except BaseException:
        image.close()
        raise


def _check_named(directory: str, sources: Sequence[BlockSource]) -> None:
    """Any two sources without a name would be taken for the same disk."""
    for number, source in enumerate(sources):
        if not is_name(_name_of(source)) and not is_name(place_of(source)):
            raise RequestError(
                f"{directory}: source {number} ({source.name or 'without a name'}) cannot be found "
                "in a directory, because it has no name; pass parent= the path of an image, or "
                "name the source"
            )


def _check_place(image: ImageReader, kind: ImageKind) -> None:
    if kind == ImageKind.DIFFERENTIAL and image.seal.kind != ImageKind.FULL:
        raise RequestError(
            f"{image.path}: is {image.kind}; a differential image builds on a full one; pass that"
        )
    if image.seal.sequence + 1 >= c.CHAIN_MAX:
        raise RequestError(
            f"{image.path}: its chain has {c.CHAIN_MAX} images; merge some, or begin a new chain"
        )


def _matched(
    image: ImageReader, sources: Sequence[BlockSource], named: bool
) -> tuple[list[Device | None], list[bool]]:
    """Which device each source continues, and whether that is sure: by where it lies, else by its
    name, else, in an image that the caller ``named``, by its place among the sources: where none
    fits all of them, else those without a name.
    """
    free = list(image.devices)
    found: list[Device | None] = [None] * len(sources)
    sure = [named] * len(sources)
    for same in (_same_place, _same_name):
        for index, source in enumerate(sources):
            fitting = [each for each in free if found[index] is None and same(each, source)]
            if fitting:
                found[index] = fitting[0]
                sure[index] = named or same is _same_place
                free.remove(fitting[0])
    if named and len(sources) == len(image.devices):
        none_fits = not any(found)
        for index, device in enumerate(image.devices):
            unnamed = not is_name(_name_of(sources[index])) and not is_name(device.name)
            if found[index] is None and device in free and (none_fits or unnamed):
                found[index] = device
    return found, sure


def _same_place(device: Device, source: BlockSource) -> bool:
    place = place_of(source)
    return is_name(place) and device.metadata.get("source") == place


def _same_name(device: Device, source: BlockSource) -> bool:
    name = _name_of(source)
    return is_name(name) and device.name == name


def _name_of(source: BlockSource) -> str:
    return os.path.basename(source.name) or source.name


def _newest_in(
    storage: Storage,
    directory: str,
    kind: ImageKind,
    sources: Sequence[BlockSource],
    password: str | None,
    search: Sequence[str | os.PathLike[str]] | None,
) -> ImageReader | None:
    files = MemberFiles(storage, [directory, *searched(search)])
    end = entropy.believed_until_us()
    # An image of a wrong clock must not hide for good all that is made after it.
    candidates = sorted(
        files.all(), key=lambda each: (each.created <= end, each.created), reverse=True
    )
    refused: PasswordError | None = None
    alike: ImageReader | None = None
    for chain_id in dict.fromkeys(each.chain_id for each in candidates):
        members = [each for each in candidates if each.chain_id == chain_id]
        try:
            found = _newest_of(files, members, kind, sources, password)
        except PasswordError as error:
            # Another job's images may lie here too, with another password.
            refused = refused or error
            continue
        if found is None:
            continue
        if any(_matched(found, sources, named=False)[1]):
            if alike is not None:
                alike.close()
            return found
        # A disk of the same name, maybe another one: taken only where no other chain is surer.
        if alike is None:
            alike = found
        else:
            found.close()
    if alike is None and refused is not None:
        raise refused
    return alike


def _newest_of(
    files: MemberFiles,
    members: list[Candidate],
    kind: ImageKind,
    sources: Sequence[BlockSource],
    password: str | None,
) -> ImageReader | None:
    """The newest point of a chain that holds one of the sources."""
    try:
        keys = chain_keys(files, members, password)
    except PasswordError:
        raise
    except AipImageError:
        return None  # Damaged files are no parents.
    points: list[_Point] = []
    parents: set[bytes] = set()
    for member in members:
        try:
            image = _open_member(files, member.path, password, keys)
        except AipImageError:
            continue  # Likewise; the others are still there.
        with image:
            parents.add(image.seal.parent_id)
            if _is_candidate(image, kind, sources):
                points.append(_Point.of(image))
    if kind != ImageKind.DIFFERENTIAL:
        points = [each for each in points if not each.ids & parents] or points
    if not points:
        return None
    end = entropy.believed_until_us()
    newest = max(
        points, key=lambda each: (each.written <= end, each.created, each.written, each.sequence)
    )
    # With its own password: the new image takes over its key slots.
    return _open_member(files, newest.path, password, None)


@dataclass(frozen=True, slots=True)
class _Point:
    path: str
    created: str
    written: int
    sequence: int
    ids: frozenset[bytes]

    @classmethod
    def of(cls, image: ImageReader) -> _Point:
        created = str(image.metadata["description"].get("created", ""))
        # A child may name any image that a merged one stands for (section 9.5).
        ids = {image.seal.image_id, *(ref.origin for ref in image.seal.replaced)}
        # The description has seconds; the header distinguishes what was made within one.
        written = image.header.created
        return cls(image.path, created, written, image.seal.sequence, frozenset(ids))


def _open_member(
    files: MemberFiles, path: str, password: str | None, keys: ChainKeys | None
) -> ImageReader:
    return open_in_chain(
        path, None if keys else password, storage=files.storage, keys=keys, files=files
    )


def _is_candidate(image: ImageReader, kind: ImageKind, sources: Sequence[BlockSource]) -> bool:
    if kind == ImageKind.DIFFERENTIAL and image.seal.kind != ImageKind.FULL:
        return False
    return any(_matched(image, sources, named=False)[0])
