"""Measure aipimage against its limits and its peers, and print one markdown table.

    python benchmarks/run.py [--dir DIR] [--disk ext4|ntfs] [--runs N] [--json FILE]
                             [--only create,restore,verify,random,scale,memory]

The corpus is built when it is missing (see ``corpus.py``): only the chosen disk, 5 GB of tmpfs, and
up to 10 GB more while running.  Where memory is short, remove the other disks from DIR.  Contenders
run one after the other within a round, and ratios are medians of the rounds' ratios: they hold from
machine to machine where seconds do not.  Every run of ours is a fresh process, so its peak memory
is its own.  A section fails no other: what cannot be run is a note in the table.

The length of this file is that of six sections and of their contenders of ours, which fresh
processes import from here.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import corpus
import measure
import peers
from measure import Result

HERE = Path(__file__).resolve().parent
MIB = 1 << 20
SECRET = "secret"  # a benchmark's password guards nothing
GIANT = 64 << 40
GIANT_PIECES = 1024
MISSING = {"note": "aipimage is not importable"}

# --- ours: each runs in a fresh process through measure.call ------------------------------------


def _library() -> Any:
    """Import aipimage, installed or from this checkout, before any clock runs."""
    sys.path.append(str(HERE.parent))
    try:
        import aipimage
    except ImportError as error:
        print(f"  import aipimage: {error}", file=sys.stderr)
        return None
    return aipimage if hasattr(aipimage, "create") else None


def ours_create(path: str, source: str, password: str | None = None) -> dict[str, Any]:
    """Create an image at zstd level 1."""
    library = _library()
    if library is None:
        return MISSING
    with measure.timed():
        library.create(
            path, [source], compress="zstd:1", encrypt="aes-256" if password else None,
            password=password, overwrite=True,
        )  # fmt: skip
    return {"size": os.path.getsize(path)}


def ours_restore(path: str, target: str, password: str | None = None) -> dict[str, Any]:
    """Restore the first device into a file."""
    library = _library()
    if library is None:
        return MISSING
    with measure.timed(), library.open(path, password=password) as image:
        image.restore(target, device=0, force=True)
    return {"size": os.stat(target).st_blocks * 512}


def ours_verify(
    path: str, password: str | None = None, sample: float | None = None, keyless: bool = False
) -> dict[str, Any]:
    """Verify an image fully, by sample, or without a key."""
    library = _library()
    if library is None:
        return MISSING
    with measure.timed():
        if keyless:
            library.verify_keyless(path)
        else:
            with library.open(path, password=password) as image:
                image.verify(**({} if sample is None else {"sample": sample}))
    return {}


def ours_reads(path: str, offsets: str, source: str, threads: int = 1) -> dict[str, Any]:
    """Random 4 KiB reads in-process; afterwards some are compared with the disk itself."""
    from concurrent.futures import ThreadPoolExecutor

    library = _library()
    if library is None:
        return MISSING
    data = Path(offsets).read_bytes()
    places = memoryview(data).cast("Q").tolist()
    with library.open(path) as image, ThreadPoolExecutor(threads) as pool:
        raw = image.devices[0].open()

        def work(number: int) -> int:
            buffer, share = bytearray(4096), places[number::threads]
            for place in share:
                raw.readinto_at(buffer, place)
            return len(share)

        with measure.timed():
            reads = sum(pool.map(work, range(threads)))
        with open(source, "rb") as disk:
            for place in places[:: max(1, len(places) // 500)]:
                buffer = bytearray(4096)
                raw.readinto_at(buffer, place)
                disk.seek(place)
                if buffer != disk.read(4096):
                    return {"note": f"WRONG DATA at {place}"}
    return {"reads": reads}


def ours_open(path: str) -> dict[str, Any]:
    """Open an image and its first device; report how much memory that took."""
    library = _library()
    if library is None:
        return MISSING
    before = measure.resident("VmRSS")
    start = time.perf_counter()
    with measure.timed():
        image = library.open(path)
        image.devices[0].open()
    took = time.perf_counter() - start
    growth = max(0, measure.resident() - before)
    image.close()
    return {"milliseconds": took * 1e3, "growth": growth}


def ours_read_giant(path: str) -> dict[str, Any]:
    """Read every piece of the giant and the zeros before it, and compare; only reading counts."""
    from limits import giant_piece

    library = _library()
    if library is None:
        return MISSING
    with library.open(path) as image:
        raw, stride = image.devices[0].open(), GIANT // GIANT_PIECES
        for number in range(GIANT_PIECES):
            with measure.timed():
                raw.seek(number * stride)
                piece = raw.read(MIB)
                raw.seek((number + 1) * stride - MIB)
                zeros = raw.read(MIB)
            if piece != giant_piece(number) or zeros != bytes(MIB):
                return {"note": f"WRONG DATA in piece {number}"}
    return {"bytes": GIANT_PIECES * MIB}


# --- rows ---------------------------------------------------------------------------------------


@dataclass
class Row:
    """One line of the table: a median, what it is compared with, and the target of the ratio."""

    section: str
    name: str
    result: Result
    rate: str = ""
    against: str = ""
    other: Result | None = None
    ratio: float | None = None
    target: str = ""
    """"<= 1.25" or the like, or '' for a row that only informs."""

    @property
    def met(self) -> str:
        """'yes', 'NO', '?' without a figure, or '' without a target."""
        if not self.target:
            return ""
        if self.ratio is None:
            return "?"
        sign, bound = self.target.split()[:2]
        good = {
            "<=": self.ratio <= float(bound), "<": self.ratio < float(bound),
            ">=": self.ratio >= float(bound), ">": self.ratio > float(bound),
        }[sign]  # fmt: skip
        return "yes" if good else "NO"

    def cells(self) -> list[str]:
        """Return the cells of the table's line."""
        one, two = self.result, self.other or Result(note=" ")
        return [
            self.section, self.name, _seconds(one), _amount(one.size), self.rate,
            f"{one.peak / MIB:.0f}" if one.peak else "", self.against, _seconds(two),
            f"{self.ratio:.2f}" if self.ratio is not None else "", self.target, self.met,
        ]  # fmt: skip


