"""Ctrl-C and the like: ask the library to stop, and insist when it does not.

A job is stopped through its progress callback, at a place that the library chose; so nothing is cut
in the middle. Where no callback comes (a slow device, a low rate), the call is broken off after a
short time, or at the second signal; the library cleans up in that case too. For two seconds no
further signal cuts it short: a hand that holds Ctrl-C down does not leave half a file.
"""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any

GRACE = 2.0
"""Seconds that the library has to come to a callback, and then to clean up."""
_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")


class InterruptedCommand(BaseException):
    """Raised out of a call that did not stop by itself."""


class Interrupts:
    """A context in which signals are noted.

    Args:
        process_ends: nothing but telling the outcome follows in this process. After a signal the
            later ones are then ignored for good, so that the exit status stays what was reported:
            an interpreter that is going away has no handlers any more.

    Attributes:
        number: of the first signal that came, or ``None``.
    """

    def __init__(self, *, process_ends: bool = False) -> None:
        self.number: int | None = None
        self._process_ends = process_ends
        self._quiet_until = 0.0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is not threading.main_thread():
            return self
        for number in (getattr(signal, name) for name in _NAMES if hasattr(signal, name)):
            # The process that started us may ignore it (nohup, a shell's background job): so it
            # stays.
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                self._before[number] = signal.signal(number, self._note)
        if hasattr(signal, "SIGALRM"):
            self._before[signal.SIGALRM] = signal.signal(signal.SIGALRM, self._insist)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._quiet_until = float("inf")
        if self.number is not None:
            _set_timer(0)
        ignore = self._process_ends and self.number is not None
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_IGN if ignore else handler)

    @property
    def exit_code(self) -> int:
        """What a shell reports for a program that a signal ended."""
        return 128 + (self.number or signal.SIGINT)

    @property
    def name(self) -> str:
        """The name of the signal that came."""
        return signal.Signals(self.number or signal.SIGINT).name

    def _note(self, number: int, _: FrameType | None) -> None:
        if self.number is not None:
            self._break_off()
        self.number = number
        _set_timer(GRACE)

    def _insist(self, _: int, __: FrameType | None) -> None:
        # Without a signal before it, the alarm belongs to another part of the process.
        if self.number is not None:
            self._break_off()

    def _break_off(self) -> None:
        now = time.monotonic()
        if now >= self._quiet_until:
            self._quiet_until = now + GRACE
            # The cleaning up may take longer than the alarm would wait.
            _set_timer(0)
            raise InterruptedCommand


def _set_timer(seconds: float) -> None:
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, seconds)
