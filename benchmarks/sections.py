"""The sections on single images: create, restore, verify, random, scale, memory."""

from __future__ import annotations

import contextlib
import functools
from pathlib import Path
from typing import Any

import measure
import peers
from measure import Result
from ours import GIANT, GIANT_PIECES
from rows import MIB, Bench, Row, gb_s, peak_row, reads_a_second

SECRET = "secret"  # a benchmark's password guards nothing


def section_create(bench: Bench) -> None:
    """Creation: plain, encrypted, the limits, the peers."""

    def ours(password: str | None = None) -> measure.Contender:
        def create() -> Result:
            with contextlib.ExitStack() as stack:
                path = bench.work / "created.aiv"
                stack.callback(path.unlink, missing_ok=True)
                return measure.call(
                    "ours", "create", path=str(path), source=str(bench.raw), password=password
                )

        return create

    def peer_run(peer: peers.Peer) -> measure.Contender:
        def create() -> Result:
            store = peers.Store(peer, bench.raw, bench.work)
            try:
                return store.create()
            finally:
                store.drop()

        return create

    creators = [peer for peer in bench.peers if peer.create]
    raw = str(bench.raw)
    found = bench.race(
        "create",
        {
            "ours": ours(),
            "limit": lambda: measure.call("limits", "compress", path=raw),
            "ours, encrypted": ours(SECRET),
            "limit, compression only": lambda: measure.call("limits", "compress_only", path=raw),
            **{peer.name: peer_run(peer) for peer in creators},
        },
    )
    found.row("ours", "limit", "<= 1.25", gb_s(bench.data, found.median("ours")))
    found.row("ours", "limit, compression only")
    found.row("ours, encrypted", "ours", "<= 1.12")
    best = found.best([peer.name for peer in creators if peer.rival])
    if best:
        found.row("ours", best, ">= 1.5 (best peer)", inverse=True)
    for name in ("limit", "limit, compression only"):
        found.row(name, rate=gb_s(bench.data, found.median(name)))
    for peer in creators:
        found.row(peer.name, "ours, encrypted" if peer.encrypted else "ours")


def section_restore(bench: Bench) -> None:
    """Restoring: the limit, encrypted, and each peer beside ours."""

    def ours(path: Path, password: str | None = None) -> measure.Contender:
        return lambda: bench.restored(
            lambda target: measure.call(
                "ours", "restore", path=str(path), target=str(target), password=password
            )
        )

    with bench.image() as image:
        with bench.frames() as frames:
            found = bench.race(
                "restore",
                {
                    "ours": ours(image),
                    "limit": lambda: bench.restored(
                        lambda target: measure.call(
                            "limits", "restore", store=str(frames), target=str(target)
                        )
                    ),
                },
            )
            found.row("ours", "limit", "<= 1.3", gb_s(bench.data, found.median("ours")))
            found.row("limit", rate=gb_s(bench.data, found.median("limit")))
        with bench.image(SECRET) as secret:
            found = bench.race(
                "restore", {"ours, encrypted": ours(secret, SECRET), "ours": ours(image)}
            )
            found.row("ours, encrypted", "ours")
        for peer in (peer for peer in bench.peers if peer.restore):
            # restic writes holes as zeros, so that its target takes the disk's whole size.
            full = "restic" in peer.tools
            room = (bench.raw.stat().st_size if full else bench.allocated) + bench.allocated // 2
            if note := measure.need_memory(room + 512 * MIB):
                bench.rows.append(Row("restore", peer.name, Result(note=note)))
                continue
            with peers.stored(peer, bench.raw, bench.work) as store:
                found = bench.race(
                    "restore",
                    {
                        "ours": ours(image),
                        peer.name: functools.partial(bench.restored, store.restore),
                    },
                )
            found.row("ours", peer.name, "> 1", inverse=True)


def section_verify(bench: Bench) -> None:
    """Verifying: full, encrypted, sampled, keyless, and what the peers do."""

    def ours(path: Path, **options: Any) -> measure.Contender:
        return lambda: measure.call("ours", "verify", path=str(path), **options)

    with bench.image() as image:
        with bench.frames() as frames, bench.image(SECRET) as secret:
            stored = image.stat().st_size if image.exists() else 0
            found = bench.race(
                "verify",
                {
                    "ours": ours(image),
                    "limit": lambda: measure.call("limits", "verify", store=str(frames)),
                    "ours, encrypted": ours(secret, password=SECRET),
                    "ours, sample of 10 %": ours(image, sample=10),
                    "ours, keyless": ours(image, keyless=True),
                    "limit, keyless": lambda: measure.call("limits", "keyless", path=str(image)),
                },
            )
        for name, size in (("", bench.data), (", keyless", stored)):
            one, two = f"ours{name}", f"limit{name}"
            found.row(one, two, ">= 0.8", gb_s(size, found.median(one)), inverse=True)
            found.row(two, rate=gb_s(size, found.median(two)))
        found.row("ours, encrypted", "ours")
        found.row("ours, sample of 10 %", "ours")
        for peer in (peer for peer in bench.peers if peer.verify):
            with peers.stored(peer, bench.raw, bench.work) as store:
                found = bench.race("verify", {"ours": ours(image), peer.name: store.verify})
            found.row(peer.name, "ours")
        if image.exists():
            found = bench.race(
                "verify",
                {
                    "ours, keyless": ours(image, keyless=True),
                    "openssl sha256 of the image": lambda: peers.digest(image),
                },
            )
            found.row("openssl sha256 of the image", "ours, keyless")


