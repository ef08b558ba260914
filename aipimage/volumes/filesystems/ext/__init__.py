"""ext2, ext3 and ext4: the free blocks, or clusters, of their groups' bitmaps."""

from __future__ import annotations

from aipimage.volumes.filesystems.ext.parser import allocation, probe
from aipimage.volumes.model import Parser

__all__ = ["PARSER"]

PARSER = Parser("ext", probe, allocation)
