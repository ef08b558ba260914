"""NTFS volumes made by mkntfs, and used through ntfs-3g."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support import require
from tests.support.tools import PATH, require_programs, run

MIB = 1 << 20


def require_ntfs() -> None:
    """Skip where the tools or the rights are missing."""
    require_programs("mkntfs", "ntfs-3g", "ntfsclone", "ntfsinfo", "ntfscat", "umount")
    require(os.geteuid() == 0 and os.path.exists("/dev/fuse"), "root and FUSE")


def make(volume: Path, size: int, *options: str) -> Path:
    """Make a volume of ``size`` bytes."""
    volume.unlink(missing_ok=True)
    with open(volume, "wb") as file:
        file.truncate(size)
    run(["mkntfs", "--fast", "--force", "--quiet", *options, volume])
    return volume


@contextmanager
def ntfs_3g(volume: Path, at: Path, options: str = "compression") -> Iterator[Path]:
    """Mount a volume, and unmount it and wait until all is written.

    The driver stays in the foreground: of a plain file, unmounting does not wait for its end.
    """
    at.mkdir(exist_ok=True)
    words = ["ntfs-3g", "-o", f"no_detach,streams_interface=windows,{options}", volume, at]
    driver = subprocess.Popen(
        words,
        env=os.environ | {"PATH": PATH},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        _wait_for_mount(driver, at)
        yield at
    finally:
        try:
            _unmount(at)
            driver.wait(60)
        finally:
            driver.kill()
            assert driver.stdout is not None
            driver.stdout.close()
    assert driver.returncode == 0


def _unmount(at: Path) -> None:
    """Unmount; who looks at all directories of the machine may keep one busy for a moment."""
    for _ in range(50):
        if not os.path.ismount(at) or "busy" not in run(["umount", at], codes=(0, 32)):
            return
        time.sleep(0.1)
    raise AssertionError(f"{at} stays busy")


def _wait_for_mount(driver: subprocess.Popen[bytes], at: Path) -> None:
    for _ in range(1000):
        if os.path.ismount(at):
            return
        if driver.poll() is not None:
            assert driver.stdout is not None
            raise AssertionError(driver.stdout.read().decode(errors="replace"))
        time.sleep(0.01)
    raise AssertionError("ntfs-3g did not mount within 10 seconds")
