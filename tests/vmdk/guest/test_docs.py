"""What docs/vmdk.md shows is run as it stands there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.test_examples import ROOT, blocks, run
from tests.support.tools import require_programs
from tests.support.tools import run as run_tool

PAGE = (ROOT / "docs/vmdk.md").read_text("utf-8")
DELTAS = re.findall(r"^<!-- example: deltas -->\n```python\n(.*?)^```$", PAGE, re.M | re.S)
PYTHON = [block for block in blocks(PAGE, "python") if block not in DELTAS]
MIB = 1 << 20


def disk(path: Path) -> bytes:
    """Whole MiB, so that every sub-format has its size."""
    content = bytearray(4 * MIB)
    content[4096 : 2 * MIB] = os.urandom(2 * MIB - 4096)
    content[510:512] = b"\x55\xaa"
    path.write_bytes(content)
    return bytes(content)


def test_shell(tmp_path: Path) -> None:
    pytest.importorskip("click")
    pytest.importorskip("rich")
    content = disk(tmp_path / "disk.raw")
    command = tmp_path / "bin/aipimage"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m aipimage.cli "$@"\n')
    command.chmod(0o700)
    path = os.pathsep.join([str(command.parent), os.environ["PATH"]])
    (block,) = blocks(PAGE, "sh")
    done = subprocess.run(
        ["sh", "-euc", block.replace("/dev/sdb", "disk.raw")],
        cwd=tmp_path,
        timeout=120,
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "copy.raw").read_bytes() == content
    assert (tmp_path / "flat-flat.vmdk").read_bytes() == content


def test_python(tmp_path: Path) -> None:
    """Each block may build on those before it."""
    disk(tmp_path / "disk.raw")
    assert len(PYTHON) == 4
    out = run("\n".join(PYTHON), tmp_path).splitlines()
    assert out[0] == f"monolithicSparse {4 * MIB} ()"
    (opened,) = (number for number, line in enumerate(out) if line.endswith("('disk.vmdk',)"))
    assert out[opened + 1] == f"55aa {2 * MIB} bytes of data"
    assert "machine-disk1.vmdk () damaged: []" in out
    assert "True 32 []" in out
    assert out[-1].endswith("was not looked at")


def test_deltas(tmp_path: Path) -> None:
    """With a delta made by qemu: a grain was written, and no other."""
    require_programs("qemu-img", "qemu-io")
    disk(tmp_path / "disk.raw")
    run_tool(["qemu-img", "convert", "-O", "vmdk", "disk.raw", "base.vmdk"], cwd=tmp_path)
    words = ["qemu-img", "create", "-q", "-f", "vmdk", "-b", "base.vmdk", "-F", "vmdk"]
    run_tool([*words, "disk-000001.vmdk"], cwd=tmp_path)
    run_tool(["qemu-io", "-c", "write -P 7 1M 64k", "disk-000001.vmdk"], cwd=tmp_path)
    (code,) = DELTAS
    out = run(code, tmp_path).splitlines()
    assert out[-1] == "incremental tracked 1 65536"
