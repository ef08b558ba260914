"""What a conversion gives back."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ConvertResult:
    """What was made.

    Attributes:
        source: its path. source_format: ``aiv``, ``vmdk`` or ``raw``.
        target: its path, ``None`` where it went into a stream. format: ``vmdk``, ``raw``, ``aiv``,
            ``ova`` or ``ovf``. subformat: ``createType`` of a virtual disk.
        disks: numbers of the disks of the source that were converted.
        size: bytes of the disks as a machine sees them. data: bytes of data that were written,
            before compression; the rest reads as zeros.
        stored: bytes of the target, without holes. files: paths of all files that were made.
        unreadable: bytes that could not be read, now or when the source was imaged; they are zeros.
        cid: content identity of a virtual disk. digest: image digest of an ``.aiv`` target.
        resumed: whether earlier work was continued. seconds: wall time.
        notes: what else was done. warnings: what the user should look at.
    """

    source: str
    source_format: str
    target: str | None
    format: str
    subformat: str | None
    disks: tuple[int, ...]
    size: int
    data: int
    stored: int
    files: tuple[str, ...]
    unreadable: int
    cid: int | None
    digest: str | None
    resumed: bool
    seconds: float
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