HEAD = ("section", "what", "s (CPU s)", "MB", "rate", "peak MiB", "compared with", "s (CPU s)",
        "ratio", "target", "met")  # fmt: skip


def _seconds(result: Result) -> str:
    """Wall and CPU seconds, or the note."""
    if result.note:
        return result.note.strip()
    digits = 2 if result.seconds >= 0.2 else 4
    return f"{result.seconds:.{digits}f} ({result.cpu:.2f})"


def _amount(size: int) -> str:
    """Megabytes, or '' for nothing."""
    return f"{size / 1e6:,.0f}" if size else ""


def _gb_s(size: int, result: Result) -> str:
    """Gigabytes a second."""
    return f"{size / 1e9 / result.seconds:.2f} GB/s" if result.good and result.seconds else ""


def _reads(result: Result) -> str:
    """Reads a second, with latencies where they are known."""
    if not result.good or not result.seconds:
        return ""
    text = f"{result.values['reads'] / result.seconds:,.0f}/s"
    if "p50" in result.values:
        text += f" (p50 {result.values['p50']:.0f} µs, p99 {result.values['p99']:.0f})"
    return text


# --- sections -----------------------------------------------------------------------------------


@dataclass
class Bench:
    """What all sections share: where things are, how often to run, and the rows found so far."""

    raw: Path
    work: Path
    runs: int
    data: int
    """Bytes of the disk's clusters that are not zero."""
    allocated: int
    peers: tuple[peers.Peer, ...]
    reads: int
    rows: list[Row] = field(default_factory=list)
    measured: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def race(self, section: str, contenders: dict[str, measure.Contender]) -> Found:
        """Run contenders in rounds and keep every single run for the JSON file."""
        print(f"{section}: {' | '.join(contenders)}", file=sys.stderr)
        found = measure.interleave(contenders, self.runs)
        for name, results in found.items():
            kept = [dataclasses.asdict(result) for result in results]
            self.measured.setdefault(f"{section}: {name}", []).extend(kept)
        return Found(section, found, self.rows)

    @contextlib.contextmanager
    def image(self, password: str | None = None) -> Iterator[Path]:
        """Give an image of ours of the disk for the length of a block."""
        path = self.work / ("secret.aiv" if password else "plain.aiv")
        try:
            made = measure.call(
                "run", "ours_create", path=str(path), source=str(self.raw), password=password
            )
            print(f"  image of ours: {made.note or _seconds(made)}", file=sys.stderr)
            yield path
        finally:
            path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def frames(self) -> Iterator[Path]:
        """Give the limit's frames of the disk for the length of a block."""
        path = self.work / "frames"
        try:
            measure.call("limits", "store_frames", path=str(self.raw), target=str(path))
            yield path
        finally:
            path.unlink(missing_ok=True)
            path.with_name("frames.npz").unlink(missing_ok=True)

    def restored(self, restore: Callable[[Path], Result]) -> Result:
        """Restore, then compare with the disk outside of the timing, then drop the result."""
        target = self.work / "restored.raw"
        try:
            result = restore(target)
            if result.good and subprocess.run(["cmp", "-s", target, self.raw]).returncode:
                return Result(note="WRONG DATA: the restored disk differs")
            return result
        finally:
            target.unlink(missing_ok=True)


