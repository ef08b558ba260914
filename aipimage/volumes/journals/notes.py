"""What is said of a volume in use, and where its journal says nothing."""

from __future__ import annotations

from aipimage.volumes.model import SurveyOptions
from aipimage.volumes.view import LayoutError


def check_still(options: SurveyOptions) -> None:
    """Refuse a journal that may change while it is read; ``LayoutError`` with what may do it."""
    why = options.changing()
    if why is not None:
        raise LayoutError(f"it is in use, and may change while it is read: {why}; take a snapshot")


def in_use_note(what: str, transactions: int, kept: int, fast: int = 0) -> str:
    """Say that a journal was read: its transactions and fast commits, and the bytes that are kept
    beyond what the map calls used after the replay.
    """
    count = f"{transactions:,} transaction{'s' if transactions != 1 else ''}"
    if fast:
        count += f" and {fast:,} fast commit{'s' if fast != 1 else ''}"
    return f"in use: its {what} was read, {count}; {kept:,} bytes are kept beyond its map"
