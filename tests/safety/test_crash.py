"""The power goes at any point: the old state or the new one, whole (classes 59 and 60)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aipimage.errors import AipImageError
from aipimage.io.creating.splitting import join_image, split_image
from aipimage.io.increment.create import create_image
from aipimage.io.stream import passwords
from aipimage.io.system.storage import Storage
from tests.support.crash import CrashState, RecordingSystemCalls, crash_states
from tests.support.images import (
    CHEAP,
    MIB,
    PASSWORD,
    ArraySource,
    assert_whole,
    contents_of,
    mixed,
    options,
    password_of,
    sparse,
    verify_finds,
)
from tests.support.memory import ROOT, MemorySystem
from tests.support.stopping import only_named

CONTENTS = [mixed(9000), sparse(2 * MIB + 4096, 700_000)]
OLD = [mixed(7000, 5)]
NAME = "d.aiv"


def sources(contents: list[bytes]) -> list[ArraySource]:
    return [ArraySource(content) for content in contents]


def make(directory: Path, name: str, contents: list[bytes], **changes: object) -> None:
    create_image(str(directory / NAME), sources(contents), options(name, **changes))


def states(recorder: RecordingSystemCalls) -> Iterator[tuple[CrashState, MemorySystem]]:
    """Each state after a crash as a disk in memory."""
    for state in crash_states(recorder, shuffles=3, tears=3):
        names = state.disk.names
        yield (
            state,
            MemorySystem(
                {
                    f"{ROOT}/{os.path.relpath(name, recorder.root)}": state.disk.data.get(
                        inode, b""
                    )
                    for name, inode in names.items()
                }
            ),
        )


def found(system: MemorySystem, password: str | None, name: str) -> list[bytes] | None:
    """The content of an image under its final name; ``None`` when there is none or a part lacks."""
    path = f"{ROOT}/{name}"
    if path not in system.files:
        return None
    contents = contents_of(system, password, path)
    assert not verify_finds(system, password, path)
    return contents


def crash_each(
    tmp_path: Path,
    run: Callable[[Storage, Path], object],
    password: str | None,
    new: list[bytes],
    old: list[bytes] | None,
    name: str = NAME,
) -> None:
    """Old or new at every point; new once it was acknowledged; both are seen."""
    recorder = RecordingSystemCalls(tmp_path)
    run(Storage(recorder), tmp_path)
    recorder.mark("done")
    seen = []
    for state, system in states(recorder):
        try:
            contents = found(system, password, name)
        except AipImageError as error:
            pytest.fail(f"{state.label}: {error}")
        assert contents in (old, new), state.label
        assert not state.marks or contents == new, f"{state.label}: acknowledged and lost"
        seen.append(contents == new)
    assert len(set(seen)) == 2


@pytest.mark.parametrize("name", ["plain", "aes", "split"])
def test_class_59_create(tmp_path: Path, name: str) -> None:
    chosen = options(name, checkpoint_bytes=1)

    def run(storage: Storage, directory: Path) -> None:
        create_image(str(directory / NAME), sources(CONTENTS), chosen, None, storage)

    crash_each(tmp_path, run, password_of(name), CONTENTS, None)


def test_class_59_create_over_another_image(tmp_path: Path) -> None:
    make(tmp_path, "plain", OLD)
    chosen = options("zstd", overwrite=True, checkpoint_bytes=1)

    def run(storage: Storage, directory: Path) -> None:
        create_image(str(directory / NAME), sources(CONTENTS), chosen, None, storage)

    crash_each(tmp_path, run, None, CONTENTS, OLD)


def test_class_59_split(tmp_path: Path) -> None:
    make(tmp_path, "aes", CONTENTS)

    def run(storage: Storage, directory: Path) -> None:
        split_image(directory / NAME, directory / "new.aiv", 20_000, storage=storage)

    crash_each(tmp_path, run, PASSWORD, CONTENTS, None, "new.aiv")


def test_class_59_join(tmp_path: Path) -> None:
    make(tmp_path, "split", CONTENTS)

    def run(storage: Storage, directory: Path) -> None:
        join_image(directory / NAME, directory / "new.aiv", storage=storage)

    crash_each(tmp_path, run, PASSWORD, CONTENTS, None, "new.aiv")


@pytest.mark.parametrize("name", ["aes", "split"])
def test_class_32_password_change_of_a_real_image(tmp_path: Path, name: str) -> None:
    make(tmp_path, name, CONTENTS)
    recorder = RecordingSystemCalls(tmp_path)
    passwords.change_password(
        tmp_path / NAME, PASSWORD, "new", parameters=CHEAP, storage=Storage(recorder)
    )
    recorder.mark("done")
    seen = set()
    for state, system in states(recorder):
        opened = [word for word in (PASSWORD, "new") if _opens(system, word)]
        assert len(opened) == 1, state.label
        assert not state.marks or opened == ["new"], state.label
        seen |= set(opened)
    assert seen == {PASSWORD, "new"}


def _opens(system: MemorySystem, password: str) -> bool:
    try:
        return contents_of(system, password, f"{ROOT}/{NAME}") == CONTENTS
    except AipImageError:
        return False


@pytest.mark.parametrize("name", ["plain", "aes", "split"])
def test_class_59_resume_after_a_crash_at_any_point(tmp_path: Path, name: str) -> None:
    """Whatever a crash of a creation left, resuming gives the image, or refuses typed and keeps
    what is there."""
    recorder = RecordingSystemCalls(tmp_path)
    chosen = options(name, checkpoint_bytes=1)
    create_image(str(tmp_path / NAME), sources(CONTENTS), chosen, None, Storage(recorder))
    resumed, refused = 0, []
    for state, system in states(recorder):
        if f"{ROOT}/{NAME}" in system.files:
            continue
        again = options(name, checkpoint_bytes=1, resume=True)
        path = f"{ROOT}/{NAME}"
        try:
            result = create_image(path, sources(CONTENTS), again, None, Storage(system))
        except AipImageError as error:
            refused.append((state.label, str(error), path in system.files))
            continue
        resumed += result.resumed
        assert_whole(system.snapshot(), CONTENTS, password_of(name), path)
    assert resumed > 10
    assert not [each for each in refused if each[2]], "refused, and yet a final name"


def test_class_59_a_crash_of_the_resuming_run(tmp_path: Path) -> None:
    """A second run dies too: at any point of it, a third one still makes the image, or names what
    only lacks its name.
    """
    _interrupted(tmp_path, "plain", 2)
    recorder = RecordingSystemCalls(tmp_path)
    again = options("plain", checkpoint_bytes=1, resume=True)
    create_image(str(tmp_path / NAME), sources(CONTENTS), again, None, Storage(recorder))
    path, finished = f"{ROOT}/{NAME}", 0
    for state, system in states(recorder):
        if path in system.files:
            assert contents_of(system, None, path) == CONTENTS, state.label
            continue
        left = system.snapshot()
        result = create_image(path, sources(CONTENTS), again, None, Storage(system))
        if only_named(result):
            finished += 1
            assert system.files[path] == left[f"{path}.partial"], state.label
        assert_whole(system.snapshot(), CONTENTS, None, path)
    assert finished


def _interrupted(directory: Path, name: str, after: int) -> None:
    """Leave a partial image: the ``after``-th read of the second device never ends."""
    broken = sources(CONTENTS)
    count = 0

    def stop(offset: int) -> None:
        nonlocal count
        count += 1
        if count > after:
            raise KeyboardInterrupt

    broken[1].on_read = stop
    with pytest.raises(KeyboardInterrupt):
        create_image(str(directory / NAME), broken, options(name, checkpoint_bytes=1))
    assert (directory / f"{NAME}.partial").exists()
