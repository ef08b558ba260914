"""From points and rules to a plan."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta, tzinfo

from aipimage import checks
from aipimage.errors import RequestError
from aipimage.io.system import entropy
from aipimage.retention.chains import Node, read_chains
from aipimage.retention.names import Names
from aipimage.retention.points import REPLACED_MAX, Point
from aipimage.retention.report import Kept, Merge, Plan, Stay
from aipimage.retention.rules import KeepRules, rule_reasons

_Reasons = dict[Node, list[str]]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_US = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)
_TOLERANCE = timedelta(days=1)
"""Clocks set to the time of another zone are wrong by less; as in ``io/system/entropy.py``."""


def plan(
    points: Iterable[Point],
    rules: KeepRules,
    *,
    tz: tzinfo = UTC,
    retire_chains: bool = False,
    now: datetime | None = None,
    tags: Mapping[str, str] | None = None,
    merge_points: int = 1,
    merge_bytes: checks.Size = 0,
) -> Plan:
    """Tell which points to keep, and how the others are got rid of. Changes nothing.

    The rules count over all points together: pass those of one backup job, of one chain or several.

    Args:
        tz: the time zone whose days, weeks, months and years count.
        retire_chains: let a chain go altogether when the rules keep none of its points. Otherwise
            the newest point of each chain is kept; the newest of all always is.
        now: the time, with a zone; that of this machine by default. A point that is more than a
            day later has the time of a wrong clock: it is kept, makes no other point old, and
            the plan's ``warnings`` name it.
        tags: the rules count only the points that have all these tags; others are kept.
        merge_points, merge_bytes: a run is merged only where so many points at least are
            forgotten by it, and their files have so many bytes at least; else they stay, until
            there are more.

    Raises:
        RequestError: the rules keep nothing, or name an id that is not there, or ``now`` has no
            zone; nothing was planned.
    """
    given = tuple(points)
    end = _end_of_time(now)
    if rules.keeps_nothing:
        raise RequestError("the rules keep nothing; use at least one, such as last=7")
    names = Names(given)
    nodes, refused = read_chains(given, names, end)
    wanted = checks.tags("tags", tags or {}).items()
    fewest = checks.whole("merge_points", merge_points, 1)
    least = fewest, checks.size("merge_bytes", merge_bytes, 0)
    counted = [node for node in nodes if wanted <= dict(node.point.tags).items()]
    reasons = _keep(counted, rules, tz, retire_chains)
    for node in nodes:
        if node.counts and not wanted <= dict(node.point.tags).items():
            reasons[node] = ["has other tags"]
    _pin(reasons, {node.point: node for node in nodes}, rules.keep, names)
    _keep_clock_steps(nodes, reasons)
    needing = _needing(nodes, reasons)
    merges, stays = _worthwhile(*_runs(nodes, reasons, needing), least)
    drops = [node for node in nodes if node not in needing]
    cleared = _cleared(drops)
    going = {node.point for node in drops if node not in cleared}
    going.update(point for merge in merges for point in merge.images)
    return Plan(
        tuple(Kept(node.point, tuple(reasons[node])) for node in nodes if node in reasons),
        tuple(merges),
        tuple(node.point for node in drops if node not in cleared),
        tuple(node.point for node in drops if node in cleared),
        tuple(stays),
        tuple(refused),
        tuple(node.point for node in reversed(nodes) if node.point in going),
        tuple(_clock_warnings(nodes, end)),
    )


def _end_of_time(now: datetime | None) -> datetime:
    """Return the latest time that is believed."""
    if now is None:
        now = _EPOCH + timedelta(microseconds=min(entropy.now_us(), _LAST_US))
    if now.utcoffset() is None:
        raise RequestError(f"now={now}: has no time zone; pass it with one")
    try:
        return now.astimezone(UTC) + _TOLERANCE
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC)


def _clock_warnings(nodes: Sequence[Node], end: datetime) -> Iterator[str]:
    """Say of which points the time is not believed, and what is taken for it."""
    ahead = [node for node in nodes if node.point.created > end]
    if ahead and len(ahead) == len(nodes) and not any(node.future for node in nodes):
        yield (
            "all points are later than this machine's clock, which seems to be wrong; they were "
            "counted from the newest of them"
        )
        return
    for node in ahead:
        taken = "it is kept" if node.future else f"{node.time.isoformat()} was taken instead"
        yield (
            f"{node.point.path}: has a time in the future, {node.point.created.isoformat()}; a "
            f"clock was wrong, and {taken}"
        )


def _keep(nodes: Sequence[Node], rules: KeepRules, tz: tzinfo, retire_chains: bool) -> _Reasons:
    """What the rules keep, and the newest of each chain."""
    newest_first = [node for node in reversed(nodes) if node.counts and not node.future]
    points = [replace(node.point, created=node.time) for node in newest_first]
    found = rule_reasons(points, [node.latest for node in newest_first], rules, tz)
    chains: set[int] = set()
    for node, reasons in zip(newest_first, found, strict=True):
        if node.chain not in chains and not (retire_chains and chains):
            reasons.append("newest of its chain")
        chains.add(node.chain)
    kept = {node: why for node, why in zip(newest_first, found, strict=True) if why}
    return kept | {node: ["from the future"] for node in nodes if node.counts and node.future}


def _pin(reasons: _Reasons, nodes: dict[Point, Node], pins: Iterable[str], names: Names) -> None:
    """Keep the pinned points; one in a chain that is refused is safe without."""
    for image_id in sorted(pins):
        try:
            point = names.find(image_id)
        except RequestError:
            continue
        if point is None:
            raise RequestError(f"the pinned image {image_id} is not there; nothing was planned")
        if point in nodes:
            reasons.setdefault(nodes[point], []).append("pinned")


def _keep_clock_steps(nodes: Sequence[Node], reasons: _Reasons) -> None:
    """Keep a point that was made at a later time, by the clock, than a kept one that follows it.

    The order of the points below it rests on it: without it they could change places with those
    of other branches, and the next plan would forget what this one promised to keep.
    """
    lows: dict[Node, datetime] = {}
    for node in reversed(nodes):
        below = [lows[child] for child in node.children if child in lows]
        low, time = min(below, default=None), node.time
        if low is not None and low < time and node not in reasons:
            reasons[node] = ["the clock went back after it"]
        if node in reasons:
            lows[node] = time
        elif low is not None:
            lows[node] = low  # At least its own time, or the node would have been kept.


def _needing(nodes: Sequence[Node], reasons: _Reasons) -> dict[Node, list[Node]]:
    """For each node that something kept depends on, those of its children that are needed."""
    needing: dict[Node, list[Node]] = {}
    for node in reversed(nodes):
        children = [child for child in node.children if child in needing]
        if node in reasons or children:
            needing[node] = children
    return needing


def _worthwhile(
    merges: list[Merge], stays: list[Stay], least: tuple[int, int]
) -> tuple[list[Merge], list[Stay]]:
    """Leave out merges that forget too few points, or too few bytes."""
    found: list[Merge] = []
    for merge in merges:
        forgotten = merge.images[:-1]
        if len(forgotten) >= least[0] and sum(each.stored for each in forgotten) >= least[1]:
            found.append(merge)
        else:
            reason = "too little to merge it already"
            stays = [*stays, *(Stay(each, reason) for each in forgotten)]
    return found, stays


def _runs(
    nodes: Sequence[Node], reasons: _Reasons, needing: dict[Node, list[Node]]
) -> tuple[list[Merge], list[Stay]]:
    """Each forgotten point with one needed child is merged into it; with several, it stays."""
    merges: list[Merge] = []
    stays: list[Stay] = []
    for node in nodes:
        needed = needing.get(node, [])
        if node not in reasons and len(needed) > 1:
            paths = ", ".join(child.point.path for child in needed[:3])
            stays.append(Stay(node.point, f"{len(needed)} images depend on it: {paths}"))
        elif node not in reasons:
            continue
        run, left = _fitting(_run_to(node, reasons, needing))
        stays += [Stay(each, f"a merged image replaces at most {REPLACED_MAX}") for each in left]
        if len(run) > 1:
            reason = f"{len(run) - 1} forgotten before {node.point.path}"
            merges.append(Merge(tuple(run), reason))
    return merges, stays


def _run_to(node: Node, reasons: _Reasons, needing: dict[Node, list[Node]]) -> list[Point]:
    """The run that ends with a node, oldest first."""
    run = [node.point]
    above = node.parent
    while above is not None and above not in reasons and len(needing[above]) == 1:
        run.append(above.point)
        above = above.parent
    return run[::-1]


def _fitting(run: list[Point]) -> tuple[list[Point], list[Point]]:
    """Split off the oldest of a run, where one image may not replace so many."""
    total = 0
    for place in range(len(run) - 1, -1, -1):
        total += 1 + len(run[place].replaces)
        if total > REPLACED_MAX:
            # The last one alone is not a merge, so that it stays as it is in any case.
            cut = min(place + 1, len(run) - 1)
            return run[cut:], run[:cut]
    return run, []


def _cleared(drops: Sequence[Node]) -> set[Node]:
    """Superseded images on which nothing else depends, not even what is to be dropped."""
    cleared: set[Node] = set()
    for node in reversed(drops):
        if node.superseded and all(child in cleared for child in node.children):
            cleared.add(node)
    return cleared
