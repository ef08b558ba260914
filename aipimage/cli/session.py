"""What the commands share while one runs: the terminal, signals, and what to add to an error."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from aipimage.cli.interrupts import Interrupts

if TYPE_CHECKING:
    from aipimage import Progress, ProgressCallback


class Session:
    """One run of the command.

    Attributes:
        password_given: whether the user gave a password, for a hint where one was needed.
        as_json: whether ``--json`` was given.
        after_failure: says what a failed job left; ``None`` where nothing was begun.
    """

    def __init__(self, interrupts: Interrupts, as_json: bool = False) -> None:
        self.interrupts, self.as_json = interrupts, as_json
        self.password_given = False
        self.after_failure: Callable[[], str | None] | None = None

    @contextlib.contextmanager
    def progress(self, title: str) -> Iterator[ProgressCallback]:
        """Yield the callback of a job: draws on a terminal, and stops the job after a signal."""
        with contextlib.ExitStack() as stack:
            draw = None
            if sys.stderr is not None and sys.stderr.isatty():
                from aipimage.cli.bar import drawn_bar

                draw = stack.enter_context(drawn_bar(title))

            def callback(progress: Progress) -> bool:
                if draw is not None:
                    draw(progress)
                return self.interrupts.number is None

            yield callback
