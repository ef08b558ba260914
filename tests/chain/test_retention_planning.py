"""What is done with the points that no rule keeps."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from aipimage.format import constants as c
from aipimage.io.system import entropy
from aipimage.retention import KeepRules, Point, RemoveStep, plan, steps
from aipimage.retention.points import REPLACED_MAX
from tests.chain.pointsintime import BERLIN, NOW, START, chain, ids, kept, point, reasons


@pytest.fixture(autouse=True)
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that is planned here was made before now, whatever the clock of this machine says."""
    monkeypatch.setattr(entropy, "now_us", lambda: round(NOW.timestamp() * 1_000_000))


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
