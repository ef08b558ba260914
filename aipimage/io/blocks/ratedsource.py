"""A source that is read no faster than was asked for, in small pieces, while it is looked at."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from aipimage.io.blocks.model import BlockSource, OwnSource
from aipimage.io.blocks.sources import place_of
from aipimage.io.system.progress import RateLimit
from aipimage.io.system.storage import flat_view

if TYPE_CHECKING:
    from typing_extensions import Buffer

_SMALLEST = 512


class RatedSource(OwnSource):
    """See :class:`aipimage.io.blocks.sources.BlockSource`. Reads wait only within
    :meth:`limited`; code that reads a whole device waits before it hands the work out.

    Args:
        tick: called while waiting, so that it can be cancelled.
    """

    def __init__(self, source: BlockSource, limit: RateLimit, tick: Callable[[], object]) -> None:
        self.source, self._limit, self._tick = source, limit, tick
        self.name, self.size, self.sector_size = source.name, source.size, source.sector_size
        self.place = place_of(source)
        self._is_limited = False

    def __getattr__(self, name: str) -> Any:
        if name == "source":
            raise AttributeError(name)
        return getattr(self.source, name)

    @contextlib.contextmanager
    def limited(self) -> Iterator[None]:
        """Keep the rate within this block; from one thread."""
        self._is_limited = True
        try:
            yield
        finally:
            self._is_limited = False

    def read_into(self, buffer: Buffer, offset: int) -> None:
        """See ``BlockSource.read_into``."""
        if not self._is_limited:
            self.source.read_into(buffer, offset)
            return
        view = flat_view(buffer)
        step = self._limit.piece(_SMALLEST, max(view.nbytes, _SMALLEST))
        for at in range(0, view.nbytes, step):
            part = view[at : at + step]
            self._limit.wait(part.nbytes, self._tick)
            self.source.read_into(part, offset + at)

    def data_ranges(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """See ``BlockSource.data_ranges``."""
        return self.source.data_ranges(start, end)

    def fingerprint(self) -> dict[str, int | str]:
        """See ``BlockSource.fingerprint``."""
        return self.source.fingerprint()

    def close(self) -> None:
        """Close the source."""
        self.source.close()
