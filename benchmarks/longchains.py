"""The sections on many increments: depth, merge.

The chains are made of tracked increments on the corpus disk, each of a few random clusters that an
overlay shows changed (``states.py``); every outcome is compared with that overlay.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import chainpeers
import measure
import numpy as np
import peers
from chains import choose, thousandth
from measure import Result
from rows import Bench, Found, Row, gb_s, reads_a_second
from states import CLUSTER

OPENINGS = 200
DEPTH = 365
DEPTH_CLUSTERS = 20
OVERLAYS = 300
MERGED = 30


@dataclasses.dataclass(frozen=True)
class _Chain:
    """A full image and its increments in a folder of their own."""

    paths: list[Path]
    state: Path
    """What the last image shows changed, for ``states.Overlay.load``."""
    built: Result


@contextlib.contextmanager
def _chain(bench: Bench, count: int, each: int) -> Iterator[_Chain]:
    """Build a chain of tracked increments for the length of a block.

    The clusters that change come out of a pool of half as many as changes: some change often.
    """
    folder, state = bench.work / "chain", bench.work / "chain.npy"
    pool = choose(bench, "pool", max(each, count * each // 2))
    try:
        folder.mkdir()
        paths = [folder / f"{number:04}.aiv" for number in range(count + 1)]
        with bench.image() as image:
            if image.exists():
                os.link(image, paths[0])
        built = measure.call(
            "chainours",
            "build_chain",
            folder=str(folder),
            full=str(paths[0]),
            source=str(bench.raw),
            pool=str(pool),
            state=str(state),
            count=count,
            each=each,
        )
        yield _Chain(paths, state, built)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def section_depth(bench: Bench) -> None:
    """Opening and reading the newest of 365 increments, against the full image beneath them."""
    spread, own = bench.work / "offsets", bench.work / "changed"
    measure.call(
        "limits", "choose_offsets", path=str(bench.raw), target=str(spread), count=bench.reads
    )
    with _chain(bench, DEPTH, DEPTH_CLUSTERS) as chain:
        section = f"depth {DEPTH}"
        if not chain.built.good:
            bench.rows.append(Row(section, "building the chain", chain.built))
            return
        _building(bench, section, chain.built)
        clusters = np.load(chain.state)[:, 0] * np.uint64(CLUSTER)
        np.random.default_rng(4).choice(clusters, max(1, bench.reads // 4)).tofile(own)
        _opening(bench, section, chain, int(np.fromfile(spread, np.uint64, 1)[0]))
        _reading(bench, section, chain, spread, own)
    _overlays(bench, spread)


def _building(bench: Bench, section: str, built: Result) -> None:
    """Rows on making the chain: whether a later increment costs more than an early one."""
    views = {f"one of the {key} 20 increments": [_view(built, key)] for key in ("last", "first")}
    last, first = views
    Found(section, views, bench.rows).row(last, first)
    name = f"creating {DEPTH} increments"
    found = Found(section, {name: [built]}, bench.rows)
    found.row(name)
    found.peak([name])


def _opening(bench: Bench, section: str, chain: _Chain, place: int) -> None:
    """Rows on opening: seconds, and how often files are read."""
    found = bench.race(
        section,
        {
            "opening": lambda: measure.call(
                "chainours",
                "open_both",
                full=str(chain.paths[0]),
                newest=str(chain.paths[-1]),
                place=place,
                count=OPENINGS,
            )
        },
    )
    runs, result = found.runs["opening"], found.median("opening")
    for what, target in (("", "< 1.5"), (", first read", "")):
        views = {
            f"{label}{what}": [_view(run, f"{key}{what}") for run in runs]
            for label, key in (("open the newest", "newest"), ("open the full", "full"))
        }
        named = Found(section, views, bench.rows)
        named.row(f"open the newest{what}", f"open the full{what}", target)
    reads = result.values
    for number, what in enumerate(("open the newest", "open the newest, first read")):
        newest, full = (
            reads[key][number] if result.good else None for key in ("newest: reads", "full: reads")
        )
        target = f"= {full} as of the full" if number == 0 else ""
        rate = f"the full: {full}"
        label = f"{what}: file reads"
        row = Row(section, label, Result(note=result.note or " "), rate, ratio=newest)
        bench.rows.append(dataclasses.replace(row, target=target))


def _view(run: Result, key: str) -> Result:
    """Show one of the seconds that a run has measured within itself."""
    if not run.good:
        return run
    return dataclasses.replace(run, seconds=run.values[key], cpu=0.0)


def _reading(bench: Bench, section: str, chain: _Chain, spread: Path, own: Path) -> None:
    """Rows on random reads of 4 KiB."""

    def reads(number: int, threads: int = 1, at: Path = spread) -> measure.Contender:
        state = str(chain.state) if number else None
        return lambda: measure.call(
            "ours",
            "reads",
            path=str(chain.paths[number]),
            offsets=str(at),
            source=str(bench.raw),
            threads=threads,
            state=state,
        )

    found = bench.race(
        section,
        {
            "the newest, one thread": reads(-1),
            "the full, one thread": reads(0),
            "the newest, two threads": reads(-1, 2),
            "the full, two threads": reads(0, 2),
            "the newest, what increments hold": reads(-1, at=own),
            "the full, the same places": reads(0, at=own),
        },
    )
    names, full = list(found.runs), "the full, one thread"
    pairs = [
        (names[0], names[1], ">= 0.9"),
        (names[2], names[3], ">= 0.9"),
        (names[4], names[5], ""),
    ]
    for name, against, target in pairs:
        found.row(name, against, target, reads_a_second(found.median(name)), inverse=True)
    found.row(full, rate=reads_a_second(found.median(full)))
    found.peak([name for name in names if "newest" in name])


def _overlays(bench: Bench, spread: Path) -> None:
    """The same question to qemu-nbd: a chain of qcow2 overlays against the image beneath them."""
    folder, client = bench.work / "overlays", peers.build_client(bench.work)
    qemu = next(peer for peer in peers.PEERS if peer.create == peers.QCOW2)
    if not bench.peers:
        return
    with peers.stored(qemu, bench.raw, bench.work) as store:
        base = store.data / "disk.qcow2"
        try:
            newest = chainpeers.build_overlays(base, folder, spread, OVERLAYS)
            if newest is None:
                bench.rows.append(Row("depth", "qemu-nbd", measure.NOT_INSTALLED))
                return
            name, one = f"qemu-nbd, chain of {OVERLAYS}", "qemu-nbd, one image"
            found = bench.race(
                "depth",
                {
                    name: lambda: peers.nbd_reads("qemu-nbd", newest, client, spread, 1),
                    one: lambda: peers.nbd_reads("qemu-nbd", base, client, spread, 1),
                },
            )
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    found.row(name, one, rate=reads_a_second(found.median(name)), inverse=True)


# --- merge ------------------------------------------------------------------------------------


def section_merge(bench: Bench) -> None:
    """Merging a full image and 30 increments of 0.1 %, against copying what survives."""
    merged, copied = bench.work / "merged.aiv", bench.work / "copied.aiv"
    check = choose(bench, "check", 2000)
    with _chain(bench, MERGED, thousandth(bench)) as chain:
        if not chain.built.good:
            bench.rows.append(Row("merge", "building the chain", chain.built))
            return

        def merge() -> Result:
            merged.unlink(missing_ok=True)
            return measure.call(
                "chainours",
                "merge",
                target=str(merged),
                paths=[str(path) for path in chain.paths],
                source=str(bench.raw),
                state=str(chain.state),
                check=str(check),
            )

        def dropped(copy: measure.Contender) -> Result:
            # Made anew in each round, as the merged image is, and not kept beside it.
            copied.unlink(missing_ok=True)
            try:
                return dataclasses.replace(copy(), size=copied.stat().st_size)
            finally:
                copied.unlink(missing_ok=True)

        limit, cp = "limit, copy the merged image", "cp of the merged image"
        found = bench.race(
            "merge",
            {
                "ours": merge,
                limit: lambda: dropped(
                    lambda: measure.call(
                        "chainlimits", "copy_file", path=str(merged), target=str(copied)
                    )
                ),
                cp: lambda: dropped(lambda: measure.command(["cp", str(merged), str(copied)])),
            },
        )
        merged.unlink(missing_ok=True)
        stored = sum(path.stat().st_size for path in chain.paths)
    size = found.median("ours").size
    found.row("ours", limit, "<= 1.5", gb_s(size, found.median("ours")))
    found.row("ours", cp)
    for name in (limit, cp):
        found.row(name, rate=gb_s(size, found.median(name)))
    share = size / stored if found.median("ours").good else None
    found.figure("ours", f"size / that of the {MERGED + 1} images", share)
    found.peak(["ours"])
