"""Which file stands for an image id, where merged images replace others (docs/format.md, 9.5)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from aipimage.errors import RequestError
from aipimage.retention.points import Point


class Names:
    """The image ids of a set of points, and which points stand for them.

    A merged image is the same point in time as the last image that it replaces. While both files
    are there, as after a merge whose inputs were not removed yet, the merged one counts.
    """

    def __init__(self, points: Sequence[Point]) -> None:
        self.by_id = {point.image_id: point for point in points}
        self._ends: dict[str, list[Point]] = defaultdict(list)
        self._inside: dict[str, list[Point]] = defaultdict(list)
        self._known: dict[str, Point | None] = {}
        asked = self.by_id.keys() | {each.parent_id for each in points if each.parent_id}
        for point in points:
            if point.replaces:
                self._ends[point.replaces[-1]].append(point)
            for image_id in asked.intersection(point.replaces):
                self._inside[image_id].append(point)

    def is_replaced(self, point: Point) -> bool:
        """Whether a merged image that is there replaces the point."""
        return point.image_id in self._inside

    def find(self, image_id: str) -> Point | None:
        """Return the point that an id means, as a parent's or as a pinned one; ``None`` if none.

        An id without a file of its own means the merged image that has it among its replaced ones,
        as a member of a chain does (docs/format.md, section 9.4).

        Raises:
            RequestError: two images say that they stand for it.
        """
        if image_id not in self._known:
            self._known[image_id] = self._search(image_id)
        return self._known[image_id]

    def find_whole(self, image_id: str) -> Point | None:
        """As ``find``, and only what is that very point in time with all its data."""
        at, seen = image_id, {image_id}
        while (newer := self._newer(at)) is not None:
            at = newer.image_id
            if at in seen:
                raise RequestError(f"{newer.path}: images replace each other in a circle")
            seen.add(at)
        return self.by_id.get(at)

    def _search(self, image_id: str) -> Point | None:
        found = self.find_whole(image_id)
        if found is None:
            holder = _surviving(self._inside.get(image_id, ()), image_id)
            found = None if holder is None else self.find_whole(holder.image_id)
        return found

    def _newer(self, image_id: str) -> Point | None:
        """The merged image that took the place of an image, if there is one."""
        claims = {each.image_id: each for each in self._ends.get(image_id, ())}
        own = self.by_id.get(image_id)
        if own is not None and own.replaces:
            claims |= {each.image_id: each for each in self._ends[own.replaces[-1]]}
        found = _surviving(tuple(claims.values()), image_id)
        return None if found is own else found


def _surviving(claims: Sequence[Point], image_id: str) -> Point | None:
    """The one of the merged images that none of the others replaces."""
    if len(claims) > 1:
        replaced = {gone for each in claims for gone in each.replaces}
        left = [each for each in claims if each.image_id not in replaced]
        if len(left) != 1:
            paths = " and ".join(each.path for each in (left or claims)[:2])
            raise RequestError(f"{paths}: both stand for image {image_id}; move one away")
        claims = left
    return claims[0] if claims else None
