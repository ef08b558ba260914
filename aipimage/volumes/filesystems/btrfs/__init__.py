"""Btrfs on one device.

Sources: the Btrfs documentation ("On-disk Format", "Trees", "Btrfs design") and the kernel's
``include/uapi/linux/btrfs_tree.h``, which have no sections to be named more closely than by the
name of a structure.

A commit leaves consistent trees behind, so that no unmount is needed for a map. What was written
by fsync since then is in a log tree, whose nodes the extent tree does not have; a volume with one
is taken whole. So is one that shares its file system with other devices.
"""

from __future__ import annotations

from aipimage.volumes.filesystems.btrfs.allocation import allocation
from aipimage.volumes.filesystems.btrfs.superblock import probe
from aipimage.volumes.model import Parser

PARSER = Parser("btrfs", probe, allocation)
