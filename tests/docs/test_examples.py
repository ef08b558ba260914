"""What README and the package docstring show is run as it stands there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import aipimage

ROOT = Path(__file__).resolve().parent.parent.parent
README = (ROOT / "README.md").read_text("utf-8")
QUICKSTART = (ROOT / "docs/quickstart.md").read_text("utf-8")
CHAINS = (ROOT / "docs/chains.md").read_text("utf-8")
SHELL = {
    "README": README.split("## On the command line")[1],
    "quickstart": QUICKSTART.split("## In the shell")[1].split("## In Python")[0],
    "chains": CHAINS,
}


def blocks(text: str, language: str) -> list[str]:
    """Fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def docstring_example() -> str:
    """The indented block after the ``::`` of the package docstring."""
    found = re.search(r"::\n\n((?:(?:    .*)?\n)+)", aipimage.__doc__ or "")
    assert found
    return textwrap.dedent(found[1]).strip() + "\n"


def small_disk(path: Path) -> bytes:
    """A disk with a boot signature, a GPT header, data and zeros."""
    content = bytearray(3_000_000)
    content[510:520] = b"\x55\xaaEFI PART"
    content[4096:400_000] = bytes(range(1, 252)) * (395_904 // 251) + bytes(395_904 % 251)
    path.write_bytes(content)
    return bytes(content)


def run(code: str, place: Path) -> str:
    """Run in a process of its own, as a reader would."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], cwd=place, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_readme_example(tmp_path: Path) -> None:
    (code,) = blocks(README, "python")
    assert len(code.strip().splitlines()) <= 11, "ten lines, and the import's blank one"
    content = small_disk(tmp_path / "disk.raw")
    assert run(code, tmp_path) == "b'EFI PART' 3000000 ['DATA', 'ZERO']\n"
    assert (tmp_path / "copy.raw").read_bytes() == content


def test_docstring_example(tmp_path: Path) -> None:
    code = docstring_example()
    assert len(code.splitlines()) <= 11
    content = small_disk(tmp_path / "disk.raw")
    assert run(code, tmp_path).startswith("55aa ")
    assert (tmp_path / "copy.raw").read_bytes() == content


@pytest.mark.parametrize("number", range(len(blocks(QUICKSTART, "python"))))
def test_quickstart_examples(tmp_path: Path, number: int) -> None:
    """Each block may build on those before it."""
    small_disk(tmp_path / "disk.raw")
    run("\n".join(blocks(QUICKSTART, "python")[: number + 1]), tmp_path)


def test_storage_example(tmp_path: Path) -> None:
    (code,) = blocks((ROOT / "docs/storage.md").read_text("utf-8"), "python")
    small_disk(tmp_path / "disk.raw")
    assert run(code, tmp_path) == "True 2 55aa\n"


def test_chains_examples(tmp_path: Path) -> None:
    """One after the other, as they stand there; what they print is told there too."""
    small_disk(tmp_path / "disk.raw")
    out = run("\n".join(blocks(CHAINS, "python")), tmp_path).splitlines()
    assert f"prints `{out[0]}`" in CHAINS
    assert out[1] == "tracked ()"
    assert [line.split()[:3] for line in out[2:5]] == [
        ["0", "full", "whole"],
        ["1", "incremental", "whole"],
        ["2", "incremental", "whole"],
    ]
    assert out[5:] == ["[(69632, 8192)]", "incremental 2"]


@pytest.mark.parametrize("page", SHELL)
def test_shell_examples(page: str, tmp_path: Path) -> None:
    """They succeed, with files in the place of devices; exit status 3 tells what is lost."""
    pytest.importorskip("click")
    pytest.importorskip("rich")
    content = small_disk(tmp_path / "disk.raw")
    (tmp_path / "secret").write_text("correct horse battery staple\n")
    (tmp_path / "secret").chmod(0o600)
    command = tmp_path / "bin/aipimage"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m aipimage.cli "$@"\n')
    command.chmod(0o700)
    path = os.pathsep.join([str(command.parent), os.environ["PATH"]])
    found = blocks(SHELL[page], "sh")
    assert found
    for block in found:
        script = block.replace("/dev/sdb", "disk.raw").replace("/dev/sdc", "copy.raw")
        done = subprocess.run(
            ["sh", "-euc", script],
            cwd=tmp_path,
            env=os.environ | {"PATH": path},
            capture_output=True,
            text=True,
        )
        assert done.returncode in ((0, 3) if "aipimage repair" in script else (0,)), done.stderr
    if "copy.raw" in script:
        assert (tmp_path / "copy.raw").read_bytes() == content


@pytest.mark.parametrize("name", ["demo", "test"])
def test_one_line_for_each_command(name: str) -> None:
    """``.ci/run`` takes them from here; each is one line that begins in a clean clone."""
    marked = rf"^<!-- command: {name} -->\n```sh\n(.*?)\n```$"
    found = re.findall(marked, README, re.MULTILINE | re.DOTALL)
    assert len(found) == 1
    assert "\n" not in found[0]
    assert found[0].startswith("python3 -m venv ")


def test_the_page_of_the_api_names_everything_without_being_built() -> None:
    """Each public name has a line of plain Markdown, and there are no others."""
    table = (ROOT / "docs/api.md").read_text("utf-8").split("## All names")[1].split("## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (.+) \|$", table, re.MULTILINE)
    assert sorted(name for name, _ in rows) == sorted(aipimage.__all__)
    assert all(len(text) > 10 for _, text in rows)
