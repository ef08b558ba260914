"""The section on volumes: used clusters only, beside the tools that do the same."""

from __future__ import annotations

import contextlib
import functools
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import measure
import peers
from measure import Result
from rows import Bench, gb_s

SPEED = {"ext4": ">= 2", "ntfs": "> 1"}
"""How many times as fast as the peer of a disk creation is to be."""
LARGE = "ours, frames of 256 KiB"
RIVALS = {"ext4": "partclone -a0 | zstd -1 -T2", "ntfs": "ntfsclone | zstd -1 -T2"}


def section_volumes(bench: Bench) -> None:
    """Creation and restore of what is in use, and the size of the image."""
    disk = bench.raw.stem
    rival = next((peer for peer in bench.peers if peer.name == RIVALS.get(disk)), None)
    others = [peer for peer in bench.peers if peer.used_only and peer.restore and peer is not rival]
    with contextlib.ExitStack() as stack:
        ours = bench.work / "used.aiv"
        large = bench.work / "used-large.aiv"
        stack.callback(ours.unlink, missing_ok=True)
        stack.callback(large.unlink, missing_ok=True)
        contenders: dict[str, measure.Contender] = {
            "ours": functools.partial(
                measure.call, "ours", "create", path=str(ours), source=str(bench.raw), used=True
            ),
            LARGE: functools.partial(
                measure.call,
                "ours",
                "create",
                path=str(large),
                source=str(bench.raw),
                used=True,
                frame=1 << 18,
            ),
            "limit": functools.partial(measure.call, "limits", "compress", path=str(bench.raw)),
        }
        stores = {}
        for peer in (each for each in (rival, *others) if each is not None):
            store = stores[peer.name] = peers.Store(peer, bench.raw, bench.work)
            stack.callback(store.drop)
            contenders[peer.name] = store.create
        found = bench.race("volumes", contenders)
        found.row("ours", "limit", "", gb_s(bench.data, found.median("ours")))
        for name in stores:
            target = SPEED[disk] if rival is not None and name == rival.name else "> 1"
            found.row("ours", name, target, inverse=True)
            found.smaller("ours", name, ">= 0.99")
            found.row(LARGE, name, target, inverse=True)
            found.smaller(LARGE, name, ">= 0.99")
        large.unlink(missing_ok=True)
        reference = bench.work / "reference.raw"
        stack.callback(reference.unlink, missing_ok=True)
        for name, store in stores.items():
            with contextlib.suppress(measure.CommandError):
                store.restore(reference)
            if reference.exists() and reference.stat().st_size < bench.raw.stat().st_size:
                # partclone's file ends with the last cluster in use.
                os.truncate(reference, bench.raw.stat().st_size)
            back = bench.race(
                "volumes",
                {
                    "ours, restored": functools.partial(
                        _restored,
                        functools.partial(_ours, ours),
                        bench.work / "ours.raw",
                        reference,
                    ),
                    f"{name}, restored": functools.partial(
                        _restored, store.restore, bench.work / "peer.raw", None
                    ),
                },
            )
            back.row("ours, restored", f"{name}, restored", "> 1", inverse=True)
            reference.unlink(missing_ok=True)


def _ours(path: Path, target: Path) -> Result:
    return measure.call("ours", "restore", path=str(path), target=str(target))


def _restored(restore: Callable[[Path], Result], target: Path, reference: Path | None) -> Result:
    """Restore; compare with what the peer restored: both keep the same clusters, the rest is
    zeros.
    """
    try:
        result = restore(target)
        if result.good and reference is not None and reference.exists():
            same = subprocess.run(["cmp", "-s", target, reference], check=False).returncode == 0
            return result if same else Result(note="WRONG DATA: it differs from the peer's")
        return result
    finally:
        target.unlink(missing_ok=True)
