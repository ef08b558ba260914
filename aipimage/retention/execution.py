"""Carrying out a plan, in an order in which every kept point stays restorable after each step."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass

from aipimage.errors import StorageError
from aipimage.io.stream.instream import files_of
from aipimage.io.system.storage import DEFAULT, absolute
from aipimage.retention.points import Point
from aipimage.retention.report import Merge, Plan


@dataclass(frozen=True, slots=True)
class MergeStep:
    """Make the file ``path``, durable, of a run of images."""

    path: str
    images: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class RemoveStep:
    """Remove the file, or all parts, of an image."""

    point: Point


Step = MergeStep | RemoveStep
NameMerged = Callable[[Merge, Container[str]], str]
MergeImages = Callable[[str, Sequence[Point]], object]
RemoveImage = Callable[[Point], object]


def merged_path(merge: Merge, taken: Container[str]) -> str:
    """Name a merged image after the last one of its run: ``d.aiv`` becomes ``d.merged.aiv``.

    The same run gets the same name again as long as no file has it, so that a merge that was
    interrupted is resumed.
    """
    stem, suffix = os.path.splitext(merge.images[-1].path)
    stem = re.sub(r"\.merged(-[0-9]+)?$", "", stem)
    path, number = f"{stem}.merged{suffix}", 2
    while path in taken or DEFAULT.exists(path):
        path, number = f"{stem}.merged-{number}{suffix}", number + 1
    return path


def merge_files(path: str, images: Sequence[Point], *, password: str | None = None) -> None:
    """Merge the files of a run into ``path``; when this returns, that file is durable."""
    # Planning needs no codec and no keys, so they are loaded here.
    from aipimage.io.merge.job import merge_images

    merge_images(path, [image.path for image in images], password=password)


def remove_image(point: Point) -> None:
    """Remove the file of an image, part 1 last where it is split; one that is gone is not an error.

    A removal that is cut short so leaves a file which says that its other parts are missing, never
    parts that no listing of images shows. Where it was cut short before, the rest is removed.
    """
    try:
        names = files_of(DEFAULT, point.path)
    except StorageError:
        if DEFAULT.exists(point.path):
            raise
        return
    for name in reversed(names):
        DEFAULT.remove(name, missing_ok=True)
    DEFAULT.sync_directory(os.path.dirname(absolute(point.path)))


def steps(plan: Plan, name: NameMerged = merged_path) -> list[Step]:
    """List what carrying out a plan does, in order.

    1. Files that merged images replaced already go first: that frees space and puts nothing at
       risk, and only one image then stands for each point when the next merge is made.
    2. Images that are dropped, newest first, so that no file outlives one that it depends on. They
       go before the merges, because a merge keeps what any other image needs that is there.
    3. All merges, and then the removal of what went into them, newest first. If a merge fails, all
       of its images are still there.
    """
    taken = _paths(plan)
    merges: list[Step] = []
    for merge in plan.merges:
        path = name(merge, taken)
        taken.add(path)
        merges.append(MergeStep(path, merge.images))
    leftovers = [RemoveStep(point) for point in reversed(plan.superseded)]
    merged = {image.image_id for merge in plan.merges for image in merge.images}
    drops = [RemoveStep(each) for each in plan.removals if each.image_id not in merged]
    inputs = [RemoveStep(each) for each in plan.removals if each.image_id in merged]
    return [*leftovers, *drops, *merges, *inputs]


def carry_out(
    plan: Plan,
    *,
    merge: MergeImages = merge_files,
    remove: RemoveImage = remove_image,
    name: NameMerged = merged_path,
    on_step: Callable[[Step], object] | None = None,
) -> tuple[str, ...]:
    """Do what a plan says, and return the paths of the merged images.

    No other program may write images of these chains meanwhile. After a failure, plan again from
    what is on the disk: that gives the rest.

    Args:
        merge: makes one durable file of a run, or raises. For images with a password give
            ``functools.partial(merge_files, password=...)``.
        remove: removes an image; one that is not there is not an error.
        name: returns the path of a merged image, none of those that are taken.
        on_step: called before each step; what it raises stops the work there.

    Raises:
        AipImageError: a step failed; the steps before it are done, and no kept point is lost.
    """
    made: list[str] = []
    for step in steps(plan, name):
        if on_step is not None:
            on_step(step)
        if isinstance(step, RemoveStep):
            remove(step.point)
        else:
            merge(step.path, step.images)
            made.append(step.path)
    return tuple(made)


def _paths(plan: Plan) -> set[str]:
    """The paths of all images that were passed."""
    left = [kept.point for kept in plan.keep] + [stay.point for stay in plan.stays]
    refused = [point for chain in plan.refused for point in chain.points]
    return {point.path for point in (*left, *refused, *plan.removals, *plan.superseded)}
