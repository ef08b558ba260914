"""What changed on a disk: the value that all forms of ``changed`` are turned into."""

from __future__ import annotations

from dataclasses import dataclass, field

from aipimage.errors import RequestError
from aipimage.ranges import ByteRanges, no_ranges

_ID_DIGITS = frozenset("0123456789abcdef")


@dataclass(frozen=True, slots=True)
class Changes:
    """The ranges of a disk that may differ from an earlier image of it.

    Attributes:
        size: bytes of the disk that the set speaks of; what lies past that was not watched.
            ``None`` where unknown: the set speaks of the whole disk.
        ranges: ``uint64`` array of shape (n, 2), offset and length in bytes; ascending, disjoint,
            not adjacent.
        since: id (32 hexadecimal digits) of the image that changes are counted from; ``None`` where
            the caller vouches that it is the parent.
        doubt: why the set must not be trusted, in one sentence; ``ranges`` is then empty.
    """

    size: int | None
    ranges: ByteRanges = field(default_factory=no_ranges)
    since: str | None = None
    doubt: str | None = None


def verified_image_id(image_id: object) -> str:
    """Return an image id as ``Image.image_id`` has it, else ``RequestError``.

    An id is never all zeros (docs/format.md, section 2).
    """
    if not isinstance(image_id, str) or len(image_id) != 32 or not _ID_DIGITS.issuperset(image_id):
        raise RequestError(
            f"{image_id!r} is not an image id: pass 32 hexadecimal digits, lower case"
        )
    if image_id == "0" * 32:
        raise RequestError("an image id is never all zeros; pass that of the image just made")
    return image_id
