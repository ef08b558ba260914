"""What is done with a disk before it is imaged: free space is found, and what to leave out."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from aipimage.errors import RequestError
from aipimage.io.blocks.freespace import FreeSpace, MappedFree, NoFreeSpace, RangesFree
from aipimage.io.blocks.sources import BlockSource
from aipimage.io.blocks.usedsource import UsedSource
from aipimage.ranges import ByteRanges, difference, joined
from aipimage.volumes.described import described
from aipimage.volumes.diskinfo import survey_warnings

if TYPE_CHECKING:
    from aipimage.volumes.model import Volume
    from aipimage.volumes.survey import DiskSurvey


@dataclass(frozen=True, slots=True)
class Preparation:
    """What is done with each source before it is imaged: free space is found and left out.

    Attributes:
        include_free: keep all. volumes: for each source the numbers of those to keep; ``None``
            keeps all.
        leave_out_paging: leave the content of paging files out.
        in_use: what is done with volumes in use; see ``SurveyOptions``.
    """

    include_free: bool = False
    volumes: Sequence[Sequence[int] | None] | None = None
    leave_out_paging: bool = False
    in_use: str = "safe"

    def __call__(self, number: int, source: BlockSource) -> BlockSource:
        """Return the source without what is left out.

        Raises:
            RequestError: a volume that was asked for is not there, or free space is to be both kept
                and left out.
        """
        if self.include_free and self.leave_out_paging:
            raise RequestError(
                "leave_out_paging cannot be combined with include_free: paging files are left out "
                "as free space; pass one of the two"
            )
        from aipimage.volumes.model import SurveyOptions
        from aipimage.volumes.survey import survey

        found = survey(source, SurveyOptions(self.leave_out_paging, self.in_use))
        chosen = self.volumes[number] if self.volumes is not None else None
        if chosen is not None:
            _check_chosen(source.name, found, chosen)
        warnings = survey_warnings(source, found, chosen)
        known = found.table.partitions or any(each.filesystem for each in found.volumes)
        if not known and not warnings:
            return source
        kept = _kept(found, chosen)
        about = described(found, lambda each: each in kept)
        return UsedSource(source, _free(found, kept, self.include_free), about, warnings)


def _check_chosen(name: str, found: DiskSurvey, chosen: Sequence[int]) -> None:
    there = [volume.number for volume in found.volumes]
    missing = [number for number in chosen if number not in there]
    if missing or not chosen:
        numbers = ", ".join(map(str, there)) or "none"
        raise RequestError(
            f"{name}: has no volume {', '.join(map(str, missing)) or 'chosen'}; it has {numbers}"
        )


def _kept(found: DiskSurvey, chosen: Sequence[int] | None) -> set[int]:
    """Numbers of the volumes that are kept: those chosen, and those whose place cannot be
    trusted, since the partition table, or a volume that was chosen, may lie in it.
    """
    numbers = {each.number for each in found.volumes}
    return {
        each
        for each in numbers
        if chosen is None or each in chosen or not found.may_leave_out(each)
    }


def _free(found: DiskSurvey, numbers: Container[int], include_free: bool) -> FreeSpace:
    """Free space of the volumes that are kept, and all of those that are not."""
    parts: list[tuple[int, FreeSpace, int, int]] = []
    kept = [each for each in found.volumes if each.number in numbers]
    if not include_free:
        parts += [
            (each.start, each.allocation.free, 0, each.size)
            for each in kept
            if each.whole_because is None
        ]
    if len(kept) < len(found.volumes):
        dropped = [each for each in found.volumes if each not in kept]
        left = difference(_ranges(dropped), _ranges(kept))
        parts += [
            (start, RangesFree(np.array([(0, size)], np.uint64)), 0, size)
            for start, size in left.tolist()
        ]
    return MappedFree(sorted(parts, key=lambda part: part[0])) if parts else NoFreeSpace()


def _ranges(volumes: Sequence[Volume]) -> ByteRanges:
    rows = [(each.start, each.size) for each in volumes]
    return joined(np.array(rows, np.uint64).reshape(-1, 2))
