"""What starting the command loads: asserted by modules, since times depend on the machine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import aipimage

HEAVY = (
    "numpy",
    "cryptography",
    "zstandard",
    "blake3",
    "click",
    "rich",
    "aipimage.io.creating.job",
)


def loaded_by(code: str) -> set[str]:
    script = f"import json, sys\n{code}\nsys.stderr.write(json.dumps(sorted(sys.modules)))"
    ended = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    return set(json.loads(ended.stderr))


@pytest.mark.parametrize(
    "code",
    [
        "import aipimage",
        "import aipimage.cli",
        "from aipimage import __version__",
        "import aipimage.cli; assert aipimage.cli.main(['--version']) == 0",
    ],
)
def test_what_needs_nothing_loads_nothing(code: str) -> None:
    assert not loaded_by(code) & set(HEAVY)


def test_public_names_are_there_when_they_are_asked_for() -> None:
    assert set(aipimage.__all__) <= set(dir(aipimage))
    for name in aipimage.__all__:
        assert getattr(aipimage, name) is getattr(aipimage, name)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = aipimage.nothing  # type: ignore[attr-defined]
    assert not hasattr(aipimage, "__nothing__")
    assert "aipimage.io.creating.results" in loaded_by("import aipimage\naipimage.CreateResult")


@pytest.mark.slow
def test_every_module_can_be_the_first_one() -> None:
    """None relies on what another one has loaded before it."""
    root = Path(aipimage.__file__).parent
    names = sorted(
        ".".join(["aipimage", *path.relative_to(root).with_suffix("").parts])
        for path in root.rglob("*.py")
        if path.name not in ("__init__.py", "__main__.py")
    )
    code = (
        "import importlib, os, sys\n"
        "for name in sys.argv[1:]:\n"
        "    child = os.fork()\n"
        "    if not child:\n"
        "        try:\n"
        "            importlib.import_module(name)\n"
        "        except BaseException as error:\n"
        "            print(name, error, flush=True)\n"
        "        os._exit(0)\n"
        "    os.waitpid(child, 0)\n"
    )
    command = [sys.executable, "-c", "import numpy\n" + code, *names]
    ended = subprocess.run(command, check=True, capture_output=True, text=True)
    assert ended.stdout == ""
