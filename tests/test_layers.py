"""Dependencies point downward only (docs/architecture.md, "Layers"), and importing stays light."""

from __future__ import annotations

import ast
import graphlib
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import aipimage

PACKAGE = Path(aipimage.__file__).parent
# Highest first. A module may import its own layer and those that are listed for it.
BASE = {"checks", "extents", "hints", "ranges", "errors", "version"}
MIDDLE = {"converting", "vmdk", "files", "volumes", "io", "format"} | BASE
ALLOWED = {
    "cli": {"cli", "public", "retention", "version"} | MIDDLE,
    "public": {"surface", "version"} | MIDDLE - {"format"},
    # Its annotations name public types, which are loaded when they are resolved.
    "surface": {"public"} | MIDDLE - {"format"},
    "tracking": {"tracking", "io"} | BASE,
    "retention": {"retention", "io"} | BASE,
    "converting": {"converting", "vmdk", "files", "volumes", "io"} | BASE,
    "vmdk": {"vmdk", "volumes", "io", "_core"} | BASE,
    "files": {"files", "volumes", "io"} | BASE,
    "volumes": {"volumes", "io", "_core"} | BASE,
    "io": {"io", "format", "_core"} | BASE,
    "format": {"format", "extents", "errors"},
    "_core": {"_native"},
    "checks": {"checks", "errors"},
    "testing": {"testing", "io"} | BASE,
    "extents": set(),
    "hints": set(),
    "ranges": {"extents", "errors", "_core"},
    "errors": set(),
    "version": set(),
}
BELOW = ("io", "format", "volumes", "files", "vmdk", "converting")
FACES = {("volumes/image.py", name) for name in ("aipimage.files", "aipimage.files.opening")}
"""An opened image is the one face of all that is asked of it, also of what stands above it."""
OUTSIDE_FORMAT = {"blake3", "numpy"}
# No files, threads, clocks, randomness, processes, crypto or C in the format.
NOT_IN_FORMAT = {
    "asyncio", "cffi", "concurrent", "ctypes", "hashlib", "hmac", "io", "mmap", "multiprocessing",
    "os", "pathlib", "random", "secrets", "shutil", "socket", "subprocess", "tempfile", "threading",
    "time",
}  # fmt: skip
RUN_TIME = {"blake3", "cffi", "cryptography", "deflate", "isal", "numpy", "zstandard"}
FOR_CHECKERS = {"typing_extensions"}
ABOVE = ("cli", "converting", "files", "vmdk")
"""What is loaded when it is asked for, and never by ``import aipimage``."""
OPTIONAL = {"click", "rich", "pytsk3", "fuse", "mfusepy", "boto3", "botocore", "dask", "ray"}
MODULES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))


