"""What is used of a built volume, or why it is refused."""

from __future__ import annotations

import numpy as np
import pytest

from aipimage.volumes.filesystems.exfat import PARSER
from aipimage.volumes.view import LayoutError
from tests.support.surveyed import surveyed, used_of
from tests.volumes.exfat.built import ExfatVolume, bitmap_entry, label_entry, upcase_entry

FILE = b"\x85".ljust(32, b"\0")


PLAIN = ExfatVolume()


OWN = (label_entry("L"), bitmap_entry(2, 25), upcase_entry(3, 100))


def used(volume: ExfatVolume) -> list[int]:
    """Numbers of the clusters that are in use."""
    return (np.flatnonzero(used_of(surveyed(PARSER, volume.source())[1])) + 2).tolist()


def refused(volume: ExfatVolume, reason: str) -> None:
    """The volume is told to be exFAT, and taken whole for that reason."""
    with pytest.raises(LayoutError, match=reason):
        surveyed(PARSER, volume.source())
