"""Named gates that every untrusted number passes: docs/format.md, sections 1 and 15."""

from __future__ import annotations

from aipimage.errors import FormatError, LimitError
from aipimage.format.constants import ZERO_ID


def verified_limit(value: int, limit: int, what: str) -> int:
    """Return ``value``, or refuse it where it is over ``limit`` (section 15)."""
    if value > limit:
        raise LimitError(f"{what} is {value}, over the limit of {limit}")
    return value


def verified_range(value: int, low: int, high: int, what: str) -> int:
    """Return ``value`` where ``low <= value <= high``."""
    if not low <= value <= high:
        raise LimitError(f"{what} is {value}, not within {low} to {high}")
    return value


def verified_equal(value: object, expected: object, what: str) -> None:
    """Refuse a field that must have one certain value."""
    if value != expected:
        raise FormatError(f"{what} is {_shown(value)} where {_shown(expected)} must stand")


def verified_zero(data: bytes | memoryview, what: str) -> None:
    """Refuse reserved bytes that are not zero (section 1)."""
    if any(data):
        raise FormatError(f"reserved bytes in the {what} are not zero")


def verified_ids(ids: tuple[bytes, ...], what: str) -> None:
    """Refuse an id that is all zeros: an id is random, and zeros stand for none."""
    if ZERO_ID in ids:
        raise FormatError(f"an id in the {what} is all zeros")


def verified_text(data: bytes, what: str) -> str:
    """Return UTF-8 text, or refuse bytes that are none."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise FormatError(f"the {what} is not UTF-8 text") from None


def verified_length(data: bytes | memoryview, expected: int, what: str) -> None:
    """Refuse a record whose length does not follow from its own counts."""
    if len(data) != expected:
        raise FormatError(f"{what} is {len(data)} bytes long where its counts say {expected}")


def _shown(value: object) -> str:
    return value.hex() if isinstance(value, (bytes, memoryview)) else str(value)
