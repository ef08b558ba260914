"""Retention: the rules, the plan, and that no step of carrying one out loses a kept point."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import types
from collections.abc import Callable, Container, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import aipimage
from aipimage import RequestError
from aipimage.format import constants as c
from aipimage.io.system import entropy
from aipimage.retention import (
    KeepRules,
    Merge,
    MergeStep,
    Plan,
    Point,
    RemoveStep,
    carry_out,
    merged_path,
    plan,
    remove_image,
    steps,
    time_zone,
)
from aipimage.retention.execution import Step, merge_files
from aipimage.retention.points import REPLACED_MAX

BERLIN = ZoneInfo("Europe/Berlin")
START = datetime(2026, 1, 1, tzinfo=UTC)
NOW = datetime(2100, 1, 1, tzinfo=UTC)
PAGE = Path(__file__).resolve().parent.parent.parent / "docs/retention.md"


@pytest.fixture(autouse=True)
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that is planned here was made before now, whatever the clock of this machine says."""
    monkeypatch.setattr(entropy, "now_us", lambda: round(NOW.timestamp() * 1_000_000))


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


def dated(*times: datetime) -> list[Point]:
    """A chain made at these times."""
    ids = [str(number) for number in range(len(times))]
    return [
        point(name, ids[place - 1] if place else None, times[place])
        for place, name in enumerate(ids)
    ]


def kept(found: Plan) -> list[str]:
    return [each.point.image_id for each in found.keep]


def ids(points: Sequence[Point]) -> str:
    return "".join(each.image_id for each in points)


def reasons(found: Plan, image_id: str) -> tuple[str, ...]:
    return next(each.reasons for each in found.keep if each.point.image_id == image_id)


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


# What is done with the forgotten ones


def test_forgotten_before_kept_are_merged() -> None:
    found = plan(chain("abcdef"), KeepRules(last=1, keep=frozenset("c")))
    assert [ids(merge.images) for merge in found.merges] == ["abc", "def"]
    assert (found.drops, found.stays, found.refused) == ((), (), ())
    assert ids(found.removals) == "fedcba"
    assert found.bytes_freed_at_least == 0
    assert (found.bytes_freed_at_most, found.bytes_needed_at_most) == (40, 60)


def test_branches_are_dropped_and_forks_stay() -> None:
    """Differentials: the full stays while two of them need it, and is merged into the last one."""
    points = [point("f", None, 0), *(point(n, "f", i) for i, n in enumerate("abc", 1))]
    two = plan(points, KeepRules(last=2))
    assert (kept(two), ids(two.drops), two.merges) == (["b", "c"], "a", ())
    assert [stay.point.image_id for stay in two.stays] == ["f"]
    assert "2 images depend on it: /b/b.aiv, /b/c.aiv" in two.stays[0].reason
    one = plan(points, KeepRules(last=1))
    assert [ids(merge.images) for merge in one.merges] == ["fc"]
    assert ids(one.drops) == "ab"
    assert one.bytes_freed_at_least == 20


def test_a_fork_that_stays_takes_in_what_is_before_it() -> None:
    points = [*chain("abc", 1), point("x", "c", 5), point("y", "c", 6)]
    found = plan(points, KeepRules(last=2))
    assert [ids(merge.images) for merge in found.merges] == ["abc"]
    assert [stay.point.image_id for stay in found.stays] == ["c"]


def test_the_newest_of_each_chain_is_kept_unless_chains_retire() -> None:
    points = [*chain("abc", 1), point("p", None, 100), point("q", "p", 101)]
    found = plan(points, KeepRules(last=1))
    assert kept(found) == ["c", "q"]
    assert reasons(found, "c") == ("newest of its chain",)
    retired = plan(points, KeepRules(last=1), retire_chains=True)
    assert (kept(retired), ids(retired.drops)) == (["q"], "abc")
    pinned = plan(points, KeepRules(keep=frozenset("a")), retire_chains=True)
    assert kept(pinned) == ["a", "q"]


