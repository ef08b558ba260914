"""What a restore returns."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PartitionChange:
    """A partition that is not on the target as it was on the source.

    Attributes:
        number: of the partition. old_start, old_size: bytes, on the source; start, size: on the
            target.
    """

    number: int
    old_start: int
    old_size: int
    start: int
    size: int


@dataclass(frozen=True, slots=True)
class RestoreResult:
    """What was restored.

    Attributes:
        target: path. size: bytes of the device, or of the volume. written: bytes of data written;
            the rest reads as zeros.
        unreadable: bytes that could not be read from the source when it was imaged; they are zeros
            on the target.
        seconds: wall time.
        device: number in the image. volume: its number; ``None`` where a whole disk was restored.
        unused: bytes that were known to be free: zeros in a file, anything on a device.
        changes: partitions that were moved or became smaller.
        expanded: bytes of the file system after it grew with its volume; ``None`` where it did not.
        notes: what else was done. warnings: what the user should look at.
    """

    target: str
    size: int
    written: int
    unreadable: int
    seconds: float
    device: int = 0
    volume: int | None = None
    unused: int = 0
    changes: tuple[PartitionChange, ...] = ()
    expanded: int | None = None
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
