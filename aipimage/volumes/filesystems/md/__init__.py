"""Members of Linux software RAID: in goes a volume, out comes what of it is free.

The content of a mirror's member is surveyed like a volume of its own; any other member is taken
whole. Read ``allocation.py`` first; ``layout.py`` has the superblocks.
"""

from aipimage.volumes.filesystems.md.allocation import allocation, probe
from aipimage.volumes.model import Parser

PARSER = Parser("md", probe, allocation)
