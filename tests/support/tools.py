"""Programs that tests compare with: found also where only an administrator's path leads."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support import loop_device, require

PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])


def require_programs(*programs: str) -> None:
    """Skip the test unless all programs are installed; with AIPIMAGE_REQUIRE_TOOLS it fails."""
    missing = [name for name in programs if shutil.which(name, path=PATH) is None]
    require(not missing, ", ".join(missing))


def run(
    command: Sequence[str | os.PathLike[str]],
    timeout: float = 120,
    codes: Sequence[int] = (0,),
    **more: Any,
) -> str:
    """Run a program that must end with one of ``codes``; return what it printed."""
    words = [os.fspath(word) for word in command]
    done = subprocess.run(
        words,
        timeout=timeout,
        check=False,
        env=os.environ | {"PATH": PATH, "LC_ALL": "C"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        **more,
    )
    text = done.stdout.decode(errors="replace")
    assert done.returncode in codes, f"{words}: {done.returncode}\n{text[-4000:]}"
    return text


@contextmanager
def mounted(volume: Path, at: Path, *options: str) -> Iterator[Path]:
    """Mount a volume that lies in a file, by the kernel's own driver, and unmount it afterwards."""
    at.mkdir(exist_ok=True)
    with loop_device(volume) as device:
        run(["mount", *options, device, at])
        try:
            yield at
        finally:
            run(["umount", at])
