"""What planning needs to know of an image."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo

from aipimage.errors import RequestError
from aipimage.io.chain.chain import ChainMember, ChainMembers

REPLACED_MAX = 4096
"""Images that one image may stand for: ``replaced_count`` of docs/format.md, section 9."""


@dataclass(frozen=True, slots=True)
class Point:
    """An image as a point in time.

    Attributes:
        image_id: docs/format.md, section 9, in hexadecimal digits, as all ids here.
        parent_id: the image id that the image names as its parent, ``None`` without one.
        kind: "full", "incremental" or "differential".
        created: with a time zone, and kept as UTC: the time that the content is from. For a merged
            image this is the time of the last image that it stands for, never that of the merge.
        path: of the file, of part 1 where the image is split.
        stored: bytes of the file, or of all its parts.
        replaces: the ids of the images that a merged image stands for, in the order of its
            ``replaced`` (section 9.5), so that the last one is the point in time that it is.
        tags: (name, text) of each of its tags.

    Raises:
        RequestError: a time without a zone, a negative size, or more replaced images than the
            format allows.
    """

    image_id: str
    parent_id: str | None
    kind: str
    created: datetime
    path: str
    stored: int
    replaces: tuple[str, ...] = ()
    tags: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        if self.created.utcoffset() is None:
            raise RequestError(f"{self.path}: its time has no time zone; pass it with one")
        # Times of one zone are compared by the clock on the wall, which runs twice through an hour.
        object.__setattr__(self, "created", self.time_in(UTC))
        if self.stored < 0:
            raise RequestError(f"{self.path}: its size is {self.stored}; pass bytes, at least 0")
        if len(self.replaces) > REPLACED_MAX:
            raise RequestError(
                f"{self.path}: is said to replace {len(self.replaces)} images, over the limit of "
                f"{REPLACED_MAX}"
            )

    def time_in(self, tz: tzinfo) -> datetime:
        """The time in a time zone; ``RequestError`` where the calendar ends before it."""
        try:
            return self.created.astimezone(tz)
        except OverflowError:
            raise RequestError(
                f"{self.path}: its time {self.created.isoformat()} is outside of the calendar"
            ) from None


def points_of(chain: ChainMembers) -> list[Point]:
    """Return the points in time of a chain, with all its branches, to plan with.

    Of several copies of an image the first one is returned, and so are images that a merged one
    replaces: :func:`plan` knows how to remove them.

    Raises:
        RequestError: a file of the chain cannot be read, two contradict each other, or nothing
            readable says how old one is. What depends on such a file is then not known.
    """
    found = [member for member in chain.members_of_tree if member.path is not None]
    for member in found:
        if member.state in ("damaged", "contradicts", "exchanged"):
            raise RequestError(
                f"{member.path}: nothing is planned while it is among the images of its chain: "
                f"{member.reason}"
            )
    return [_point(member) for member in found]


def _point(member: ChainMember) -> Point:
    assert member.path is not None
    if member.created is None:
        raise RequestError(f"{member.path}: does not say which time it is from")
    return Point(
        member.image_id,
        member.parent_id,
        member.kind,
        member.created,
        member.path,
        member.stored,
        member.replaces,
        member.tags,
    )
