"""ext2, ext3 and ext4: the free blocks, or clusters, of their groups' bitmaps.

In goes a view of the volume; out comes an ``Allocation``, or a ``LayoutError`` with the reason why
the whole volume counts as in use. Read ``parser.py`` first; ``inuse.py`` is for a volume whose
journal is open (``journals/jbd2``).
"""

from __future__ import annotations

from aipimage.volumes.filesystems.ext.parser import allocation, probe
from aipimage.volumes.model import Parser

__all__ = ["PARSER"]

PARSER = Parser("ext", probe, allocation)
