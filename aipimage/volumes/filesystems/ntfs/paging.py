"""Files of the root directory in which Windows keeps memory: is it hibernated, and what of them may
be left out of an image.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import NamedTuple

from aipimage.ranges import are_disjoint, intersection, joined
from aipimage.volumes.filesystems.ntfs import layout
from aipimage.volumes.filesystems.ntfs.directory import Directory
from aipimage.volumes.filesystems.ntfs.records import Record, Reference
from aipimage.volumes.filesystems.ntfs.runs import ClusterRuns, Run, as_array, together
from aipimage.volumes.filesystems.ntfs.streams import Mft
from aipimage.volumes.view import LayoutError

HIBERNATION = "hiberfil.sys"
HIBERNATED = "Windows is hibernated in it"
PAGING = ("pagefile.sys", HIBERNATION, "swapfile.sys")
_HEADER = 4096
_KEPT = 65_536
_ASLEEP = (b"hibr", b"HIBR")


def verify_awake(mft: Mft, root: Directory) -> None:
    """Return where no Windows lies hibernated in the volume; ``LayoutError`` where one does.

    A hibernated Windows still has the volume mounted, and in its memory what is not on the disk.
    """
    for reference in root.find(HIBERNATION):
        stream = mft.stream(_file(mft, reference), layout.DATA, b"", HIBERNATION)
        if stream.size < _HEADER:
            raise LayoutError(f"{HIBERNATION} is too short to say whether Windows is hibernated")
        if stream.initialised < 4 or (stream.runs and stream.runs[0].cluster < 0):
            # It begins with zeros that were never written.
            continue
        if stream.flags & (layout.COMPRESSED | layout.ENCRYPTED):
            raise LayoutError(f"{HIBERNATION} is compressed or encrypted")
        mft.view.allow(4)
        if stream.read(0, 4) in _ASLEEP:
            raise LayoutError(HIBERNATED)


class PagingFile(NamedTuple):
    """A file that holds nothing that is wanted after a start.

    Attributes:
        name: in the root directory. number: of its first record. runs: its clusters, ascending.
    """

    name: str
    number: int
    runs: ClusterRuns


def paging_files(mft: Mft, root: Directory) -> list[PagingFile]:
    """Find the files; one is passed over where anything about it is unusual, such as clusters that
    it shares with one of the others.
    """
    found: list[PagingFile] = []
    for name in PAGING:
        with contextlib.suppress(LayoutError):
            found.append(_paging_file(mft, root, name))
    if not are_disjoint(together([file.runs for file in found])):
        return []
    return [file for file in found if len(file.runs)]


def without_claimed(paging: Sequence[PagingFile], claimed: ClusterRuns) -> list[PagingFile]:
    """Those that share no cluster with other files."""
    return [file for file in paging if not len(intersection(claimed, file.runs))]


def _paging_file(mft: Mft, root: Directory, name: str) -> PagingFile:
    found = root.find(name)
    if len(found) != 1:
        raise LayoutError(f"there are {len(found)} of {name}")
    record = _file(mft, found[0])
    if record.flags != layout.IN_USE or record.links != 1:
        raise LayoutError(f"{name} is not an ordinary file")
    stream = mft.stream(record, layout.DATA, b"", name).verified_plain()
    # The header of a hibernation file says whether Windows is hibernated, so that it is kept: else
    # a restore could leave that of a later session where it was.
    kept = -(-_KEPT // mft.geometry.cluster_size) if name == HIBERNATION else 0
    runs = as_array(_without_first(stream.runs, kept))
    if not are_disjoint(runs):
        raise LayoutError(f"{name} has clusters twice")
    return PagingFile(name, record.number, joined(runs))


def _without_first(runs: Sequence[Run], clusters: int) -> list[Run]:
    """Runs of a file without its first clusters."""
    found = []
    for vcn, cluster, length in runs:
        skip = min(length, max(0, clusters - vcn))
        if skip < length:
            found.append(Run(vcn + skip, cluster + skip, length - skip))
    return found


def _file(mft: Mft, reference: Reference) -> Record:
    record = mft.base_record(reference.number)
    if record.sequence != reference.sequence:
        raise LayoutError(f"the root directory names FILE record {reference.number}, used anew")
    return record