def test_clocks_that_went_back() -> None:
    """The child is newer whatever its time says, and does not push others out of their days."""
    points = [point("a", None, 0), point("b", "a", 48), point("c", "b", 1), point("d", "c", 72)]
    assert kept(plan(points, KeepRules(last=1))) == ["d"]
    found = plan(points, KeepRules(last=2))
    assert kept(found) == ["b", "c", "d"]
    assert reasons(found, "b") == ("the clock went back after it",)
    # A machine that once believed to be in 2099: the days after it count as they are.
    future = [point("a", None, START.replace(year=2099)), point("b", "a", 0), point("c", "b", 24)]
    assert kept(plan(future, KeepRules(daily=2))) == ["a", "b", "c"]
    assert "clock" in reasons(plan(future, KeepRules(daily=2)), "a")[0]


def test_equal_times_follow_the_parents() -> None:
    for names in ("abcd", "dcba", "bdac"):
        assert kept(plan(reversed(chain(names, 0)), KeepRules(last=1))) == [names[-1]]


def test_a_merge_replaces_no_more_than_the_format_allows() -> None:
    assert REPLACED_MAX == c.REPLACED_MAX
    old = Point("M", None, "full", START, "/b/M", 1, tuple(str(i) for i in range(4094)))
    points = [old, point("x", "M", 1), point("y", "x", 2)]
    found = plan(points, KeepRules(last=1))
    assert [ids(merge.images) for merge in found.merges] == ["xy"]
    assert [(stay.point.image_id, "4096" in stay.reason) for stay in found.stays] == [("M", True)]
    assert [ids(m.images) for m in plan(points[:2], KeepRules(last=1)).merges] == ["Mx"]
    full = Point("M", "a", "incremental", START, "/b/M", 1, tuple(str(i) for i in range(4096)))
    found = plan([point("a"), full], KeepRules(last=1))
    assert (found.merges, [stay.point.image_id for stay in found.stays]) == ((), ["a"])


@pytest.mark.parametrize(
    ("points", "told"),
    [
        ([point("b", "a"), point("c", "b")], "/b/b.aiv: its parent, image a, is missing"),
        ([point("a", "c"), point("b", "a"), point("c", "b")], "circle"),
        ([point("a", "a")], "names itself"),
        ([point("a", None, 0, "ab")], "names itself"),
        ([point("a"), point("b", "a"), point("b", "a")], "both are image b"),
        ([point("M", None, 0, "ab"), point("N", None, 0, "ab"), point("c", "b")], "both stand for"),
        ([point("M", None, 0, "N"), point("N", None, 0, "M")], "circle|stand for"),
        ([point("M", "a", 0, "a"), point("a")], "itself|circle"),
        ([point("M", None, 9, "abcd"), point("c", "b", 2), point("e", "c", 3)], "image b, is miss"),
    ],
)
def test_unsound_chains_are_not_touched(points: list[Point], told: str) -> None:
    """Nor do their points use up what the rules keep of sound chains."""
    sound = chain("uvw", 0.1)
    found = plan([*points, *sound], KeepRules(last=1, keep=frozenset(points[0].image_id)))
    (refused,) = found.refused
    assert sorted(map(id, refused.points)) == sorted(map(id, points))
    assert re.search(told, refused.reason)
    assert kept(found) == ["w"]
    assert ids(found.removals) == "wvu"
    assert any(line.startswith("refuse") for line in found.describe())


def test_superseded_leftovers() -> None:
    """What a merged image replaces goes, unless the rules still want it or somebody needs it."""
    merged = point("M", None, 72, "abcd")
    points = [*chain("abcd"), merged, point("e", "d", 96)]
    found = plan(points, KeepRules(last=2))
    assert (kept(found), ids(found.superseded)) == (["M", "e"], "abcd")
    assert (found.merges, found.drops) == ((), ())
    assert [step.point.image_id for step in steps(found) if isinstance(step, RemoveStep)] == list(
        "dcba"
    )
    wanted = plan(points, KeepRules(last=2, keep=frozenset("b")))
    assert kept(wanted) == ["b", "M", "e"]
    assert ids(wanted.superseded) == "cd"
    # Oldest first is not how this library removes, but what others left behind goes as well.
    torn = plan([*points[2:]], KeepRules(within=timedelta(days=99)))
    assert (kept(torn), ids(torn.superseded)) == (["M", "e"], "cd")
    # A full inside of a chain needs nobody, so that it can be restored without its parent.
    full = replace(points[2], kind="full")
    torn = plan([full, *points[3:]], KeepRules(within=timedelta(days=99)))
    assert (kept(torn), ids(torn.superseded)) == (["c", "M", "e"], "d")
    forked = plan([*points, point("x", "b", 30)], KeepRules(last=1))
    assert ids(forked.superseded) == "cd"
    assert ids(forked.drops) == "abx"


