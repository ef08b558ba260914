"""The image that a damaged one builds on, for the ranges that did not change since."""

from __future__ import annotations

from aipimage.errors import AipImageError
from aipimage.format.header import Header
from aipimage.format.record import NO_REFERENCE
from aipimage.io.chain.chain import open_in_chain
from aipimage.io.chain.files import ChainFile, Identity
from aipimage.io.creating.imagewriter import PlaceInChain
from aipimage.io.reading.image import ImageReader
from aipimage.io.reading.members import MemberFiles
from aipimage.io.repair.beginning import Beginning
from aipimage.io.repair.facts import Facts
from aipimage.io.system.storage import absolute


def find_parent_image(
    files: MemberFiles, beginning: Beginning, place: PlaceInChain, own_path: str
) -> ImageReader | None:
    """Open the parent, or the image that stands for it; ``None`` where there is none."""
    if not place.parent_kind or not beginning.chain_known:
        return None
    own = absolute(own_path)
    for candidate in files.of_chain(beginning.header.chain_id):
        if absolute(candidate.path) == own:
            continue
        try:
            image = open_in_chain(
                candidate.path, keys=beginning.keys, files=files, storage=files.storage
            )
        except AipImageError:
            continue
        if _is_parent(image, place) and image.header.shifts == beginning.header.shifts:
            return image
        image.close()
    return None


def as_chain_file(facts: Facts, path: str, size: int, header: Header) -> ChainFile:
    """The damaged image as the chain sees a whole one, with the parent that it names."""
    own, place = facts.own, facts.place
    ref = own.ref if own is not None else NO_REFERENCE
    parent = Identity(
        place.parent_id, place.parent_digest, place.parent_sequence, place.parent_kind
    )
    return ChainFile(
        path,
        Identity(ref.origin, ref.digest, place.sequence, place.kind),
        parent if place.parent_kind else None,
        None,
        size,
        0,
        (),
        header.shifts,
    )


def _is_parent(image: ImageReader, place: PlaceInChain) -> bool:
    wanted = (place.parent_id, place.parent_digest)
    if (image.seal.image_id, image.trailer.seal.digest) == wanted:
        return True
    last = image.seal.replaced[-1] if image.seal.replaced else None
    return last is not None and (last.origin, last.digest) == wanted
