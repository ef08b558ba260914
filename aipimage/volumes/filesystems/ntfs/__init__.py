"""NTFS: in goes a volume, out come the clusters that $Bitmap calls free.

The order of trust: boot sector, MFT and its mirror, $Volume's flags, the journal, hibernation, then
the bitmap, which must call in use what the files of the system and a sample of the others claim.
Read ``allocation.py`` first, which goes through them in that order; ``headers.py`` changes the boot
sector of a volume that is moved.
"""

from __future__ import annotations

from aipimage.volumes.filesystems.ntfs.allocation import allocation, probe
from aipimage.volumes.model import Parser

PARSER = Parser("ntfs", probe, allocation)

__all__ = ["PARSER"]