def test_an_image_merged_twice_stands_for_both_names() -> None:
    """Children may name the image that was merged, or the merged image that was merged again."""
    for replaces in ("xyzN", "xNyz"):
        again = point("W", None, 9, replaces)
        for parent in "zN":
            points = [again, point("c", parent, 10)]
            assert kept(plan(points, KeepRules(last=2))) == ["W", "c"]
            left = [*points, point("x", None, 0), point("N", "x", 9, "yz")]
            found = plan(left, KeepRules(within=timedelta(hours=5)))
            assert (kept(found), ids(found.superseded)) == (["W", "c"], "xN")


def test_reports() -> None:
    points = [*chain("abc"), point("x", "a", 5), point("y", "zz"), point("M", None, 0, "p")]
    points += [point("p"), Point("n", "c", "incremental", START, "/b/n\n.aiv", 3)]
    found = plan(points, KeepRules(last=1))
    lines = found.describe()
    assert all("\n" not in line for line in lines)
    words = {line.split()[0] for line in lines}
    assert words == {"keep", "merge", "drop", "refuse", "frees"}
    values = json.loads(json.dumps(found.to_dict()))
    assert values["drops"][0]["path"] == "/b/x.aiv"
    assert values["bytes_freed_at_least"] == 20
    assert [each["image_id"] for each in values["merges"][0]["images"]] == ["a", "b", "c"]
    assert not found.nothing_to_do
    assert plan([], KeepRules(last=1)).nothing_to_do


