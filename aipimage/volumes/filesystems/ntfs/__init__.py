"""NTFS: which clusters $Bitmap calls free, where everything around it agrees.

The order of trust: boot sector, MFT and its mirror, $Volume's flags, the journal, hibernation, then
the bitmap, which must call in use what the files of the system and a sample of the others claim.
"""

from __future__ import annotations

from aipimage.volumes.filesystems.ntfs.allocation import allocation, probe
from aipimage.volumes.model import Parser

PARSER = Parser("ntfs", probe, allocation)

__all__ = ["PARSER"]
