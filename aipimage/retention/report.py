"""What planning found: for carrying out, for people, and for machines."""

from __future__ import annotations

from dataclasses import dataclass

from aipimage.retention.points import Point


@dataclass(frozen=True, slots=True)
class Kept:
    """A point that stays a point in time, and each rule that keeps it."""

    point: Point
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Merge:
    """A run, oldest first, each the parent of the next, that becomes one image for the last."""

    images: tuple[Point, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Stay:
    """A forgotten point that must stay, and why."""

    point: Point
    reason: str


@dataclass(frozen=True, slots=True)
class Refused:
    """A chain that is not touched, and why."""

    points: tuple[Point, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What is kept, and what is to be done.

    Every point that was passed is in exactly one of ``keep``, ``drops``, ``superseded``, ``stays``,
    a member but the last of one of ``merges``, or in ``refused``.

    Attributes:
        keep: oldest first.
        merges: oldest first; the last image of each is in ``keep`` or ``stays``.
        drops: no kept point needs them; oldest first.
        superseded: what an existing merged image replaces, and no other kept point needs.
        stays: forgotten, and still needed as they are.
        refused: chains with a gap, a circle or a contradiction: nothing of them is touched, and
            the rules do not count their points.
        removals: what is removed after the merges, ``drops`` and the images of ``merges``, in an
            order in which no file outlives one that it depends on.
        warnings: which points have the time of a wrong clock, and what was made of it.
    """

    keep: tuple[Kept, ...]
    merges: tuple[Merge, ...]
    drops: tuple[Point, ...]
    superseded: tuple[Point, ...]
    stays: tuple[Stay, ...]
    refused: tuple[Refused, ...]
    removals: tuple[Point, ...]
    warnings: tuple[str, ...] = ()

    @property
    def nothing_to_do(self) -> bool:
        """Whether there is nothing to merge and nothing to remove."""
        return not (self.merges or self.drops or self.superseded)

    @property
    def bytes_freed_at_least(self) -> int:
        """Bytes of the files that are removed and that no merged one takes the place of."""
        return sum(point.stored for point in (*self.drops, *self.superseded))

    @property
    def bytes_freed_at_most(self) -> int:
        """The same, if of each run nothing but the last image's own bytes is still needed."""
        return self.bytes_freed_at_least + sum(
            point.stored for merge in self.merges for point in merge.images[:-1]
        )

    @property
    def bytes_needed_at_most(self) -> int:
        """Free space that the merged images may take before their inputs are removed."""
        return sum(point.stored for merge in self.merges for point in merge.images)

    def describe(self) -> list[str]:
        """Lines for people."""
        lines = [f"keep    {_told(each.point)}  ({', '.join(each.reasons)})" for each in self.keep]
        lines += [f"stay    {_told(each.point)}  ({each.reason})" for each in self.stays]
        for merge in self.merges:
            paths = ", ".join(_path(point.path) for point in merge.images)
            lines.append(f"merge   {paths}  ({merge.reason})")
        lines += [f"drop    {_told(point)}" for point in self.drops]
        lines += [f"drop    {_told(point)}  (superseded)" for point in self.superseded]
        for each in self.refused:
            lines.append(f"refuse  a chain of {len(each.points)} images  ({_path(each.reason)})")
        lines += [f"warning {_path(text)}" for text in self.warnings]
        low, high = self.bytes_freed_at_least, self.bytes_freed_at_most
        return [*lines, f"frees   {low:,} to {high:,} bytes"]

    def to_dict(self) -> dict[str, object]:
        """Values for JSON: paths, ids, reasons and bytes."""
        return {
            "keep": [_values(each.point) | {"reasons": list(each.reasons)} for each in self.keep],
            "merges": [
                {"images": [_values(point) for point in merge.images], "reason": merge.reason}
                for merge in self.merges
            ],
            "drops": [_values(point) for point in self.drops],
            "superseded": [_values(point) for point in self.superseded],
            "stays": [_values(each.point) | {"reason": each.reason} for each in self.stays],
            "refused": [
                {"images": [_values(point) for point in each.points], "reason": each.reason}
                for each in self.refused
            ],
            "warnings": list(self.warnings),
            "bytes_freed_at_least": self.bytes_freed_at_least,
            "bytes_freed_at_most": self.bytes_freed_at_most,
            "bytes_needed_at_most": self.bytes_needed_at_most,
        }


def _told(point: Point) -> str:
    time = point.created.isoformat(sep=" ", timespec="seconds")
    return f"{time}  {point.kind}  {_path(point.path)}"


def _path(path: str) -> str:
    """A path may hold a line break; a line for people must not."""
    return path if path.isprintable() else ascii(path)


def _values(point: Point) -> dict[str, object]:
    return {
        "path": point.path,
        "image_id": point.image_id,
        "kind": point.kind,
        "created": point.created.isoformat(),
        "stored": point.stored,
    }
