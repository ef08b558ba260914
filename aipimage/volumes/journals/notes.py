"""What is said of a volume in use, and where its journal says nothing."""

from __future__ import annotations

from aipimage.volumes.model import WHOLE, Allocation, SurveyOptions
from aipimage.volumes.view import LayoutError

IN_USE = "in use: "
"""How a note begins that says so of a volume."""


def is_in_use(allocation: Allocation) -> bool:
    """Whether a map was made with an open journal, that of a volume within it included."""
    return any(IN_USE in note for note in allocation.notes)


def check_still(options: SurveyOptions) -> None:
    """Refuse a journal that may change while it is read, or that is not wanted to be read;
    ``LayoutError`` with the reason.
    """
    if options.in_use == WHOLE:
        raise LayoutError("it is in use, and volumes in use are to be taken whole")
    why = options.changing()
    if why is not None:
        raise LayoutError(f"it is in use, and may change while it is read: {why}; take a snapshot")


def in_use_note(
    what: str, transactions: int, kept: int, fast: int = 0, unit: str = "transaction"
) -> str:
    """Say that a journal was read: its transactions (or what ``unit`` says) and fast commits, and
    the bytes that are kept beyond what the map calls used after the replay.
    """
    count = f"{transactions:,} {unit}{'s' if transactions != 1 else ''}"
    if fast:
        count += f" and {fast:,} fast commit{'s' if fast != 1 else ''}"
    return f"{IN_USE}its {what} was read, {count}; {kept:,} bytes are kept beyond its map"


def dirty_note(what: str, kept: int) -> str:
    """Say that a file system without a journal was in use: what its map is, and the bytes that are
    kept because its directories name them.
    """
    return (
        f"{IN_USE}it was not unmounted; its {what} and directories were read, and {kept:,} bytes "
        "are kept beyond its map"
    )
