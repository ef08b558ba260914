"""Running the system's own tools on restored volumes, and mounting them out of sight."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence

from aipimage.errors import RequestError

_ADMIN = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"
"""An ordinary user's path often lacks these, and root's may under ``su``."""


class ToolError(RequestError):
    """A tool did not do what it was asked for; the message ends with its own complaint."""


def find_tool(name: str) -> str | None:
    """Path of a program, or ``None``."""
    return shutil.which(name) or shutil.which(name, path=_ADMIN)


def missing_of(names: Sequence[str]) -> list[str]:
    """Those of some programs that are not installed."""
    return [name for name in names if find_tool(name) is None]


def may_mount() -> bool:
    """Whether file systems can be mounted: as root on Linux."""
    return sys.platform.startswith("linux") and os.geteuid() == 0


def run_tool(name: str, *arguments: str, codes: Sequence[int] = (0,)) -> str:
    """Run a program that must end with one of ``codes``; return its standard output.

    Raises:
        ToolError: it is not installed, or it ended otherwise.
    """
    path = find_tool(name)
    if path is None:
        raise ToolError(f"{name} is not installed")
    try:
        done = subprocess.run(
            [path, *arguments],
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=os.environ | {"LC_ALL": "C"},
        )
    except OSError as error:
        raise ToolError(f"{name} cannot be started: {error}") from error
    output, errors = (text.decode(errors="replace") for text in (done.stdout, done.stderr))
    if done.returncode not in codes:
        why = complaint(name, output, errors) or f"status {done.returncode}"
        raise ToolError(f"{name} failed: {why}")
    return output


_COMPLAINTS = re.compile(
    r"error|cannot|can't|can not|could not|couldn't|unable|fail|invalid|illegal|corrupt|damaged"
    r"|inconsisten|mismatch|bad |wrong|missing|differ|not valid|not supported|not been|refus"
    r"|too small|smaller than|would|\? no\b",
    re.IGNORECASE,
)
_PROGRESS = re.compile(
    r"\S+ v?\d[\w.]*( \(.*\))?$|Pass \d|Phase \d|Resizing the filesystem on|Begin pass"
    r"|\[\d/\d\] checking|UUID: |Opening filesystem|Checking filesystem"
)
"""Lines that name a version or a step, never a fault."""
_COMPLAINT_MAX = 300


def complaint(name: str, output: str, errors: str) -> str:
    """The line in which a program says what is wrong. What it says to the user is searched before
    what it reports of its work; there the first fault is the cause of those that follow.
    """
    said, other = (_lines(text) for text in (errors, output))
    own = [line for line in said if line.startswith(f"{name}:")]
    found = [line for line in (*own, *said, *other) if _COMPLAINTS.search(line)]
    return (found or own or said or other or [""])[0][:_COMPLAINT_MAX]


def _lines(text: str) -> list[str]:
    """What a terminal would show in the end, without what is progress."""
    lines = (line.rpartition("\r")[2].strip() for line in text.rstrip().split("\n"))
    return [line for line in lines if line and not _PROGRESS.match(line)]


@contextlib.contextmanager
def mounted(kind: str, target: str, is_device: bool) -> Iterator[str]:
    """Mount a volume where only we look, and unmount it afterwards.

    Args:
        kind: for ``mount -t``. is_device: else a file, which is mounted through a loop device.

    Raises:
        ToolError: it cannot be mounted, or not be unmounted.
    """
    options = ["nosuid", "nodev", "noexec"]
    if kind == "xfs":
        options.append("nouuid")  # the volume that was imaged may be mounted on this machine
    if not is_device:
        options.append("loop")
    # mkdtemp makes it for its owner alone.
    place = tempfile.mkdtemp(prefix="aipimage-")
    try:
        run_tool("mount", "-t", kind, "-o", ",".join(options), target, place)
        try:
            yield place
        finally:
            run_tool("umount", place)
    finally:
        # Not recursive: whatever could not be unmounted must not be removed.
        with contextlib.suppress(OSError):
            os.rmdir(place)