def section_random(bench: Bench) -> None:
    """Random 4 KiB reads: ours in-process, NBD servers, and the raw file as the ceiling."""
    offsets, raw = bench.work / "offsets", str(bench.raw)
    measure.call("limits", "choose_offsets", path=raw, target=str(offsets), count=bench.reads)
    client = peers.build_client(bench.work)
    qemu = next(peer for peer in peers.PEERS if peer.create == peers.QCOW2)

    def ours(threads: int) -> measure.Contender:
        return lambda: measure.call(
            "ours", "reads", path=str(image), offsets=str(offsets), source=raw, threads=threads
        )

    def ceiling(threads: int) -> measure.Contender:
        return lambda: measure.call(
            "limits", "raw_reads", path=raw, offsets=str(offsets), threads=threads
        )

    with bench.image() as image, peers.stored(qemu, bench.raw, bench.work) as store:
        qcow2 = store.data / "disk.qcow2"

        def nbd(server: str, disk: Path, depth: int) -> measure.Contender:
            return lambda: peers.nbd_reads(server, disk, client, offsets, depth)

        found = bench.race(
            "random",
            {
                "ours, one thread": ours(1),
                "qemu-nbd, depth 1": nbd("qemu-nbd", qcow2, 1),
                "ours, two threads": ours(2),
                "qemu-nbd, depth 16": nbd("qemu-nbd", qcow2, 16),
                "raw file, one thread": ceiling(1),
                "raw file, two threads": ceiling(2),
                "nbdkit raw, depth 1": nbd("nbdkit", bench.raw, 1),
                "nbdkit raw, depth 16": nbd("nbdkit", bench.raw, 16),
            },
        )
    pairs = {
        "ours, one thread": ("qemu-nbd, depth 1", ">= 2.5"),
        "ours, two threads": ("qemu-nbd, depth 16", ">= 1"),
    }
    for name in found.runs:
        against, target = pairs.get(name, ("", ""))
        found.row(name, against, target, reads_a_second(found.median(name)), inverse=True)


def section_scale(bench: Bench) -> None:
    """A sparse disk of 64 TiB with 1 GiB of data: create, open, read, verify."""
    giant, image = bench.work / "giant.raw", bench.work / "giant.aiv"
    made = measure.call("limits", "sparse_giant", path=str(giant), size=GIANT, pieces=GIANT_PIECES)
    if not made.good:
        note = "the file system of --dir cannot hold a sparse file of 64 TiB"
        bench.rows.append(Row("scale", "64 TiB", Result(note=note)))
        return
    try:
        found = bench.race(
            "scale",
            {
                "create 64 TiB": lambda: measure.call(
                    "ours", "create", path=str(image), source=str(giant)
                ),
                "open": lambda: measure.call("ours", "open_image", path=str(image)),
                "read": lambda: measure.call("ours", "read_giant", path=str(image)),
                "verify": lambda: measure.call("ours", "verify", path=str(image)),
            },
        )
    finally:
        giant.unlink(missing_ok=True)
        image.unlink(missing_ok=True)
    for name in ("create 64 TiB", "read", "verify"):
        found.row(name, rate=gb_s(GIANT_PIECES * MIB, found.median(name)))
    opened = found.median("open")
    values = opened.values or {}
    for unit, key, scale, bound in (("ms", "milliseconds", 1, 50), ("MiB", "growth", MIB, 64)):
        figure = values[key] / scale if key in values else None
        row = Row("scale", f"open, {unit}", opened, ratio=figure, target=f"< {bound} {unit}")
        bench.rows.append(row)
    peaks = [found.median(name) for name in ("create 64 TiB", "read", "verify")]
    bench.rows.append(peak_row("scale", "peak of create, read, verify, MiB", peaks))


def section_memory(bench: Bench) -> None:
    """Peak memory of create, restore and verify, plain and encrypted, in one run each."""
    raw = str(bench.raw)
    for password in (None, SECRET):
        kind = ", encrypted" if password else ""
        path = bench.work / "memory.aiv"
        options = {"path": str(path), "password": password}
        try:
            made = measure.call("ours", "create", source=raw, **options)
            checked = measure.call("ours", "verify", **options)
            back = bench.restored(functools.partial(_restore, options))
        finally:
            path.unlink(missing_ok=True)
        for name, result in (("create", made), ("restore", back), ("verify", checked)):
            bench.rows.append(peak_row("memory", f"{name}{kind}, MiB", [result]))


def _restore(options: dict[str, Any], target: Path) -> Result:
    """Restore an image of ours in a fresh process."""
    return measure.call("ours", "restore", target=str(target), **options)
