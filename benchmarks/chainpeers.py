"""The peers on chains: what changed between two states of a disk, and chains of qcow2 overlays.

``Peer.prepare`` keeps the first state, outside of the timing; ``Peer.create`` is the later run.
qemu-img has no backup that compares by itself: an overlay on the second raw state is rebased onto
the first, which writes the clusters that differ.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import measure
import numpy as np
import peers
from measure import Result
from peers import BORG, QCOW2, Peer

LATER = "qemu-img create -q -f qcow2 -b {raw} -F raw {data}/later.qcow2"
FIRST = QCOW2.replace("{raw}", "{first}")
REBASE = "qemu-img rebase -f qcow2 -b {data}/disk.qcow2 -F qcow2 {data}/later.qcow2"
CLUSTER = 65536


def _borg(name: str, mode: str) -> Peer:
    """Return borg with fixed chunks of 1 MiB; each state is a path of its own, as of a snapshot."""
    create = f'cd "$(dirname {{0}})"; {BORG} {{{{data}}}}/repo::{{1}} "$(basename {{0}})"'
    return Peer(
        name,
        ("borg",),
        create.format("{raw}", "second"),
        prepare=f"borg init -e {mode} {{data}}/repo; {create.format('{first}', 'first')}",
        encrypted=mode != "none",
    )


INCREMENTS = (
    Peer(
        "qemu-img rebase onto the raw first state",
        ("qemu-img",),
        "qemu-img rebase -f qcow2 -b {first} -F raw {data}/later.qcow2",
        prepare=LATER,
    ),
    Peer("qemu-img rebase onto the zstd qcow2", ("qemu-img",), REBASE, prepare=f"{FIRST}; {LATER}"),
    Peer(
        "qemu-img rebase onto the zstd qcow2, convert -c",
        ("qemu-img",),
        f"{REBASE}; qemu-img convert -f qcow2 -O qcow2 -c -o compression_type=zstd -m 16 -W"
        " -B {data}/disk.qcow2 -F qcow2 {data}/later.qcow2 {data}/small.qcow2;"
        " rm {data}/later.qcow2",
        prepare=f"{FIRST}; {LATER}",
    ),
    _borg("borg fixed 1M, second run", "none"),
    _borg("borg fixed 1M, encrypted, second run", "repokey-blake2"),
    Peer(
        "restic (encrypted), second run",
        ("restic",),
        "restic -q backup {raw}",
        prepare="restic -q init --repository-version 2; restic -q backup {first}",
        encrypted=True,
    ),
)


def run(peer: Peer, second: Path, first: Path, work: Path) -> Result:
    """Let a peer keep the first state, then measure how it keeps the second."""
    store = peers.Store(peer, second, work, first)
    try:
        return store.create()
    finally:
        store.drop()


def build_overlays(base: Path, folder: Path, offsets: Path, count: int) -> Path | None:
    """Build a chain of qcow2 overlays on ``base``, one cluster each; return the newest.

    The clusters are around the first of the byte offsets in a file. Each overlay is written alone
    and hung on the one before without reading it, or building would take minutes. ``None`` where
    there is no qemu.
    """
    if not measure.available("qemu-img", "qemu-io") or not base.exists():
        return None
    folder.mkdir()
    info = subprocess.run(
        ["qemu-img", "info", "-f", "qcow2", "--output=json", base], capture_output=True, check=True
    )
    size = str(json.loads(info.stdout)["virtual-size"])
    newest = str(base)
    for number, place in enumerate(np.fromfile(offsets, np.uint64, count).tolist()):
        path = str(folder / f"{number:04}.qcow2")
        write = f"write -P 1 {place // CLUSTER * CLUSTER} {CLUSTER}"
        for command in (
            ["qemu-img", "create", "-q", "-f", "qcow2", path, size],
            ["qemu-io", "-f", "qcow2", "-c", write, path],
            ["qemu-img", "rebase", "-u", "-f", "qcow2", "-b", newest, "-F", "qcow2", path],
        ):
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        newest = path
    return Path(newest)
