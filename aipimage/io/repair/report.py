"""What a repair saved and what it could not."""

from __future__ import annotations

from dataclasses import dataclass

LOST_MAX = 100_000
"""Ranges that a result lists at most; ``lost_bytes`` counts all."""


@dataclass(frozen=True, slots=True)
class RepairResult:
    """What :func:`repair` made.

    Attributes:
        path: of the new image. image_id, digest: of it, as hexadecimal digits.
        frames: frames that are in the new image. frames_lost: those known to be missing.
        kept: bytes of the devices whose content is known. stored: bytes of the new image's stream.
        lost: (device, offset, length) in bytes of all that is lost, in order and joined, the first
            100,000 of them.
        lost_bytes: bytes of all of it.
        used: what was whole enough to build upon: ``"header"``, ``"trailer"``, ``"seal"``,
            ``"segments"``, ``"description"``, ``"map of device 0"``, ``"frame table"``, …
        warnings: sentences about what else is not as it was.
    """

    path: str
    image_id: str
    digest: str
    frames: int
    frames_lost: int
    kept: int
    stored: int
    lost: tuple[tuple[int, int, int], ...]
    lost_bytes: int
    used: tuple[str, ...]
    warnings: tuple[str, ...]
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether nothing is lost."""
        return not self.lost_bytes


class LostRanges:
    """Collects lost ranges in order, joining neighbours."""

    def __init__(self) -> None:
        self.sectors = 0
        self.ranges: list[tuple[int, int, int]] = []
        self._open: tuple[int, int, int] | None = None

    def add(self, device: int, sector: int, sectors: int) -> None:
        """Add a range after those that were added."""
        self.sectors += sectors
        last = self._open
        if last is not None and (last[0], last[1] + last[2]) == (device, sector):
            self._open = (device, last[1], last[2] + sectors)
        else:
            self._close()
            self._open = (device, sector, sectors)

    def _close(self) -> None:
        if self._open is not None and len(self.ranges) < LOST_MAX:
            self.ranges.append(self._open)
        self._open = None

    def in_bytes(self, sizes: list[int]) -> tuple[tuple[tuple[int, int, int], ...], int]:
        """The ranges in bytes, cut at the ends of the devices, and how many bytes all of them
        are.
        """
        self._close()
        found = tuple(
            (device, start * 512, min(sectors * 512, sizes[device] - start * 512))
            for device, start, sectors in self.ranges
        )
        padding = sum(
            sectors * 512 - length
            for (_, _, sectors), (_, _, length) in zip(self.ranges, found, strict=True)
        )
        return found, self.sectors * 512 - padding
