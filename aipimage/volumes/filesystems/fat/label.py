"""The label of a FAT volume: a directory entry of the root directory."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from aipimage.volumes.filesystems.fat.geometry import Geometry
from aipimage.volumes.filesystems.fat.layout import ENTRY_BYTES
from aipimage.volumes.view import LayoutError, VolumeView

_MOST = 96 << 10
"""Bytes of a root directory that are searched."""
_CLUSTERS_MOST = 64
_LABEL, _DIRECTORY, _LONG_NAME, _ATTRIBUTES = 0x08, 0x10, 0x0F, 0x3F
_NO_NAME = b"NO NAME    "
_END, _DELETED, _STANDS_FOR_DELETED = 0x00, 0xE5, 0x05
Entries = npt.NDArray[np.uint8]


def find_label(view: VolumeView, geometry: Geometry, root_cluster: int) -> str:
    """Return the label (fatgen103, FAT Directory Structure), or an empty text where there is none
    or the directory cannot be read.
    """
    try:
        if geometry.root_size:
            length = min(geometry.root_size, _MOST)
            return _label_in(view.read_array(geometry.root_start, length)) or ""
        return _label_of_chain(view, geometry, root_cluster)
    except LayoutError:
        return ""


def _label_of_chain(view: VolumeView, geometry: Geometry, cluster: int) -> str:
    """Search the root directory of FAT32, a chain of clusters like any other directory."""
    left = _MOST
    for _ in range(_CLUSTERS_MOST):
        if not 2 <= cluster < geometry.clusters + 2 or left <= 0:
            break
        start = geometry.data_start + (cluster - 2) * geometry.cluster_size
        length = min(left, geometry.cluster_size)
        found = _label_in(view.read_array(start, length))
        if found is not None:
            return found
        left -= length
        table = geometry.fat_start + (geometry.active or 0) * geometry.fat_size
        cluster = int.from_bytes(view.read(table + 4 * cluster, 4), "little") & 0x0FFF_FFFF
    return ""


def _label_in(data: Entries) -> str | None:
    """The label in a part of a directory; empty where the directory ends without one, ``None``
    where it continues.
    """
    entries = data.reshape(-1, ENTRY_BYTES)
    ends = np.flatnonzero(entries[:, 0] == _END)
    entries = entries[: ends[0]] if len(ends) else entries
    attributes = entries[:, 11] & _ATTRIBUTES
    is_label = (attributes != _LONG_NAME) & (attributes & (_LABEL | _DIRECTORY) == _LABEL)
    no_cluster = ~entries[:, [20, 21, 26, 27]].any(axis=1)
    labels = np.flatnonzero(is_label & no_cluster & (entries[:, 0] != _DELETED))
    if len(labels):
        return _text(entries[labels[0], :11].tobytes())
    return "" if len(ends) else None


def _text(name: bytes) -> str:
    """The code page is written nowhere; 850 has the letters of most Western systems."""
    if name == _NO_NAME:
        return ""
    if name[0] == _STANDS_FOR_DELETED:
        name = bytes([_DELETED]) + name[1:]
    text = name.decode("cp850").rstrip()
    return "".join(letter if letter.isprintable() else "?" for letter in text)
