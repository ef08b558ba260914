"""Partial images that somebody changed: refused and left as they are, or resumed to what the disk
has (classes 29 and 33; docs/format.md, section 11).
"""

from __future__ import annotations

import random
import struct
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import pytest
from blake3 import blake3

from aipimage import verify_keyless
from aipimage.errors import AipImageError, IntegrityError, RequestError
from aipimage.format.constants import RecordType
from aipimage.io.creating.options import CreateOptions
from aipimage.io.increment import grouping
from aipimage.io.repair.rebuild import repair_image
from aipimage.io.system.storage import Storage
from aipimage.volumes.image import open_image
from tests.safety.resuming import (
    PARTIAL,
    PATH,
    chosen,
    facts_of,
    interrupted,
    reads_of,
    records_of,
    run,
    start_of,
)
from tests.support.memory import ROOT, MemorySystem
from tests.support.realistic import RealisticDisk, changed, mixed_disk
from tests.support.stopping import only_named

FIRST = f"{ROOT}/first.aiv"
Records = list[bytes]


def partial_of(
    disks: Sequence[RealisticDisk], options: CreateOptions, base: MemorySystem | None = None
) -> MemorySystem:
    """What a creation leaves that is resumed once and stopped near its end."""
    system = base or MemorySystem()
    total = reads_of(system, disks, options)
    assert interrupted(system, disks, options, total // 2)
    again = replace(options, resume=True)
    copy = MemorySystem(system.snapshot())
    assert interrupted(system, disks, again, reads_of(copy, disks, again) - 1)
    return system


def pieces_of(data: bytes) -> tuple[bytes, Records]:
    """What stands before the records, and the records."""
    files = {PARTIAL: data}
    start = start_of(files)
    return data[:start], [data[at:end] for at, end, _ in records_of(files, start)]


def changes_of(records: Records, older: Records) -> Iterator[tuple[str, Records]]:
    """Each record dropped, doubled, moved, or exchanged with one of the same type of an older run
    over the same disk; runs of several records cut out, too.
    """
    by_type: dict[int, list[bytes]] = {}
    for record in older:
        by_type.setdefault(record[4], []).append(record)
    for index, record in enumerate(records):
        before, behind = records[:index], records[index + 1 :]
        name = RecordType(record[4]).name
        yield f"{name} {index} dropped", before + behind
        yield f"{name} {index} doubled", [*before, record, record, *behind]
        if behind:
            yield f"{name} {index} moved back", [*before, behind[0], record, *behind[1:]]
        if len(behind) > 9:
            yield f"{name} {index} moved far", [*before, *behind[:9], record, *behind[9:]]
        yield f"{name} {index} and two more dropped", before + behind[2:]
        for other in by_type.get(record[4], [])[index % 7 : index % 7 + 1]:
            yield f"{name} {index} exchanged", [*before, other, *behind]


def checked(record: bytes) -> bytes:
    """A record with its check made anew."""
    return record[:-16] + blake3(record[:-16]).digest()[:16]


def smoothed(head: bytes, records: Records, running: bool, counts: bool = True) -> Records:
    """What somebody does who has no key to pass by: numbers and places are made right, checks and
    where it is asked for the running digest.
    """
    numbers: Counter[int] = Counter()
    value, count, at, found = head[-32:], 0, len(head), []
    for record in records:
        kind = record[4]
        if kind == RecordType.CONTINUATION:
            numbers = Counter()
            record = record[:56] + struct.pack("<Q", at) + record[64:]
        record = record[:32] + struct.pack("<Q", numbers[kind]) + record[40:]
        place = {RecordType.CHECKPOINT: 56, RecordType.CONTINUATION: 72}.get(RecordType(kind))
        if place is not None and record[5] == 0:
            if counts:
                record = record[:place] + struct.pack("<Q", count) + record[place + 8 :]
            if running:
                record = record[: place + 8] + value + record[place + 40 :]
        record = checked(record)
        value = blake3(value + blake3(record[:-16]).digest()).digest()
        numbers[kind] += 1
        at, count = at + len(record), count + 1
        found.append(record)
    return found


def outcome(
    base: Mapping[str, bytes], disks: Sequence[RealisticDisk], options: CreateOptions, what: str
) -> str:
    """Resume: refused, with everything left as it is, or what the disk has."""
    system = MemorySystem(base)
    error: AipImageError | None = None
    try:
        result = run(system, disks, replace(options, resume=True))
    except AipImageError as caught:
        error = caught
    if error is not None:
        assert system.snapshot() == base, what
        assert PARTIAL in str(error), f"{what}: {error}"
        assert "left as it is" in str(error) or isinstance(error, RequestError), f"{what}: {error}"
        return type(error).__name__
    contents = facts_of(system, options.password).contents
    assert contents == [disk.content().tobytes() for disk in disks], what
    return "resumed" if result.resumed else "anew"


def outcomes(
    base: MemorySystem,
    disks: Sequence[RealisticDisk],
    options: CreateOptions,
    forged: Sequence[tuple[str, bytes]],
) -> Counter[str]:
    """Count what becomes of many."""
    found: Counter[str] = Counter()
    for what, data in forged:
        found[outcome({**base.snapshot(), PARTIAL: data}, disks, options, what)] += 1
    return found


def some(forged: Sequence[tuple[str, bytes]], count: int) -> Sequence[tuple[str, bytes]]:
    """So many of them, of all kinds of change and record."""
    chance = random.Random(len(forged))
    kinds: dict[str, list[tuple[str, bytes]]] = {}
    for each in forged:
        words = each[0].split()
        kinds.setdefault(words[0] + words[-1], []).append(each)
    share = max(1, count // len(kinds))
    return [each for many in kinds.values() for each in chance.sample(many, min(share, len(many)))]


@pytest.mark.parametrize("digests", [True, False])
@pytest.mark.parametrize("name", ["plain", "aes", "gmac"])
def test_class_33_records_dropped_doubled_moved_exchanged(name: str, digests: bool) -> None:
    """Without a key nothing can be taken out of a partial image unseen, or put into it."""
    disks = [mixed_disk(9, 60), mixed_disk(2, 61)]
    options = chosen(name, checkpoint_bytes=1, block_digests=digests)
    base, other = partial_of(disks, options), partial_of(disks, options)
    head, records = pieces_of(bytes(base.files[PARTIAL]))
    _, older = pieces_of(bytes(other.files[PARTIAL]))
    forged = [(what, head + b"".join(changed)) for what, changed in changes_of(records, older)]
    found = outcomes(base, disks, options, some(forged, 80))
    assert found["IntegrityError"] > 30, found


@pytest.mark.parametrize("counts", [True, False])
def test_class_33_smoothed_but_for_the_running_digest(counts: bool) -> None:
    """Numbers, places and all other digests made anew: the running digest still tells."""
    disks = [mixed_disk(9, 62)]
    options = chosen(checkpoint_bytes=1, compress="none", block_digests=False)
    base = partial_of(disks, options)
    head, records = pieces_of(bytes(base.files[PARTIAL]))
    assert smoothed(head, records, running=True) == records
    forged = [
        (what, head + b"".join(smoothed(head, changed, running=False, counts=counts)))
        for what, changed in changes_of(records, records[::-1])
    ]
    found = outcomes(base, disks, options, some(forged, 60))
    assert found["IntegrityError"] > 30, found


def test_class_33_leaves_tell_what_frames_are_missing() -> None:
    """With the running digest made anew as well the leaves of block digests do."""
    disks = [mixed_disk(9, 63)]
    options = chosen(checkpoint_bytes=1, compress="none")
    base = partial_of(disks, options)
    head, records = pieces_of(bytes(base.files[PARTIAL]))
    last = max(n for n, each in enumerate(records) if each[4] == RecordType.CHECKPOINT)
    refused = 0
    for index, record in enumerate(records[:last]):
        if record[4] not in (RecordType.FRAME, RecordType.DIGEST_LEAF):
            continue
        without = smoothed(head, records[:index] + records[index + 1 :], running=True)
        system = {**base.snapshot(), PARTIAL: head + b"".join(without)}
        assert outcome(system, disks, options, f"record {index}") == "IntegrityError"
        refused += 1
    assert refused > 20


@pytest.mark.parametrize("name", ["plain", "aes"])
def test_class_33_records_of_an_increment(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is cut out of an increment would read as the parent has it."""
    monkeypatch.setattr(grouping, "GROUP", 20_000)
    disks, system = [mixed_disk(9, 64)], MemorySystem()
    run(system, disks, chosen(name), FIRST)
    later = [changed(disks[0], 3)[0]]
    options = chosen(name, checkpoint_bytes=1, parent=FIRST, encrypt=None)
    base = partial_of(later, options, MemorySystem(system.snapshot()))
    other = partial_of(later, options, MemorySystem(system.snapshot()))
    head, records = pieces_of(bytes(base.files[PARTIAL]))
    _, older = pieces_of(bytes(other.files[PARTIAL]))
    forged = [(what, head + b"".join(each)) for what, each in changes_of(records, older)]
    found = outcomes(base, later, options, some(forged, 60))
    assert found["IntegrityError"] > 10, found


def test_class_33_an_older_partial_image_of_the_same_creation() -> None:
    """Who has both can put back the older one as a whole: that is what a crash can leave, too."""
    disks = [mixed_disk(9, 65)]
    options = chosen("aes", checkpoint_bytes=1)
    base = partial_of(disks, options)
    data = bytes(base.files[PARTIAL])
    head, records = pieces_of(data)
    for count in range(1, len(records), 7):
        cut = {**base.snapshot(), PARTIAL: head + b"".join(records[:count])}
        assert outcome(cut, disks, options, f"{count} records") in ("resumed", "anew")


@pytest.mark.parametrize("name", ["plain", "aes"])
def test_damage_before_the_first_checkpoint_destroys_nothing(name: str) -> None:
    """What follows is worth something: beginning anew would throw it away."""
    disks = [mixed_disk(9, 66)]
    options = chosen(name, checkpoint_bytes=1)
    base = partial_of(disks, options)
    data = bytearray(base.files[PARTIAL])
    data[start_of({PARTIAL: bytes(data)}) + 60] ^= 1
    left = {**base.snapshot(), PARTIAL: bytes(data)}
    assert outcome(left, disks, options, "flipped") == "IntegrityError"
    # Where there was no checkpoint nothing is lost.
    first = next(
        at
        for at, _, kind in records_of({PARTIAL: bytes(data)}, start_of({PARTIAL: bytes(data)}))
        if kind == RecordType.CHECKPOINT
    )
    left[PARTIAL] = bytes(data[:first])
    assert outcome(left, disks, options, "flipped") == "anew"


@pytest.mark.parametrize("split", [None, 60_000])
@pytest.mark.parametrize("name", ["plain", "aes"])
def test_a_finished_image_is_never_cut(name: str, split: int | None) -> None:
    """It gets its name as it is. A damaged trailer is written again from its copy (docs/format.md,
    sections 10 and 11); what is damaged before that stays as it is.
    """
    disks = [mixed_disk(4, 67)]
    options = chosen(name, checkpoint_bytes=1, split=split)
    system = MemorySystem()
    run(system, disks, options)
    whole = system.snapshot()
    named = {f"{path}.partial": data for path, data in whole.items()}
    left = MemorySystem(named)
    assert only_named(run(left, disks, replace(options, resume=True)))
    assert left.snapshot() == whole
    hurt = MemorySystem(named)
    last = max(named, key=lambda path: (path != PARTIAL, path))
    hurt.files[last][-200 if split is None else -328] ^= 1
    assert only_named(run(hurt, disks, replace(options, resume=True)))
    assert hurt.snapshot() == whole
    hurt = MemorySystem(named)
    # In the seal's own copy, which lies before the trailer.
    hurt.files[last][-300 - 4096 if split is None else -428 - 4096] ^= 1
    before = hurt.snapshot()
    with pytest.raises(RequestError, match=r"is a finished image.*rename it to"):
        run(hurt, disks, replace(options, resume=True))
    assert hurt.snapshot() == before
    back = MemorySystem({path.removesuffix(".partial"): data for path, data in before.items()})
    with open_image(PATH, options.password, storage=Storage(back)) as image:
        assert image.devices[0].open().readall() == disks[0].content().tobytes()


def test_the_message_names_the_file_and_what_to_do() -> None:
    disks = [mixed_disk(9, 68)]
    options = chosen("aes", checkpoint_bytes=1)
    base = partial_of(disks, options)
    head, records = pieces_of(bytes(base.files[PARTIAL]))
    index = next(n for n, each in enumerate(records) if each[4] == RecordType.FRAME)
    base.files[PARTIAL] = bytearray(head + b"".join(records[:index] + records[index + 1 :]))
    with pytest.raises(IntegrityError) as caught:
        run(base, disks, replace(options, resume=True))
    message = str(caught.value)
    assert message.startswith(f"{PARTIAL}: cannot be resumed and was left as it is: at byte ")
    assert message.endswith("to begin anew, remove it or create without resuming")
    assert message.count(PATH) == 1


# Finished images


def finished(name: str, disks: Sequence[RealisticDisk]) -> MemorySystem:
    """An image that was resumed once."""
    options = chosen(name, checkpoint_bytes=1, compress="none")
    system = partial_of(disks, options)
    assert run(system, disks, replace(options, resume=True)).resumed
    return system


def test_verification_compares_checkpoints_with_what_is_before_them() -> None:
    """Only in an image without a suite can anybody make one that is wrong in that alone."""
    disks = [mixed_disk(6, 70), mixed_disk(2, 71)]
    system = finished("plain", disks)
    data = bytes(system.files[PATH])
    head, records = pieces_of(data)
    facts_of(system)
    behind = data[len(head) + sum(map(len, records)) :]
    wrong = 0
    for index, record in enumerate(records):
        place = {RecordType.CHECKPOINT: 56, RecordType.CONTINUATION: 72}.get(record[4])
        for at in (place, place + 8) if place is not None else ():
            changed = checked(record[:at] + bytes([record[at] ^ 1]) + record[at + 1 :])
            forged = head + b"".join([*records[:index], changed, *records[index + 1 :]])
            files = MemorySystem({PATH: forged + behind})
            keyless = verify_keyless(PATH, threads=1, storage=Storage(files))
            assert [each.what for each in keyless.damage if "before" in each.what]
            with open_image(PATH, storage=Storage(files)) as image:
                full = image.verify(threads=1)
            assert len(full.damage) == 1
            assert "before" in full.damage[0].what
            wrong += 1
    assert wrong > 8


@pytest.mark.parametrize("name", ["plain", "aes", "gmac"])
def test_verification_of_images_with_checkpoints(name: str) -> None:
    """Of own runs, through all kinds of records."""
    disks = [mixed_disk(6, 72, bad=3), mixed_disk(2, 73)]
    system = finished(name, disks)
    facts_of(system, chosen(name).password)
    keyless = verify_keyless(PATH, threads=1, storage=Storage(system))
    assert keyless.ok, keyless.damage


def test_verification_of_a_repaired_image_with_checkpoints() -> None:
    """Checkpoints that were copied speak of another file."""
    disks = [mixed_disk(6, 74)]
    system = finished("plain", disks)
    del system.files[PATH][-300:]
    out = f"{ROOT}/repaired.aiv"
    repair_image(PATH, out, storage=Storage(system))
    assert facts_of(system, None, out).contents == [disks[0].content().tobytes()]
    assert verify_keyless(out, threads=1, storage=Storage(system)).ok
