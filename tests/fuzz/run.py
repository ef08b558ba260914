"""Fuzz one decoder: ``python -m tests.fuzz.run NAME --seconds N``.

With atheris installed the run is guided by coverage, and NAME may be followed by libFuzzer's own
arguments after ``--``; without it, or with ``--plain``, mutants of the seeds are tried.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import random
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

MODULES = ("checkpoint", "header", "keyarea", "layers", "mappage", "parts", "record", "seal",
           "segments", "tables", "trailer", "gates")  # fmt: skip


def known(name: str) -> ModuleType:
    """Return the targets, imported late so that coverage sees the decoders; check the name."""
    from tests.fuzz import targets

    if name not in targets.TARGETS:
        sys.exit(f"{name} is no fuzz target; there are {', '.join(targets.TARGETS)}")
    return targets


def guided(name: str, seconds: int, extra: list[str]) -> None:
    """Run libFuzzer, which ends the process; a finding is written into the working directory."""
    atheris: Any = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["aipimage.format", "aipimage.volumes"]):
        for module in MODULES:
            importlib.import_module(f"aipimage.format.{module}")
        importlib.import_module("aipimage.volumes.survey")
    targets = known(name)

    def mutate(data: bytes, longest: int, seed: int) -> bytes:
        """Mutate, then mostly recompute the digests: new paths are found behind them."""
        changed: bytes = atheris.Mutate(data, longest)
        return targets.repair(name, changed) if random.Random(seed).random() < 0.8 else changed

    with tempfile.TemporaryDirectory() as corpus:
        for at, sample in enumerate(targets.seeds(name)):
            (Path(corpus) / f"seed-{at}").write_bytes(sample)
        arguments = [
            sys.argv[0],
            corpus,
            f"-max_total_time={seconds}",
            "-max_len=65536",
            "-timeout=2",
            "-rss_limit_mb=512",
            *extra,
        ]
        atheris.Setup(arguments, targets.TARGETS[name], custom_mutator=mutate)
        atheris.Fuzz()


def plain(name: str, seconds: int, seed: int) -> None:
    """Run the built-in loop."""
    from tests.fuzz import mutate

    targets = known(name)
    count = mutate.loop(targets.TARGETS[name], targets.seeds(name), seconds, seed)
    print(f"{name}: {count} inputs, no finding")


def main() -> None:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.run", description=__doc__)
    parser.add_argument("name", nargs="?", help="a decoder, such as map_page")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1, help="of the built-in loop")
    parser.add_argument("--plain", action="store_true", help="use the built-in loop")
    parser.add_argument("extra", nargs="*", help="arguments for libFuzzer, after --")
    parser.add_argument("--list", action="store_true", help="list the names and end")
    given = parser.parse_args()
    if given.list or given.name is None:
        from tests.fuzz.targets import TARGETS

        print(*TARGETS, sep="\n")
    elif given.plain or importlib.util.find_spec("atheris") is None:
        plain(given.name, given.seconds, given.seed)
    else:
        guided(given.name, given.seconds, given.extra)


if __name__ == "__main__":
    main()
