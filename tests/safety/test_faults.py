"""Each k-th system call fails, is interrupted or is short (classes 57 and 58)."""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from typing import NamedTuple

import pytest

from aipimage import verify_keyless
from aipimage.errors import AipImageError
from aipimage.io.creating.splitting import join_image, split_image
from aipimage.io.increment.create import create_image
from aipimage.io.stream import passwords
from aipimage.io.system.storage import Storage, SystemCalls
from aipimage.volumes.image import open_image
from tests.support.faults import Fault, FaultySystemCalls, each_fault
from tests.support.images import (
    CHEAP,
    MIB,
    PASSWORD,
    PATH,
    assert_whole,
    contents_of,
    image_files,
    mixed,
    options,
    password_of,
    read_all,
    sparse,
)
from tests.support.memory import ROOT, MemorySystem

CONTENTS = [mixed(9000), sparse(2 * MIB + 4096, 600_000)]
SOURCES = {f"{ROOT}/s{n}.raw": content for n, content in enumerate(CONTENTS)}
BYSTANDER = {f"{ROOT}/other": b"not ours"}
NEW, OUT = f"{ROOT}/new.aiv", f"{ROOT}/out.raw"


class Job(NamedTuple):
    """What is done to a disk, and what must be true afterwards.

    Attributes:
        files: on the disk before. run: the work; it checks what it was given. check: looks at the
            files when the work reported success. target: the name that must only be seen whole.
    """

    files: Mapping[str, bytes]
    run: Callable[[Storage], object]
    check: Callable[[Mapping[str, bytes]], None]
    target: str | None = None


def creating(name: str, **changes: object) -> Job:
    chosen = options(name, checkpoint_bytes=1, **changes)
    before = dict(SOURCES)
    if chosen.overwrite:
        before |= image_files("plain", [b"old" * 2000])
    return Job(
        before,
        lambda storage: create_image(PATH, list(SOURCES), chosen, None, storage),
        lambda files: assert_whole(files, CONTENTS, password_of(name)),
        PATH,
    )


def reading() -> Job:
    def run(storage: Storage) -> None:
        with open_image(PATH, PASSWORD, storage=storage) as image:
            assert read_all(image) == CONTENTS

    return Job(image_files("aes", CONTENTS), run, lambda files: None)


def verifying() -> Job:
    def run(storage: Storage) -> None:
        # A fault while verifying is damage that is reported, or an error: never a good report
        # about bytes that were not seen.
        if not verify_keyless(PATH, threads=1, storage=storage).ok:
            raise AipImageError("reported")
        with open_image(PATH, PASSWORD, storage=storage) as image:
            if not image.verify(threads=1).ok:
                raise AipImageError("reported")

    return Job(image_files("split", CONTENTS), run, lambda files: None)


def restoring() -> Job:
    def run(storage: Storage) -> None:
        with open_image(PATH, storage=storage) as image:
            image.restore(OUT, device=1, threads=1, storage=storage)

    def check(files: Mapping[str, bytes]) -> None:
        assert files[OUT] == CONTENTS[1]

    return Job(image_files("zstd", CONTENTS), run, check, OUT)


def splitting() -> Job:
    return Job(
        image_files("aes", CONTENTS),
        lambda storage: split_image(PATH, NEW, 20_000, storage=storage),
        lambda files: assert_whole(files, CONTENTS, PASSWORD, NEW),
        NEW,
    )


def joining() -> Job:
    return Job(
        image_files("split", CONTENTS),
        lambda storage: join_image(PATH, NEW, storage=storage),
        lambda files: assert_whole(files, CONTENTS, PASSWORD, NEW),
        NEW,
    )


def changing() -> Job:
    def run(storage: Storage) -> None:
        passwords.change_password(PATH, PASSWORD, "new", parameters=CHEAP, storage=storage)

    return Job(
        image_files("aes", CONTENTS), run, lambda files: assert_whole(files, CONTENTS, "new")
    )


JOBS: dict[str, Callable[[], Job]] = {
    "create plain": lambda: creating("plain"),
    "create encrypted": lambda: creating("aes"),
    "create split": lambda: creating("split"),
    "create over": lambda: creating("zstd", overwrite=True),
    "read": reading,
    "verify": verifying,
    "restore": restoring,
    "split": splitting,
    "join": joining,
    "password": changing,
}

