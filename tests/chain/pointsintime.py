"""Points in time by hand, and what is kept of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from aipimage.retention import Plan, Point

NOW = datetime(2100, 1, 1, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")


START = datetime(2026, 1, 1, tzinfo=UTC)


def point(
    name: str, parent: str | None = None, at: datetime | float = START, replaces: str = ""
) -> Point:
    """An image; a number is hours after the start, and ``replaces`` has one letter an id."""
    created = at if isinstance(at, datetime) else START + timedelta(hours=at)
    kind = "full" if parent is None else "incremental"
    return Point(name, parent, kind, created, f"/b/{name}.aiv", 10, tuple(replaces))


def chain(names: str, hours: float = 24) -> list[Point]:
    """A full and its increments, one letter each, a day apart."""
    parents = [None, *names]
    return [point(n, p, i * hours) for i, (n, p) in enumerate(zip(names, parents, strict=False))]


def kept(found: Plan) -> list[str]:
    return [each.point.image_id for each in found.keep]


def ids(points: Sequence[Point]) -> str:
    return "".join(each.image_id for each in points)


def reasons(found: Plan, image_id: str) -> tuple[str, ...]:
    return next(each.reasons for each in found.keep if each.point.image_id == image_id)
