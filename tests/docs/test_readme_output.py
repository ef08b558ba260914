"""README shows what ``aipimage info`` prints of the demo's image, up to ids, times and numbers."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from tests.support import require

ROOT = Path(__file__).resolve().parent.parent.parent
DISKS = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
STEPS = """
import pathlib, sys
sys.path.insert(0, sys.argv[1])
import demo
shown = demo.Demo(pathlib.Path(sys.argv[2]))
for step in (shown.build_disk, shown.create, shown.info):
    print(flush=True)
    step()
"""


def shape(text: str) -> list[str]:
    """The lines without what depends on the machine: ids, times, host, and the numbers."""
    text = re.sub(r"[0-9a-f]{64}|[0-9a-f]{32}", "ID", text)
    text = re.sub(
        r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9A-F]{4}-[0-9A-F]{4}", "UUID", text
    )
    text = re.sub(r"\d{4}-\d\d-\d\dT[\d:]+\+00:00 on \S+", "TIME on HOST", text)
    return [" ".join(re.sub(r"[\d.]+", "N", line).split()) for line in text.strip().splitlines()]


def test_readme_shows_what_info_prints(tmp_path: Path) -> None:
    tools = ("mke2fs", "mkfs.fat", "mcopy")
    require(all(shutil.which(tool, path=DISKS) for tool in tools), "mke2fs, mkfs.fat and mtools")
    script = Path(sysconfig.get_path("scripts")) / "aipimage"
    require(script.exists(), "the command, installed")
    readme = (ROOT / "README.md").read_text("utf-8")
    (shown,) = re.findall(r"<!-- output: info -->\n```text\n(.*?)\n```", readme, re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", STEPS, ROOT / "docs", tmp_path],
        env=os.environ | {"PATH": DISKS},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    printed = done.stdout.split("$ aipimage info disk.aiv --password-file secret\n")[1]
    assert "aipimage info disk.aiv --password-file secret" in readme
    assert shape(printed) == shape(shown)
