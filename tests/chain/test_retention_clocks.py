"""Retention when a clock was wrong: a time from the future makes no other point old."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone

import pytest

from aipimage import RequestError
from aipimage.io.system import entropy
from aipimage.retention import KeepRules, Plan, Point, carry_out, plan

BEGIN = datetime(2026, 3, 1, 22, tzinfo=UTC)
NOW = BEGIN + timedelta(days=39, hours=8)
FAR = datetime(2099, 1, 1, tzinfo=UTC)


def daily(wrong: dict[int, datetime], count: int = 40, prefix: str = "id") -> list[Point]:
    """A chain of daily points, some of them with another time."""
    return [
        Point(
            f"{prefix}{day}",
            f"{prefix}{day - 1}" if day else None,
            "incremental" if day else "full",
            wrong.get(day, BEGIN + timedelta(days=day)),
            f"{prefix}{day:02}.aiv",
            1,
        )
        for day in range(count)
    ]


def kept(found: Plan) -> set[str]:
    return {each.point.image_id for each in found.keep}


def planned(points: list[Point], rules: str) -> Plan:
    return plan(points, KeepRules.parse(rules), now=NOW)


RULES = ("within=7d", "daily=5", "within=7d,weekly=4", "last=3", "hourly=4,monthly=2", "yearly=1")


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("wrong", [0, 20, 38, 39])
def test_one_point_from_the_future_makes_no_other_old(wrong: int, rules: str) -> None:
    """What is kept without the wrong clock is kept with it, but for the point itself."""
    right, found = planned(daily({}), rules), planned(daily({wrong: FAR}), rules)
    assert kept(right) - {f"id{wrong}"} <= kept(found)
    # And it keeps no more than the point itself and one in its place.
    assert len(kept(found)) <= len(kept(right)) + 2
    [said] = found.warnings
    assert said.startswith(f"id{wrong:02}.aiv: has a time in the future, 2099-01-01")
    assert not right.warnings
    assert any("in the future" in line for line in found.describe())
    assert json.loads(json.dumps(found.to_dict()))["warnings"] == [said]


def test_the_newest_point_from_the_future_stays() -> None:
    found = planned(daily({39: FAR}), "within=7d")
    [last] = [each for each in found.keep if each.point.image_id == "id39"]
    assert last.reasons == ("from the future",)
    assert "id38" in kept(found)
    assert "id31" in kept(found)
    assert "id30" not in kept(found)


def test_one_in_the_middle_is_dated_by_what_follows_it() -> None:
    """It was made before its child, so that it gets old like any other, and its children do too."""
    found = planned(daily({20: FAR}), "within=7d")
    assert kept(found) == {f"id{day}" for day in range(32, 40)}
    assert f"{(BEGIN + timedelta(days=21)).isoformat()} was taken instead" in found.warnings[0]


def test_several_points_in_a_row() -> None:
    wrong = {day: FAR + timedelta(days=day) for day in (36, 37, 38, 39)}
    found = planned(daily(wrong), "within=7d")
    assert {f"id{day}" for day in range(28, 40)} == kept(found)
    assert len(found.warnings) == 4


def test_other_chains_stay_in_order() -> None:
    """A wrong clock in one chain must not make all points of another one older."""
    found = planned(daily({20: FAR}) + daily({}, prefix="b"), "last=4")
    assert kept(found) == {"id39", "b39", "id38", "b38"}


def test_a_day_of_difference_is_no_wrong_clock() -> None:
    """A clock that is set to another zone's time."""
    late = NOW + timedelta(hours=23)
    found = planned(daily({39: late}), "last=1")
    assert (kept(found), found.warnings) == ({"id39"}, ())
    assert planned(daily({39: NOW + timedelta(days=1, seconds=1)}), "last=1").warnings


@pytest.mark.parametrize("rules", RULES)
def test_a_machine_whose_own_clock_is_behind(rules: str) -> None:
    """All points are later than its clock: they are taken as they are, and it is said."""
    early = datetime(1970, 1, 1, tzinfo=UTC)
    found = plan(daily({}), KeepRules.parse(rules), now=early)
    assert kept(found) == kept(planned(daily({}), rules))
    [said] = found.warnings
    assert "later than this machine's clock" in said


@pytest.mark.parametrize("rules", RULES)
def test_a_clock_that_fell_behind_in_the_middle(rules: str) -> None:
    """A battery that is empty: 1970. What follows is as new as it was."""
    found = planned(daily({20: datetime(1970, 1, 1, tzinfo=UTC)}), rules)
    assert kept(planned(daily({}), rules)) <= kept(found) | {"id20"}


def test_now_is_that_of_the_machine_unless_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entropy, "now_us", lambda: round(NOW.timestamp() * 1e6))
    assert plan(daily({39: FAR}), KeepRules(last=1)).warnings
    monkeypatch.setattr(entropy, "now_us", lambda: 1 << 63)
    assert not plan(daily({39: FAR}), KeepRules(last=1)).warnings
    assert not plan(daily({}), KeepRules(last=1), now=datetime.max.replace(tzinfo=UTC)).warnings
    zone = timezone(timedelta(hours=5))
    assert plan(daily({39: FAR}), KeepRules(last=1), now=NOW.astimezone(zone)).warnings
    with pytest.raises(RequestError, match="no time zone"):
        plan(daily({}), KeepRules(last=1), now=datetime(2026, 1, 1))


def test_planned_again_and_again_it_keeps_what_it_promised() -> None:
    """After carrying out, the same rules find nothing more to do."""
    points = daily({20: FAR, 39: FAR})
    found = planned(points, "within=7d")
    assert planned(left_of(points, found), "within=7d").nothing_to_do


def left_of(points: list[Point], found: Plan) -> list[Point]:
    """The points that are there when a plan was carried out."""
    there = {each.path: each for each in points}

    def merge(path: str, images: tuple[Point, ...]) -> None:
        first, last = images[0], images[-1]
        there[path] = Point(
            f"m{last.image_id}",
            first.parent_id,
            first.kind,
            last.created,
            path,
            1,
            tuple(each.image_id for each in images),
        )

    names: Iterator[int] = iter(range(100))
    carry_out(
        found,
        merge=merge,
        remove=lambda each: there.pop(each.path),
        name=lambda *_: f"m{next(names)}.aiv",
    )
    return list(there.values())
