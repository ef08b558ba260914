"""A foreign block source, each answer of which is compared with the contract.

What a source of our own does is tested; what an embedder's does is looked at here, because a wrong
answer would become an image that verifies and is wrong.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from aipimage import checks
from aipimage.errors import AipImageError, OptionError, OptionTypeError, SourceError
from aipimage.format import constants as c
from aipimage.io.blocks.model import BlockSource, OwnSource, UnreadableRangeError
from aipimage.io.system.storage import MEDIUM_ERRORS, flat_view

if TYPE_CHECKING:
    from typing_extensions import Buffer

SECTOR_SIZES = tuple(512 << shift for shift in range(8))
"""Sizes of a sector that an image can state (docs/format.md, section 9.1)."""


class CheckedSource(OwnSource):
    """See :class:`aipimage.io.blocks.model.BlockSource`; what breaks its contract is a
    ``SourceError``.

    The source stays the caller's: closing this object does not close it.
    """

    def __init__(self, source: BlockSource) -> None:
        self.source = source
        with self._asking("name"):
            name = source.name
        if not isinstance(name, str):
            raise SourceError(f"{type(source).__name__}: its name is {name!r}, which is not a text")
        self.name = name
        self.size = self._size()
        self.sector_size = self._sector_size()

    def __getattr__(self, name: str) -> Any:
        # What else a source says of itself: its place, chain, files and warnings.
        if name == "source":
            raise AttributeError(name)
        return getattr(self.source, name)

    def _size(self) -> int:
        with self._asking("size"):
            size = self.source.size
        with self._contract():
            return checks.whole("size", size, 0, c.DEVICE_SIZE_MAX)

    def _sector_size(self) -> int:
        with self._asking("sector_size"):
            size = self.source.sector_size
        if isinstance(size, bool) or size not in SECTOR_SIZES:
            listed = ", ".join(str(each) for each in SECTOR_SIZES)
            raise self._wrong(f"its sector_size is {size!r}, not one of {listed}")
        return int(size)

    def read_into(self, buffer: Buffer, offset: int) -> None:
        """See ``BlockSource.read_into``."""
        view = flat_view(buffer)
        with self._asking(f"{view.nbytes} bytes at offset {offset}", (offset, view.nbytes)):
            got: object = self.source.read_into(view, offset)  # type: ignore[func-returns-value]
        if got is not None and (isinstance(got, bool) or got != view.nbytes):
            raise self._wrong(
                f"read_into gave {got!r} for {view.nbytes} bytes at offset {offset}; it fills the "
                "whole buffer and returns nothing"
            )
        self._check_size()

    def data_ranges(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """See ``BlockSource.data_ranges``; what lies outside of the range is cut off."""
        last_end = 0
        with self._asking("data_ranges"):
            ranges = iter(self.source.data_ranges(start, end))
        while True:
            with self._asking("data_ranges"):
                row: object = next(ranges, None)
            if row is None:
                break
            offset, length = self._checked_range(row, last_end)
            last_end = offset + length
            low, high = max(offset, start), min(last_end, end)
            if low < high:
                yield low, high - low
        self._check_size()

    def _checked_range(self, row: Any, last_end: int) -> tuple[int, int]:
        try:
            offset, length = row
        except (TypeError, ValueError):
            raise self._wrong(f"data_ranges gave {row!r}, not an offset and a length") from None
        with self._contract():
            offset = checks.whole("offset of data_ranges", offset, 0, self.size)
            length = checks.whole("length of data_ranges", length, 0, self.size - offset)
        if offset < last_end:
            raise self._wrong(
                f"data_ranges gave offset {offset} after a range that ends at {last_end}; ranges "
                "ascend and do not overlap"
            )
        return offset, length

    def fingerprint(self) -> dict[str, int | str]:
        """See ``BlockSource.fingerprint``."""
        with self._asking("fingerprint"):
            found: object = self.source.fingerprint()
        is_plain = isinstance(found, dict) and all(
            isinstance(name, str) and isinstance(value, (int, str)) for name, value in found.items()
        )
        if not is_plain:
            raise self._wrong(f"its fingerprint is {found!r}, not names with numbers or texts")
        return dict(found)  # type: ignore[call-overload, no-any-return]

    def close(self) -> None:
        """Do nothing: the source is the caller's."""

    def _check_size(self) -> None:
        now = self._size()
        if now != self.size:
            raise SourceError(
                f"{self.name}: its size changed while it was read, from {self.size} bytes to {now}"
            )

    def _wrong(self, what: str) -> SourceError:
        return SourceError(f"{self.name}: does not keep the contract of a block source: {what}")

    @contextlib.contextmanager
    def _contract(self) -> Iterator[None]:
        try:
            yield
        except (OptionError, OptionTypeError) as error:
            raise self._wrong(str(error)) from error

    @contextlib.contextmanager
    def _asking(self, what: str, read: tuple[int, int] | None = None) -> Iterator[None]:
        """What a source raises is a ``SourceError`` with that as its cause; a medium that cannot
        deliver a range is an ``UnreadableRangeError`` where a range was read.
        """
        name = self.__dict__.get("name") or type(self.source).__name__
        try:
            yield
        except AipImageError:
            raise
        except OSError as error:
            message = f"{name}: cannot read {what}: {error}"
            if read is not None and error.errno in MEDIUM_ERRORS:
                raise UnreadableRangeError(message, *read, error.errno) from error
            raise SourceError(message, error.errno) from error
        except Exception as error:
            if isinstance(error, RuntimeError) and str(error).startswith("internal error"):
                raise
            kind = type(error).__name__
            raise SourceError(f"{name}: cannot read {what}: {kind}: {error}") from error
