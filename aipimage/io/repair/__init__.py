"""Repair: from a damaged, cut or unfinished image to a new one of all that is whole
(docs/format.md, section 11).

In go the file, or what is left of its parts, and the directories with the rest of the chain. Out
comes a new image in which the rest is lost, and a ``RepairResult``; the damaged image is only read.
Read ``rebuild.py`` first: ``survey.py`` finds the whole records, ``facts.py`` what they say of the
image, ``mapping.py`` rebuilds the map of each device, and ``tables.py`` the tables of frames.
"""

from aipimage.io.repair.rebuild import repair_image
from aipimage.io.repair.report import RepairResult

__all__ = ["RepairResult", "repair_image"]
