"""FAT12, FAT16 and FAT32: in goes a volume, out comes what its file allocation table calls free.

Read ``allocation.py`` first; ``geometry.py`` verifies the boot sector, ``table.py`` reads the
table, and ``headers.py`` changes the boot sector of a volume that is moved or becomes smaller.

Sources: Microsoft Extensible Firmware Initiative FAT32 File System Specification ("fatgen103"),
which the docstrings cite by section, and how Windows' and Linux' drivers decide where it is silent.
"""

from aipimage.volumes.filesystems.fat.allocation import allocation, probe
from aipimage.volumes.model import Parser

__all__ = ["PARSER"]

PARSER = Parser("fat", probe, allocation)