@dataclass
class Found:
    """The runs of one race, and how to make rows of them."""

    section: str
    runs: dict[str, list[Result]]
    rows: list[Row]

    def row(
        self, name: str, against: str = "", target: str = "", rate: str = "", inverse: bool = False
    ) -> Row:
        """Add a row; the ratio is seconds(name) / seconds(against), or with ``inverse`` the reverse."""  # noqa: E501
        ratio, other = None, None
        if against:
            other = measure.median(self.runs[against])
            above, below = self.runs[name], self.runs[against]
            ratio = measure.ratio(below, above) if inverse else measure.ratio(above, below)
        row = Row(
            self.section, name, measure.median(self.runs[name]), rate, against, other, ratio, target
        )
        self.rows.append(row)
        return row

    def median(self, name: str) -> Result:
        """Median of one contender."""
        return measure.median(self.runs[name])

    def best(self, names: Sequence[str]) -> str:
        """The fastest of ``names`` that ran, or ''."""
        good = [name for name in names if self.median(name).good]
        return min(good, key=lambda name: self.median(name).seconds, default="")


def section_create(bench: Bench) -> None:
    """Creation: plain, encrypted, the limits, the peers."""

    def ours(password: str | None = None) -> measure.Contender:
        def create() -> Result:
            with contextlib.ExitStack() as stack:
                path = bench.work / "created.aiv"
                stack.callback(path.unlink, missing_ok=True)
                return measure.call(
                    "run", "ours_create", path=str(path), source=str(bench.raw), password=password
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
    found = bench.race("create", {
        "ours": ours(),
        "limit": lambda: measure.call("limits", "compress", path=raw),
        "ours, encrypted": ours(SECRET),
        "limit, compression only": lambda: measure.call("limits", "compress_only", path=raw),
        **{peer.name: peer_run(peer) for peer in creators},
    })  # fmt: skip
    found.row("ours", "limit", "<= 1.25", _gb_s(bench.data, found.median("ours")))
    found.row("ours", "limit, compression only")
    found.row("ours, encrypted", "ours", "<= 1.12")
    best = found.best([peer.name for peer in creators if peer.rival])
    if best:
        found.row("ours", best, ">= 1.5 (best peer)", inverse=True)
    for name in ("limit", "limit, compression only"):
        found.row(name, rate=_gb_s(bench.data, found.median(name)))
    for peer in creators:
        found.row(peer.name, "ours, encrypted" if peer.encrypted else "ours")


def section_restore(bench: Bench) -> None:
    """Restoring: the limit, encrypted, and each peer beside ours."""

    def ours(path: Path, password: str | None = None) -> measure.Contender:
        return lambda: bench.restored(
            lambda target: measure.call(
                "run", "ours_restore", path=str(path), target=str(target), password=password
            )
        )

    with bench.image() as image:
        with bench.frames() as frames:
            found = bench.race("restore", {
                "ours": ours(image),
                "limit": lambda: bench.restored(
                    lambda target: measure.call(
                        "limits", "restore", store=str(frames), target=str(target)
                    )
                ),
            })  # fmt: skip
            found.row("ours", "limit", "<= 1.3", _gb_s(bench.data, found.median("ours")))
            found.row("limit", rate=_gb_s(bench.data, found.median("limit")))
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
                found = bench.race("restore", {
                    "ours": ours(image),
                    peer.name: functools.partial(bench.restored, store.restore),
                })  # fmt: skip
            found.row("ours", peer.name, "> 1", inverse=True)


def section_verify(bench: Bench) -> None:
    """Verifying: full, encrypted, sampled, keyless, and what the peers do."""

    def ours(path: Path, **options: Any) -> measure.Contender:
        return lambda: measure.call("run", "ours_verify", path=str(path), **options)

    with bench.image() as image:
        with bench.frames() as frames, bench.image(SECRET) as secret:
            stored = image.stat().st_size if image.exists() else 0
            found = bench.race("verify", {
                "ours": ours(image),
                "limit": lambda: measure.call("limits", "verify", store=str(frames)),
                "ours, encrypted": ours(secret, password=SECRET),
                "ours, sample of 10 %": ours(image, sample=10),
                "ours, keyless": ours(image, keyless=True),
                "limit, keyless": lambda: measure.call("limits", "keyless", path=str(image)),
            })  # fmt: skip
        for name, size in (("", bench.data), (", keyless", stored)):
            one, two = f"ours{name}", f"limit{name}"
            found.row(one, two, ">= 0.8", _gb_s(size, found.median(one)), inverse=True)
            found.row(two, rate=_gb_s(size, found.median(two)))
        found.row("ours, encrypted", "ours")
        found.row("ours, sample of 10 %", "ours")
        for peer in (peer for peer in bench.peers if peer.verify):
            with peers.stored(peer, bench.raw, bench.work) as store:
                found = bench.race("verify", {"ours": ours(image), peer.name: store.verify})
            found.row(peer.name, "ours")
        if image.exists():
            found = bench.race(
                "verify", {"ours, keyless": ours(image, keyless=True),
                           "openssl sha256 of the image": lambda: peers.digest(image)},
            )  # fmt: skip
            found.row("openssl sha256 of the image", "ours, keyless")


def section_random(bench: Bench) -> None:
    """Random 4 KiB reads: ours in-process, NBD servers, and the raw file as the ceiling."""
    offsets, raw = bench.work / "offsets", str(bench.raw)
    measure.call("limits", "choose_offsets", path=raw, target=str(offsets), count=bench.reads)
    client = peers.build_client(bench.work)
    qemu = next(peer for peer in peers.PEERS if peer.create == peers.QCOW2)

    def ours(threads: int) -> measure.Contender:
        return lambda: measure.call(
            "run", "ours_reads", path=str(image), offsets=str(offsets), source=raw, threads=threads
        )

    def ceiling(threads: int) -> measure.Contender:
        return lambda: measure.call(
            "limits", "raw_reads", path=raw, offsets=str(offsets), threads=threads
        )

    with bench.image() as image, peers.stored(qemu, bench.raw, bench.work) as store:
        qcow2 = store.data / "disk.qcow2"

        def nbd(server: str, disk: Path, depth: int) -> measure.Contender:
            return lambda: peers.nbd_reads(server, disk, client, offsets, depth)

        found = bench.race("random", {
            "ours, one thread": ours(1),
            "qemu-nbd, depth 1": nbd("qemu-nbd", qcow2, 1),
            "ours, two threads": ours(2),
            "qemu-nbd, depth 16": nbd("qemu-nbd", qcow2, 16),
            "raw file, one thread": ceiling(1),
            "raw file, two threads": ceiling(2),
            "nbdkit raw, depth 1": nbd("nbdkit", bench.raw, 1),
            "nbdkit raw, depth 16": nbd("nbdkit", bench.raw, 16),
        })  # fmt: skip
    pairs = {
        "ours, one thread": ("qemu-nbd, depth 1", ">= 2.5"),
        "ours, two threads": ("qemu-nbd, depth 16", ">= 1"),
    }
    for name in found.runs:
        against, target = pairs.get(name, ("", ""))
        found.row(name, against, target, _reads(found.median(name)), inverse=True)


def section_scale(bench: Bench) -> None:
    """A sparse disk of 64 TiB with 1 GiB of data: create, open, read, verify."""
    giant, image = bench.work / "giant.raw", bench.work / "giant.aiv"
    made = measure.call("limits", "sparse_giant", path=str(giant), size=GIANT, pieces=GIANT_PIECES)
    if not made.good:
        note = "the file system of --dir cannot hold a sparse file of 64 TiB"
        bench.rows.append(Row("scale", "64 TiB", Result(note=note)))
        return
    try:
        found = bench.race("scale", {
            "create 64 TiB": lambda: measure.call(
                "run", "ours_create", path=str(image), source=str(giant)
            ),
            "open": lambda: measure.call("run", "ours_open", path=str(image)),
            "read": lambda: measure.call("run", "ours_read_giant", path=str(image)),
            "verify": lambda: measure.call("run", "ours_verify", path=str(image)),
        })  # fmt: skip
    finally:
        giant.unlink(missing_ok=True)
        image.unlink(missing_ok=True)
    for name in ("create 64 TiB", "read", "verify"):
        found.row(name, rate=_gb_s(GIANT_PIECES * MIB, found.median(name)))
    opened = found.median("open")
    values = opened.values or {}
    for unit, key, scale, bound in (("ms", "milliseconds", 1, 50), ("MiB", "growth", MIB, 64)):
        figure = values[key] / scale if key in values else None
        row = Row("scale", f"open, {unit}", opened, ratio=figure, target=f"< {bound} {unit}")
        bench.rows.append(row)
    peak = max(found.median(name).peak for name in ("create 64 TiB", "read", "verify"))
    bench.rows.append(_peak_row("scale", "peak of create, read, verify, MiB", peak))


def section_memory(bench: Bench) -> None:
    """Peak memory of create, restore and verify, plain and encrypted, in one run each."""
    raw = str(bench.raw)
    for password in (None, SECRET):
        kind = ", encrypted" if password else ""
        path = bench.work / "memory.aiv"
        options = {"path": str(path), "password": password}
        try:
            made = measure.call("run", "ours_create", source=raw, **options)
            checked = measure.call("run", "ours_verify", **options)
            back = bench.restored(functools.partial(_restore, options))
        finally:
            path.unlink(missing_ok=True)
        for name, result in (("create", made), ("restore", back), ("verify", checked)):
            bench.rows.append(_peak_row("memory", f"{name}{kind}, MiB", result.peak, result))


def _restore(options: dict[str, Any], target: Path) -> Result:
    """Restore an image of ours in a fresh process."""
    return measure.call("run", "ours_restore", target=str(target), **options)


def _peak_row(section: str, name: str, peak: int, result: Result | None = None) -> Row:
    """A row whose figure is a peak of memory."""
    result = result or Result(peak=peak, note=" ")
    figure = peak / MIB if peak and not result.note.strip() else None
    return Row(section, name, result, ratio=figure, target="<= 256 MiB")


SECTIONS: dict[str, Callable[[Bench], None]] = {
    "create": section_create,
    "restore": section_restore,
    "verify": section_verify,
    "random": section_random,
    "scale": section_scale,
    "memory": section_memory,
}

NEEDS = {"create": 0.6, "restore": 2.0, "verify": 1.5, "random": 1.0, "scale": 0.4, "memory": 1.5}
"""Memory that a section's files take in tmpfs at once, as a multiple of the disk's data."""

# --- the whole ----------------------------------------------------------------------------------


def versions() -> dict[str, str]:
    """Versions of the peers and of the Python packages that matter."""
    found = measure.versions(peers.TOOLS)
    for name in ("aipimage", "zstandard", "cryptography", "numpy", "blake3"):
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


def prepare(args: argparse.Namespace, work: Path) -> tuple[Bench, dict[str, int]]:
    """Build the corpus where it is missing and measure how much data the disk holds."""
    plan = corpus.SMALL if args.small else corpus.FULL
    facts = corpus.build(args.dir, plan, (args.disk,))[args.disk]
    raw = args.dir / f"{args.disk}.raw"
    scan = measure.call(
        "limits", "choose_offsets", path=str(raw), target=str(work / "offsets"), count=1
    )
    chosen = {
        "all": peers.PEERS, "none": (), "rivals": tuple(p for p in peers.PEERS if p.rival),
    }[args.peers]  # fmt: skip
    chosen = tuple(peer for peer in chosen if args.disk in peer.disks)
    data = int(scan.values.get("bytes", 0))
    bench = Bench(
        raw.resolve(), work, args.runs, data, facts["allocated"], chosen,
        reads=2_000 if args.small else 20_000,
    )  # fmt: skip
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
            "machine": machine, "versions": tools, "corpus": facts, "runs": bench.runs,
            "rows": rows, "measured": bench.measured,
        }  # fmt: skip
        json_file.write_text(json.dumps(content, indent=1) + "\n")


def main() -> None:
    """Run the chosen sections, clean up whatever happens, and print the table."""
    args = arguments()
    measure.exit_on_terminate()
    work = args.dir.resolve() / f"work-{os.getpid()}"
    work.mkdir(parents=True)
    try:
        bench, facts = prepare(args, work)
        for name in args.sections:
            if note := measure.need_memory(int(bench.allocated * NEEDS[name]) + 256 * MIB):
                bench.rows.append(Row(name, "all", Result(note=note)))
                continue
            SECTIONS[name](bench)
    except corpus.CorpusError as error:
        sys.exit(f"corpus: {error}")
    finally:
        shutil.rmtree(work, ignore_errors=True)
    report(bench, facts, args.json)


if __name__ == "__main__":
    main()
