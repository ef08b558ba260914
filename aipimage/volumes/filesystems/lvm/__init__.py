"""LVM2 physical volumes: in goes a volume, out comes what of it no logical volume uses.

Where the extents of a logical volume all lie here, its own content is surveyed too. Read
``allocation.py`` first; ``group.py`` makes a volume group of the metadata, whose text ``text.py``
parses.
"""

from aipimage.volumes.filesystems.lvm.allocation import allocation, probe
from aipimage.volumes.model import Parser

PARSER = Parser("lvm2", probe, allocation)
