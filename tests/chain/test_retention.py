"""Rules of which points in time to keep: docs/retention.md."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from aipimage import RequestError
from aipimage.io.system import entropy
from aipimage.retention import KeepRules, Point, plan, time_zone
from aipimage.retention.points import REPLACED_MAX
from tests.chain.pointsintime import BERLIN, NOW, START, chain, kept, point, reasons


@pytest.fixture(autouse=True)
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that is planned here was made before now, whatever the clock of this machine says."""
    monkeypatch.setattr(entropy, "now_us", lambda: round(NOW.timestamp() * 1_000_000))


def dated(*times: datetime) -> list[Point]:
    """A chain made at these times."""
    ids = [str(number) for number in range(len(times))]
    return [
        point(name, ids[place - 1] if place else None, times[place])
        for place, name in enumerate(ids)
    ]


# The rules


def test_parse() -> None:
    text = "last=7,hourly=1, daily=14,weekly=8,monthly=12,yearly=3,within=36h,keep=a,keep=b"
    assert KeepRules.parse(text) == KeepRules(
        7, 1, 14, 8, 12, 3, timedelta(hours=36), frozenset("ab")
    )
    assert KeepRules.parse("within=3w").within == timedelta(weeks=3)
    assert KeepRules.parse("within=30d").within == timedelta(days=30)


@pytest.mark.parametrize(
    "text",
    [
        "", ",", "last", "last=", "=3", "last=-1", "last=x", "last=1.5", "last=\u0663", "last=1_0",
        "last=1,last=2", "last=0,last=0", "fortnightly=1", "within=5", "within=5m", "within=0d",
        "within=-1d", "within=1d,within=2d", "keep=", "last=" + "9" * 5000, "within=9999999w",
    ],
)  # fmt: skip
def test_parse_refuses_in_one_line(text: str) -> None:
    with pytest.raises(RequestError) as raised:
        KeepRules.parse(text)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("count", [-1, True, 1.0, "1"])
def test_counts_are_whole_numbers(count: object) -> None:
    with pytest.raises(RequestError, match="daily"):
        KeepRules(daily=count)  # type: ignore[arg-type]


@pytest.mark.parametrize("rules", [KeepRules(), KeepRules.parse("last=0,daily=0")])
def test_rules_that_keep_nothing_are_refused(rules: KeepRules) -> None:
    with pytest.raises(RequestError, match="keep nothing"):
        plan(chain("ab"), rules)


def test_time_zones() -> None:
    assert time_zone("Europe/Berlin") == BERLIN
    for name in ("Europe/Nowhere", "../etc/passwd", "", "a\0b", "Europe"):
        with pytest.raises(RequestError, match="not a time zone"):
            time_zone(name)


def test_last_and_within() -> None:
    points = chain("abcdef")
    assert kept(plan(points, KeepRules(last=2))) == ["e", "f"]
    assert kept(plan(points, KeepRules(within=timedelta(days=2)))) == ["d", "e", "f"]
    assert kept(plan(points, KeepRules(within=timedelta(days=2, microseconds=-1)))) == ["e", "f"]
    assert kept(plan(points, KeepRules(within=timedelta.max))) == list("abcdef")
    assert kept(plan(points, KeepRules(last=10**30))) == list("abcdef")


def test_days_without_points_use_nothing_up() -> None:
    points = dated(
        datetime(2025, 3, 1, 8, tzinfo=UTC),
        datetime(2025, 3, 1, 9, tzinfo=UTC),
        datetime(2026, 3, 1, 9, tzinfo=UTC),
    )
    assert kept(plan(points, KeepRules(daily=2))) == ["1", "2"]


def test_days_end_at_midnight_of_the_zone_also_when_clocks_change() -> None:
    """23:30 and 00:30 in Berlin, around both changes of 2026 (29 March, 25 October)."""
    points = dated(
        datetime(2026, 3, 28, 22, 30, tzinfo=UTC),  # 28 March, 23:30, UTC+1
        datetime(2026, 3, 28, 23, 30, tzinfo=UTC),  # 29 March, 00:30, UTC+1
        datetime(2026, 3, 29, 21, 30, tzinfo=UTC),  # 29 March, 23:30, UTC+2
        datetime(2026, 3, 29, 22, 30, tzinfo=UTC),  # 30 March, 00:30, UTC+2
        datetime(2026, 10, 24, 21, 30, tzinfo=UTC),  # 24 October, 23:30, UTC+2
        datetime(2026, 10, 24, 22, 30, tzinfo=UTC),  # 25 October, 00:30, UTC+2
        datetime(2026, 10, 25, 22, 30, tzinfo=UTC),  # 25 October, 23:30, UTC+1
    )
    assert kept(plan(points, KeepRules(daily=9), tz=BERLIN)) == ["0", "2", "3", "4", "6"]
    assert kept(plan(points, KeepRules(daily=9))) == ["1", "3", "5", "6"]


