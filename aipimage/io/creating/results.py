"""What the creation of an image returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class DeviceChanges(NamedTuple):
    """How an increment found out what changed on one device.

    Attributes:
        method: ``"tracked"``: the ranges passed; ``"digests"``: block digests of the parent;
            ``"data"``: the parent's data; ``"full"``: everything was taken.
        read: bytes read from the source for it, without the sample. changed: bytes that were taken
            as changed, in whole clusters; tracked changes are taken as the tracker reported
            them, and what became free is not counted.
        reason: why not a better method, if there is one; else ``None``.
    """

    method: str
    read: int
    changed: int
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class CreateResult:
    """What was made.

    Attributes:
        path: of the image, or ``None`` where it went into a pipe.
        image_id: as hexadecimal digits. digest: the image digest (docs/format.md, section 9),
            likewise: keep it elsewhere and pass it as ``expected_digest`` to recognise the image
            later.
        size: bytes of all sources. data, zero, unreadable: bytes of each kind.
        stored: bytes of the stream. parts: number of files. seconds: wall time.
        unreadable_ranges: (device, offset, length) in bytes. resumed: whether earlier work was
            continued.
        parent_id: of an image with a parent; ``None`` where it begins a chain. sequence: its place
            in the chain, from 0. changes: one a source.
    """

    path: str | None
    image_id: str
    digest: str
    kind: str
    size: int
    data: int
    zero: int
    unreadable: int
    stored: int
    parts: int
    seconds: float
    unreadable_ranges: tuple[tuple[int, int, int], ...]
    resumed: bool
    warnings: tuple[str, ...] = ()
    parent_id: str | None = None
    sequence: int = 0
    changes: tuple[DeviceChanges, ...] = ()
