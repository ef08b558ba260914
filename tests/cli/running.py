"""Running the command: in this process, through click's runner, and as a process of its own."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import pytest

pytest.importorskip("click")
pytest.importorskip("rich")

from click.testing import CliRunner

from aipimage.cli.app import program

PASSWORD = "correct horse battery"
COMMAND = [sys.executable, "-m", "aipimage.cli"]


@dataclass(frozen=True)
class Ran:
    """What a command gave back."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one object on standard output."""
        values = json.loads(self.out)
        assert self.out.count("\n") == 1
        assert isinstance(values, dict)
        return values

    @property
    def error(self) -> str:
        """The one error line, without its beginning."""
        lines = [line for line in self.err.splitlines() if line.startswith("aipimage: error: ")]
        assert len(lines) == 1, self.err
        assert "Traceback" not in self.err
        return lines[0].removeprefix("aipimage: error: ")


def invoke(*arguments: object, env: dict[str, str] | None = None, stdin: str = "") -> Ran:
    """Run the command in this process."""
    # Before click 8.2 the runner had to be told to keep standard error apart.
    apart = {"mix_stderr": False} if "mix_stderr" in inspect.signature(CliRunner).parameters else {}
    result = CliRunner(**apart).invoke(program, [str(each) for each in arguments], stdin, env)
    return Ran(result.exit_code, result.stdout, result.stderr)


def done(*arguments: object, **more: Any) -> Ran:
    """Run the command in this process; it must succeed."""
    ran = invoke(*arguments, **more)
    assert ran.code == 0, ran
    return ran


def spawn(*arguments: object, env: dict[str, str] | None = None, **more: Any) -> Ran:
    """Run the command as a process."""
    more.setdefault("stdout", subprocess.PIPE)
    more.setdefault("stderr", subprocess.PIPE)
    ended = subprocess.run(
        [*COMMAND, *map(str, arguments)],
        env=os.environ | (env or {}),
        text=True,
        timeout=60,
        check=False,
        **more,
    )
    return Ran(ended.returncode, ended.stdout or "", ended.stderr or "")
