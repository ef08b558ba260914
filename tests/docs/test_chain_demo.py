"""``docs/chain_demo.py``: thirty increments of a real file system, on a loop device."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import require, require_loop_devices

SCRIPT = Path(__file__).resolve().parent.parent.parent / "docs/chain_demo.py"
DISKS = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])


@pytest.mark.slow
def test_chain_demo(tmp_path: Path) -> None:
    """Every step says what it showed: all points restored, whatever was merged or taken away."""
    pytest.importorskip("click")
    pytest.importorskip("rich")
    require_loop_devices()
    tools = ("mount", "umount", "mke2fs", "e2fsck")
    require(all(shutil.which(tool, path=DISKS) for tool in tools), "mount, mke2fs and e2fsck")
    done = subprocess.run(
        [sys.executable, SCRIPT, "--dir", tmp_path], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
    told = re.findall(r"^   all (\d+) points in time are identical$", done.stdout, re.MULTILINE)
    assert told == ["31", "20", "5"]
    days = re.findall(r"identical to day (\d+), and e2fsck finds nothing$", done.stdout, re.M)
    others = [*range(10), *range(21, 31)]
    # All; the merged image and what it does not stand for; those before the missing one.
    expected = [30, *range(31), 20, *others, *range(5), 30, 0]
    assert [int(day) for day in days] == expected
    assert re.search(r"[1-9][\d,]* bytes of the disk are as they were, [1-9]", done.stdout)
    assert not os.listdir(tmp_path)
