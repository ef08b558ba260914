"""A creation that is stopped after its trailer, before its files have their names: resuming it
names what is whole, byte for byte as it is, and nothing else (docs/format.md, sections 11 and 12).
"""

from __future__ import annotations

import errno
import random
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import pytest

from aipimage.errors import AipImageError, PasswordError, RequestError, StorageError, TargetError
from aipimage.format import constants as c
from aipimage.io.creating.results import CreateResult
from tests.support.faults import Fault, FaultySystemCalls
from tests.support.images import password_of
from tests.support.memory import MemorySystem
from tests.support.memorychains import Disk, at, check, make

NEW = at("new.aiv")
NOTE = "had finished this image and was stopped before it could name it"
REFUSED = r"is a finished image and was left as it is; rename it to .*new\.aiv"


class Watching(MemorySystem):
    """Keeps what is on the disk before each renaming."""

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(files)
        self.before: list[dict[str, bytes]] = []

    def replace(self, source: str, target: str) -> None:
        self.before.append(self.snapshot())
        super().replace(source, target)


def disk(seed: int = 1, size: int = 90_000) -> Disk:
    data = bytearray(random.Random(seed).randbytes(size))
    data[20_000:50_000] = bytes(30_000)
    return Disk(data)


class Work(NamedTuple):
    """One image: what is there before it, how it is made, and of what."""

    files: dict[str, bytes]
    options: dict[str, Any]
    disks: list[Disk]

    def run(self, system: MemorySystem | FaultySystemCalls, **changes: Any) -> CreateResult:
        return make(system, "new.aiv", self.disks, **(self.options | changes))

    def stopped(self) -> tuple[list[dict[str, bytes]], dict[str, bytes], CreateResult]:
        """The files before each renaming, those at the end, and the result."""
        system = Watching(self.files)
        result = self.run(system)
        return system.before, system.snapshot(), result

    def check(self, system: MemorySystem) -> None:
        """The image is bit-exact, and verifies."""
        contents = [each.content() for each in self.disks]
        password = password_of(self.options.get("protected", "plain"))
        check(system, "new.aiv", contents, password, bad=self.disks[0].bad)

    def left(self) -> dict[str, bytes]:
        return self.stopped()[0][0]


def full(**options: Any) -> Work:
    bad = disk()
    bad.bad = [(60_000 - 60_000 % 512, 1024)]
    # The second disk ends within a sector.
    return Work({}, {"checkpoint_bytes": 1, "parent": None, **options}, [bad, disk(2, 40_100)])


def increment(protected: str, **options: Any) -> Work:
    system, mine = MemorySystem(), disk()
    make(system, "0.aiv", [mine], protected=protected)
    mine.write(30_000, b"changed" * 1000)
    chosen = {"parent": "0.aiv", "protected": protected, "checkpoint_bytes": 1, **options}
    if password_of(protected):
        chosen["encrypt"] = None
    return Work(system.snapshot(), chosen, [mine])


WORKS: dict[str, Callable[[], Work]] = {
    "plain": full,
    "no checkpoint": lambda: full(checkpoint_bytes=1 << 30),
    "encrypted": lambda: full(protected="aes"),
    "authenticated": lambda: full(protected="auth"),
    "parts": lambda: full(protected="split"),
    "plain parts": lambda: full(split=20_000),
    "increment": lambda: increment("plain"),
    "encrypted increment": lambda: increment("aes"),
    "increment in parts": lambda: increment("split", split=16_384),
    "full in a chain": lambda: increment("zstd", kind="full"),
}


@pytest.mark.parametrize("name", WORKS)
def test_stopped_before_each_name_is_given(name: str) -> None:
    work = WORKS[name]()
    before, whole, made = work.stopped()
    assert len(before) == made.parts
    for left in before:
        system = MemorySystem(left)
        result = work.run(system, resume=True)
        assert system.snapshot() == whole
        assert system.open_descriptors == 0
        assert result.resumed
        assert NOTE in result.warnings[-1]
        alike = {"seconds": 0.0, "resumed": False, "warnings": ()}
        assert replace(result, **alike) == replace(made, **alike)
        assert result.warnings[:-1] == made.warnings
    check(
        system, "new.aiv", [each.content() for each in work.disks], _password(work), bad=_bad(work)
    )


def _password(work: Work) -> str | None:
    return password_of(work.options.get("protected", "plain"))


def _bad(work: Work) -> list[tuple[int, int]]:
    return work.disks[0].bad


def test_a_full_image_in_place_of_an_increment_is_named_too() -> None:
    """The parent could not be read then, and can be now."""
    work = increment("plain", compare="data")
    hurt = dict(work.files)
    data = bytearray(hurt[at("0.aiv")])
    data[40_000] ^= 1
    hurt[at("0.aiv")] = bytes(data)
    before, whole, made = work._replace(files=hurt).stopped()
    assert made.kind == "full"
    system = MemorySystem({**before[0], **work.files})
    result = work.run(system, resume=True)
    assert (result.kind, result.digest) == ("full", made.digest)
    assert system.snapshot() == {**whole, **work.files}


def refused(work: Work, left: dict[str, bytes], **changes: Any) -> AipImageError:
    """Resume, which must fail and leave everything as it is."""
    system = MemorySystem(left)
    with pytest.raises(AipImageError) as caught:
        work.run(system, resume=True, **changes)
    assert system.open_descriptors == 0
    found = {path: data for path, data in system.files.items() if path != at("other.aiv")}
    assert found == left
    return caught.value


