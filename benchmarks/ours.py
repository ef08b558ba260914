"""Ours: what aipimage does, for a fresh process each through ``measure.call``.

``measure.timed`` marks what counts; importing the library and comparing the result do not.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import measure

HERE = Path(__file__).resolve().parent
MIB = 1 << 20
GIANT = 64 << 40
GIANT_PIECES = 1024
MISSING = {"note": "aipimage is not importable"}


def imported() -> Any:
    """Import aipimage, installed or from this checkout, before any clock runs."""
    sys.path.append(str(HERE.parent))
    try:
        import aipimage
    except ImportError as error:
        print(f"  import aipimage: {error}", file=sys.stderr)
        return None
    return aipimage if hasattr(aipimage, "create") else None


def without(path: str) -> str:
    """Remove what the round before made, as is done for the peers: replacing it would need room for
    both, and freeing it would count.
    """
    Path(path).unlink(missing_ok=True)
    return path


def create(
    path: str, source: str, password: str | None = None, used: bool = False, frame: int = 65_536
) -> dict[str, Any]:
    """Create an image at zstd level 1: of all that is not zero, or of used clusters only."""
    library = imported()
    if library is None:
        return MISSING
    without(path)
    with measure.timed():
        library.create(
            path,
            [source],
            compress="zstd:1",
            encrypt="aes-256" if password else None,
            password=password,
            include_free=not used,
            frame_size=frame,
        )
    return {"size": os.path.getsize(path)}


def restore(path: str, target: str, password: str | None = None) -> dict[str, Any]:
    """Restore the first device into a file."""
    library = imported()
    if library is None:
        return MISSING
    with measure.timed(), library.open(path, password=password) as image:
        image.restore(target, device=0, force=True)
    return {"size": os.stat(target).st_blocks * 512}


def verify(
    path: str, password: str | None = None, sample: float | None = None, keyless: bool = False
) -> dict[str, Any]:
    """Verify an image fully, by sample, or without a key."""
    library = imported()
    if library is None:
        return MISSING
    with measure.timed():
        if keyless:
            library.verify_keyless(path)
        else:
            with library.open(path, password=password) as image:
                image.verify(**({} if sample is None else {"sample": sample}))
    return {}


def reads(
    path: str, offsets: str, source: str, threads: int = 1, state: str | None = None
) -> dict[str, Any]:
    """Random 4 KiB reads in-process; afterwards some are compared with the disk itself.

    ``state`` is what ``Overlay.save`` wrote where the image is of a later state of the disk.
    """
    from concurrent.futures import ThreadPoolExecutor

    from states import Overlay

    library = imported()
    if library is None:
        return MISSING
    places = memoryview(Path(offsets).read_bytes()).cast("Q").tolist()
    with library.open(path) as image, ThreadPoolExecutor(threads) as pool:
        raw = image.devices[0].open()

        def work(number: int) -> int:
            buffer, share = bytearray(4096), places[number::threads]
            for place in share:
                raw.readinto_at(buffer, place)
            return len(share)

        with measure.timed():
            reads = sum(pool.map(work, range(threads)))
        disk = Overlay(source)
        if state is not None:
            disk.load(state)
        buffer, expected = bytearray(4096), bytearray(4096)
        for place in places[:: max(1, len(places) // 500)]:
            raw.readinto_at(buffer, place)
            disk.read_into(expected, place)
            if buffer != expected:
                return {"note": f"WRONG DATA at {place}"}
    return {"reads": reads}


def open_image(path: str) -> dict[str, Any]:
    """Open an image and its first device; report how much memory that took."""
    library = imported()
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


def read_giant(path: str) -> dict[str, Any]:
    """Read every piece of the giant and the zeros before it, and compare; only reading counts."""
    from limits import giant_piece

    library = imported()
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
