"""Members of Linux software RAID."""

from aipimage.volumes.filesystems.md.allocation import allocation, probe
from aipimage.volumes.model import Parser

PARSER = Parser("md", probe, allocation)
