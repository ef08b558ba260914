"""One wheel for every Python: built once, installed and used on each that the machine has."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support import require

ROOT = Path(__file__).resolve().parent.parent
SHIPPED = ("aipimage", "csrc", "pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE")
USE = """
import sys, aipimage
assert sys.argv[1] in aipimage.__file__, aipimage.__file__
open("disk", "wb").write(b"data" * 50000 + bytes(300000))
aipimage.create("d.aiv", "disk", encrypt="aes-256", password="p")
with aipimage.open("d.aiv", "p") as image:
    assert image.verify().ok
    image.restore("copy")
assert open("disk", "rb").read() == open("copy", "rb").read()
print("ok")
"""
# An editable installation in the environment of this test run would find its core.
NOT_EDITABLE = (
    "import sys; sys.meta_path[:] = [each for each in sys.meta_path"
    " if getattr(each, '__name__', '') != '_EditableFinder'];"
)
WITHOUT_CORE = (
    "{}/aipimage/_core.py: the compiled core is not beside it; in a clone run: pip install -e . "
    "(with a C compiler and Python's header files), or leave the clone to use the installed package"
)
PROBE = (
    "import ensurepip, sys, sysconfig, venv;"
    "print('%d.%d %s' % (*sys.version_info[:2], bool(sysconfig.get_config_var('Py_GIL_DISABLED'))))"
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run without this test run's own Python settings."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=environment)


def pythons() -> dict[str, str]:
    """CPython from 3.11 on, one path for each version, by what each says of itself."""
    candidates = [f"python3.{minor}" for minor in range(11, 30)] + ["python3"]
    found = [path for name in candidates if (path := shutil.which(name))]
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found += sorted(str(path) for path in versions.glob("3.*/bin/python"))
    result: dict[str, str] = {}
    for path in found:
        said = subprocess.run([path, "-c", PROBE], capture_output=True, text=True).stdout.split()
        # A free-threaded interpreter has no stable ABI: it gets a wheel of its own.
        if len(said) == 2 and said[1] == "False" and int(said[0].split(".")[1]) >= 11:
            result.setdefault(said[0], path)
    return result


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from a copy of what a source distribution has."""
    place = tmp_path_factory.mktemp("packaging")
    source = place / "source"
    source.mkdir()
    unwanted = shutil.ignore_patterns("*.so", "__pycache__", ".mypy_cache")
    for name in SHIPPED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=unwanted)
        else:
            shutil.copy(ROOT / name, source / name)
    found = pythons()
    require(bool(found), "a Python from 3.11 on with venv and ensurepip")
    builder = found[min(found, key=lambda version: int(version.split(".")[1]))]
    python = environment(builder, place / "builder")
    built = run(python, "-m", "pip", "wheel", "-q", "--no-deps", "-w", place, source, cwd=place)
    no_index = "No matching distribution|NewConnectionError|ConnectTimeout"
    network = not re.search(no_index, built.stderr)
    require(network, "a package index, to build with setuptools and cffi")
    assert built.returncode == 0, built.stderr
    (path,) = place.glob("*.whl")
    return path


def environment(python: str | Path, place: Path) -> Path:
    """Make a virtual environment and return its interpreter."""
    made = run(python, "-m", "venv", place, cwd=place.parent)
    assert made.returncode == 0, made.stderr
    return place / "bin" / "python"


def test_the_wheel_is_for_the_stable_abi(wheel: Path) -> None:
    """One cp311-abi3 wheel: typed, one extension module, the licence, no C sources, no tests."""
    assert re.fullmatch(r"aipimage-[\w.]+-cp311-abi3-\w+\.whl", wheel.name)
    names = zipfile.ZipFile(wheel).namelist()
    assert [n for n in names if n.endswith(".so")] == ["aipimage/_native.abi3.so"]
    assert "aipimage/py.typed" in names
    assert any(n.endswith("licenses/LICENSE") for n in names)
    assert {n.split("/")[0] for n in names if "dist-info" not in n} == {"aipimage"}


def test_the_wheel_says_what_the_project_says(wheel: Path) -> None:
    """Its description is the README, and the version is the package's."""
    archive = zipfile.ZipFile(wheel)
    (name,) = [n for n in archive.namelist() if n.endswith("METADATA")]
    metadata = archive.read(name).decode()
    version = re.search('= "(.+)"', (ROOT / "aipimage/version.py").read_text())
    assert version
    assert f"\nVersion: {version[1]}\n" in metadata
    assert "\nDescription-Content-Type: text/markdown\n" in metadata
    assert "\nLicense-Expression: Apache-2.0\n" in metadata


def test_every_python_uses_it(wheel: Path, tmp_path: Path) -> None:
    """Install it into a fresh environment of each Python and make, verify and restore an image."""
    used = []
    for version, path in sorted(pythons().items()):
        place = tmp_path / version
        python = environment(path, place)
        installed = run(python, "-m", "pip", "install", "-q", wheel, cwd=tmp_path)
        reason = f"pip to install for {version}: {installed.stderr[-500:]}"
        require(installed.returncode == 0, reason)
        done = run(python, "-c", USE, str(place), cwd=place)
        assert done.stdout == "ok\n", f"{version} ({path}): {done.stderr}"
        used.append(version)
    print("used on", ", ".join(used))


def test_a_clone_without_the_compiled_core_says_what_to_run(tmp_path: Path) -> None:
    """In a clone the source folder comes before an installed package, and has no core."""
    unwanted = shutil.ignore_patterns("*.so", "__pycache__", ".mypy_cache")
    shutil.copytree(ROOT / "aipimage", tmp_path / "aipimage", ignore=unwanted)
    (tmp_path / "disk").write_bytes(bytes(1 << 20))
    script = "import aipimage; print(aipimage.__file__); aipimage.create('d.aiv', 'disk')"
    done = run(sys.executable, "-c", NOT_EDITABLE + script, cwd=tmp_path)
    assert done.stdout == f"{tmp_path}/aipimage/__init__.py\n"
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"ImportError: {WITHOUT_CORE.format(tmp_path)}"
    script = "from aipimage.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", NOT_EDITABLE + script]
    done = run(*command, "createimage", "-o", "d.aiv", "disk", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == f"aipimage: error: {WITHOUT_CORE.format(tmp_path)}\n"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["aipimage", "disk"]
