"""The section on virtual disks: an image to VMDK and back, beside ``qemu-img``.

All contenders convert the same content: what an image of used clusters holds, which ``qemu-img``
gets as the raw file that the image was restored to. What ours writes is compared with that file by
``qemu-img compare``, once and outside of the clock.
"""

from __future__ import annotations

import contextlib
import dataclasses
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import measure
import numpy as np
import peers
from chains import choose
from measure import Result
from rows import Bench, Found, Row, gb_s

DEPTH = 30
DEPTH_CLUSTERS = 20
CHECKED = 2000
COMPARE_SECONDS = 900
FAST, DENSE = "streamOptimized", "streamOptimized, dense"
NEWEST = f"{FAST}, newest of {DEPTH}"
SPARSE = "monolithicSparse"


@dataclasses.dataclass(frozen=True)
class _Disk:
    """The content that all contenders convert."""

    bench: Bench
    image: Path
    """Ours, of used clusters."""
    raw: Path
    """What it restores to."""

    @property
    def data(self) -> int:
        """Bytes of the raw file that are no holes."""
        return self.raw.stat().st_blocks * 512


def section_vmdk(bench: Bench) -> None:
    """Writing streamOptimized and monolithicSparse, then images made of both."""
    disk = _Disk(bench, bench.work / "used.aiv", bench.work / "used.raw")
    try:
        for made in (
            measure.call("ours", "create", path=str(disk.image), source=str(bench.raw), used=True),
            measure.call("ours", "restore", path=str(disk.image), target=str(disk.raw)),
        ):
            if not made.good:
                bench.rows.append(Row("vmdk", "the image to convert", made))
                return
        _streams(disk)
        _sparse(disk)
        for name, subformat in ((FAST, "streamOptimized"), (SPARSE, SPARSE)):
            _back(disk, name, subformat)
    finally:
        disk.image.unlink(missing_ok=True)
        disk.raw.unlink(missing_ok=True)


# --- writing ----------------------------------------------------------------------------------


def _streams(disk: _Disk) -> None:
    """The fast and the dense level, and the newest of a chain, against qemu's single run."""
    bench = disk.bench
    with _chain(disk) as (newest, check), _peers(disk, peers.VMDK_STREAM) as theirs:
        found = bench.race(
            "vmdk",
            {
                FAST: _writer(disk, disk.image, "streamOptimized"),
                NEWEST: _writer(disk, newest, "streamOptimized", check=check),
                DENSE: _writer(disk, disk.image, "streamOptimized", level="dense"),
                **{name: _once(contender) for name, contender in theirs.items()},
            },
        )
    qemu = peers.VMDK_STREAM[0].name
    for name, speed, size in ((FAST, 12, 1.07), (NEWEST, 12, 1.07), (DENSE, 2, 1)):
        rate = gb_s(disk.data, found.median(name))
        if qemu in theirs:
            found.row(name, qemu, f">= {speed}", rate, inverse=True)
            _share(found, name, qemu, f"<= {size}")
        else:
            found.row(name, rate=rate)
        found.peak([name])


def _sparse(disk: _Disk) -> None:
    """Plain grains, against the faster of qemu's ways."""
    with _peers(disk, peers.VMDK_SPARSE) as theirs:
        found = disk.bench.race("vmdk", {SPARSE: _writer(disk, disk.image, SPARSE), **theirs})
    rate, best = gb_s(disk.data, found.median(SPARSE)), found.best(list(theirs))
    if not theirs:
        found.row(SPARSE, rate=rate)
    for name in theirs:
        found.row(SPARSE, name, ">= 2" if name == best else "", rate, inverse=True)
        _share(found, SPARSE, name, "")
    found.peak([SPARSE])


