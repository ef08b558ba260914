"""Measure aipimage against its limits and its peers, and print one markdown table.

    python benchmarks/run.py [--dir DIR] [--disk ext4|ntfs] [--runs N] [--json FILE]
                             [--only create,restore,verify,random,scale,memory,
                                     tracked,compared,depth,merge,volumes,vmdk]

The corpus is built when it is missing (see ``corpus.py``): only the chosen disk, 5 GB of tmpfs (and
as much again for its second state, which ``compared`` needs), and up to 10 GB more while running.
Where memory is short, remove the other disks from DIR.  Contenders run one after the other within a
round, and ratios are medians of the rounds' ratios: they hold from machine to machine where seconds
do not.  Every run of ours is a fresh process, so its peak memory is its own.  A section fails no
other: what cannot be run is a note in the table.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import fcntl
import importlib.metadata
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import chains
import corpus
import longchains
import measure
import peers
import sections
import states
import usedonly
import vmdk
from measure import Result
from rows import HEAD, MIB, Bench, Row

SECTIONS: dict[str, tuple[Callable[[Bench], None], float]] = {
    "create": (sections.section_create, 0.6),
    "restore": (sections.section_restore, 2.0),
    "verify": (sections.section_verify, 1.5),
    "random": (sections.section_random, 1.0),
    "scale": (sections.section_scale, 0.4),
    "memory": (sections.section_memory, 1.5),
    "tracked": (chains.section_tracked, 0.9),
    "compared": (chains.section_compared, 0.6),
    "depth": (longchains.section_depth, 0.6),
    "merge": (longchains.section_merge, 1.7),
    "volumes": (usedonly.section_volumes, 2.6),
    "vmdk": (vmdk.section_vmdk, 2.5),
}
"""Each with the memory that its files take in tmpfs at once, as a multiple of the disk's data."""


def versions() -> dict[str, str]:
    """Versions of the peers and of the Python packages that matter."""
    found = measure.versions(peers.TOOLS)
    for name in ("aipimage", "zstandard", "cryptography", "numpy", "blake3", "isal", "deflate"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--dir", type=Path, default=Path("/dev/shm/aipimage-bench"))
    parser.add_argument("--disk", choices=("ext4", "ntfs"), default="ext4")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", default=",".join(SECTIONS), help="sections, comma-separated")
    parser.add_argument("--peers", choices=("all", "rivals", "none"), default="all")
    parser.add_argument("--small", action="store_true", help="a 256 MiB disk, to try the harness")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    args.sections = args.only.split(",")
    unknown = set(args.sections) - set(SECTIONS)
    if unknown or args.runs < 1:
        parser.error(f"--only takes {', '.join(SECTIONS)}; --runs a positive number")
    return args


def only_one(folder: Path) -> None:
    """Hold a lock on the corpus as long as this process lives: some sections change the disk."""
    try:
        fcntl.flock(os.open(folder, os.O_RDONLY), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit(f"{folder} is in use by another run")


def prepare(args: argparse.Namespace, work: Path) -> tuple[Bench, dict[str, int]]:
    """Build the corpus where it is missing and measure how much data the disk holds."""
    plan = corpus.SMALL if args.small else corpus.FULL
    raw, second = (args.dir / f"{args.disk}{end}.raw" for end in ("", "-2"))
    states.put_back(raw)
    wanted = [args.disk]
    if "compared" in args.sections and second.stem in corpus.DISKS:
        wanted.append(second.stem)
    facts = corpus.build(args.dir, plan, wanted)[args.disk]
    scan = measure.call(
        "limits", "choose_offsets", path=str(raw), target=str(work / "offsets"), count=1
    )
    chosen = {"all": peers.PEERS, "none": (), "rivals": tuple(p for p in peers.PEERS if p.rival)}[
        args.peers
    ]
    chosen = tuple(peer for peer in chosen if args.disk in peer.disks)
    data = int(scan.values.get("bytes", 0))
    bench = Bench(
        raw.resolve(),
        work,
        args.runs,
        data,
        facts["allocated"],
        second.resolve(),
        chosen,
        reads=2_000 if args.small else 20_000,
    )
    return bench, {**facts, "not zero": data}


def report(bench: Bench, facts: dict[str, int], json_file: Path | None) -> None:
    """Print the table, and write everything to the JSON file."""
    machine, tools = measure.machine(), versions()
    print("\nMachine: " + ", ".join(f"{name} {value}" for name, value in machine.items()))
    print("\nVersions: " + "; ".join(f"{name}: {value}" for name, value in tools.items()))
    print(f"\n{bench.raw.name}: " + ", ".join(f"{kind} {size:,}" for kind, size in facts.items()))
    print(
        f"\nMedians of {bench.runs} interleaved runs; a ratio is the median of the rounds' ratios:"
    )
    print("the first time over the second, or where the target is a minimum the second over the")
    print("first. A peak of a pipeline is that of its largest process.\n")
    print(measure.table(HEAD, [row.cells() for row in bench.rows]))
    if json_file:
        rows = [{**dataclasses.asdict(row), "met": row.met} for row in bench.rows]
        content = {
            "machine": machine,
            "versions": tools,
            "corpus": facts,
            "runs": bench.runs,
            "rows": rows,
            "measured": bench.measured,
        }
        json_file.write_text(json.dumps(content, indent=1) + "\n")


def main() -> None:
    """Run the chosen sections, clean up whatever happens, and print the table."""
    args = arguments()
    measure.exit_on_terminate()
    work = args.dir.resolve() / f"work-{os.getpid()}"
    work.mkdir(parents=True)
    try:
        only_one(args.dir)
        bench, facts = prepare(args, work)
        for name in args.sections:
            if note := measure.need_memory(int(bench.allocated * SECTIONS[name][1]) + 256 * MIB):
                bench.rows.append(Row(name, "all", Result(note=note)))
                continue
            SECTIONS[name][0](bench)
    except corpus.CorpusError as error:
        sys.exit(f"corpus: {error}")
    finally:
        shutil.rmtree(work, ignore_errors=True)
    report(bench, facts, args.json)


if __name__ == "__main__":
    main()
