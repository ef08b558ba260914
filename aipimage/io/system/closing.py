"""Closing what threads read: it waits for reads under way, and afterwards every use says so."""

from __future__ import annotations

import threading

from aipimage.errors import ClosedError


class Gate:
    """Lets readers in until it is shut; shutting waits for those who are inside.

    A thread that is inside may enter again, also while another thread shuts the gate, so that a
    read which consists of others comes to its end. The number of a closed descriptor belongs to
    the next file that is opened: so every read from one passes its gate.
    """

    def __init__(self, name: str, what: str = "image") -> None:
        self._name, self._what = name, what
        self._is_shut, self._inside = False, 0
        self._lock = threading.Lock()
        self._left = threading.Condition(self._lock)
        self._own = threading.local()

    @property
    def is_shut(self) -> bool:
        """Whether no more readers are let in."""
        return self._is_shut

    def __enter__(self) -> None:
        depth = getattr(self._own, "depth", 0)
        if not depth:
            with self._lock:
                if self._is_shut:
                    self.check()
                self._inside += 1
        self._own.depth = depth + 1

    def __exit__(self, *_: object) -> None:
        own = self._own
        own.depth = depth = own.depth - 1
        if not depth:
            with self._lock:
                self._inside -= 1
                # Only a thread that has shut the gate waits.
                if self._is_shut:
                    self._left.notify_all()

    def check(self) -> None:
        """Raise ``ClosedError`` where it is shut."""
        if self._is_shut:
            raise ClosedError(f"{self._name}: the {self._what} is closed")

    def shut(self) -> None:
        """Let no more readers in, and wait until all others are out; a second call only waits."""
        mine = 1 if getattr(self._own, "depth", 0) else 0
        with self._lock:
            self._is_shut = True
            while self._inside > mine:
                self._left.wait()
