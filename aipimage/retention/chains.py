"""From points to chains: which depends on which, and in which order they were made."""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from aipimage.errors import RequestError
from aipimage.retention.names import Names
from aipimage.retention.points import Point
from aipimage.retention.report import Refused


@dataclass(slots=True, eq=False)
class Node:
    """A point in its chain.

    Attributes:
        chain: number of the chain.
        parent, children: by parent ids; where a merged image stands for an image, by that one.
        followers: the nodes that are newer for certain: the children, and merged images that
            replace this one.
        waits: nodes that this one follows.
        superseded: a merged image replaces it. duplicate: and is the very same point in time.
        broken: superseded, and what it depended on was removed already.
        time: the point's own, or of one that has a time from the future that of the earliest
            point which follows it: it was made before that.
        future: its time is later than now, and nothing that follows it says more.
        latest: the greatest time among it and its ancestors, but for those from the future.
    """

    point: Point
    chain: int
    time: datetime
    latest: datetime
    future: bool = False
    parent: Node | None = None
    children: list[Node] = field(default_factory=list)
    followers: list[Node] = field(default_factory=list)
    waits: int = 0
    superseded: bool = False
    duplicate: bool = False
    broken: bool = False

    @property
    def counts(self) -> bool:
        """Whether it is a point in time of its own that can be restored."""
        return not (self.duplicate or self.broken)


def read_chains(
    points: Sequence[Point], names: Names, end: datetime
) -> tuple[list[Node], list[Refused]]:
    """Return the nodes of all sound chains, oldest first, and the chains that are not sound.

    A time later than ``end`` is that of a wrong clock, unless all are.

    The order: a point is newer than all its ancestors, whatever their times; otherwise the greater
    time is newer. Where the clock went back, a child so follows its parent at once.
    """
    sound: list[Node] = []
    refused: list[Refused] = []
    for number, members in enumerate(_components(points)):
        try:
            sound += _chain(members, number, names, end)
        except RequestError as error:
            refused.append(Refused(tuple(members), str(error)))
    if sound and all(node.future for node in sound):
        # It is the clock of this machine that is wrong: the points are all that is known.
        for node in sound:
            node.future = False
    for node in (ordered := _oldest_first(sound)):
        _inherit_time(node)
    return ordered, refused


def _components(points: Sequence[Point]) -> Iterable[list[Point]]:
    """Group points that any id connects (union-find, without recursion)."""
    above: dict[str, str] = {}

    def top(image_id: str) -> str:
        above.setdefault(image_id, image_id)
        while (up := above[image_id]) != image_id:
            above[image_id] = image_id = above[up]
        return image_id

    for point in points:
        for other in (point.parent_id, *point.replaces):
            if other is not None:
                above[top(other)] = top(point.image_id)
    groups: dict[str, list[Point]] = defaultdict(list)
    for point in points:
        groups[top(point.image_id)].append(point)
    return groups.values()


def _chain(members: Sequence[Point], number: int, names: Names, end: datetime) -> list[Node]:
    """Link the points of a chain, or raise a ``RequestError`` that says what is wrong with it."""
    _refuse_doubles(members)
    nodes = {point.image_id: Node(point, number, point.created, point.created) for point in members}
    for node in nodes.values():
        _link(node, nodes, names)
    ordered = _oldest_first(nodes.values())
    if len(ordered) < len(nodes):
        done = set(ordered)
        path = next(node.point.path for node in nodes.values() if node not in done)
        raise RequestError(f"{path}: the parents of its chain run in a circle")
    for node in ordered:
        _inherit(node)
    for node in reversed(ordered):
        _date(node, end)
    return ordered


def _refuse_doubles(members: Sequence[Point]) -> None:
    (image_id, often), *_ = Counter(point.image_id for point in members).most_common(1)
    if often > 1:
        paths = [point.path for point in members if point.image_id == image_id]
        raise RequestError(f"{paths[0]} and {paths[1]}: both are image {image_id}; move one away")


def _link(node: Node, nodes: dict[str, Node], names: Names) -> None:
    """Set what the ids of one point say."""
    point = node.point
    if point.image_id in (point.parent_id, *point.replaces):
        raise RequestError(f"{point.path}: names itself as its parent or as replaced")
    node.superseded = names.is_replaced(point)
    node.duplicate = names.find(point.image_id) is not point
    for image_id in point.replaces:
        if image_id in nodes:
            _follow(nodes[image_id], node)
    if point.parent_id is None:
        return
    # Of what a merged image replaces, only its heirs can count on any frame.
    find = names.find_whole if node.superseded else names.find
    parent = find(point.parent_id)
    if parent is not None:
        node.parent = nodes[parent.image_id]
        node.parent.children.append(node)
        _follow(node.parent, node)
    elif node.superseded:
        node.broken = point.kind != "full"
    else:
        raise _missing_parent(point)


def _follow(older: Node, newer: Node) -> None:
    older.followers.append(newer)
    newer.waits += 1


def _inherit(node: Node) -> None:
    """Take over what is known of the parent, which was seen before."""
    if node.parent is None:
        return
    if node.parent.broken:
        if not node.superseded:
            raise _missing_parent(node.parent.point)
        node.broken = True


def _date(node: Node, end: datetime) -> None:
    """Find the time of a point whose clock was ahead; what follows it was seen before."""
    if node.point.created <= end:
        return
    known = [each.time for each in node.followers if not each.future]
    node.future = not known
    node.time = node.latest = min(known, default=node.point.created)


def _inherit_time(node: Node) -> None:
    if node.parent is not None and (node.future or not node.parent.future):
        node.latest = max(node.latest, node.parent.latest)


def _missing_parent(point: Point) -> RequestError:
    return RequestError(
        f"{point.path}: its parent, image {point.parent_id}, is missing; pass the directory where "
        "it lies"
    )


def _oldest_first(nodes: Iterable[Node]) -> list[Node]:
    """Sort by time among all whose predecessors are done; leaves out what is in a circle."""
    waits = {node: node.waits for node in nodes}
    ready = [(*_time_key(node), place, node) for place, node in enumerate(waits)]
    ready = [each for each in ready if not each[-1].waits]
    heapq.heapify(ready)
    place, ordered = len(waits), []
    while ready:
        node = heapq.heappop(ready)[-1]
        ordered.append(node)
        for follower in node.followers:
            waits[follower] -= 1
            if not waits[follower]:
                place += 1
                heapq.heappush(ready, (*_time_key(follower), place, follower))
    return ordered


def _time_key(node: Node) -> tuple[datetime, str]:
    """Points of the same time are ordered by id, by that of the point that a merged one is."""
    point = node.point
    return node.time, point.replaces[-1] if point.replaces else point.image_id
