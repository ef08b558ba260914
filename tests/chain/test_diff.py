"""Where two maps differ, against a plain model."""

from __future__ import annotations

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aipimage.extents import ExtentArray, Kind
from aipimage.io.index.diff import diff_maps
from tests.chain.maps import (
    Point,
    World,
    alternating,
    applied,
    changes,
    mixed,
    run,
    runs_of,
    told,
    whole_maps,
)

QUIET = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])


def found(world: World, new: Point, old: Point) -> list[tuple[int, int, int]]:
    """What the maps tell, which are read as they are opened."""
    origins, others = told(new.names), told(old.names)
    after = world.opened(new.entry, new.names, origins)
    before = world.opened(old.entry, old.names, others)
    return list(diff_maps(after, new.entry, origins, before, old.entry, others))


def wanted(new: np.ndarray, old: np.ndarray) -> list[tuple[int, int, int]]:
    """What two models tell."""
    kind = new["kind"]
    differs = np.ones(len(new), bool)
    common = min(len(new), len(old))
    after, before = new[:common].copy(), old[:common].copy()
    for model in (after, before):
        model["kind"][model["kind"] == Kind.UNUSED] = Kind.ZERO
    differs[:common] = after != before
    return list(runs_of(differs, kind))


@QUIET
@given(st.data(), whole_maps(), st.integers(1, 3), st.sampled_from([2, 5]))
def test_generations_against_a_model(
    data: st.DataObject, first: tuple[int, ExtentArray], generations: int, fanout_shift: int
) -> None:
    """Each of a chain's points in time with each other one, both ways."""
    world = World(fanout_shift=fanout_shift)
    points = [world.full(*first)]
    models = [world.content(points[0])]
    for number in range(1, generations + 1):
        sectors, changed = data.draw(changes(len(models[-1])))
        update = world.update(points[-1], sectors)
        models.append(applied(update, changed, models[-1], sectors, number))
        points.append(world.finished(update))
    for new, after in zip(points, models, strict=True):
        for old, before in zip(points, models, strict=True):
            assert found(world, new, old) == wanted(after, before)


@QUIET
@given(whole_maps(), whole_maps())
def test_maps_that_share_nothing(
    first: tuple[int, ExtentArray], second: tuple[int, ExtentArray]
) -> None:
    world = World()
    new, old = world.full(*first), world.full(*second)
    assert found(world, new, old) == wanted(world.content(new), world.content(old))


def test_the_same_map_is_not_read() -> None:
    world = World()
    point = world.full(40_000, mixed(40_000, 1))
    assert found(world, point, point) == []
    assert world.fetched == []


def test_only_pages_with_changes_are_read() -> None:
    world = World(fanout_shift=5)
    old = world.full(131_072, alternating(131_072))
    update = world.update(old, 131_072)
    update.keep_to(70_000)
    update.replace(run(3, Kind.UNREADABLE))
    new = world.finished(update)
    world.fetched.clear()
    assert found(world, new, old) == [(70_000, 3, Kind.UNREADABLE)]
    assert len(world.fetched) == 6  # A leaf, the page above it and the root, of both.


def test_the_same_packed_sectors_in_other_extents_are_the_same() -> None:
    """What is compared is content: written over with the same place, it does not differ."""
    world = World()
    old = world.full(3000, run(3000, Kind.DATA, 100))
    update = world.update(old, 3000)
    update.keep_to(1000)
    for place, origin in ((1100, old.names[0]), (1600, world.names[0]), (2101, old.names[0])):
        again = run(500, Kind.DATA, place)
        again["origin"] = world.names.index(origin)
        update.replace(again)
    new = world.finished(update)
    assert found(world, new, old) == [(1500, 1000, Kind.DATA)]


def test_a_page_that_both_share_is_found_at_other_depths() -> None:
    world = World(fanout_shift=5)
    old = world.full(65_536, alternating(65_536))
    update = world.update(old, 200_000)
    update.keep_to(65_536)
    update.replace(run(200_000 - 65_536, Kind.ZERO))
    new = world.finished(update)
    for pair, differ in (((new, old), [(65_536, 134_464, Kind.ZERO)]), ((old, new), [])):
        world.fetched.clear()
        assert found(world, *pair) == differ
        assert world.fetched == [new.entry.map_root]


def test_zero_and_unused_read_alike_and_unreadable_does_not() -> None:
    world = World()
    old = world.full(4000, run(4000, Kind.ZERO))
    kinds = (Kind.UNUSED, Kind.UNREADABLE, Kind.ZERO, Kind.LOST)
    parts = [*(run(1000, kind) for kind in kinds), run(100, Kind.ZERO)]
    new = world.full(4100, np.concatenate(parts))
    assert found(world, new, old) == [(1000, 1000, 3), (3000, 1000, 5), (4000, 100, 1)]
    assert found(world, old, new) == [(1000, 1000, 1), (3000, 1000, 1)]


def test_data_of_other_origins_differs_at_the_same_position() -> None:
    world = World()
    old, new = (world.full(5000, run(5000, Kind.DATA, 7)) for _ in range(2))
    assert found(world, new, old) == [(0, 5000, Kind.DATA)]
