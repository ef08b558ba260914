"""Errors of a read, which say where on the device they are."""

from __future__ import annotations

from collections.abc import Iterable

from aipimage.errors import AipImageError, FormatError, IntegrityError, reworded
from aipimage.extents import SECTOR
from aipimage.io.index.devicemap import Piece


def located(
    error: AipImageError, path: str, device: int, offset: int, length: int
) -> AipImageError:
    """An error of a range of a device: its message and, of an ``IntegrityError``, its attributes
    name image, device and range in bytes.
    """
    text = str(error).removeprefix(f"{path}: ")
    where = f"device {device}, {length} bytes at offset {offset}"
    new = reworded(error, f"{path}: {where}: {text}")
    if isinstance(new, IntegrityError):
        new.path, new.device, new.offset, new.length = path, device, offset, length
    return new


def lost(path: str, device: int, offset: int, length: int) -> AipImageError:
    """An error of a range that a repair could not save."""
    error = IntegrityError("was lost to damage before this image was repaired")
    return located(error, path, device, offset, length)


def past_frame(path: str) -> FormatError:
    """An error of a map that names more of a frame than there is."""
    return FormatError(f"{path}: the map points past the end of a frame")


def range_of_frame(
    pieces: Iterable[Piece], origin: int, number: int, frame_sectors: int
) -> tuple[int, int]:
    """The first range (offset, length) in bytes of a device that pieces take from a frame."""
    low, high = number * frame_sectors, (number + 1) * frame_sectors
    for piece in pieces:
        start, end = max(low, piece.position), min(high, piece.position + piece.length)
        if piece.origin == origin and start < end:
            at = piece.start + start - piece.position
            return at * SECTOR, (end - start) * SECTOR
    raise RuntimeError("internal error: a frame was loaded that no piece needs")