def calls_of(points: list[Point], rules: KeepRules) -> int:
    """Function calls that planning takes: what is counted does not depend on the machine."""
    count = 0

    def noted(_: object, event: str, __: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(noted)
    try:
        plan(points, rules, tz=BERLIN)
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize(
    "shape",
    [lambda i: (i - 1, i), lambda _: (0, 1), lambda i: (i - 1, -i)],
    ids=["a chain", "a star", "a clock that runs backwards"],
)
def test_work_grows_with_the_points(shape: Callable[[int], tuple[int, int]]) -> None:
    """Ten times the points are little more than ten times the work."""
    rules = KeepRules.parse("last=7,hourly=24,daily=14,weekly=8,monthly=12,yearly=3,within=9d")
    counts = []
    for number in (400, 4000):
        points = [
            point(str(i), str(shape(i)[0]) if i else None, shape(i)[1]) for i in range(number)
        ]
        counts.append(calls_of(points, rules))
    assert counts[1] < 13 * counts[0]


# Carrying out, on a model of a disk


class PowerError(Exception):
    """The power went."""


class Disk:
    """Files in a directory, and which of the images first made each of them has the data of.

    It knows nothing of planning: a point is restorable when a file is that point in time, and of
    the point and each of its ancestors, as first made, a file has the data: the image itself, or a
    merged image that has it among its run, for points at or below the end of that run.
    """

    def __init__(self, points: Sequence[Point], *, nested: bool) -> None:
        self.parents = {each.image_id: each.parent_id for each in points}
        self.files = {each.path: each for each in points}
        self.runs = {each.path: (each.image_id,) for each in points}
        self.nested = nested
        self.left = -1

    def _step(self) -> None:
        if self.left == 0:
            raise PowerError
        self.left -= 1

    def line(self, image_id: str) -> list[str]:
        """A point and its ancestors, as first made."""
        line = [image_id]
        while (parent := self.parents[line[-1]]) is not None:
            line.append(parent)
        return line

    def merge(self, path: str, images: Sequence[Point]) -> None:
        self._step()
        assert path not in self.files
        assert len(images) > 1
        runs = [self.runs[each.path] for each in images]
        assert all(self.files[each.path] == each for each in images)
        for older, newer in pairwise(runs):
            assert self.parents[newer[0]] == older[-1]
        replaces: list[str] = []
        for each in images:
            own, old = [each.image_id], list(each.replaces)
            replaces += own + old if self.nested else old + own
        last = images[-1]
        self.files[path] = Point(
            f"merged {path}",
            images[0].parent_id,
            images[0].kind,
            last.created,
            path,
            last.stored,
            tuple(replaces),
        )
        self.runs[path] = tuple(each for run in runs for each in run)
        assert self.restorable(self.runs[path][-1])

    def remove(self, gone: Point) -> None:
        self._step()
        del self.files[gone.path], self.runs[gone.path]

    def restorable(self, image_id: str) -> bool:
        line = self.line(image_id)
        is_there = any(run[-1] == image_id for run in self.runs.values())
        return is_there and all(
            any(each in run and (run == (each,) or run[-1] in line) for run in self.runs.values())
            for each in line
        )

    def first_made(self, found: Plan) -> set[str]:
        """The kept points, as the images first made."""
        return {self.runs[each.point.path][-1] for each in found.keep}

    def name(self, merge: Merge, taken: Container[str]) -> str:
        path = merge.images[-1].path + "+"
        while path in taken or path in self.files:
            path += "+"
        return path

    def carry_out(self, found: Plan, after: int = -1) -> None:
        """Do it; the power goes after so many steps. The kept points are restorable at each."""
        self.left = after
        promised = self.first_made(found)

        def look(_: Step | None = None) -> None:
            assert all(self.restorable(each) for each in promised)

        try:
            carry_out(found, merge=self.merge, remove=self.remove, name=self.name, on_step=look)
        except PowerError:
            assert after >= 0
        look()


ZONES: list[tzinfo] = [UTC, BERLIN, ZoneInfo("Australia/Lord_Howe"), ZoneInfo("Asia/Kolkata")]


@st.composite
def trees(draw: st.DrawFn, *, distinct: bool) -> list[Point]:
    """Chains and trees in any order of times, clocks that went back among them."""
    count = draw(st.integers(1, 9))
    hours = st.integers(0, 24 * 40) if draw(st.booleans()) else st.integers(0, 60)
    times = draw(st.lists(hours, min_size=count, max_size=count, unique=distinct))
    if draw(st.booleans()):
        times.sort()
    begin = draw(st.sampled_from([START, datetime(2026, 10, 24, tzinfo=UTC)]))
    points: list[Point] = []
    for place, hour in enumerate(times):
        recent = st.just(place - 1) if draw(st.booleans()) else st.integers(-1, place - 1)
        above = draw(recent)
        points.append(
            point(
                "abcdefghi"[place],
                "abcdefghi"[above] if above >= 0 else None,
                begin + timedelta(hours=hour),
            )
        )
    return draw(st.permutations(points))


RULES = st.builds(
    KeepRules,
    last=st.integers(0, 3),
    hourly=st.integers(0, 2),
    daily=st.integers(0, 3),
    weekly=st.integers(0, 2),
    monthly=st.integers(0, 2),
    yearly=st.integers(0, 2),
    within=st.none() | st.integers(1, 50).map(lambda hours: timedelta(hours=hours)),
    keep=st.just(frozenset()) | st.just(frozenset("a")),
).filter(lambda rules: not rules.keeps_nothing)


def line_of(points: dict[str, Point], image_id: str) -> list[Point]:
    line = [points[image_id]]
    while (parent := line[0].parent_id) is not None:
        line.insert(0, points[parent])
    return line


def naive_keep(
    given: Sequence[Point], rules: KeepRules, tz: tzinfo, *, retire_chains: bool
) -> set[str]:
    """What is to be kept, from the words of the documentation and with no thought for speed."""
    points = {each.image_id: each for each in given}
    lines = {name: line_of(points, name) for name in points}

    def place(name: str) -> list[tuple[datetime, str]]:
        """The members of the line that no later member outruns: a parent before its children."""
        keys = [(each.created, each.image_id) for each in lines[name]]
        return [key for at, key in enumerate(keys) if all(key > other for other in keys[at + 1 :])]

    order = sorted(points, key=place)
    keep = set(order[-rules.last :] if rules.last else [])
    for count, words in [
        (rules.hourly, "%Y %m %d %H %z"),
        (rules.daily, "%Y %m %d"),
        (rules.weekly, "%G %V"),
        (rules.monthly, "%Y %m"),
        (rules.yearly, "%Y"),
    ]:
        newest = {points[n].created.astimezone(tz).strftime(words): n for n in order}
        keep |= set(sorted(newest.values(), key=order.index, reverse=True)[:count])
    if rules.within is not None:
        since = points[order[-1]].created - rules.within
        keep |= {n for n in order if any(each.created >= since for each in lines[n])}
    roots = {lines[name][0].image_id: name for name in order}
    keep |= {order[-1]} if retire_chains else set(roots.values())
    keep |= rules.keep
    for name in sorted(keep):
        times = [each.created for each in lines[name]]
        keep |= {
            each.image_id
            for at, each in enumerate(lines[name][:-1])
            if each.created > max(times[at + 1 :])
        }
    return keep


@settings(max_examples=300, deadline=None)
@given(trees(distinct=False), RULES, st.sampled_from(ZONES), st.booleans())
def test_keeps_what_a_naive_reading_keeps(
    points: list[Point], rules: KeepRules, tz: tzinfo, retire: bool
) -> None:
    found = plan(points, rules, tz=tz, retire_chains=retire)
    assert set(kept(found)) == naive_keep(points, rules, tz, retire_chains=retire)
    parts = [
        [each.point for each in found.keep],
        [each.point for each in found.stays],
        [each for merge in found.merges for each in merge.images[:-1]],
        found.drops,
        found.superseded,
    ]
    assert sorted(ids([each for part in parts for each in part])) == sorted(ids(points))


@settings(max_examples=150, deadline=None)
@given(trees(distinct=True), RULES, st.booleans(), st.booleans())
def test_no_step_loses_a_kept_point(
    points: list[Point], rules: KeepRules, nested: bool, retire: bool
) -> None:
    """The power goes after any step; planned again from what is there, the rest is done."""
    found = plan(points, rules, retire_chains=retire)
    whole = Disk(points, nested=nested)
    promised = whole.first_made(found)
    whole.carry_out(found)
    for after in range(len(steps(found, whole.name)) + 1):
        disk = Disk(points, nested=nested)
        disk.carry_out(found, after)
        again = plan(disk.files.values(), rules, retire_chains=retire)
        assert not again.refused
        assert disk.first_made(again) == promised
        # Once more it fails, in the middle of the rest.
        disk.carry_out(again, after // 2)
        again = plan(disk.files.values(), rules, retire_chains=retire)
        assert disk.first_made(again) == promised
        disk.carry_out(again)
        assert sorted(disk.runs.values()) == sorted(whole.runs.values())
        assert plan(disk.files.values(), rules, retire_chains=retire).nothing_to_do


@settings(max_examples=100, deadline=None)
@given(trees(distinct=True), st.lists(RULES, min_size=2, max_size=4), st.booleans())
def test_tighter_rules_later(points: list[Point], several: list[KeepRules], nested: bool) -> None:
    """Merged images are merged again, and other rules meet what earlier ones left half done."""
    disk = Disk(points, nested=nested)
    for rules in several:
        if rules.keep and not disk.restorable("a"):
            continue
        found = plan(disk.files.values(), rules)
        assert not found.refused
        disk.carry_out(found, after=len(steps(found, disk.name)) // 2)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=8), st.permutations("abcdefgh"), RULES)
def test_equal_times_in_one_chain(hours: list[int], names: list[str], rules: KeepRules) -> None:
    """Where times are coarse the parents tell the order, also with the inputs of a merge about."""
    points = [point(names[n], names[n - 1] if n else None, h) for n, h in enumerate(hours)]
    rules = replace(rules, keep=rules.keep & set(names[: len(hours)]))
    assume(not rules.keeps_nothing)
    found = plan(points, rules)
    promised = set(kept(found))
    for after in range(len(steps(found)) + 1):
        disk = Disk(points, nested=False)
        disk.carry_out(found, after)
        again = plan(disk.files.values(), rules)
        assert disk.first_made(again) == promised
        disk.carry_out(again)
        assert plan(disk.files.values(), rules).nothing_to_do


def test_order_of_the_steps() -> None:
    """Leftovers, what is dropped, all merges, then what they replace; each newest first."""
    points = [*chain("abcd"), point("M", None, 24, "ab"), point("x", "c", 50)]
    found = plan(points, KeepRules(last=1))
    told = [
        ids(step.images) if isinstance(step, MergeStep) else step.point.image_id
        for step in steps(found)
    ]
    assert told == ["b", "a", "x", "Mcd", "d", "c", "M"]


# Files


def test_names_of_merged_images(tmp_path: Path) -> None:
    def named(last: str, *taken: str) -> str:
        ends = [Point(n, None, "full", START, str(tmp_path / n), 1) for n in ("a.aiv", last)]
        path = merged_path(Merge(tuple(ends), ""), {str(tmp_path / each) for each in taken})
        return Path(path).name

    assert named("d.aiv") == "d.merged.aiv"
    assert named("d.merged.aiv", "d.merged.aiv") == "d.merged-2.aiv"
    assert named("d.merged-2.aiv", "d.merged-2.aiv") == "d.merged.aiv"
    (tmp_path / "d.merged.aiv").touch()
    assert named("d.aiv") == "d.merged-2.aiv"
    assert named("d") == "d.merged"


def test_two_merges_get_two_names(tmp_path: Path) -> None:
    """One plan never gives two merged images one path."""
    ends = [Point(str(n), None, "full", START, str(tmp_path / "d.aiv"), 1) for n in range(2)]
    merges = tuple(Merge((end, end), "") for end in ends)
    found = Plan((), merges, (), (), (), (), ())
    paths = [step.path for step in steps(found) if isinstance(step, MergeStep)]
    assert [Path(path).name for path in paths] == ["d.merged.aiv", "d.merged-2.aiv"]


@pytest.mark.parametrize("split", [None, 64 << 10])
def test_removing_an_image_and_all_its_parts(tmp_path: Path, split: int | None) -> None:
    (tmp_path / "disk.raw").write_bytes(bytes(range(256)) * 1024)
    path = str(tmp_path / "disk.aiv")
    aipimage.create(path, str(tmp_path / "disk.raw"), compress="none", split=split)
    assert (len(list(tmp_path.iterdir())) > 3) == (split is not None)
    (tmp_path / "disk.aiv.txt").touch()
    gone = Point("x", None, "full", START, path, 1)
    remove_image(gone)
    assert {each.name for each in tmp_path.iterdir()} == {"disk.raw", "disk.aiv.txt"}
    remove_image(gone)


def test_what_is_no_image_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "notes.aiv"
    path.write_bytes(b"not an image " * 100)
    with pytest.raises(
        aipimage.FormatError,
        match=r"notes\.aiv: is called like an \.aiv image and does not begin like one",
    ):
        remove_image(Point("x", None, "full", START, str(path), 1))
    assert path.exists()


def test_merging_is_left_to_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[object, ...]] = []
    module = types.ModuleType("aipimage.io.merge.job")
    module.merge_images = lambda *args, **more: calls.append((*args, more))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    merge_files("/b/out.aiv", chain("ab"), password="secret")
    assert calls == [("/b/out.aiv", ["/b/a.aiv", "/b/b.aiv"], {"password": "secret"})]


def test_a_failing_merge_loses_none_of_its_images() -> None:
    removed: list[Point] = []

    def fail(path: str, images: Sequence[Point]) -> None:
        raise aipimage.IntegrityError(f"{path}: damaged")

    points = [*chain("abc"), point("x", "a", 1)]
    with pytest.raises(aipimage.IntegrityError):
        carry_out(plan(points, KeepRules(last=1)), merge=fail, remove=removed.append)
    # Only the branch is gone, which had to be before the merge could be made.
    assert ids(removed) == "x"


def test_documented_examples(tmp_path: Path) -> None:
    """All blocks of the page, one after the other in one process, print what the page says."""
    text = PAGE.read_text("utf-8")
    code = "\n".join(re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
    told = "".join(re.findall(r"^```text\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert told
    assert done.stdout == told
