"""Splitting, joining, repairing, retention, passwords and tracked increments on realistic chains,
stopped at many steps and done again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest import mock

import numpy as np
import pytest

from aipimage.errors import AipImageError, PasswordError, RequestError
from aipimage.extents import Kind
from aipimage.io.creating.splitting import join_image, split_image
from aipimage.io.increment.create import create_image
from aipimage.io.merge import copying as mergecopy
from aipimage.io.merge.job import merge_images
from aipimage.io.records import keys
from aipimage.io.repair import repair_image
from aipimage.io.stream.passwords import add_password, change_password, list_slots, remove_password
from aipimage.io.system.storage import Storage
from aipimage.retention import KeepRules, Point, carry_out, execution
from aipimage.retention import plan as retention_plan
from aipimage.tracking import ChangeTracker
from aipimage.volumes.chain import find_chain
from aipimage.volumes.image import open_image
from tests.support.images import CHEAP, PASSWORD, password_of, remember_derivations
from tests.support.memory import ROOT
from tests.support.memorychains import at
from tests.support.realistic_chains import (
    Facts,
    chain_of,
    check_chain,
    check_disk,
    check_increment_on,
    chosen,
    facts_of,
    source_of,
)
from tests.support.stopping import SharedMemory, Stop, stops

NEW = at("t.aiv")


@pytest.fixture(scope="module", autouse=True)
def derivations_are_remembered() -> Iterator[None]:
    """Derive each key once; the real function is put back for the other tests."""
    real = keys._slot_keys
    remember_derivations()
    yield
    keys._slot_keys = real


def unharmed(stop: Stop, files: dict[str, bytes]) -> None:
    for path, data in files.items():
        assert stop.files.get(path) == data, f"{stop}: {path} was changed"


def nothing_left(system: SharedMemory) -> None:
    assert not [path for path in system.files if ".partial" in path or ".state" in path]


# Splitting and joining


@pytest.mark.parametrize("protected", ["zstd", "aes", "split"])
@pytest.mark.parametrize("how", ["split", "join"])
def test_copies(protected: str, how: str) -> None:
    """A copy is whole or has no name; begun anew it is the same, also where parts have names."""
    chain = chain_of("bad", 2, protected)

    def run(storage: Storage, progress: Any) -> None:
        if how == "split":
            split_image(at("1.aiv"), NEW, 150_000, progress=progress, storage=storage)
        else:
            join_image(at("0.aiv"), NEW, progress=progress, storage=storage)

    number = 1 if how == "split" else 0
    wanted = facts_of(SharedMemory(chain.files), at(f"{number}.aiv"), chain.password)
    done = 0
    for stop in stops(run, chain.files, most=20):
        unharmed(stop, chain.files)
        system = stop.system()
        if NEW not in stop.files:
            assert not stop.done
            run(Storage(system), None)
            done += 1
        nothing_left(system)
        assert facts_of(system, NEW, chain.password) == wanted
    assert done > (10 if how == "split" else 3)


# Repairing


def damaged(data: bytes) -> bytes:
    """Some bytes turned over in three places, and the end cut off."""
    found = bytearray(data[: len(data) - 9000])
    for part in (3, 5, 6):
        place = len(found) * part // 8
        found[place : place + 40] = bytes(40)
    return bytes(found)


def repaired_facts(system: SharedMemory, password: str | None) -> tuple[Any, ...]:
    """Contents and kinds, without what is lost."""
    with open_image(NEW, password, storage=Storage(system)) as image:
        found = image.verify(threads=1)
        device = image.devices[0]
        kinds, content = [], np.zeros(device.size, np.uint8)
        for start, length, kind in device.extents():
            kinds.append((start, length, int(kind)))
            if kind == Kind.DATA:
                device.read_into(content[start : start + length].data, start)
        return found.ok, tuple(kinds), content.tobytes()


@pytest.mark.parametrize("protected", ["zstd", "aes", "auth"])
@pytest.mark.parametrize("number", [0, 1])
def test_repairing(protected: str, number: int) -> None:
    """The damaged image is never written; a repair that ended early is made anew."""
    chain = chain_of("some", 3, protected)
    files = dict(chain.files) | {at(f"{number}.aiv"): damaged(chain.files[at(f"{number}.aiv")])}

    def run(storage: Storage, progress: Any) -> Any:
        return repair_image(
            at(f"{number}.aiv"), NEW, password=chain.password, progress=progress, storage=storage
        )

    whole = SharedMemory(files)
    run(Storage(whole), None)
    wanted = repaired_facts(whole, chain.password)
    kinds = {kind for _, _, kind in wanted[1]}
    assert {int(Kind.DATA), int(Kind.LOST)} <= kinds
    done = 0
    for stop in stops(run, files, most=9):
        unharmed(stop, files)
        system = stop.system()
        if NEW not in stop.files:
            assert not stop.done
            run(Storage(system), None)
            done += 1
        nothing_left(system)
        assert repaired_facts(system, chain.password) == wanted
    assert done > 3


# Retention


def points_of(storage: Storage, password: str | None) -> list[Point]:
    found = find_chain(ROOT, password=password, storage=storage)
    return [
        Point(
            each.image_id,
            each.parent_id,
            each.kind,
            each.created,
            str(each.path),
            each.stored,
            each.replaces,
        )
        for each in found.members_of_tree
        if each.created is not None
    ]


@pytest.mark.parametrize(("name", "protected"), [("some", "zstd"), ("used", "split")])
def test_retention(name: str, protected: str) -> None:
    """Each kept point can be restored from whatever is left; planning again does the rest."""
    chain = chain_of(name, 5, protected)
    kept = chain.disks[-2:]

    def run(storage: Storage, progress: Any) -> None:
        def merge(path: str, images: Any) -> None:
            merge_images(
                path,
                [each.path for each in images],
                password=chain.password,
                threads=1,
                progress=progress,
                storage=storage,
            )

        with mock.patch.object(execution, "DEFAULT", storage):
            plan = retention_plan(points_of(storage, chain.password), KeepRules(last=2))
            if plan.refused:
                raise RequestError(plan.refused[0].reason)
            carry_out(plan, merge=merge)

    def restorable(files: Any) -> set[str]:
        system = SharedMemory(files)
        found = set()
        for path in files:
            if path.endswith(".aiv"):
                try:
                    found.update(facts_of(system, path, chain.password).content)
                except AipImageError:
                    continue
        return found

    with mock.patch.object(mergecopy, "BATCH", 300_000):
        for stop in stops(run, chain.files, most=9):
            wanted = {disk.digest(used=bool(disk.free)) for disk in kept}
            assert wanted <= restorable(stop.files), f"{stop}: a point is lost"
            system = stop.system()
            run(Storage(system), None)
            assert restorable(system.files) == wanted, f"{stop}: other points"
            nothing_left(system)
            newest = at("4.aiv")
            check_chain(system, newest, chain.password)
    check_increment_on(system, newest, chain.disks[-1], protected)


# Passwords

WORDS = (PASSWORD, "second", "new")
"""In the order in which the slots are made, the one that is changed first."""


def opens(system: SharedMemory, path: str) -> list[str]:
    found = []
    for word in WORDS:
        try:
            open_image(path, word, storage=Storage(system)).close()
            found.append(word)
        except PasswordError:
            continue
    return found


@pytest.mark.parametrize("protected", ["aes", "auth", "split"])
@pytest.mark.parametrize("what", ["change", "add", "remove"])
def test_passwords(protected: str, what: str) -> None:
    """The passwords are those of before or those of afterwards, and the image is as it was."""
    chain = chain_of("some", 2, protected)
    path, before = at("1.aiv"), SharedMemory(chain.files)
    add_password(path, PASSWORD, "second", parameters=CHEAP, storage=Storage(before))
    files = before.snapshot()
    slot = list_slots(path, storage=Storage(before))[-1].index

    def run(storage: Storage, progress: Any) -> None:
        if what == "change":
            change_password(path, PASSWORD, "new", parameters=CHEAP, storage=storage)
        elif what == "add":
            add_password(path, PASSWORD, "new", parameters=CHEAP, storage=storage)
        else:
            remove_password(path, PASSWORD, slot, storage=storage)

    after = {"change": ["second", "new"], "add": [*WORDS], "remove": [PASSWORD]}[what]
    for stop in stops(run, files, tears=6, shuffles=6):
        system = stop.system()
        now = opens(system, path)
        assert now in ([PASSWORD, "second"], after), stop.label
        assert now == after or not stop.done, stop.label
        unharmed(stop, {name: data for name, data in files.items() if name != path})
        if now != after:
            run(Storage(system), None)
        assert opens(system, path) == after, stop.label
        # Another change repairs the copy that was cut short.
        change_password(path, after[0], "third", parameters=CHEAP, storage=Storage(system))
        assert opens(system, path) == after[1:], stop.label
        check_disk(system, path, chain.disks[1], "third")


# Increments of what a tracker counted

TRACKER = at("tracker")


@pytest.mark.parametrize("protected", ["zstd", "aes"])
def test_tracked_increments(protected: str) -> None:
    """A stop anywhere in marking, imaging and committing costs no change: the next increment is
    right.
    """
    chain = chain_of("some", 4, protected, sizes=False)
    base = SharedMemory({at("0.aiv"): chain.files[at("0.aiv")]})
    first = image_id(base, "0.aiv", chain.password)
    size = chain.disks[0].size
    with ChangeTracker.create(TRACKER, size, 4096, storage=Storage(base)) as tracker:
        tracker.begin("backup").commit(first)

    def step(storage: Storage, progress: Any, number: int, parent: str) -> str:
        """Change the disk, image it, and say so."""
        tracker = ChangeTracker.open(TRACKER, storage=storage)
        with tracker:
            for place in chain.places[number]:
                tracker.mark(*place)
            with tracker.begin("backup") as generation:
                more = chosen(protected, parent=parent, changed=generation.changes())
                made = create_image(
                    at(f"{number}.aiv"), [source_of(chain.disks[number])], more, progress, storage
                )
                generation.commit(made.image_id)
        return made.changes[0].method

    def run(storage: Storage, progress: Any) -> None:
        assert step(storage, progress, 1, at("0.aiv")) == "tracked"

    methods = set()
    for stop in stops(
        run, base.snapshot(), most=40, ways=("killed", "power", "error", "cancelled")
    ):
        system = stop.system()
        assert stop.files[at("0.aiv")] == chain.files[at("0.aiv")]
        parent = at("1.aiv") if at("1.aiv") in stop.files else at("0.aiv")
        methods.add(step(Storage(system), None, 2, parent))
        check_disk(system, at("2.aiv"), chain.disks[2], chain.password)
    assert "tracked" in methods
    assert len(methods) > 1


def image_id(system: SharedMemory, name: str, password: str | None) -> str:
    with open_image(at(name), password, storage=Storage(system)) as image:
        return image.seal.image_id.hex()


def test_facts_differ() -> None:
    """What is compared above tells disks apart."""
    chain = chain_of("some", 2, "zstd")
    system = SharedMemory(chain.files)
    found: list[Facts] = [facts_of(system, at(f"{n}.aiv"), password_of("zstd")) for n in (0, 1)]
    assert found[0].content != found[1].content
    assert found[0].extents != found[1].extents
    assert found[0].digests != found[1].digests
