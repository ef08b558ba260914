"""LVM2 physical volumes."""

from aipimage.volumes.filesystems.lvm.allocation import allocation, probe
from aipimage.volumes.model import Parser

PARSER = Parser("lvm2", probe, allocation)
