"""Running the system's own tools on restored volumes, and mounting them out of sight."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence

from aipimage.errors import RequestError

_ADMIN = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"
"""An ordinary user's path often lacks these, and root's may under ``su``."""


class ToolError(RequestError):
    """A tool did not do what it was asked for; the message ends with a line of its own."""


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
    """Run a program that must end with one of ``codes``; return what it printed.

    Raises:
        ToolError: it is not installed, or it ended otherwise.
    """
    path = find_tool(name)
    if path is None:
        raise ToolError(f"{name} is not installed")
    try:
        done = subprocess.run(
            [path, *arguments], check=False, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
    except OSError as error:
        raise ToolError(f"{name} cannot be started: {error}") from error
    text = done.stdout.decode(errors="replace")
    if done.returncode not in codes:
        raise ToolError(f"{name} failed: {_complaint(text) or f'status {done.returncode}'}")
    return text


def _complaint(text: str) -> str:
    """The line in which a program says what is wrong: it names an error, or is the last one."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower()]
    return (errors or lines or [""])[-1]


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