FAULTS: dict[str, dict[str, object]] = {
    "error": {"errnos": (errno.EIO, errno.ENOSPC)},
    "for good": {"errnos": (errno.EIO,), "permanent": True},
    "interrupted": {"errnos": (errno.EINTR,)},
    "short": {"errnos": (0,), "kinds": ("preadv", "pwritev"), "short": True},
    "torn": {"errnos": (errno.EIO,), "kinds": ("pwritev",), "short": True},
}
INVISIBLE = ("interrupted", "short")


def attempt(job: Job, fault: Fault) -> tuple[AipImageError | None, MemorySystem]:
    """Run a job with a fault; other exceptions than typed ones fail the test."""
    system = MemorySystem({**job.files, **BYSTANDER})
    try:
        job.run(Storage(FaultySystemCalls(fault, inner=system)))
    except AipImageError as error:
        return error, system
    return None, system


@pytest.mark.parametrize("kind", FAULTS)
@pytest.mark.parametrize("name", JOBS)
def test_class_57_each_call_fails_once(name: str, kind: str) -> None:
    job = JOBS[name]()

    def scenario(inner: SystemCalls) -> None:
        assert isinstance(inner, FaultySystemCalls)
        inner.inner = MemorySystem({**job.files, **BYSTANDER})
        job.run(Storage(inner))

    faults = list(each_fault(scenario, **FAULTS[kind]))  # type: ignore[arg-type]
    for fault in faults:
        error, system = attempt(job, fault)
        assert error is None or kind not in INVISIBLE, f"{fault}: {error}"
        check_after(job, error, system, f"{fault}: {error}")


def check_after(job: Job, error: AipImageError | None, system: MemorySystem, message: str) -> None:
    files = system.snapshot()
    # A close that fails is the one call that may leave nothing to close.
    assert system.open_descriptors == 0, f"{message}: a file is left open"
    for path, data in {**job.files, **BYSTANDER}.items():
        if path not in (job.target, PATH):
            assert files.get(path) == data, f"{message}: {path} was changed"
    if error is None:
        job.check(files)
    elif job.target in files and files[job.target] != job.files.get(job.target):
        job.check(files)  # under its final name it is whole, though the last step failed
    if error is not None and job.target is None:
        # Unchanged, or between two passwords with one whole copy of the key area.
        opened = [word for word in (PASSWORD, "new") if _opens(files, word)]
        assert len(opened) == 1, message
        assert contents_of(MemorySystem(files), opened[0]) == CONTENTS


def _opens(files: Mapping[str, bytes], password: str) -> bool:
    try:
        open_image(PATH, password, storage=Storage(MemorySystem(files))).close()
    except AipImageError:
        return False
    return True


class _SyncWatcher(FaultySystemCalls):
    """Notes the changing calls that follow a failed sync of a file."""

    def __init__(self, fault: Fault, inner: SystemCalls) -> None:
        super().__init__(fault, inner=inner)
        self.after: list[str] = []

    def _struck(self, kind: str) -> Fault | None:
        if self.hits and kind in ("fsync", "pwritev", "replace", "ftruncate"):
            self.after.append(kind)
        return super()._struck(kind)


@pytest.mark.parametrize(
    "name", ["create plain", "create encrypted", "create split", "create over", "split", "join"]
)
def test_class_58_a_failed_sync_is_final(name: str) -> None:
    """After a failed sync of a file nothing is synced, written or renamed, nothing is resumed."""
    job = JOBS[name]()

    def scenario(inner: SystemCalls) -> None:
        assert isinstance(inner, FaultySystemCalls)
        inner.inner = MemorySystem(job.files)
        job.run(Storage(inner))

    faults = list(each_fault(scenario, kinds=("fsync",)))
    for fault in faults[:-1]:  # the last one is of the directory, after the renaming
        system = MemorySystem(job.files)
        watcher = _SyncWatcher(fault, system)
        with pytest.raises(AipImageError):
            job.run(Storage(watcher))
        assert not watcher.after, f"{fault}: went on with {watcher.after}"
        assert system.snapshot() == job.files, f"{fault}: something was left to be trusted"