@contextlib.contextmanager
def _chain(disk: _Disk) -> Iterator[tuple[Path, Path]]:
    """Build small increments on the image; give the newest and what tells how it differs."""
    bench, state = disk.bench, disk.bench.work / "chain.npy"
    pool = choose(bench, "pool", DEPTH * DEPTH_CLUSTERS // 2, disk.raw)
    paths = [bench.work / f"{number:04}.aiv" for number in range(1, DEPTH + 1)]
    try:
        made = measure.call(
            "chainours",
            "build_chain",
            folder=str(bench.work),
            full=str(disk.image),
            source=str(bench.raw),
            pool=str(pool),
            state=str(state),
            count=DEPTH,
            each=DEPTH_CLUSTERS,
            used=True,
        )
        if not made.good:
            bench.rows.append(Row("vmdk", "building the chain", made))
        # Half of what is looked at comes from the increments, half from anywhere.
        check = choose(bench, "check", CHECKED // 2, disk.raw)
        changed = np.fromfile(pool, np.uint64)[: CHECKED // 2]
        np.unique(np.concatenate((np.fromfile(check, np.uint64), changed))).tofile(check)
        yield paths[-1], check
    finally:
        for path in (*paths, state):
            path.unlink(missing_ok=True)


def _writer(
    disk: _Disk, image: Path, subformat: str, level: str = "fast", check: Path | None = None
) -> measure.Contender:
    """Return a contender that writes a virtual disk and drops it; its first is compared."""
    target = disk.bench.work / "ours.vmdk"
    compared: list[str] = []

    def write() -> Result:
        try:
            result = measure.call(
                "vmdkours",
                "write",
                target=str(target),
                image=str(image),
                subformat=subformat,
                level=level,
            )
            if result.good and not compared:
                compared.append(_difference(disk, target, image, check))
            return Result(note=compared[0]) if compared and compared[0] else result
        finally:
            target.unlink(missing_ok=True)

    return write


def _difference(disk: _Disk, target: Path, image: Path, check: Path | None) -> str:
    """Return a note where a virtual disk differs: from the raw file; with ``check``, which lists
    clusters, from the image, which has other content than that file.
    """
    if check is not None:
        return measure.call(
            "vmdkours", "compare", path=str(target), image=str(image), check=str(check)
        ).note
    if not measure.available("qemu-img"):
        return ""
    done = subprocess.run(
        ["qemu-img", "compare", "-f", "vmdk", "-F", "raw", target, disk.raw],
        capture_output=True,
        text=True,
        timeout=COMPARE_SECONDS,
        check=False,
    )
    return f"WRONG DATA: {(done.stdout + done.stderr).strip()}" if done.returncode else ""


@contextlib.contextmanager
def _peers(disk: _Disk, chosen: tuple[peers.Peer, ...]) -> Iterator[dict[str, measure.Contender]]:
    """Give contenders of the raw file that drop what they wrote; none where peers are not asked
    for.
    """
    stores = [peers.Store(peer, disk.raw, disk.bench.work) for peer in chosen]

    def dropped(store: peers.Store) -> measure.Contender:
        def create() -> Result:
            try:
                return store.create()
            finally:
                store.drop()

        return create

    yield {store.peer.name: dropped(store) for store in stores} if disk.bench.peers else {}


def _once(contender: measure.Contender) -> measure.Contender:
    """Run it in the first round only: what it found then stands for all rounds."""
    found: list[Result] = []

    def run() -> Result:
        if not found:
            found.append(contender())
        return found[0]

    return run


def _share(found: Found, name: str, against: str, target: str) -> None:
    """Add a row for the size of one file over that of another."""
    one, two = found.median(name), found.median(against)
    share = one.size / two.size if one.good and two.good and two.size else None
    label = f"{name}: size / that of {against}"
    rate = f"{two.size / 1e6:,.0f} MB" if two.good else ""
    found.rows.append(
        Row(found.section, label, one, against=f"{against}: {rate}", ratio=share, target=target)
    )


# --- reading ----------------------------------------------------------------------------------


def _back(disk: _Disk, name: str, subformat: str) -> None:
    """An image made of a virtual disk, against one of the raw file and bare decompression."""
    bench, source = disk.bench, disk.bench.work / "source.vmdk"
    ours, raw, limit = f"{name} to .aiv", "raw to .aiv", "limit, inflate the grains"
    spread = choose(bench, "spread", CHECKED, disk.raw)
    try:
        made = measure.call(
            "vmdkours", "write", target=str(source), image=str(disk.image), subformat=subformat
        )
        if not made.good:
            bench.rows.append(Row("vmdk", ours, made))
            return
        contenders = {ours: _creator(disk, source, spread), raw: _creator(disk, disk.raw, spread)}
        if name == FAST:
            contenders[limit] = lambda: measure.call("vmdkours", "inflate", path=str(source))
        found = bench.race("vmdk", contenders)
    finally:
        source.unlink(missing_ok=True)
    slower = max(list(found.runs)[1:], key=lambda each: found.median(each).seconds)
    rate = gb_s(disk.data, found.median(ours))
    for other in list(found.runs)[1:]:
        found.row(ours, other, "<= 1.1" if other == slower else "", rate)
    if limit in found.runs:
        both = _both(found.runs[raw], found.runs[limit])
        named = Found("vmdk", {ours: found.runs[ours], f"{limit}, then {raw}": both}, bench.rows)
        named.row(ours, f"{limit}, then {raw}", "", rate)
    found.peak([ours])


def _creator(disk: _Disk, source: Path, spread: Path) -> Callable[[], Result]:
    """Return a contender that makes an image, compares some clusters, and drops it."""
    target = disk.bench.work / "back.aiv"

    def create() -> Result:
        try:
            made = measure.call("vmdkours", "read", path=str(target), source=str(source))
            if not made.good:
                return made
            read = measure.call(
                "ours", "reads", path=str(target), offsets=str(spread), source=str(disk.raw)
            )
            return dataclasses.replace(made, note=read.note)
        finally:
            target.unlink(missing_ok=True)

    return create


def _both(one: list[Result], two: list[Result]) -> list[Result]:
    """Show two contenders as one that does both, one after the other."""
    return [
        Result(a.seconds + b.seconds, a.cpu + b.cpu, note=a.note or b.note)
        for a, b in zip(one, two, strict=False)
    ]
