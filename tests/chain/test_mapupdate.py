"""The map of an increment against a plain model, and what it costs."""

from __future__ import annotations

import dataclasses
import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aipimage.errors import FormatError
from aipimage.extents import EXTENT_DTYPE, ExtentArray, Kind, extent_array
from aipimage.format.constants import RecordType
from aipimage.format.mappage import MapPage, encode_map_page
from aipimage.format.record import Reference
from aipimage.io.index.mapupdate import overlaid
from tests.chain.maps import (
    Change,
    Point,
    World,
    alternating,
    applied,
    changes,
    counted,
    mixed,
    run,
    whole_maps,
)
from tests.support.soon import SOON

QUIET = settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.too_slow])


def check(world: World, old: Point, new: Point, model: np.ndarray, changed: list[Change]) -> None:
    """Content, counts and shape of a new map, and that only what changed was written."""
    assert (world.content(new) == model).all()
    world.check_shape(new)
    entry = new.entry
    counts = [entry.unused, entry.zero, entry.data, entry.unreadable, 0, entry.lost]
    assert counts == counted(model)
    before = {ref for _, ref in world.pages(old)}
    own = [page for page, ref in world.pages(new) if ref not in before]
    assert new.written == len(own)
    touched = [(start, start + int(extents["length"].sum())) for start, extents in changed]
    if entry.sectors != old.entry.sectors:
        touched += [(end - 1, end + 1) for end in (old.entry.sectors, entry.sectors)]
    for page in own:
        end = page.first + page.sectors
        assert any(page.first < stop and start < end for start, stop in touched)


@QUIET
@given(st.data(), whole_maps(), st.integers(1, 4), st.sampled_from([2, 5]))
def test_generations_against_a_model(
    data: st.DataObject, first: tuple[int, ExtentArray], generations: int, fanout_shift: int
) -> None:
    world = World(fanout_shift=fanout_shift)
    point = world.full(*first)
    model = world.content(point)
    for number in range(1, generations + 1):
        sectors, changed = data.draw(changes(len(model)))
        update = world.update(point, sectors)
        model = applied(update, changed, model, sectors, number)
        new = world.finished(update)
        check(world, point, new, model, changed)
        point = new


def test_nothing_changed_reads_and_writes_nothing() -> None:
    world = World()
    old = world.full(20_000, mixed(20_000, 1))
    update = world.update(old, 20_000)
    for sector in range(0, 20_000, 7):
        update.keep_to(sector)
    update.replace(extent_array([]))
    new = world.finished(update)
    assert new.entry == old.entry
    assert new.written == 0
    assert world.fetched == []


def test_nothing_kept_is_a_map_of_its_own() -> None:
    world = World()
    old = world.full(20_000, mixed(20_000, 1))
    update = world.update(old, 20_000)
    update.replace(alternating(20_000))
    new = world.finished(update)
    assert (world.content(new)["kind"] == np.tile([Kind.DATA, Kind.ZERO], 10_000)).all()
    assert {ref.origin for _, ref in world.pages(new)} == {new.names[0]}
    assert (new.entry.data, new.entry.zero) == (10_000, 10_000)


def test_one_change_costs_one_way_to_the_root() -> None:
    """All pages of every level exist; small steps of what is kept do not break them up."""
    world = World(fanout_shift=5)
    old = world.full(131_072, alternating(131_072))
    assert old.entry.map_level == 2
    update = world.update(old, 131_072)
    for sector in range(0, 70_000, 100):
        update.keep_to(sector)
    update.replace(run(3, Kind.UNUSED))
    new = world.finished(update)
    assert new.written == 3
    assert len(world.fetched) == 3
    assert len(world.pages(new)) == len(world.pages(old)) == 64 + 2 + 1


def test_a_page_that_became_simple_goes_into_the_one_above() -> None:
    world = World()
    extents = np.concatenate([alternating(2048), run(6144, Kind.ZERO)])
    old = world.full(8192, extents)
    update = world.update(old, 8192)
    update.replace(run(2048, Kind.ZERO))
    new = world.finished(update)
    ((root, _),) = world.pages(new)
    assert root.extents.tolist() == [(8192, 0, 0, Kind.ZERO)]


