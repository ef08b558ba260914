"""What a chain keeps of each of its files (docs/format.md, sections 9 and 9.4)."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from aipimage.errors import AipImageError, FormatError
from aipimage.extents import SECTOR
from aipimage.format import constants as c
from aipimage.format.constants import ImageKind, RecordType
from aipimage.format.record import Reference
from aipimage.format.seal import Seal, decode_seal
from aipimage.io.reading.image import ImageReader, open_reader
from aipimage.io.reading.members import Candidate, MemberFiles
from aipimage.io.records.keys import ChainKeys
from aipimage.io.stream.instream import open_stream
from aipimage.io.stream.tail import Tail

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Identity(NamedTuple):
    """What a child says of its parent, and what its parent must be."""

    image_id: bytes
    digest: bytes
    sequence: int
    kind: int


@dataclass(frozen=True, slots=True)
class ChainFile:
    """A file whose seal was verified.

    Attributes:
        parent: what the seal names, ``None`` for a full image that begins a chain.
        created: of the point in time that the image is, ``None`` where nothing readable says it.
        stored: bytes of the stream. changed: bytes of data that the image added.
        replaced: what the image stands for after a merge, oldest first.
        shifts: of the header (section 3), which are the same in all images of a chain.
        tags: (name, text), by name.
    """

    path: str
    identity: Identity
    parent: Identity | None
    created: datetime | None
    stored: int
    changed: int
    replaced: tuple[Reference, ...]
    shifts: tuple[int, int, int]
    tags: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class DamagedFile:
    """A file of the chain that cannot be used.

    Attributes:
        image_id: as its trailer says, or where that cannot be read, as the header lets expect.
        digest: as its trailer says, empty where that cannot be read.
    """

    path: str
    image_id: bytes
    digest: bytes
    created: datetime | None
    stored: int
    error: AipImageError


def read_file(
    files: MemberFiles, candidate: Candidate, keys: ChainKeys | None
) -> ChainFile | DamagedFile:
    """Open a file, keep what a chain needs to know of it, and close it again."""
    try:
        with open_reader(candidate.path, keys=keys, files=files, storage=files.storage) as image:
            if image.seal.chain_id != candidate.chain_id:
                raise FormatError(
                    f"{candidate.path}: was replaced by an image of another chain meanwhile"
                )
            return file_of(image)
    except AipImageError as error:
        return _damaged(files, candidate, error)


def _damaged(files: MemberFiles, candidate: Candidate, error: AipImageError) -> DamagedFile:
    image_id, digest, stored = candidate.file_id, b"", 0
    with contextlib.suppress(AipImageError), open_stream(files.storage, candidate.path) as stream:
        stored = stream.size
        trailer = Tail(stream, c.TRAILER).trailer()
        image_id, digest = trailer.image_id, trailer.seal.digest
    created = _from_header(candidate.created)
    return DamagedFile(candidate.path, image_id, digest, created, stored, error)


def file_of(image: ImageReader) -> ChainFile:
    """What a chain keeps of an opened image."""
    seal = image.seal
    parent = None
    if seal.parent_kind:
        parent = Identity(
            seal.parent_id, seal.parent_digest, seal.parent_sequence, seal.parent_kind
        )
    identity = Identity(seal.image_id, image.trailer.seal.digest, seal.sequence, seal.kind)
    return ChainFile(
        image.path,
        identity,
        parent,
        created_of(image),
        image.stored,
        _changed(image),
        seal.replaced,
        image.header.shifts,
        tags_of(image),
    )


def replaced_seal(image: ImageReader, ref: Reference) -> Seal:
    """The seal of an image that a merged one stands for, which must lie in its file (section
    9.5).
    """
    _check_own(image, ref)
    seal = decode_seal(image.records.fetch(ref, RecordType.SEAL).plain)
    if (seal.image_id, seal.chain_id) != (ref.origin, image.seal.chain_id):
        raise FormatError(f"{image.path}: a seal that it replaces belongs to another image")
    return seal


def replaced_identity(
    files: MemberFiles, keys: ChainKeys | None, file: ChainFile, image_id: bytes
) -> Identity:
    """Which image it was that a merged one stands for; the file is opened again for it.

    Raises:
        AipImageError: the file cannot be read, or is another one by now.
    """
    with open_reader(
        file.path,
        keys=keys,
        files=files,
        storage=files.storage,
        expected_digest=file.identity.digest.hex(),
    ) as image:
        ref = next(ref for ref in image.seal.replaced if ref.origin == image_id)
        seal = replaced_seal(image, ref)
        return Identity(seal.image_id, ref.digest, seal.sequence, seal.kind)


def created_of(image: ImageReader) -> datetime | None:
    """The time of the point in time: of a merged image that of the last one it stands for."""
    with contextlib.suppress(AipImageError):
        values = _own_metadata(image)["description"]
        if image.seal.replaced:
            last = replaced_seal(image, image.seal.replaced[-1])
            _check_own(image, last.description)
            values = image.metadata_records.read(last.description)
        found = _parsed(values.get("created"))
        if found is not None or image.seal.replaced:
            return found
    return None if image.seal.replaced else _from_header(image.header.created)


def tags_of(image: ImageReader) -> tuple[tuple[str, str], ...]:
    """The tags of the description, by name; what is none is passed over."""
    with contextlib.suppress(AipImageError):
        tags = _own_metadata(image)["description"].get("tags")
        if isinstance(tags, dict):
            texts = [(name, text) for name, text in tags.items() if isinstance(text, str)]
            return tuple(sorted(texts))
    return ()


def _own_metadata(image: ImageReader) -> dict[str, Any]:
    _check_own(image, image.seal.description, image.seal.result)
    return image.metadata


def _check_own(image: ImageReader, *refs: Reference) -> None:
    """Refuse records in other files: where such a file is missing, the chain is asked what is
    wrong, and would wait for itself.
    """
    for ref in refs:
        if not image.segments.holds(ref.origin):
            raise FormatError(f"{image.path}: its metadata or a seal lies in another file")


def _parsed(text: object) -> datetime | None:
    """A time of RFC 3339; ``None`` where it is none, has no zone, or is outside of the calendar."""
    try:
        found = datetime.fromisoformat(str(text))
        return found.astimezone(UTC) if found.utcoffset() is not None else None
    except (ValueError, OverflowError):
        return None


def _from_header(microseconds: int) -> datetime | None:
    try:
        return _EPOCH + timedelta(microseconds=microseconds)
    except OverflowError:
        return None


def _changed(image: ImageReader) -> int:
    """As the image says of itself; else its devices' data, or for an increment its own frames."""
    seal = image.seal
    with contextlib.suppress(AipImageError):
        stated = _stated_changes(_own_metadata(image)["result"].get("changes"))
        if stated is not None:
            return stated
    data = sum(device.data for device in seal.devices) * SECTOR
    if seal.kind == ImageKind.FULL:
        return data
    held = [each.frame_count for each in seal.origins if each.holder == seal.image_id]
    return min(data, sum(held) * image.header.frame_size)


def _stated_changes(changes: object) -> int | None:
    """The sum over all devices; ``None`` where the metadata has no such list."""
    if not isinstance(changes, list) or not changes:
        return None
    values = [each.get("changed") if isinstance(each, dict) else None for each in changes]
    counts = [each for each in values if isinstance(each, int) and 0 <= each <= c.DEVICE_SIZE_MAX]
    return sum(counts) if len(counts) == len(values) else None
