"""Plans carried out step by step, on a model of a disk and on files."""

from __future__ import annotations

import re
import subprocess
import sys
import types
from collections.abc import Container, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import aipimage
from aipimage.io.system import entropy
from aipimage.retention import (
    KeepRules,
    Merge,
    MergeStep,
    Plan,
    Point,
    carry_out,
    merged_path,
    plan,
    remove_image,
    steps,
)
from aipimage.retention.execution import Step, merge_files
from tests.chain.pointsintime import BERLIN, NOW, START, chain, ids, kept, point

PAGE = Path(__file__).resolve().parent.parent.parent / "docs/retention.md"


@pytest.fixture(autouse=True)
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that is planned here was made before now, whatever the clock of this machine says."""
    monkeypatch.setattr(entropy, "now_us", lambda: round(NOW.timestamp() * 1_000_000))


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