@pytest.mark.parametrize(("before", "after"), [(2048, 40_000), (65_536, 200_000)])
def test_growing_takes_a_full_root_over_whole(before: int, after: int) -> None:
    world = World(fanout_shift=5)
    old = world.full(before, alternating(before))
    update = world.update(old, after)
    update.keep_to(before)
    update.replace(run(after - before, Kind.ZERO))
    new = world.finished(update)
    assert new.written == 1
    # One page is read: to see the level of what ends where the device ended.
    assert world.fetched == [old.entry.map_root]
    assert old.entry.map_root in [ref for _, ref in world.pages(new)]


def test_growing_builds_a_page_that_was_cut_anew() -> None:
    world = World(fanout_shift=5)
    old = world.full(140_001, alternating(140_001))
    update = world.update(old, 200_000)
    update.keep_to(140_001)
    update.replace(alternating(59_999))
    new = world.finished(update)
    world.check_shape(new)
    # The stripe that the device ended in and those behind it, the page above them, and the root.
    assert new.written == -(-200_000 // 2048) - 140_001 // 2048 + 2


def test_growing_builds_a_page_of_a_higher_level_anew() -> None:
    """A page of level 1 that the end cut to one stripe has the length of a whole page of level 0,
    and is not one: behind it the device goes on.
    """
    world = World()
    builder = world.builder(8192 + 2048)
    builder.add(run(8192, Kind.ZERO))
    rows = np.concatenate([alternating(10), run(2038, Kind.UNUSED)])
    odd = MapPage(0, 1, 8192, 2048, rows, tuple(world.names))
    builder.add_listed(2, run(2048, Kind.PAGE), [written(world, odd)])
    root = builder.finish()
    old = world.point(builder, root, [2038, 8192 + 5, 5, 0, 0, 0])
    update = world.update(old, 20_000)
    update.keep_to(8192 + 2048)
    update.replace(run(20_000 - 8192 - 2048, Kind.ZERO))
    new = world.finished(update)
    world.check_shape(new)
    assert (world.content(new)[: 8192 + 2048] == world.content(old)).all()


def written(world: World, page: MapPage) -> Reference:
    """Write a page as it is."""
    return world.writer.write(RecordType.MAP, encode_map_page(page))


def test_shrinking_to_a_page_makes_it_the_root() -> None:
    world = World(fanout_shift=5)
    old = world.full(140_001, alternating(140_001))
    new = world.finished(world.update(old, 65_536))
    assert new.written == 0
    assert new.entry.map_level == 1
    assert (new.entry.data, new.entry.zero) == (32_768, 32_768)
    assert (world.content(new) == world.content(old)[:65_536]).all()


def test_shrinking_cuts_only_the_last_pages() -> None:
    world = World(fanout_shift=5)
    old = world.full(131_072, alternating(131_072))
    new = world.finished(world.update(old, 120_001))
    world.check_shape(new)
    assert (new.entry.data, new.entry.zero) == (60_001, 60_000)
    assert new.written == 3


def test_neighbours_that_continue_each_other_are_joined() -> None:
    world = World()
    old = world.full(5000, run(5000, Kind.ZERO))
    update = world.update(old, 5000)
    for sector in range(1000, 1100):
        update.keep_to(sector)
        update.replace(run(1, Kind.DATA, sector))
    ((root, _),) = world.pages(world.finished(update))
    assert root.extents.tolist() == [
        (1000, 0, 0, Kind.ZERO),
        (100, 1000, 0, Kind.DATA),
        (3900, 0, 0, Kind.ZERO),
    ]


def test_what_cannot_be_kept_or_replaced_is_an_internal_error() -> None:
    world = World()
    old = world.full(5000, run(5000, Kind.ZERO))
    update = world.update(old, 6000)
    for call in (
        lambda: update.keep_to(5001),
        lambda: update.replace(run(6001, Kind.ZERO)),
        update.finish,
    ):
        with pytest.raises(RuntimeError, match="internal error"):
            call()
    update.replace(run(100, Kind.ZERO))
    with pytest.raises(RuntimeError, match="internal error"):
        update.keep_to(99)
    shrunk = world.update(old, 4000)
    with pytest.raises(RuntimeError, match="internal error"):
        shrunk.keep_to(4001)


def test_counts_that_a_parent_lied_about_are_not_carried_on() -> None:
    world = World()
    old = world.full(5000, run(5000, Kind.DATA))
    lying = dataclasses.replace(old, entry=dataclasses.replace(old.entry, zero=5000, data=0))
    update = world.update(lying, 5000)
    update.replace(run(100, Kind.UNUSED))
    with pytest.raises(FormatError, match="counts other sectors"):
        update.finish()


def scattered(world: World, sectors: int, pieces: int) -> Point:
    """Data at random places of a wide disk; every third page of the lowest level is a real one."""
    rng = np.random.default_rng(5)
    starts = np.unique(rng.integers(0, sectors // 8192, pieces)) * 8192
    builder = world.builder(sectors)
    for number, start in enumerate(starts.tolist()):
        builder.add_run(start - builder.position, Kind.ZERO)
        builder.add(alternating(60) if number % 3 == 0 else run(8, Kind.DATA, start))
    builder.add_run(sectors - builder.position, Kind.ZERO)
    return world.point(builder, builder.finish(), builder.counts.tolist())


def test_a_thousand_changes_on_64_tib() -> None:
    world = World(22, 6)
    sectors = 1 << 37
    old = scattered(world, sectors, 5000)
    starts = np.unique(np.random.default_rng(6).integers(0, sectors // 8, 1000)) * 8
    began = time.process_time()
    update = world.update(old, sectors)
    for start in starts.tolist():
        update.keep_to(start)
        update.replace(run(8, Kind.DATA, start))
    new = world.finished(update)
    seconds = time.process_time() - began
    print(f"{len(starts)} changes in {seconds:.2f} s, {len(world.fetched)} pages read")
    assert seconds < SOON
    assert len(world.fetched) <= 4 * len(starts)
    assert new.written <= 4 * len(starts)


def test_many_changes_in_one_page() -> None:
    world = World(23, 6)
    old = world.full(16_384, alternating(16_384))
    model = world.content(old)
    changed = [(start, run(1, Kind.DATA, 1 << 20)) for start in range(0, 16_000, 8)]
    began = time.process_time()
    update = world.update(old, 16_384)
    model = applied(update, changed, model, 16_384, 1)
    new = world.finished(update)
    seconds = time.process_time() - began
    print(f"{len(changed)} changes in {seconds:.2f} s")
    assert seconds < SOON
    check(world, old, new, model, changed)


ROWS = st.lists(
    st.tuples(
        st.integers(1, 9), st.integers(0, 100), st.integers(0, 3), st.sampled_from([0, 1, 2, 2, 3])
    ),
    min_size=1,
    max_size=8,
)
CHANGES = st.lists(
    st.tuples(st.integers(0, 5), st.integers(1, 5), st.sampled_from([1, 2, 3])), max_size=8
)


def _sectors(rows: list[tuple[int, int, int, int]]) -> list[tuple[int, int, int]]:
    """(kind, origin, position) of each sector; the last two only where it is data."""
    return [
        (kind, origin, position + n) if kind == Kind.DATA else (kind, 0, 0)
        for length, position, origin, kind in rows
        for n in range(length)
    ]


@given(st.integers(0, 50), ROWS, CHANGES)
def test_extents_laid_over_others(
    first: int, rows: list[tuple[int, int, int, int]], changes: list[tuple[int, int, int]]
) -> None:
    wanted, at = _sectors(rows), 0
    starts: list[int] = []
    new: list[tuple[int, int, int, int]] = []
    for gap, length, kind in changes:
        if at + gap + length > len(wanted):
            break
        starts.append(first + at + gap)
        new.append((length, 1000 * len(new), 7, kind))
        at += gap + length
        wanted[at - length : at] = _sectors(new[-1:])
    if not new:
        return
    extents = [np.array(each, EXTENT_DTYPE) for each in (rows, new)]
    found = overlaid(first, extents[0], np.array(starts, np.uint64), extents[1])
    assert _sectors(found.tolist()) == wanted
