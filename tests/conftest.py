"""Tests marked ``long`` run only when they are asked for: ``pytest -m long``. Signals are what the
tests expect, whatever the program that started them had ignored. A busy machine is no
failure of a property test.
"""

from __future__ import annotations

import signal

import pytest
from hypothesis import settings


def _ignore_here_alone() -> None:
    """A handler that does nothing is not inherited as an ignored signal is (``nohup``, a job in the
    background): the processes that tests start get the signal's own behaviour back.
    """
    for name in ("SIGHUP", "SIGINT", "SIGTERM", "SIGQUIT", "SIGALRM"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, lambda *_: None)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_SETMASK, set())


_ignore_here_alone()

settings.register_profile("aipimage", deadline=None)
settings.load_profile("aipimage")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "long" in config.getoption("markexpr"):
        return
    left_out = [item for item in items if item.get_closest_marker("long")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
