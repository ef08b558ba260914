"""Random histories of a chain against plain arrays: every point in time stays bit-exact.

One step is one thing that a user or a disk does: writes, a resize, an image of any kind by any
method, one that is interrupted and resumed, splitting, joining, a change of a password, merging,
retention, a restore. After each image, and at the end of each history, everything is read.
"""

from __future__ import annotations

import contextlib
import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from aipimage.errors import RequestError
from aipimage.io.creating.results import CreateResult
from aipimage.io.creating.splitting import join_image, split_image
from aipimage.io.increment import plan as planning
from aipimage.io.increment.create import create_image
from aipimage.io.merge.job import merge_images
from aipimage.io.stream.instream import open_stream
from aipimage.io.stream.passwords import change_password
from aipimage.io.system import entropy
from aipimage.io.system.storage import Storage
from aipimage.retention import KeepRules, Point, carry_out
from aipimage.retention import plan as retention_plan
from aipimage.tracking import ChangeTracker
from aipimage.volumes.chain import Chain, find_chain
from aipimage.volumes.image import open_image
from tests.support.images import CHEAP, PASSWORD, options
from tests.support.memory import ROOT, MemorySystem
from tests.support.memorychains import Disk, at, check, opened

PIECE = 1 << 20
SIZES = (1, 511, 4097, 65_536, 70_001, (1 << 20) - 512, (1 << 20) + 3 * 512, 2_200_000)
PLACES = st.integers(0, (1 << 22) - 1)
SEEDS = st.integers(0, 1 << 16)
METHODS = ("tracked", "digests", "data", "auto", "told")


class StoppedError(BaseException):
    """What the machine stops a creation with."""


@dataclass
class Member:
    """What the model knows of an image.

    Attributes:
        ids: image ids by which others know it as a parent. superseded: a merged one stands for it.
    """

    path: str
    contents: list[bytes]
    result: Any
    kind: str
    parent: Member | None
    password: str | None
    digests: bool
    split: bool = False
    superseded: bool = False
    names: list[str] = field(default_factory=list)


