"""Which points in time of a set of images to keep, and how to be rid of the others.

A point in time is forgotten by *dropping* its image, where nothing that is kept depends on it, or
by *merging* it into the next kept point below it (docs/format.md, sections 9.4 and 9.5).

::

    from aipimage.retention import KeepRules, carry_out, plan

    found = plan(points, KeepRules.parse("last=7,daily=14,monthly=12"))
    print("\\n".join(found.describe()))
    carry_out(found)

:func:`plan` looks only at the points that are passed to it and changes nothing.
:func:`carry_out` works in an order in which every kept point stays restorable after each step; cut
short, it is continued by planning again from what is on the disk. Errors are
:class:`aipimage.AipImageError`.
"""

from aipimage.retention.execution import (
    MergeStep,
    RemoveStep,
    carry_out,
    merge_files,
    merged_path,
    remove_image,
    steps,
)
from aipimage.retention.planning import plan
from aipimage.retention.points import Point, points_of
from aipimage.retention.report import Kept, Merge, Plan, Refused, Stay
from aipimage.retention.rules import KeepRules, time_zone

__all__ = [
    "KeepRules",
    "Kept",
    "Merge",
    "MergeStep",
    "Plan",
    "Point",
    "Refused",
    "RemoveStep",
    "Stay",
    "carry_out",
    "merge_files",
    "merged_path",
    "plan",
    "points_of",
    "remove_image",
    "steps",
    "time_zone",
]
