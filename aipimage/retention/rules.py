"""Rules of retention: the last ones, and grandfather-father-son by the calendar."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from aipimage.errors import RequestError
from aipimage.retention.points import Point

_COUNTS = ("last", "hourly", "daily", "weekly", "monthly", "yearly")
_UNITS = {"h": "hours", "d": "days", "w": "weeks"}


def _week(time: datetime) -> str:
    year, week, _ = time.isocalendar()
    return f"{year:04d}-W{week:02d}"


# The offset in an hour's name keeps the hour apart that comes twice when summer time ends.
_PERIODS: dict[str, Callable[[datetime], str]] = {
    "hourly": lambda time: time.isoformat(timespec="hours"),
    "daily": lambda time: time.date().isoformat(),
    "weekly": _week,
    "monthly": lambda time: time.date().isoformat()[:7],
    "yearly": lambda time: time.date().isoformat()[:4],
}


@dataclass(frozen=True, slots=True)
class KeepRules:
    """What to keep. A point is kept when any of the rules keeps it.

    Attributes:
        last: so many points, the newest.
        hourly, daily, weekly, monthly, yearly: the newest point of each of the last so many hours,
            days, ISO weeks, months or years *that have one*: a time without points uses nothing up.
        within: every point at most so much older than the newest one.
        keep: image ids that are pinned: kept whatever the other rules say.

    Raises:
        RequestError: a count is not a whole number from 0 on, or ``within`` is not positive.
    """

    last: int = 0
    hourly: int = 0
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    yearly: int = 0
    within: timedelta | None = None
    keep: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        for name in _COUNTS:
            count = getattr(self, name)
            if not isinstance(count, int) or isinstance(count, bool) or count < 0:
                raise RequestError(f"{name}={count!r}: use a whole number, 0 or more")
        if self.within is not None and self.within <= timedelta(0):
            raise RequestError(f"within={self.within}: use a time greater than zero")

    @classmethod
    def parse(cls, text: str) -> KeepRules:
        """Read rules as a command line has them: ``last=7,daily=14,within=36h,keep=ID,keep=ID``.

        ``within`` takes whole hours (``h``), days (``d``) or weeks (``w``); a day is 24 hours.

        Raises:
            RequestError: in one line, with what is wrong.
        """
        counts: dict[str, int] = {}
        within: timedelta | None = None
        pins: set[str] = set()
        for name, value in _pairs(text):
            if name == "keep":
                pins.add(value)
            elif name in counts or (name == "within" and within is not None):
                raise RequestError(f"the rule {name} is there twice; name it once")
            elif name == "within":
                within = _span(value)
            else:
                counts[name] = _count(name, value)
        return cls(**counts, within=within, keep=frozenset(pins))

    @property
    def keeps_nothing(self) -> bool:
        """Whether no rule is set."""
        return not any(getattr(self, field.name) for field in fields(self))


def time_zone(name: str) -> tzinfo:
    """Return a time zone by its IANA name (``Europe/Berlin``), or raise ``RequestError``."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise RequestError(
            f"{name!r}: not a time zone that this machine knows; use a name like Europe/Berlin"
        ) from None


def rule_reasons(
    newest_first: Sequence[Point], latest: Sequence[datetime], rules: KeepRules, tz: tzinfo
) -> list[list[str]]:
    """Tell for each point why the rules keep it; an empty list where they do not.

    Args:
        newest_first: the points, newest first.
        latest: for each of them the greatest time among it and its ancestors.
    """
    reasons: list[list[str]] = [
        ["last"] if place < rules.last else [] for place in range(len(newest_first))
    ]
    periods = [(name, period, getattr(rules, name)) for name, period in _PERIODS.items()]
    active = [each for each in periods if each[2]]
    local = [point.time_in(tz) for point in newest_first] if active else []
    for name, period, count in active:
        for place, label in _newest_of_each(local, period, count):
            reasons[place].append(f"{name} {label}")
    if rules.within is not None:
        for place, time in enumerate(latest):
            if newest_first[0].created - time <= rules.within:
                reasons[place].append("within")
    return reasons


def _newest_of_each(
    local: Sequence[datetime], period: Callable[[datetime], str], count: int
) -> Iterator[tuple[int, str]]:
    """The places of the first points of the first ``count`` periods that are met."""
    seen: set[str] = set()
    for place, time in enumerate(local):
        label = period(time)
        if label not in seen:
            seen.add(label)
            yield place, label
            if len(seen) == count:
                return


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    for item in text.split(","):
        name, equals, value = (part.strip() for part in item.partition("="))
        if name not in (*_COUNTS, "within", "keep") or not equals or not value:
            known = ", ".join((*_COUNTS, "within", "keep"))
            raise RequestError(f"{item.strip()!r}: not a rule; use NAME=VALUE, NAME of {known}")
        yield name, value


def _count(name: str, value: str) -> int:
    if not re.fullmatch("[0-9]{1,9}", value):
        raise RequestError(f"{name}={value}: use a whole number, 0 or more")
    return int(value)


def _span(value: str) -> timedelta:
    found = re.fullmatch("([0-9]{1,6})([hdw])", value)
    if not found:
        raise RequestError(f"within={value}: use a number of hours, days or weeks, such as 30d")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})
