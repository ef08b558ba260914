"""Btrfs on one device: in goes a volume, out comes the map of what no extent lies in.

Read ``allocation.py`` first: it has the order in which superblock, chunks, trees and extents are
compared. A commit leaves consistent trees, so that no unmount is needed for a map. What was written
by fsync since then is in log trees, whose nodes the extent tree does not have (``logtree.py``). A
volume that shares its file system with other devices is taken whole.

Sources: the Btrfs documentation ("On-disk Format", "Trees", "Btrfs design") and the kernel's
``include/uapi/linux/btrfs_tree.h``. They have no sections, so that the name of a structure is all
that can be cited.
"""

from __future__ import annotations

from aipimage.volumes.filesystems.btrfs.allocation import allocation
from aipimage.volumes.filesystems.btrfs.superblock import probe
from aipimage.volumes.model import Parser

PARSER = Parser("btrfs", probe, allocation)
