"""exFAT: the allocation bitmap, which the root directory leads to.

Source: exFAT File System Specification, revision 1.00, which the docstrings cite by section.
"""

from aipimage.volumes.filesystems.exfat.allocation import allocation, probe
from aipimage.volumes.model import Parser

__all__ = ["PARSER"]

PARSER = Parser("exfat", probe, allocation)
