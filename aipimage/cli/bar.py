"""The progress bar on a terminal; imported only where there is one."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn
from rich.progress import Progress as Bar

from aipimage.cli.output import human_size

if TYPE_CHECKING:
    from aipimage import Progress


@contextlib.contextmanager
def drawn_bar(title: str) -> Iterator[Callable[[Progress], None]]:
    """Yield a function that draws how far a job is. The bar goes away when the job ends."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=30),
        TaskProgressColumn(),
        TextColumn("{task.fields[numbers]}", markup=False),
    )
    # Without a thread of its own: it is drawn when the library reports, ten times a second.
    bar = Bar(*columns, console=Console(file=sys.stderr), auto_refresh=False, transient=True)
    task = bar.add_task(title, total=None, numbers="")

    def draw(progress: Progress) -> None:
        # A terminal that goes away must not end a backup.
        with contextlib.suppress(OSError):
            bar.update(
                task, total=progress.total, completed=progress.done, numbers=numbers(progress)
            )
            bar.refresh()

    with bar:
        yield draw


def numbers(progress: Progress) -> str:
    """Amounts, rate, for a creation the ratio, and the time left."""
    parts = [
        f"{human_size(progress.done)} of {human_size(progress.total)}",
        f"{human_size(round(progress.rate))}/s",
    ]
    if progress.phase == "create" and progress.ratio is not None:
        parts.append(f"{progress.ratio:.1f}:1")
    if progress.eta is not None:
        minutes, seconds = divmod(round(progress.eta), 60)
        hours, minutes = divmod(minutes, 60)
        parts.append(f"{hours}:{minutes:02}:{seconds:02} left")
    return ", ".join(parts)