def test_the_hour_that_comes_twice() -> None:
    """02:10 and 02:50 summer time, then 02:10 and 02:50 standard time: two hours."""
    first = datetime(2026, 10, 25, 0, 10, tzinfo=UTC)
    points = dated(*(first + timedelta(minutes=m) for m in (0, 40, 60, 100)))
    found = plan(points, KeepRules(hourly=9), tz=BERLIN)
    assert kept(found) == ["1", "3"]
    assert reasons(found, "1") == ("hourly 2026-10-25T02+02:00",)


def test_times_are_compared_as_instants() -> None:
    """In one zone Python compares clocks on walls: 02:10 after the change is later than 02:50."""
    points = [
        point("a", None, datetime(2026, 10, 25, 1, tzinfo=BERLIN)),
        point("x", "a", datetime(2026, 10, 25, 2, 50, tzinfo=BERLIN)),
        point("y", "a", datetime(2026, 10, 25, 2, 10, fold=1, tzinfo=BERLIN)),
    ]
    assert kept(plan(points, KeepRules(last=1))) == ["y"]


def test_weeks_are_iso_weeks() -> None:
    """29 December 2025 is in week 1 of 2026, and week 53 of 2026 ends on 3 January 2027."""
    points = dated(
        datetime(2025, 12, 28, tzinfo=UTC),
        datetime(2025, 12, 29, tzinfo=UTC),
        datetime(2026, 1, 4, tzinfo=UTC),
        datetime(2026, 12, 28, tzinfo=UTC),
        datetime(2026, 12, 31, tzinfo=UTC),
        datetime(2027, 1, 3, tzinfo=UTC),
        datetime(2027, 1, 4, tzinfo=UTC),
    )
    found = plan(points, KeepRules(weekly=9))
    assert kept(found) == ["0", "2", "5", "6"]
    assert reasons(found, "2") == ("weekly 2026-W01",)
    assert reasons(found, "5") == ("weekly 2026-W53",)
    assert kept(plan(points, KeepRules(yearly=9))) == ["1", "4", "6"]


def test_leap_days_months_and_years() -> None:
    points = dated(
        datetime(2024, 2, 28, tzinfo=UTC),
        datetime(2024, 2, 29, tzinfo=UTC),
        datetime(2024, 3, 1, tzinfo=UTC),
        datetime(2024, 12, 31, tzinfo=UTC),
        datetime(2025, 2, 28, tzinfo=UTC),
    )
    assert kept(plan(points, KeepRules(monthly=9))) == ["1", "2", "3", "4"]
    assert kept(plan(points, KeepRules(yearly=1, daily=1))) == ["4"]
    assert kept(plan(points, KeepRules(yearly=2))) == ["3", "4"]


def test_pins() -> None:
    found = plan(chain("abcd"), KeepRules(last=1, keep=frozenset("b")))
    assert kept(found) == ["b", "d"]
    assert reasons(found, "b") == ("pinned",)
    merged = point("M", None, 3, replaces="ab")
    assert kept(plan([merged, point("c", "b", 4)], KeepRules(last=1, keep=frozenset("b")))) == [
        "M",
        "c",
    ]
    with pytest.raises(RequestError, match="pinned image x"):
        plan(chain("abcd"), KeepRules(last=1, keep=frozenset("x")))


@pytest.mark.parametrize(
    ("created", "stored", "replaces"),
    [
        (datetime(2026, 1, 1), 1, ()),
        (START, -1, ()),
        (START, 1, ("a",) * (REPLACED_MAX + 1)),
        (datetime.min.replace(tzinfo=timezone(timedelta(hours=1))), 1, ()),
    ],
)
def test_impossible_points(created: datetime, stored: int, replaces: tuple[str, ...]) -> None:
    with pytest.raises(RequestError, match="/b/x"):
        Point("x", None, "full", created, "/b/x", stored, replaces)


def test_the_end_of_the_calendar() -> None:
    last = dated(datetime.max.replace(tzinfo=UTC))
    assert kept(plan(last, KeepRules(weekly=1))) == ["0"]
    with pytest.raises(RequestError, match="outside of the calendar"):
        plan(last, KeepRules(weekly=1), tz=BERLIN)
