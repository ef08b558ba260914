"""The sections on one increment: tracked, compared.

Each holds ours against its limit (``chainlimits.py``) or its peers (``chainpeers.py``), and closes
with the peak of memory of what was measured. The second state of the disk comes from the corpus;
all other changes are random clusters among those that hold data (``states.py``). Chains of many
images: ``longchains.py``.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import chainpeers
import measure
import numpy as np
import peers
import states
from measure import Result
from ours import GIANT, GIANT_PIECES
from rows import MIB, Bench, Row, gb_s
from states import CLUSTER

GIANT_CHANGED = 1000


def choose(bench: Bench, name: str, count: int, disk: Path | None = None) -> Path:
    """Choose clusters with data, none twice; return the file that lists them, ascending."""
    path = bench.work / name
    made = measure.call(
        "limits",
        "choose_offsets",
        path=str(disk or bench.raw),
        target=str(path),
        count=count,
        seed=2,
        repeat=False,
    )
    if not made.good:
        raise OSError(f"choosing clusters: {made.note}")
    np.sort(np.fromfile(path, np.uint64)).tofile(path)
    return path


def thousandth(bench: Bench) -> int:
    """Return how many clusters 0.1 % of the disk are."""
    return bench.raw.stat().st_size // CLUSTER // 1000


def _increment(bench: Bench, parent: Path, source: Path, check: Path, **options: Any) -> Result:
    """Make an increment of ours in a fresh process, and drop it."""
    path = bench.work / "increment.aiv"
    try:
        return measure.call(
            "chainours",
            "increment",
            path=str(path),
            source=str(source),
            parent=str(parent),
            check=str(check),
            **options,
        )
    finally:
        path.unlink(missing_ok=True)


# --- tracked ----------------------------------------------------------------------------------


def section_tracked(bench: Bench) -> None:
    """An increment of 0.1 % of the disk, told by a change tracker; then the same of 64 TiB."""
    changed = choose(bench, "changed", thousandth(bench))
    offsets, kept = np.fromfile(changed, np.uint64), bench.work / "kept"
    raw = str(bench.raw)
    with bench.image() as full, states.rewritten(bench.raw, offsets):
        found = bench.race(
            "tracked",
            {
                "0.1 % changed": lambda: _increment(
                    bench, full, bench.raw, changed, changed=str(changed)
                ),
                "limit, digest and write": lambda: measure.call(
                    "chainlimits", "keep_changed", path=raw, changed=str(changed), target=str(kept)
                ),
            },
        )
    kept.unlink(missing_ok=True)
    name, result = "0.1 % changed", found.median("0.1 % changed")
    found.figure(name, f"{name}, s", result.seconds if result.good else None, "<= 0.3 s")
    budget = 1.05 * len(offsets) * CLUSTER + (256 << 10)
    share = result.size / budget if result.good else None
    found.figure(name, f"{name}: written / (1.05 x changed + 256 KiB)", share, "<= 1")
    found.row(name, "limit, digest and write")
    found.peak([name])
    _tracked_giant(bench)


def _tracked_giant(bench: Bench) -> None:
    """A sparse disk of 64 TiB, of which 1,000 clusters changed: half in data, half in holes."""
    giant, full, changed = (bench.work / each for each in ("giant.raw", "giant.aiv", "giant.at"))
    section, name = "tracked giant", "64 TiB, 1,000 clusters changed"
    try:
        made = measure.call(
            "limits", "sparse_giant", path=str(giant), size=GIANT, pieces=GIANT_PIECES
        )
        if not made.good:
            note = "the file system of --dir cannot hold a sparse file of 64 TiB"
            bench.rows.append(Row(section, name, Result(note=note)))
            return
        measure.call("ours", "create", path=str(full), source=str(giant))
        offsets = _giant_offsets()
        offsets.tofile(changed)
        with giant.open("r+b", buffering=0) as file:
            states.write_changed(file.fileno(), offsets)
        found = bench.race(
            section, {name: lambda: _increment(bench, full, giant, changed, changed=str(changed))}
        )
    finally:
        giant.unlink(missing_ok=True)
        full.unlink(missing_ok=True)
    result = found.median(name)
    beyond = (result.size - len(offsets) * CLUSTER) / MIB if result.good else None
    found.figure(name, f"{name}, s", result.seconds if result.good else None, "< 1 s")
    found.figure(name, f"{name}: written beyond them, MiB", beyond, "< 1 MiB")
    found.peak([name])


def _giant_offsets() -> states.Offsets:
    """Choose one cluster in the data of every other piece of the giant, and as many in holes."""
    rng, stride = np.random.default_rng(3), GIANT // GIANT_PIECES // CLUSTER
    pieces = rng.choice(GIANT_PIECES, GIANT_CHANGED, replace=False) * stride
    inside = rng.integers(0, MIB // CLUSTER, GIANT_CHANGED)
    inside[::2] = rng.integers(MIB // CLUSTER, stride, len(inside[::2]))
    return np.sort((pieces + inside).astype(np.uint64) * np.uint64(CLUSTER))


# --- compared ---------------------------------------------------------------------------------


def section_compared(bench: Bench) -> None:
    """An increment of the disk's second state, found by comparing: ours, limits and peers."""
    if not bench.second.exists():
        note = f"{bench.second.name} is not there: the corpus has it of the ext4 disk only"
        bench.rows.append(Row("compared", "all", Result(note=note)))
        return
    check = choose(bench, "check", 2000, bench.second)
    first, second = str(bench.raw), str(bench.second)
    ours = ("ours, digests", "ours, data")
    with bench.image() as full:
        run = functools.partial(_increment, bench, full, bench.second, check)
        found = bench.race(
            "compared",
            {
                ours[0]: lambda: run(compare="digests"),
                "limit, read and hash": lambda: measure.call(
                    "chainlimits", "hash_disk", path=second
                ),
                ours[1]: lambda: run(compare="data"),
                "limit, compare both raw states": lambda: measure.call(
                    "chainlimits", "compare_disks", path=second, other=first
                ),
                **{
                    peer.name: functools.partial(_peer, bench, peer)
                    for peer in (chainpeers.INCREMENTS if bench.peers else ())
                },
            },
        )
    rate = functools.partial(gb_s, bench.data)
    found.row(ours[0], "limit, read and hash", "<= 1.3", rate(found.median(ours[0])))
    found.row(ours[1], "limit, compare both raw states", rate=rate(found.median(ours[1])))
    for limit in ("limit, read and hash", "limit, compare both raw states"):
        found.row(limit, rate=rate(found.median(limit)))
    for name in list(found.runs)[4:]:
        for mine in ours:
            found.row(mine, name, "> 1", inverse=True)
        found.smaller(ours[0], name)
    found.peak(ours)


def _peer(bench: Bench, peer: peers.Peer) -> Result:
    """Let a peer keep the second state after the first."""
    if note := measure.need_memory(int(bench.allocated * 0.7) + 512 * MIB):
        return Result(note=note)
    return chainpeers.run(peer, bench.second, bench.raw, bench.work)
