"""Progress, cancelling and the rate limit, the same for everything that takes long."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from aipimage.errors import CancelledError


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is.

    Attributes:
        phase: what is being done: ``"create"``, ``"verify"``, ``"restore"``, …
        done: bytes of the source, target or stream that are done.
        total: bytes that there are.
        stored: bytes written to or read from the image so far.
        seconds: since the job began.
    """

    phase: str
    done: int
    total: int
    stored: int
    seconds: float

    @property
    def rate(self) -> float:
        """Bytes a second since the job began."""
        return self.done / self.seconds if self.seconds > 0 else 0.0

    @property
    def eta(self) -> float | None:
        """Seconds that are left at this rate, or ``None`` while that is unknown."""
        return (self.total - self.done) / self.rate if self.rate > 0 else None

    @property
    def ratio(self) -> float | None:
        """Bytes done for each stored byte, or ``None`` while nothing is stored."""
        return self.done / self.stored if self.stored else None


_TICK = 0.1
_BURST = 0.25
ProgressCallback = Callable[[Progress], object]
"""Called now and then from the calling thread; returning ``False`` cancels with
``CancelledError``.
"""


class Reporter:
    """Calls the callback at most about ten times a second, and at the end."""

    def __init__(self, phase: str, total: int, callback: ProgressCallback | None) -> None:
        self._phase, self._total, self._callback = phase, total, callback
        self.started = time.monotonic()
        self._last = 0.0
        self._done = self._stored = 0

    def report(self, done: int, stored: int, final: bool = False) -> None:
        """Tell the callback, and stop where it says so."""
        self._done, self._stored = done, stored
        now = time.monotonic()
        if self._callback is None or not (final or now - self._last >= _TICK):
            return
        self._last = now
        progress = Progress(self._phase, done, self._total, stored, now - self.started)
        if self._callback(progress) is False and not final:
            raise CancelledError(f"{self._phase} was cancelled")

    def again(self) -> None:
        """Report the same as before, so that a job that waits can be cancelled."""
        self.report(self._done, self._stored)


class RateLimit:
    """Keeps an average of at most ``rate`` bytes a second by sleeping."""

    def __init__(self, rate: int | None) -> None:
        self._rate = rate
        self._due = time.monotonic()

    def wait(self, length: int, tick: Callable[[], object]) -> None:
        """Sleep until ``length`` more bytes may have been read, calling ``tick`` so that the user
        can cancel. It is waited for before they are read, so that the rate holds from the first
        byte on.

        An idle time is not made up for later, but for a quarter of a second.
        """
        if not self._rate:
            return
        self._due = max(self._due, time.monotonic() - _BURST) + length / self._rate
        while (left := self._due - time.monotonic()) > 0:
            time.sleep(min(left, _TICK))
            tick()

    def piece(self, smallest: int, most: int) -> int:
        """Bytes to read at a time: what is due in a quarter of a second, in whole ``smallest``."""
        if not self._rate:
            return most
        due = int(self._rate * _BURST)
        return max(smallest, min(most, due - due % smallest))


class JoinedProgress:
    """Several jobs as one: each reports from where those before it ended."""

    def __init__(self, total: int, callback: ProgressCallback | None) -> None:
        self.started = time.monotonic()
        self._total, self._callback, self._before = total, callback, 0

    @property
    def callback(self) -> ProgressCallback | None:
        """For the job that begins now; ``None`` where there is no callback."""
        return self._report if self._callback else None

    def end(self, stored: int) -> None:
        """A job of so many stored bytes ended."""
        self._before += stored

    def _report(self, found: Progress) -> object:
        done, stored = self._before + found.done, self._before + found.stored
        seconds = time.monotonic() - self.started
        assert self._callback is not None
        return self._callback(Progress(found.phase, done, self._total, stored, seconds))
