"""Work in a process of its own with a bound on time and memory for each step."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any, TypeVar

_T = TypeVar("_T")
SECONDS = 2.0
MEMORY = 256 << 20


class OverTimeError(Exception):
    """A step took longer than allowed; not one of the library's errors, so nothing hides it."""


@contextlib.contextmanager
def time_bound(seconds: float = SECONDS) -> Iterator[None]:
    """Raise in the main thread after some processor time."""

    def late(*_: object) -> None:
        raise OverTimeError(f"over {seconds} s")

    before = signal.signal(signal.SIGVTALRM, late)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def bound_memory(more: int = MEMORY) -> None:
    """Let this process map ``more`` bytes than now (and the stacks of a few threads)."""
    import resource

    with open("/proc/self/statm") as file:
        now = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (now + more, now + more))


def in_processes(work: Callable[..., _T], calls: list[tuple[Any, ...]]) -> list[_T]:
    """Run calls on two fresh processes."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, context) as workers:
        return [future.result() for future in [workers.submit(work, *call) for call in calls]]
