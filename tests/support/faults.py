"""System calls that fail on purpose: the k-th one, for every k (hostile-inputs class 57).

A scenario is a function that takes a ``SystemCalls``. Run it once to count its calls, then once for
each of them with that call failing::

    for fault in each_fault(scenario, errnos=(errno.EIO, errno.ENOSPC)):
        system = FaultySystemCalls(fault)
        ...
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from aipimage.io.system.storage import SystemCalls

#: The name of every system call that can be made to fail.
KINDS = tuple(name for name in vars(SystemCalls) if not name.startswith("_"))
TRANSFERS = ("preadv", "pwritev")


@dataclass(frozen=True)
class Fault:
    """What goes wrong, and when.

    Attributes:
        at: which call of the chosen kinds it is, from 0.
        errno: the error; 0 for none (with `short`: a short transfer that is no error).
        kinds: the calls that count; all when empty.
        short: only half of the bytes of a read or write are transferred. With an errno as well, the
            transfer is torn: half is done and then the error is raised.
        permanent: all later calls of these kinds fail as well.
    """

    at: int
    errno: int = errno.EIO
    kinds: Collection[str] = ()
    short: bool = False
    permanent: bool = False

    def __str__(self) -> str:
        what = errno.errorcode.get(self.errno, "no error") + (" short" if self.short else "")
        kinds = "/".join(sorted(self.kinds)) or "any call"
        return f"{what} at {kinds} {self.at}{' and after' if self.permanent else ''}"


class FaultySystemCalls(SystemCalls):
    """Real system calls, counted, with faults.

    Attributes:
        counts: how often each call was made, by name.
        hits: how many calls a fault has struck.
    """

    def __init__(self, *faults: Fault, inner: SystemCalls | None = None) -> None:
        super().__init__()
        self.inner = SystemCalls() if inner is None else inner
        self.faults = faults
        self.counts = dict.fromkeys(KINDS, 0)
        self.hits = 0
        self._count_lock = threading.Lock()
        self._seen = [0] * len(faults)

    @property
    def total(self) -> int:
        """How many calls there were of all kinds."""
        return sum(self.counts.values())

    def _struck(self, kind: str) -> Fault | None:
        """Count a call; return the fault that hits it."""
        found = None
        with self._count_lock:
            self.counts[kind] += 1
            for number, fault in enumerate(self.faults):
                if fault.kinds and kind not in fault.kinds:
                    continue
                seen = self._seen[number]
                self._seen[number] += 1
                if seen == fault.at or (fault.permanent and seen > fault.at):
                    found = fault
                    self.hits += 1
        return found


def _faulty(kind: str) -> Callable[..., Any]:
    def call(self: FaultySystemCalls, *args: Any) -> Any:
        real = getattr(self.inner, kind)
        fault = self._struck(kind)
        if fault is None:
            return real(*args)
        if fault.short and kind in TRANSFERS:
            descriptor, buffers, offset = args
            done = real(descriptor, _half(buffers), offset)
            if not fault.errno:
                return done
        if kind == "close":
            # As on Linux: the descriptor is gone even when close reports an error.
            real(*args)
        if fault.errno:
            raise OSError(fault.errno, os.strerror(fault.errno))
        return done if fault.short and kind in TRANSFERS else real(*args)

    call.__name__ = kind
    return call


for _kind in KINDS:
    setattr(FaultySystemCalls, _kind, _faulty(_kind))


def _half(buffers: Sequence[memoryview]) -> list[memoryview]:
    """Keep the first half of the bytes, at least one."""
    keep = max(1, sum(view.nbytes for view in buffers) // 2)
    kept = []
    for view in buffers:
        if keep > 0:
            kept.append(view[:keep])
            keep -= view.nbytes
    return kept


def count_calls(scenario: Callable[[SystemCalls], object], kinds: Collection[str] = ()) -> int:
    """Run `scenario` without faults; return how many calls of `kinds` (all when empty) it makes."""
    system = FaultySystemCalls()
    scenario(system)
    return sum(system.counts[kind] for kind in kinds or KINDS)


def each_fault(
    scenario: Callable[[SystemCalls], object],
    *,
    errnos: Collection[int] = (errno.EIO,),
    kinds: Collection[str] = (),
    short: bool = False,
    permanent: bool = False,
) -> Iterator[Fault]:
    """Yield the fault for every call of `kinds` that `scenario` makes, and for every errno."""
    for at in range(count_calls(scenario, kinds)):
        for number in errnos:
            yield Fault(at, number, kinds, short, permanent)
