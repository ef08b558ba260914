"""The limit as a program: builds ``limit.c`` and runs it.

    python benchmarks/climit.py create DISK STORE --level 1 --frame 65536
    python benchmarks/climit.py restore STORE TARGET
    python benchmarks/climit.py verify | keyless STORE
    python benchmarks/climit.py compare DISK STORE

It does on threads of C what the library must do at least, with the same zstd parameters, frame
size and digests, and prints seconds and processor seconds of each stage.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
CORE = HERE.parent / "csrc"
STAGES = (
    "read", "zero", "block_digests", "pack", "codec", "record_digests", "compare", "write",
)  # fmt: skip
Result = dict[str, Any]


@functools.cache
def program() -> Path:
    """Compile the limit into a directory that goes with this process; needs libzstd's headers."""
    folder = tempfile.TemporaryDirectory(prefix="limit-")
    target = Path(folder.name) / "limit"
    compiler = os.environ.get("CC") or shutil.which("cc")
    if compiler is None:
        raise FileNotFoundError("no C compiler")
    core = [str(CORE / name) for name in (CORE / "sources.txt").read_text().split()]
    flags = ["-std=gnu11", "-O3", "-Wall", "-Wextra", "-pthread"]
    command = [compiler, *flags, "-o", str(target), str(HERE / "limit.c"), *core, "-lzstd"]
    subprocess.run(command, check=True)
    _kept.append(folder)
    return target


_kept: list[tempfile.TemporaryDirectory[str]] = []


def parameters(level: int, frame: int) -> list[int]:
    """The seven numbers that the library compresses with."""
    sys.path.append(str(HERE.parent))
    from aipimage.io.records import codec

    made = codec._parameters(level, frame > 1 << 16)
    return [
        made.window_log, made.hash_log, made.chain_log, made.search_log, made.min_match,
        made.target_length, made.strategy,
    ]  # fmt: skip


def run(*arguments: object) -> Result:
    """Run one stage and return what it printed."""
    done = subprocess.run(
        [str(program()), *map(str, arguments)], check=True, capture_output=True, text=True
    )
    found: Result = json.loads(done.stdout)
    return found


def create(
    source: str, store: str, *, level: int = 1, frame: int = 1 << 16, threads: int = 2
) -> Result:
    """Read all of a file, compress and digest it into ``store``."""
    extents = Path(f"{store}.extents")
    np.array([0, os.path.getsize(source)], np.uint64).tofile(extents)
    return run("create", source, extents, store, frame, threads, *parameters(level, frame))


def cpu(result: Result) -> float:
    """Processor seconds of all stages."""
    return float(sum(result[stage][1] for stage in STAGES))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage", choices=["create", "restore", "verify", "keyless", "compare"])
    parser.add_argument("paths", nargs="+")
    parser.add_argument("--level", type=int, default=1)
    parser.add_argument("--frame", type=int, default=1 << 16)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    if given.stage == "create":
        wishes = {"level": given.level, "frame": given.frame, "threads": given.threads}
        result = create(*given.paths, **wishes)
    else:
        result = run(given.stage, *given.paths, given.threads)
    print(json.dumps({**result, "cpu": cpu(result)}, indent=1))


if __name__ == "__main__":
    main()
