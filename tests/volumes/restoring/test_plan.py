"""The plan of a restore to a smaller disk: pure arithmetic, whatever the partitions are."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from aipimage.errors import TargetError
from aipimage.volumes.restoring.fitting import DoesNotFitError, Placement, Slot, alignments, fit
from aipimage.volumes.restoring.limits import Limits
from aipimage.volumes.restoring.planning import plan_fit, slots_of
from aipimage.volumes.tables.model import BootRecord, Extended, Partition, PartitionTable

MIB = 1 << 20
BIOS = "21686148-6449-6e6f-744e-656564454649"
LINUX = "0fc63daf-8483-4772-8e79-3d69d8477de4"


@st.composite
def slots(draw: st.DrawFn) -> list[Slot]:
    """Ascending partitions with gaps and leads, on sectors, pages or MiB."""
    unit = draw(st.sampled_from([512, 4096, MIB]))
    at, found = draw(st.integers(1, 64)) * unit, []
    for number in range(1, draw(st.integers(1, 7)) + 1):
        lead = draw(st.sampled_from([0, 0, unit, 3 * unit]))
        at += draw(st.integers(0, 20)) * unit + lead
        size = draw(st.integers(1, 400)) * unit
        kept = draw(st.integers(0, size))
        least = draw(st.integers(0, kept))
        fixed = draw(st.integers(0, 5)) == 0
        found.append(
            Slot(number, at, size, *((size, size) if fixed else (kept, least)), lead, fixed)
        )
        at += size
    return found


@given(slots(), st.data())
@settings(max_examples=400, deadline=None)
def test_what_holds_for_every_plan(found: list[Slot], data: st.DataObject) -> None:
    """Order, no overlap, inside, aligned, fixed ones where they were, used parts never cut; nothing
    moves up, and nothing changes that need not.
    """
    low = found[0].start - found[0].lead
    limit = data.draw(st.integers(0, found[-1].end + 10))
    try:
        placed = fit(found, low, limit)
    except DoesNotFitError:
        assert limit < found[-1].end
        return
    assert list(placed) == [slot.number for slot in found]
    done = low
    for slot, aligned in zip(found, alignments(found), strict=True):
        start, size = placed[slot.number]
        assert start - slot.lead >= done
        assert start <= slot.start
        assert start == slot.start or (not slot.fixed and start % aligned == 0)
        assert slot.least <= size <= slot.size
        done = start + size
    assert done <= limit
    if limit >= found[-1].end:
        assert all(placed[slot.number] == (slot.start, slot.size) for slot in found)


@given(slots())
@settings(max_examples=200, deadline=None)
def test_the_tightest_fit(found: list[Slot]) -> None:
    """Where the least sizes fit with room for alignment, there is a plan."""
    assume(not any(slot.fixed for slot in found))
    low = found[0].start - found[0].lead
    room = sum(slot.least + slot.lead + 3 * MIB for slot in found)
    assert fit(found, low, low + room)


def test_moved_before_cut_and_cut_before_shrunk() -> None:
    """Gaps first; then what lies behind file systems; then file systems."""
    found = [
        Slot(1, MIB, 10 * MIB, 10 * MIB, 2 * MIB),
        Slot(2, 20 * MIB, 10 * MIB, 8 * MIB, 8 * MIB),
        Slot(3, 40 * MIB, 10 * MIB, 10 * MIB, 10 * MIB),
    ]
    assert fit(found, MIB, 45 * MIB)[3] == (35 * MIB, 10 * MIB)
    placed = fit(found, MIB, 31 * MIB)
    assert [placed[n].size // MIB for n in (1, 2, 3)] == [10, 10, 10]
    placed = fit(found, MIB, 30 * MIB)
    assert [placed[n].size // MIB for n in (1, 2, 3)] == [10, 9, 10]
    placed = fit(found, MIB, 26 * MIB)
    assert [placed[n].size // MIB for n in (1, 2, 3)] == [7, 8, 10]
    with pytest.raises(DoesNotFitError) as error:
        fit(found, MIB, 20 * MIB)
    assert error.value.missing == MIB


def test_a_fixed_partition_stands_in_the_way() -> None:
    """What lies in front of it cannot give anything."""
    found = [
        Slot(1, MIB, 100 * MIB, 100 * MIB, MIB),
        Slot(2, 200 * MIB, MIB, MIB, MIB, fixed=True),
        Slot(3, 201 * MIB, 10 * MIB, 10 * MIB, 10 * MIB),
    ]
    with pytest.raises(DoesNotFitError) as error:
        fit(found, MIB, 210 * MIB)
    assert (error.value.missing, error.value.number) == (MIB, 2)


def gpt(*parts: Partition) -> PartitionTable:
    """A GPT of a disk of 1 GiB."""
    return PartitionTable(
        "gpt", 1 << 30, partitions=parts, first_usable=34 * 512, entry_count=128, entry_size=128
    )


def test_the_backup_of_a_gpt_needs_room() -> None:
    """33 sectors behind the last partition."""
    table = gpt(Partition(1, MIB, 10 * MIB, LINUX))
    limits = {1: Limits(10 * MIB, 5 * MIB)}
    assert not plan_fit(table, limits, 11 * MIB + 33 * 512).changes
    plan = plan_fit(table, limits, 11 * MIB + 32 * 512)
    assert plan.shrunk == {1: 9 * MIB}
    assert plan.placements == {1: Placement(MIB, 9 * MIB)}


def test_messages_say_what_is_missing_and_in_the_way() -> None:
    """The partition, and why it cannot become smaller."""
    table = gpt(Partition(1, MIB, MIB, BIOS), Partition(2, 4 * MIB, 10 * MIB, LINUX))
    why = Limits(10 * MIB, 10 * MIB, "its journal was not replayed")
    with pytest.raises(TargetError) as error:
        plan_fit(table, {2: why}, 11 * MIB, name="t.raw")
    assert str(error.value).startswith("t.raw: too small: ")
    assert str(error.value).endswith(
        " more bytes are needed; partition 2 cannot become smaller: its journal was not replayed"
    )
    with pytest.raises(TargetError, match="partition 1 cannot be moved: the boot code knows it"):
        plan_fit(
            gpt(Partition(2, MIB, MIB, LINUX), Partition(1, 20 * MIB, MIB, BIOS)), {}, 11 * MIB
        )
    with pytest.raises(TargetError, match=r"partition 2 needs 9437184 bytes of its 10485760"):
        plan_fit(table, {2: Limits(10 * MIB, 9 * MIB)}, 11 * MIB)


def test_doubts_refuse() -> None:
    """Where the table cannot be trusted nothing is moved."""
    part = Partition(1, 20 * MIB, MIB, LINUX)
    for table in (
        gpt(replace(part, doubt="it overlaps partition 2")),
        replace(gpt(part), doubt="both copies are damaged"),
    ):
        with pytest.raises(TargetError, match="cannot be trusted"):
            plan_fit(table, {}, 11 * MIB)


def test_where_grub_lies_nothing_moves() -> None:
    """The boot sector of GRUB knows the first sector of its core, wherever that lies."""
    head = bytearray(512)
    head[0x180:0x184] = b"GRUB"
    table = gpt(Partition(1, 4 * MIB, MIB, LINUX), Partition(2, 20 * MIB, MIB, LINUX))
    assert [slot.fixed for slot in slots_of(table, {}, bytes(head))] == [False, False]
    head[0x5C:0x64] = (20 * MIB // 512 + 1).to_bytes(8, "little")
    assert [slot.fixed for slot in slots_of(table, {}, bytes(head))] == [False, True]
    head[0x180:0x184] = b"LILO"
    assert [slot.fixed for slot in slots_of(table, {}, bytes(head))] == [False, False]


def test_logical_partitions_move_with_their_records() -> None:
    """The first with the beginning of the extended partition, the others with their record."""
    table = PartitionTable(
        "mbr",
        1 << 30,
        partitions=(
            Partition(1, MIB, MIB, "0x83"),
            Partition(5, 12 * MIB, MIB, "0x83", logical=True),
            Partition(6, 20 * MIB, MIB, "0x83", logical=True),
        ),
        extended=(
            Extended(
                2,
                10 * MIB,
                90 * MIB,
                "0x05",
                (BootRecord(10 * MIB, (5,)), BootRecord(19 * MIB, (6,))),
            ),
        ),
    )
    assert [(s.number, s.lead // MIB) for s in slots_of(table, {})] == [(1, 0), (5, 1), (6, 1)]
    plan = plan_fit(table, {}, 8 * MIB)
    assert plan.placements == {1: (MIB, MIB), 5: (5 * MIB, MIB), 6: (7 * MIB, MIB)}
    assert plan.extended == {2: (4 * MIB, 4 * MIB)}
    assert plan_fit(table, {}, 16 * MIB).extended == {2: (10 * MIB, 6 * MIB)}
    with pytest.raises(TargetError, match="1048576 more bytes"):
        plan_fit(table, {}, 5 * MIB)
