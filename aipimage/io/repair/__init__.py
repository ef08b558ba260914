"""Saving what is whole of a damaged image (docs/format.md, section 11)."""

from aipimage.io.repair.rebuild import repair_image
from aipimage.io.repair.report import RepairResult

__all__ = ["RepairResult", "repair_image"]
