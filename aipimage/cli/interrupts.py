"""Ctrl-C and the like: ask the library to stop, and insist when it does not.

A job is stopped through its progress callback, at a place that the library chose; so nothing is cut
in the middle. Where no callback comes (a slow device, a low rate), the call is broken off after a
short time, or at the second signal; the library cleans up in that case too.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

GRACE = 2.0
"""Seconds that the library has to come to a callback."""
_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")


class InterruptedCommand(BaseException):
    """Raised out of a call that did not stop by itself."""


class Interrupts:
    """A context in which signals are noted.

    Attributes:
        number: of the first signal that came, or ``None``.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is not threading.main_thread():
            return self
        for number in (getattr(signal, name) for name in _NAMES if hasattr(signal, name)):
            # Who started us may have it ignored (nohup, a shell's background job): so it stays.
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                self._before[number] = signal.signal(number, self._note)
        if hasattr(signal, "SIGALRM"):
            self._before[signal.SIGALRM] = signal.signal(signal.SIGALRM, self._insist)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if self.number is not None:
            _set_timer(0)
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @property
    def exit_code(self) -> int:
        """What a shell gives for a program that a signal ended."""
        return 128 + (self.number or signal.SIGINT)

    @property
    def name(self) -> str:
        """The name of the signal that came."""
        return signal.Signals(self.number or signal.SIGINT).name

    def _note(self, number: int, _: FrameType | None) -> None:
        if self.number is not None:
            raise InterruptedCommand
        self.number = number
        _set_timer(GRACE)

    def _insist(self, _: int, __: FrameType | None) -> None:
        # Without a signal before it, the alarm is somebody else's.
        if self.number is not None:
            raise InterruptedCommand


def _set_timer(seconds: float) -> None:
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, seconds)
