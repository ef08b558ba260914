"""Finding a plan for a smaller disk that can be carried out: where a file system cannot become as
small as a plan wants it, the next plan is tried.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

from aipimage.errors import TargetError
from aipimage.io.blocks.sinks import TargetInfo
from aipimage.io.blocks.sources import BlockSource
from aipimage.volumes.model import Volume
from aipimage.volumes.patches import Patch
from aipimage.volumes.restoring.job import RestoreJob, scratch_directory
from aipimage.volumes.restoring.limits import Limits
from aipimage.volumes.restoring.planning import PartitionPlan
from aipimage.volumes.restoring.shrinking import (
    CannotShrinkError,
    Smaller,
    check_tools,
    header_patches,
    shrink_copy,
)


@dataclass(slots=True)
class Prepared:
    """A plan, and what it needs.

    Attributes:
        smaller: volumes whose file systems become smaller. patches: of those that become so by
            their headers, by offset on the target. copies: of the others, by number.
    """

    plan: PartitionPlan
    smaller: list[Smaller]
    patches: list[Patch]
    copies: dict[int, BlockSource] = field(default_factory=dict)

    @property
    def copied(self) -> list[int]:
        """Numbers of the volumes that come from a copy."""
        return [each.volume.number for each in self.smaller if each.copied]


class Attempts:
    """The search for a plan.

    Args:
        make_plan: a plan for these limits, or ``TargetError`` where there is none.
        limits: how small each volume can become, by number; they get tighter with each refusal.
    """

    def __init__(
        self,
        job: RestoreJob,
        info: TargetInfo,
        source: BlockSource,
        volumes: Sequence[Volume],
        limits: dict[int, Limits],
        make_plan: Callable[[dict[int, Limits]], PartitionPlan],
    ) -> None:
        self._job, self._info, self._source = job, info, source
        self._volumes = {volume.number: volume for volume in volumes}
        self._limits, self._make_plan = limits, make_plan
        self._refusal: CannotShrinkError | None = None
        self._copies: dict[int, tuple[int, BlockSource]] = {}
        self._wanted: dict[int, int] = {}

    def prepared(self) -> Prepared:
        """The next plan all of whose volumes may be made smaller here; nothing is copied yet.

        Raises:
            TargetError: there is none; it is the first refusal, where there was one.
        """
        while True:
            try:
                plan = self._make_plan(self._limits)
            except TargetError as error:
                raise (self._refusal or error) from None
            try:
                return self._without_copies(plan)
            except CannotShrinkError as refusal:
                self._learn(plan, refusal)

    def _without_copies(self, plan: PartitionPlan) -> Prepared:
        smaller = [Smaller(self._volumes[n], size) for n, size in plan.shrunk.items()]
        for each in smaller:
            check_tools(each, self._info.name)
        patches = [
            (plan.placements[each.volume.number].start + offset, data)
            for each in smaller
            if not each.copied
            for offset, data in header_patches(self._source, each)
        ]
        return Prepared(plan, smaller, patches)

    def with_copies(self, found: Prepared, stack: ExitStack) -> Prepared:
        """A plan with copies of all volumes that are made smaller on one; they go with the stack.

        Raises:
            TargetError: as for ``prepared``. Nothing was written to the target.
        """
        if not found.copied:
            return found
        place = scratch_directory(self._info, self._job.options)
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix=".aipimage-", dir=place))
        stack.callback(self._close_all)
        while True:
            try:
                for each in found.smaller:
                    if each.copied:
                        found.copies[each.volume.number] = self._copy(each, directory)
                return found
            except CannotShrinkError as refusal:
                self._learn(found.plan, refusal)
            found = self.prepared()

    def _copy(self, smaller: Smaller, directory: str) -> BlockSource:
        """A copy of a volume; that of an earlier plan where it wanted the same size."""
        number = smaller.volume.number
        size, copy = self._copies.get(number, (0, None))
        if copy is not None and size == smaller.size:
            return copy
        if copy is not None:
            del self._copies[number]
            copy.close()
            self._job.options.storage.remove(copy.name)
        made = shrink_copy(self._job, smaller, directory)
        self._copies[number] = smaller.size, made
        return made

    def _learn(self, plan: PartitionPlan, refusal: CannotShrinkError) -> None:
        """Expect more of a volume than a plan did: what its tool says that it needs, once, and then
        all that it has.
        """
        self._refusal = self._refusal or refusal
        number = refusal.number
        limits, wanted = self._limits[number], plan.shrunk[number]
        again = number in self._wanted
        self._wanted[number] = wanted
        if not again and wanted < refusal.least < limits.kept:
            self._limits[number] = replace(limits, least=refusal.least)
        else:
            why = limits.why or "its tools cannot make it so small"
            self._limits[number] = replace(limits, least=limits.kept, why=why)

    def _close_all(self) -> None:
        for _, copy in self._copies.values():
            copy.close()