def layer_of(module: str) -> str:
    """The layer of a dotted name below ``aipimage``; the package itself is the public surface."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "public"


def dotted(path: Path) -> str:
    """The dotted name of a file of the package."""
    parts = ["aipimage", *path.with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path, *, checkers_too: bool = True) -> Iterator[str]:
    """Every dotted name that a file imports, at any depth of its code."""
    tree = ast.parse((PACKAGE / path).read_text("utf-8"))
    skipped: set[int] = set()
    if not checkers_too:
        skipped = {id(n) for t in ast.walk(tree) if _for_checkers(t) for n in ast.walk(t)}
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            assert node.module is not None
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield name if _is_module(name) else node.module


def _for_checkers(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def _is_module(name: str) -> bool:
    parts = name.split(".")
    if parts[0] != "aipimage":
        return False
    place = PACKAGE.joinpath(*parts[1:])
    return place.is_dir() or place.with_suffix(".py").exists() or name == "aipimage._native"


def test_every_module_has_a_layer() -> None:
    """A new directory needs a place in the order first."""
    assert {layer_of(dotted(path)) for path in MODULES} <= set(ALLOWED)


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_imports_point_downward(path: Path) -> None:
    """Type checking counts too: a name from above is a dependency however it is imported."""
    layer = layer_of(dotted(path))
    found = {name for name in imports(path) if name.split(".")[0] == "aipimage"}
    wrong = {name for name in found if layer_of(name) not in ALLOWED[layer]}
    wrong -= {name for where, name in FACES if where == path.as_posix()}
    assert not wrong, f"{path} is in layer {layer} and must not import {sorted(wrong)}"


BESIDE_PUBLIC = {
    "aipimage.checks": "reads sizes as the library does",
    "aipimage.converting.formats": "says what a name stands for, before anything is opened",
    "aipimage.converting.request": "the type of a result",
    "aipimage.converting.sources": "opens virtual disks and appliances as sources of an image",
    "aipimage.files": "files inside volumes, which has public names of its own",
    "aipimage.io.blocks.containers": "says what a file is that is not an image",
    "aipimage.io.blocks.marks": "says whether a damaged file was an image",
    "aipimage.io.records.codec": "a wrong --compress is wrong usage, before anything is opened",
    "aipimage.io.system.storage": "opens the file for the two before",
    "aipimage.vmdk.lint": "the checker of virtual disks",
    "aipimage.vmdk.opening": "info shows what stands in a virtual disk",
    "aipimage.vmdk.ovf": "info shows what stands in an appliance",
    "aipimage.vmdk.ovf.checking": "the checker of appliances",
    "aipimage.vmdk.source": "the type of an open virtual disk",
}
"""What the command imports besides ``aipimage`` itself, and why no public name will do."""


def test_the_command_calls_public_functions() -> None:
    """Every other module that it imports is in the list above, and none there is in vain."""
    found = {
        name
        for path in MODULES
        if path.parts[0] == "cli"
        for name in imports(path)
        if layer_of(name) not in ("cli", "public", "version") and name.startswith("aipimage.")
    }
    assert found == set(BESIDE_PUBLIC)


ROOMS = (
    "system", "blocks", "records", "stream", "index", "reading", "changes", "chain", "creating",
    "increment", "merge", "checking", "repair",
)  # fmt: skip
"""The rooms of ``io``; a module imports from its own room and from those before it."""


def test_rooms_of_io_are_in_order() -> None:
    """Every module of ``io`` is in a room, and imports no room after its own."""
    upward = set()
    for path in MODULES:
        if path.parts[0] != "io" or path == Path("io/__init__.py"):
            continue
        assert len(path.parts) > 2, f"{path} is in no room"
        room = path.parts[1]
        for name in imports(path):
            parts = name.split(".")
            if parts[:2] == ["aipimage", "io"] and ROOMS.index(parts[2]) > ROOMS.index(room):
                upward.add((".".join(path.with_suffix("").parts[1:]), ".".join(parts[2:4])))
    assert not upward


MUTUAL = {
    "aipimage.volumes.image": "aipimage.volumes.chain",
    "aipimage.volumes": "aipimage.volumes.chain",
}
"""An image opens its chain when it is asked for it, and a chain opens its images. The annotation of
that loads the chain's class through the package.
"""


@pytest.mark.parametrize(
    ("layer", "checkers_too"),
    # A device and its image name each other's types; at run time the image alone needs the other.
    [("converting", True), ("vmdk", True), ("files", False), ("io", False), ("volumes", True)],
)
def test_no_circle_inside(layer: str, checkers_too: bool) -> None:
    """A module can be read after those that it imports, wherever in its code it imports them."""
    needs = {
        dotted(path): {
            name for name in imports(path, checkers_too=checkers_too) if layer_of(name) == layer
        }
        - {dotted(path), MUTUAL.get(dotted(path))}
        for path in MODULES
        if path.parts[0] == layer
    }
    assert len(needs) > 5
    assert len(list(graphlib.TopologicalSorter(needs).static_order())) >= len(needs)


FRONTS = {"cli", "surface"}
"""A command, or a public function, loads what it needs when it is called: that is its purpose."""
FEW = "most callers never ask for it, and start without"
PARSERS = "no parser of a file system is loaded unless a volume is looked at"
CIRCLE = "one family of file systems looks into containers of all, the registry knows all"
LATE = {
    ("converting.formats", "vmdk.descriptortext"): "most files are known by their names",
    ("converting.formats", "vmdk.opening"): "most files are known by their names",
    ("io.records.keys", "io.records.cipher"): "a plain image needs no OpenSSL",
    ("retention.execution", "io.merge.job"): "planning needs no codec and no keys",
    ("volumes", "volumes.chain"): FEW,
    ("volumes", "volumes.shadowcopies.copies"): FEW,
    ("volumes.described", "volumes.shadowcopies.ofimage"): FEW,
    ("volumes.diskinfo", "volumes.filesystems.registry"): PARSERS,
    ("volumes.diskinfo", "volumes.survey"): PARSERS,
    ("volumes.filesystems.within", "volumes.filesystems.registry"): CIRCLE,
    ("volumes.image", "files.opening"): FEW,
    ("volumes.image", "io.chain.files"): FEW,
    ("volumes.image", "io.checking.chainverify"): FEW,
    ("volumes.image", "io.checking.verify"): FEW,
    ("volumes.image", "io.index.diff"): FEW,
    ("volumes.image", "volumes.chain"): FEW,
    ("volumes.image", "volumes.restoring.disk"): FEW,
    ("volumes.image", "volumes.restoring.volume"): FEW,
    ("volumes.preparing", "volumes.model"): PARSERS,
    ("volumes.preparing", "volumes.survey"): PARSERS,
    ("volumes.restoring.disk", "volumes.restoring.adapted"): FEW,
    ("volumes.restoring.disk", "volumes.restoring.bootarea"): FEW,
    ("volumes.restoring.sectors", "volumes.filesystems.registry"): PARSERS,
    ("volumes.restoring.sectors", "volumes.tables.reading"): PARSERS,
}
"""(module, what it imports inside of a function): why not at its top."""


def late_imports(path: Path) -> Iterator[str]:
    """Every module of ours that a file imports inside of a function."""
    tree = ast.parse((PACKAGE / path).read_text("utf-8"))
    functions = (n for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.Lambda)))
    for node in {each for function in functions for each in ast.walk(function)}:
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("aipimage"):
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield name if _is_module(name) else str(node.module)
        elif isinstance(node, ast.Import):
            yield from (each.name for each in node.names if each.name.startswith("aipimage"))


def test_imports_inside_of_functions_have_a_reason() -> None:
    """Such an import hides a dependency from the reader: it needs a reason, which is listed."""
    found = {
        (dotted(path).removeprefix("aipimage."), name.removeprefix("aipimage."))
        for path in MODULES
        if layer_of(dotted(path)) not in FRONTS
        for name in late_imports(path)
    }
    assert not found - set(LATE), "import it at the top of the module, or list it with the reason"
    assert not set(LATE) - found, "remove the entry: the import is not there any more"


def test_one_door_to_c() -> None:
    """Only ``aipimage/_core.py`` imports the native module, and nobody needs cffi at run time."""
    for path in MODULES:
        found = set(imports(path))
        assert ("aipimage._native" in found) == (path == Path("_core.py")), path
        assert not {name for name in found if name.split(".")[0] in ("cffi", "ctypes")} or (
            path == Path("io/system/calls.py")  # ctypes for fallocate, which Python lacks
        ), path


@pytest.mark.parametrize("path", [p for p in MODULES if p.parts[0] == "format"], ids=str)
def test_format_is_values_and_bytes(path: Path) -> None:
    """No files, no threads, no crypto, no C: numpy and BLAKE3 beside the standard library."""
    roots = {name.split(".")[0] for name in imports(path, checkers_too=False)} - {"aipimage"}
    foreign = roots - OUTSIDE_FORMAT - set(sys.stdlib_module_names)
    assert not foreign
    assert not roots & NOT_IN_FORMAT
    calls = {
        n.func.id
        for n in ast.walk(ast.parse((PACKAGE / path).read_text("utf-8")))
        if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)
    }
    assert not calls & {"open", "exec", "eval"}


def test_one_module_calls_the_system_on_files() -> None:
    """Below the command, only ``io/system/calls.py`` calls the system on a file."""
    below = [path for path in MODULES if path.parts[0] in BELOW]
    for path in set(below) - {Path("io/system/calls.py")}:
        for node in ast.walk(ast.parse((PACKAGE / path).read_text("utf-8"))):
            if isinstance(node, ast.Call):
                assert ast.unparse(node.func) not in FILE_CALLS, f"{path}, line {node.lineno}"


FILE_CALLS = {"open", "io.open"} | {
    f"os.{name}"
    for name in (
        "open", "close", "read", "write", "pread", "pwrite", "preadv", "pwritev", "fsync",
        "fdatasync", "ftruncate", "truncate", "rename", "replace", "remove", "unlink", "lseek",
        "mkdir", "listdir",
    )
}  # fmt: skip


def test_the_library_needs_no_extra() -> None:
    """What it imports is a run-time dependency in pyproject.toml; only the command has more."""
    for path in MODULES:
        roots = {name.split(".")[0] for name in imports(path)} - {"aipimage"}
        foreign = roots - RUN_TIME - FOR_CHECKERS - set(sys.stdlib_module_names)
        assert not foreign or layer_of(dotted(path)) == "cli", (path, foreign)


def test_import_brings_nothing_optional() -> None:
    """``import aipimage`` in a fresh process; the time is printed and not asserted."""
    script = (
        "import sys, time; t = time.perf_counter(); import aipimage; t = time.perf_counter() - t;"
        "import json; print(json.dumps([t, sorted({m.split('.')[0] for m in sys.modules}),"
        "sorted(m for m in sys.modules if m.startswith('aipimage'))]))"
    )
    seconds = []
    for _ in range(5):
        # -I: neither the working directory nor the environment of this test run helps.
        command = [sys.executable, "-I", "-c", script]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        spent, roots, ours = json.loads(done.stdout)
        seconds.append(spent)
        assert not done.stderr
        assert not set(roots) & OPTIONAL
        assert not [name for name in ours if layer_of(name) in ABOVE]
    started = time.perf_counter()
    subprocess.run([sys.executable, "-I", "-c", ""], check=True)
    bare = time.perf_counter() - started
    median = statistics.median(seconds) * 1000
    print(f"import aipimage: median {median:.0f} ms (python itself {bare * 1000:.0f} ms)")


def test_public_names_exist() -> None:
    """``__all__`` is explicit, sorted enough to find things in, and true."""
    assert len(set(aipimage.__all__)) == len(aipimage.__all__)
    assert all(hasattr(aipimage, name) for name in aipimage.__all__)


@pytest.mark.parametrize(
    "module",
    [
        "checks",
        "_core",
        "io.system.storage",
        "io.records.records",
        "volumes.image",
        "converting.convert",
    ],
)
def test_each_module_can_be_the_first(module: str) -> None:
    """Public names are loaded late, which must not make a circle of what a module needs."""
    command = [sys.executable, "-c", f"import aipimage.{module}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_checkers_see_the_homes_of_public_names() -> None:
    """What type checkers read is what is loaded."""
    tree = ast.parse(Path(aipimage.__file__).read_text("utf-8"))
    seen = {
        alias.asname or alias.name: (node.module, alias.name)
        for block in tree.body
        if _for_checkers(block)
        for node in ast.walk(block)
        if isinstance(node, ast.ImportFrom)
        if str(node.module).startswith("aipimage.")
        for alias in node.names
    }
    homes = {name: home.partition(":") for name, home in aipimage._HOMES.items()}
    loaded = {name: (f"aipimage.{home[0]}", home[2] or name) for name, home in homes.items()}
    assert seen == loaded
    assert {*seen, "__version__"} == set(aipimage.__all__)


@pytest.mark.parametrize(
    ("name", "absent"),
    [
        ("StorageError", {"numpy", "zstandard", "cryptography", "aipimage.io", "aipimage.format"}),
        ("ProgressCallback", {"numpy", "zstandard", "cryptography", "aipimage.format"}),
        ("open", {"numpy", "zstandard", "cryptography", "aipimage.io.reading.image"}),
        ("create", {"numpy", "zstandard", "cryptography", "aipimage.io.creating.job"}),
        ("Kind", {"zstandard", "cryptography", "aipimage.io", "aipimage.format"}),
        ("Device", {"aipimage.io.creating", "aipimage.io.merge", "aipimage.volumes"}),
        ("repair", {"aipimage.io.merge.job", "aipimage.converting", "aipimage.vmdk"}),
    ],
)
def test_a_public_name_loads_its_own_module(name: str, absent: set[str]) -> None:
    """Not those of the others."""
    script = f"import json, sys; from aipimage import {name}; print(json.dumps([*sys.modules]))"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
    assert not absent & set(json.loads(done.stdout))
