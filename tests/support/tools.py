"""Programs that tests compare with: skipped where one is missing, unless they must be there."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from typing import Any

import pytest


def require(*programs: str) -> None:
    """Skip the test unless all programs are installed; with AIPIMAGE_REQUIRE_TOOLS it fails."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    os.environ["PATH"] = path
    missing = [name for name in programs if shutil.which(name, path=path) is None]
    if missing:
        unavailable(f"not installed: {', '.join(missing)}")


def unavailable(reason: str) -> None:
    """Skip the test for want of something; with AIPIMAGE_REQUIRE_TOOLS it fails."""
    if os.environ.get("AIPIMAGE_REQUIRE_TOOLS") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


def run(command: Sequence[str | os.PathLike[str]], timeout: float = 120, **more: Any) -> str:
    """Run a program that must succeed; return what it printed."""
    done = subprocess.run(
        [os.fspath(word) for word in command], timeout=timeout, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, **more,
    )  # fmt: skip
    text = done.stdout.decode(errors="replace")
    assert done.returncode == 0, f"{command}: {done.returncode}\n{text[-4000:]}"
    return text
