"""FAT12, FAT16 and FAT32: the file allocation table is the allocation map.

Sources: Microsoft Extensible Firmware Initiative FAT32 File System Specification ("fatgen103"),
which the docstrings cite by section, and how Windows' and Linux' drivers decide where it is silent.
"""

from aipimage.volumes.filesystems.fat.allocation import allocation, probe
from aipimage.volumes.model import Parser

__all__ = ["PARSER"]

PARSER = Parser("fat", probe, allocation)
