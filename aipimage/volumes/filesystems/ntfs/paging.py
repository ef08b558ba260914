"""Files of the root directory in which Windows keeps memory: is it hibernated, and what of them may
be left out of an image.
"""

from __future__ import annotations

from collections.abc import Iterator

from aipimage.volumes.filesystems.ntfs import layout
from aipimage.volumes.filesystems.ntfs.directory import Directory
from aipimage.volumes.filesystems.ntfs.records import Record, Reference
from aipimage.volumes.filesystems.ntfs.runs import ClusterRuns, as_array, merged, overlapping
from aipimage.volumes.filesystems.ntfs.streams import Mft
from aipimage.volumes.view import LayoutError

HIBERNATION = "hiberfil.sys"
PAGING = ("pagefile.sys", HIBERNATION, "swapfile.sys")
_HEADER = 4096
_ASLEEP = (b"hibr", b"HIBR")


def verify_awake(mft: Mft, root: Directory) -> None:
    """Return where no Windows lies hibernated in the volume; ``LayoutError`` where one does.

    A hibernated Windows still has the volume mounted, and in its memory what is not on the disk.
    """
    for reference in root.find(HIBERNATION):
        stream = mft.stream(_file(mft, reference), layout.DATA, b"", HIBERNATION)
        if stream.size < _HEADER:
            raise LayoutError(f"{HIBERNATION} is too short to tell whether Windows is hibernated")
        if stream.initialised < 4:
            continue
        mft.view.allow(4)
        if stream.read(0, 4) in _ASLEEP:
            raise LayoutError("Windows is hibernated in it")


def paging_files(
    mft: Mft, root: Directory, claimed: ClusterRuns
) -> Iterator[tuple[str, ClusterRuns]]:
    """Yield the name and clusters of the files that hold nothing that is wanted after a start.

    A file is passed over where anything about it is unusual, or where clusters of it are
    ``claimed`` (ascending and disjoint) by others or were yielded before.
    """
    for name in PAGING:
        try:
            runs = _paging_file(mft, root, name)
        except LayoutError:
            continue
        rows, twice = merged([runs])
        if len(rows) and not twice and not overlapping(claimed, rows):
            claimed = merged([claimed, rows])[0]
            yield name, rows


def _paging_file(mft: Mft, root: Directory, name: str) -> ClusterRuns:
    found = root.find(name)
    if len(found) != 1:
        raise LayoutError(f"there are {len(found)} of {name}")
    record = _file(mft, found[0])
    if record.flags != layout.IN_USE or record.links != 1:
        raise LayoutError(f"{name} is no ordinary file")
    stream = mft.stream(record, layout.DATA, b"", name).verified_plain()
    return as_array(stream.runs)


def _file(mft: Mft, reference: Reference) -> Record:
    record = mft.base_record(reference.number)
    if record.sequence != reference.sequence:
        raise LayoutError(f"the root directory names FILE record {reference.number}, used anew")
    return record
