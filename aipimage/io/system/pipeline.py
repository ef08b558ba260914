"""Many pieces of work on a few threads, taken back in order, with a bounded number in flight."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future

_T = TypeVar("_T")
_R = TypeVar("_R")


def default_threads() -> int:
    """As many as there are processors for this process."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


@contextmanager
def executor_for(
    executor: Executor | None, threads: int | None, name: str, *, is_caller_busy: bool = False
) -> Iterator[tuple[Executor, int]]:
    """Yield (executor, pieces to keep in flight): the one passed, or a thread pool of our own.

    ``is_caller_busy``: the calling thread writes for as long as the workers work.
    """
    if executor is not None:
        workers = getattr(executor, "_max_workers", None) or default_threads()
        yield executor, workers + 2
        return
    from concurrent.futures import ThreadPoolExecutor

    # One more than there are processors: one thread always waits for the interpreter's lock.
    most = threads or default_threads() + 1
    workers = most - 1 if is_caller_busy and not threads else most
    pool = ThreadPoolExecutor(workers, thread_name_prefix=f"aipimage-{name}")
    try:
        yield pool, most + 2
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def in_order(
    executor: Executor, work: Callable[[_T], _R], pieces: Iterable[_T], in_flight: int
) -> Iterator[_R]:
    """Yield ``work(piece)`` for each piece in order, with at most ``in_flight`` pieces begun and
    not taken back.
    """
    waiting: deque[Future[_R]] = deque()
    try:
        for piece in pieces:
            waiting.append(executor.submit(work, piece))
            if len(waiting) >= in_flight:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
