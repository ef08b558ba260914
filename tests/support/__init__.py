"""What tests share: system calls that fail on purpose, a disk that loses power, loop devices."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

SAMPLES = Path(__file__).resolve().parents[3] / "shared" / "samples"
"""Disks and images that others made. They lie beside the project and not in it; tests that read
them are skipped where they are not there.
"""


def require(condition: bool, what: str) -> None:
    """Skip the test when the machine lacks something; fail it under AIPIMAGE_REQUIRE_TOOLS=1."""
    if condition:
        return
    if os.environ.get("AIPIMAGE_REQUIRE_TOOLS") == "1":
        pytest.fail(f"AIPIMAGE_REQUIRE_TOOLS is set, and this machine lacks: {what}")
    pytest.skip(f"needs {what}")


def require_loop_devices() -> None:
    """Skip or fail where loop devices cannot be made."""
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    tools = shutil.which("losetup") is not None
    require(root and tools and os.path.exists("/dev/loop-control"), "root, losetup, loop devices")


@contextlib.contextmanager
def loop_device(file: Path, *options: str) -> Iterator[str]:
    """Attach `file` as a block device and give its path; detach it afterwards."""
    require_loop_devices()
    command = ["losetup", "--find", "--show", *options, str(file)]
    device = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    try:
        yield device
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)
