"""exFAT: in goes a volume, out comes what its allocation bitmap calls free.

The root directory leads to the bitmap, and every file must lie in what it calls used. Read
``allocation.py`` first; ``headers.py`` changes the boot regions of a volume that is moved.

Source: exFAT File System Specification, revision 1.00, which the docstrings cite by section.
"""

from aipimage.volumes.filesystems.exfat.allocation import allocation, probe
from aipimage.volumes.model import Parser

__all__ = ["PARSER"]

PARSER = Parser("exfat", probe, allocation)
