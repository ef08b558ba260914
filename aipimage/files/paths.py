"""Paths within a volume, and patterns of them.

A path has ``/`` between its parts, whatever the file system, and begins at the root with or without
one. ``.`` and empty parts mean nothing, ``..`` is refused: what it means depends on links.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable

from aipimage.errors import OptionError

PARTS_MAX = 4096
MAGIC = re.compile(r"[*?\[]")


def parts_of(path: str) -> tuple[str, ...]:
    """The names that a path consists of; none for the root.

    Raises:
        OptionError: it has ``..`` in it, a NUL, or is too long.
    """
    parts = tuple(part for part in path.split("/") if part not in ("", "."))
    if ".." in parts or "\0" in path:
        raise OptionError(f"{path!r}: a path in a volume has no '..' and no NUL in it")
    if len(parts) > PARTS_MAX:
        raise OptionError(f"{path[:60]!r}…: a path of more than {PARTS_MAX} parts")
    return parts


def joined(folder: str, name: str) -> str:
    """The path of a name in a folder."""
    return f"{folder.rstrip('/')}/{name}"


def is_pattern(text: str) -> bool:
    """Whether a text has a character with a meaning for patterns in it."""
    return MAGIC.search(text) is not None


def matcher(pattern: str) -> Callable[[str], bool]:
    """Whether a name matches ``*``, ``?`` and ``[…]``, with regard to case."""
    found = re.compile(fnmatch.translate(pattern), re.DOTALL)
    return lambda name: found.match(name) is not None