@pytest.mark.parametrize("name", ["plain", "encrypted"])
def test_another_job_is_refused(name: str) -> None:
    work = WORKS[name]()
    left = work.left()
    for changes in ({"compress": "zstd"}, {"block_digests": False}, {"frame_shift": 14}):
        if changes.get("compress") == work.options.get("compress", "none"):
            continue
        if name == "encrypted" and "compress" in changes:
            changes = {"compress": "none"}
        error = refused(work, left, **changes)
        assert isinstance(error, RequestError)
        assert error.args[0].startswith(f"{NEW}.partial: is a finished image")
    other = work._replace(disks=[disk(), disk(3, 40_100)])
    other.disks[1].mark = 1
    assert "the source is not as it was" in str(refused(other, left))
    # Of the same mark, but with other content: a sample of the frames is compared.
    other.disks[1].mark = 0
    assert "changed since the image was begun" in str(refused(other, left))
    fewer = work._replace(disks=work.disks[:1])
    assert "is a finished image" in str(refused(fewer, left))


def test_another_place_in_a_chain_is_refused() -> None:
    work = increment("plain")
    left = work.left()
    system = MemorySystem(work.files)
    make(system, "1.aiv", work.disks, "0.aiv")
    left[at("1.aiv")] = bytes(system.files[at("1.aiv")])
    for changes in ({"parent": "1.aiv"}, {"parent": None}, {"kind": "full"}):
        error = refused(work, left, **changes)
        assert "is a finished image" in str(error) or "was begun with" in str(error)


def test_another_password_or_encryption_is_refused() -> None:
    work = full(protected="aes")
    left = work.left()
    assert isinstance(refused(work, left, password="other"), PasswordError)
    assert isinstance(refused(work, left, protected="plain"), PasswordError)


@pytest.mark.parametrize("name", ["plain", "encrypted", "parts", "increment"])
def test_damage_anywhere_is_refused(name: str) -> None:
    """Of parts only their content: a part without its header or footer ends the stream, so that the
    creation is resumed before it.
    """
    work = WORKS[name]()
    frame = c.PART_RECORD if name == "parts" else 0
    left, chance = work.left(), random.Random(5)
    for path in sorted(path for path in left if path.endswith(".partial")):
        for _ in range(20):
            hurt = bytearray(left[path])
            # The trailer, which the last file ends with, is written again.
            end = len(hurt) - frame - c.TRAILER
            hurt[chance.randrange(frame, end)] ^= 1
            error = refused(work, {**left, path: bytes(hurt)})
            assert str(error).startswith((f"{NEW}.partial: ", NEW)), error


@pytest.mark.parametrize("name", WORKS)
def test_a_trailer_that_a_power_cut_lost_is_written_again(name: str) -> None:
    """It and the footer of the last part are what is written last; its copy comes before."""
    work = WORKS[name]()
    before, whole, made = work.stopped()
    last = f"{NEW}.{made.parts:03}.partial" if made.parts > 1 else f"{NEW}.partial"
    behind = c.PART_RECORD if made.parts > 1 or b"AIVPART" in before[0][last][:8] else 0
    end = len(before[0][last]) - behind
    start = max(end - c.TRAILER, behind)
    for lost in (slice(start, end), slice(start, end - 9), slice(end - 1, end)):
        hurt = bytearray(before[0][last])
        hurt[lost] = bytes(lost.stop - lost.start)
        system = MemorySystem({**before[0], last: bytes(hurt)})
        assert work.run(system, resume=True).resumed
        assert system.snapshot() == whole


def test_what_is_damaged_is_in_the_refusal() -> None:
    work = full()
    left = work.left()
    for place in (5000, -c.TRAILER - 1):
        hurt = bytearray(left[f"{NEW}.partial"])
        hurt[place] ^= 1
        error = refused(work, {**left, f"{NEW}.partial": bytes(hurt)})
        assert isinstance(error, RequestError)
        assert re.search(REFUSED + r", or remove it \(.+\)$", str(error)), error


def test_a_name_in_use() -> None:
    """It is known before anything is looked at; with overwriting it is replaced in one step."""
    work = full()
    before, whole, _ = work.stopped()
    there = {**before[0], NEW: b"something else"}
    assert isinstance(refused(work, there), TargetError)
    system = MemorySystem(there)
    work.run(system, resume=True, overwrite=True)
    assert system.snapshot() == whole


@pytest.mark.parametrize("kind", ["fsync", "replace"])
def test_a_failing_call_leaves_it_as_it_is(kind: str) -> None:
    work = full(split=20_000)
    before, whole, made = work.stopped()
    assert made.parts > 2
    for number in range(made.parts):
        inner = MemorySystem(before[0])
        fault = Fault(number, errno.EIO, (kind,))
        with pytest.raises(StorageError):
            work.run(FaultySystemCalls(fault, inner=inner), resume=True)
        assert inner.snapshot() == before[0]
        assert inner.open_descriptors == 0
        work.run(inner, resume=True)
        assert inner.snapshot() == whole


@pytest.mark.parametrize("spare", [0, 1, 127, 128, 129])
def test_a_last_part_that_is_full_or_nearly_so(spare: int) -> None:
    """Its footer does not look like content of the stream."""
    # A letter of the comment is stored twice: in the description and in its copy.
    stored, comment = next(
        (stored, comment)
        for comment in ("", "x", "xx")
        if ((stored := full(comment=comment).stopped()[2].stored) + spare) % 3 == 0
    )
    room = (stored + spare) // 3
    work = full(comment=comment, split=room + 2 * c.PART_RECORD)
    before, whole, made = work.stopped()
    assert (made.stored, made.parts) == (stored, 3)
    for left in before:
        system = MemorySystem(left)
        assert NOTE in work.run(system, resume=True).warnings[-1]
        assert system.snapshot() == whole