class ChainMachine(RuleBasedStateMachine):
    """Histories of plain images with block digests; subclasses have other options."""

    protected = "plain"
    digests = True
    disks_count = 1
    holes = False

    def __init__(self) -> None:
        super().__init__()
        self.system = MemorySystem()
        self.storage = Storage(self.system)
        self.members: list[Member] = []
        self.numbers = itertools.count()
        self._last_tracked: CreateResult | None = None
        self._patches = contextlib.ExitStack()
        clock = itertools.count(1_700_000_000_000_000, 1_000_000)
        self._patches.enter_context(mock.patch.object(entropy, "now_us", clock.__next__))
        self._patches.enter_context(mock.patch.object(planning, "PIECE", PIECE))

    @initialize(size=st.sampled_from(SIZES), seed=SEEDS)
    def begin(self, size: int, seed: int) -> None:
        names = ("sda", "sdb")[: self.disks_count]
        self.disks = [Disk(bytes(size), name, self.holes) for name in names]
        self.trackers = [ChangeTracker(size, 4096) for _ in names]
        for number in range(3):
            self.write(0, seed * 7919, seed + number, 0)
        self.image("full", None, "auto", 4096, 0)

    # What happens to the disks

    @rule(which=st.integers(0, 1), place=PLACES, seed=SEEDS, kind=st.integers(0, 3))
    def write(self, which: int, place: int, seed: int, kind: int) -> None:
        """Random bytes, compressible ones, zeros, or what is there already."""
        disk, chance = self.disks[which % len(self.disks)], random.Random(seed)
        length = min(disk.size, chance.choice((1, 512, 4096, 5000, 70_000)))
        offset = place % (disk.size - length + 1)
        old = bytes(disk.data[offset : offset + length])
        new = (chance.randbytes(length), b"abc" * length, bytes(length), old)[kind][:length]
        self.trackers[which % len(self.disks)].mark(offset, length)
        disk.write(offset, new)

    @rule(which=st.integers(0, 1), size=st.sampled_from(SIZES))
    def resize(self, which: int, size: int) -> None:
        """The disk shrinks, or grows by zeros."""
        self.disks[which % len(self.disks)].resize(size)
        self.trackers[which % len(self.disks)].resize(size)

    # Images

    @rule(
        kind=st.sampled_from(("incremental", "incremental", "incremental", "differential", "full")),
        parent=st.integers(0, 9),
        method=st.sampled_from(METHODS),
        grain=st.sampled_from((512, 4096)),
        stop=st.integers(0, 4),
    )
    def image(self, kind: str, parent: int | None, method: str, grain: int, stop: int) -> None:
        """Make an image on one of the newest points, or of all points for a differential."""
        base = self._parent(kind, parent)
        changes: dict[str, Any] = {"grain": grain, "block_digests": self.digests}
        if base is not None:
            changes |= {"kind": kind, "parent": at(base.path), "password": base.password}
            changes["encrypt"] = None
            if kind != "full" and method not in ("tracked", "told"):
                usable = method != "digests" or base.digests
                changes["compare"] = method if usable else "data"
        with contextlib.ExitStack() as stack:
            if base is not None and kind != "full" and method in ("tracked", "told"):
                changes["changed"] = self._changed(stack, method, base)
            path = f"{next(self.numbers)}.aiv"
            result = self._create(path, changes, stop)
        word = base.password if base else self._password()
        digests = self.digests if base is None or kind == "full" else base.digests
        found = Member(path, self._now(), result, result.kind, base, word, digests)
        found.names = [result.image_id]
        assert result.kind == (kind if base else "full"), result.warnings
        self._check_method(found, method)
        self.members.append(found)
        self._commit(result)
        self._look(found)

    def _parent(self, kind: str, number: int | None) -> Member | None:
        if number is None:
            return None
        usable = [each for each in self.members if not each.superseded]
        if kind == "differential":
            usable = [each for each in usable if each.kind == "full"]
        # Mostly the newest one, sometimes a branch.
        return usable[-1] if number > 2 else usable[number % len(usable)]

    def _changed(self, stack: contextlib.ExitStack, method: str, base: Member) -> list[Any]:
        if method == "tracked":
            return [stack.enter_context(tracker.begin("t")) for tracker in self.trackers]
        # What differs between two arrays, told as plain ranges.
        told = []
        for disk, was in zip(self.disks, base.contents, strict=True):
            step, least = 4096, min(disk.size, len(was))
            ranges = [
                (low, min(step, disk.size - low))
                for low in range(0, disk.size, step)
                if low >= least or disk.data[low : low + step] != was[low : low + step]
            ]
            told.append(ranges)
        return told

    def _create(self, path: str, changes: dict[str, Any], stop: int) -> CreateResult:
        chosen = options(self.protected, **changes)
        if len(self.disks) == 1 and isinstance(changes.get("changed"), list):
            chosen = replace(chosen, changed=changes["changed"][0])
        if stop:
            chosen = replace(chosen, checkpoint_bytes=1)
            with contextlib.suppress(StoppedError), self._stopping_after(stop):
                return create_image(at(path), self.disks, chosen, None, self.storage)
            assert at(path) not in self.system.files
            chosen = replace(chosen, resume=True)
        result = create_image(at(path), self.disks, chosen, None, self.storage)
        assert not [name for name in self.system.files if name.endswith(".partial")]
        return result

    @contextlib.contextmanager
    def _stopping_after(self, reads: int) -> Iterator[None]:
        """Sources fail at the n-th read of their last disk."""
        left = reads

        def stop(offset: int) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise StoppedError

        self.disks[-1].on_read = stop
        try:
            yield
        finally:
            self.disks[-1].on_read = None

    def _check_method(self, made: Member, method: str) -> None:
        base = made.parent
        if base is None or made.kind == "full":
            return
        for change, disk in zip(made.result.changes, self.disks, strict=True):
            wanted = {method}
            if method == "tracked":
                known = change.reason is None
                wanted = {"tracked"} if known else {"digests" if base.digests else "data"}
                assert known or "another image" in change.reason or "no image" in change.reason
                if base.result is self._last_tracked:
                    assert known, change.reason
            elif method == "told":
                wanted = {"tracked"}
                assert change.reason is None
            elif method == "auto" or not base.digests:
                wanted = {"digests" if base.digests else "data"}
            assert change.method in wanted, change
            assert change.changed <= -(-disk.size // 512) * 512

    def _commit(self, result: CreateResult) -> None:
        """The newest image is what the tracker counts from, whoever made it."""
        for tracker in self.trackers:
            with tracker.begin("t") as generation:
                generation.commit(result.image_id)
        self._last_tracked = result

    def _now(self) -> list[bytes]:
        return [disk.content() for disk in self.disks]

    def _password(self) -> str | None:
        return PASSWORD if self.protected in ("aes", "auth") else None

    # What is done to images

    @rule(number=st.integers(0, 9), size=st.integers(16_384, 60_000))
    def split_or_join(self, number: int, size: int) -> None:
        """A member is copied into parts, or into one file, and the old one goes."""
        member = self.members[number % len(self.members)]
        path = f"{next(self.numbers)}.aii"
        if member.split:
            join_image(at(member.path), at(path), storage=self.storage)
        else:
            split_image(at(member.path), at(path), size, storage=self.storage)
        self._remove(member)
        member.path, member.split = path, not member.split

    @rule(number=st.integers(0, 9))
    def new_password(self, number: int) -> None:
        """One member gets a password of its own."""
        member = self.members[number % len(self.members)]
        if member.password is None:
            return
        word = f"word {next(self.numbers)}"
        change_password(
            at(member.path), member.password, word, parameters=CHEAP, storage=self.storage
        )
        member.password = word

    @rule(number=st.integers(0, 9), count=st.integers(2, 4), remove=st.booleans())
    def merge(self, number: int, count: int, remove: bool) -> None:
        """Some neighbours become one image; refused only where a branch would lose something."""
        usable = [each for each in self.members if not each.superseded]
        run = self._run_to(usable[number % len(usable)], count)
        if len(run) < 2:
            return
        path = f"{next(self.numbers)}.aiv"
        inner = run[:-1]
        branches = [each for each in self.members if each not in run and each.parent in inner]
        refused = ""
        try:
            merge_images(
                at(path),
                [at(each.path) for each in run],
                password=run[-1].password,
                remove=remove,
                storage=self.storage,
            )
        except RequestError as error:
            refused = str(error)
        if refused:
            # Files of an earlier merge that were kept may need what would be removed.
            kept = [each for each in self.members if each.superseded and each not in run]
            assert branches or (remove and kept), refused
            assert at(path) not in self.system.files
            return
        self._stand_for(run, path, removed=remove)

    def _run_to(self, last: Member, count: int) -> list[Member]:
        run = [last]
        while len(run) < count and run[0].parent is not None:
            run.insert(0, run[0].parent)
        return run

    def _stand_for(self, run: Sequence[Member], path: str, removed: bool) -> None:
        first, last = run[0], run[-1]
        merged = Member(
            path, last.contents, last.result, first.kind, first.parent, last.password, last.digests
        )
        merged.names = [name for each in run for name in each.names]
        for each in self.members:
            if each.parent is last:
                each.parent = merged
        place = self.members.index(last)
        self.members.insert(place + 1, merged)
        for each in run:
            each.superseded = True
        if removed:
            self.members = [each for each in self.members if each not in run]
        self._look(merged)

    @rule(keep=st.integers(1, 3))
    def retain(self, keep: int) -> None:
        """A plan of retention is carried out; what it keeps stays."""
        chain = self._chain()
        points = [
            Point(
                each.image_id,
                each.parent_id,
                each.kind,
                each.created,
                each.path or "",
                each.stored,
                each.replaces,
            )
            for each in chain.members_of_tree
        ]
        plan = retention_plan(points, KeepRules(last=keep))
        assert not plan.refused

        def merge(path: str, images: Sequence[Point]) -> None:
            run = [self._member_at(each.path) for each in images]
            merge_images(
                path,
                [each.path for each in images],
                password=run[-1].password,
                storage=self.storage,
            )
            self._stand_for(run, path.removeprefix(f"{ROOT}/"), removed=False)

        def remove(point: Point) -> None:
            member = self._member_at(point.path)
            self._remove(member)
            self.members.remove(member)

        kept = {self._member_at(each.point.path).result.image_id for each in plan.keep}
        carry_out(plan, merge=merge, remove=remove)
        left = {each.result.image_id for each in self.members}
        assert kept <= left
        for member in self.members:
            self._look(member, False)

    def _member_at(self, path: str) -> Member:
        return next(each for each in self.members if at(each.path) == path)

    def _remove(self, member: Member) -> None:
        with open_stream(self.storage, at(member.path)) as stream:
            names = [file.name for file in stream.files]
        for name in names:
            self.storage.remove(name)

    def _chain(self) -> Chain:
        newest = self.members[-1]
        with opened(self.system, newest.path, newest.password) as image:
            chain = image.chain
            assert chain.ok
        assert {each.state for each in chain.members_of_tree} <= {"whole", "superseded"}
        assert len(chain.members_of_tree) == len(self.members)
        again = find_chain(ROOT, password=newest.password, storage=self.storage)
        assert again.chain_id == chain.chain_id
        return chain

    # What must be true

    def _look(self, member: Member, verify: bool = True) -> None:
        check(self.system, member.path, member.contents, member.password, verify=verify)

    @rule(number=st.integers(0, 9), chain=st.booleans())
    def look(self, number: int, chain: bool) -> None:
        """Any member is opened and verified at any time."""
        member = self.members[number % len(self.members)]
        self._look(member)
        if chain and not member.superseded:
            with opened(self.system, member.path, member.password) as image:
                found = image.verify(chain=True, threads=1)
                assert found.ok, found.damage

    @rule(number=st.integers(0, 9), which=st.integers(0, 1))
    def restore(self, number: int, which: int) -> None:
        """A device of a point in time is written to a file."""
        member = self.members[number % len(self.members)]
        which %= len(member.contents)
        with opened(self.system, member.path, member.password) as image:
            image.restore(at("out.raw"), device=which, threads=1, storage=self.storage)
        assert self.system.files.pop(at("out.raw")) == member.contents[which]

    @precondition(lambda self: len(self.members) > 1)
    @rule(number=st.integers(0, 9))
    def differ(self, number: int) -> None:
        """What two maps say differs is all that differs."""
        new, old = self.members[-1], self.members[number % len(self.members)]
        with (
            opened(self.system, new.path, new.password) as image,
            open_image(at(old.path), storage=self.storage, keys=image.keys, password=None) as other,
        ):
            told = [(each.start, each.length) for each in image.diff(other)]
        content = bytearray(new.contents[0])
        was = old.contents[0][: len(content)]
        was += bytes(len(content) - len(was))
        for start, length in told:
            content[start : start + length] = was[start : start + length]
        # The rest is equal, but for what the old device did not have.
        assert content[: len(old.contents[0])] == was[: len(old.contents[0])]

    def teardown(self) -> None:
        """Every point in time that is left is as it was."""
        try:
            for member in self.members:
                self._look(member, False)
            if self.members:
                self._chain()
                assert self.system.open_descriptors == 0
        finally:
            self._patches.close()


class EncryptedMachine(ChainMachine):
    """With encryption, and disks that know their holes."""

    protected = "aes"
    holes = True


class TwoDisksMachine(ChainMachine):
    """Two disks in each image."""

    disks_count = 2


class WithoutDigestsMachine(ChainMachine):
    """Chains that can be compared by data only, authenticated."""

    protected = "auth"
    digests = False


@pytest.fixture
def state() -> Iterator[ChainMachine]:
    """A machine that a test leads by hand; what it patched is as it was after the test."""
    machine = ChainMachine()
    try:
        yield machine
    finally:
        machine._patches.close()


def test_a_kept_file_of_an_earlier_merge_stays_readable(state: ChainMachine) -> None:
    """Found by a long history: a merge that removes its images took what such a file needed."""
    state.begin(size=70_001, seed=1)
    for number in range(4):
        state.write(0, number * 20_000, number, 0)
        state.image("incremental", 9, "tracked", 4096, 0)
    kept = state.members[2:4]
    state.merge(number=3, count=2, remove=False)
    assert all(each.superseded for each in kept)
    files = dict(state.system.files)
    run = [state.members[at].path for at in (0, 1, 4, 5)]
    with pytest.raises(RequestError, match=r"[23]\.aiv: was merged before.*remove it first"):
        merge_images(at("out.aiv"), [at(each) for each in run], remove=True, storage=state.storage)
    assert state.system.files == files
    for each in kept:
        state._remove(each)
    merge_images(at("out.aiv"), [at(each) for each in run], remove=True, storage=state.storage)
    with opened(state.system, "out.aiv") as image:
        assert image.devices[0].open().readall() == state.members[-1].contents[0]


def test_a_tracker_goes_on_behind_a_merge_of_a_merge(state: ChainMachine) -> None:
    """Found by a long history: the point in time is the one that the inner merge ended with."""
    state.begin(size=1, seed=0)
    state.write(kind=0, place=0, seed=0, which=0)
    for parent in (0, 1, 2):
        state.image(grain=512, kind="incremental", method="tracked", parent=parent, stop=0)
    for number, count in ((3, 2), (2, 3), (0, 2)):
        state.merge(count=count, number=number, remove=False)
    state.image(grain=512, kind="incremental", method="tracked", parent=0, stop=0)
    assert state.members[-1].result.changes[0].method == "tracked"
    state.teardown()


EXAMPLES = 500
"""Histories of each machine in an ordinary run; ``pytest -m long`` makes more and longer ones."""
MACHINES = [ChainMachine, EncryptedMachine, TwoDisksMachine, WithoutDigestsMachine]


def _settings(examples: int, steps: int) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )


def _run(machine: type[ChainMachine], examples: int, steps: int) -> None:
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(machine, settings=_settings(examples, steps))


@pytest.mark.parametrize("machine", MACHINES)
def test_histories(machine: type[ChainMachine]) -> None:
    _run(machine, EXAMPLES, 8)


@pytest.mark.long
@pytest.mark.parametrize("machine", MACHINES)
def test_long_histories(machine: type[ChainMachine]) -> None:
    _run(machine, 1000, 30)


def test_the_machine_fails_when_a_point_is_wrong(state: ChainMachine) -> None:
    """A chain in which a cluster is taken from elsewhere does not pass."""
    state.begin(70_001, 1)
    state.members[0].contents[0] = bytes([*state.members[0].contents[0][:-1], 1])
    with pytest.raises(AssertionError):
        state.teardown()
