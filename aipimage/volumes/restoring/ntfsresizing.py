"""NTFS by ntfsresize."""

from __future__ import annotations

import re

from aipimage.volumes.restoring.checking import verify_sound
from aipimage.volumes.restoring.tools import ToolError, run_tool

_LEAST = re.compile(r"You might resize at (\d+) bytes")


def resize_ntfs(path: str, size: int | None = None) -> None:
    """Give a file system so many bytes; by default all that there is. It is left marked for a check
    at the next start of Windows, as ntfsresize leaves it.
    """
    wanted = () if size is None else ("--size", str(size))
    run_tool("ntfsresize", "--force", "--no-progress-bar", *wanted, path)


def least_ntfs(path: str) -> int:
    """Bytes that ntfsresize expects to need at least; 0 where it does not say."""
    try:
        found = _LEAST.search(verify_sound("ntfs", path))
    except ToolError:
        return 0
    return int(found[1]) if found else 0
