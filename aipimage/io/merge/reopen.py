"""Opening what an interrupted merge left, to resume it (docs/format.md, section 9.5)."""

from __future__ import annotations

from dataclasses import replace

from aipimage.errors import AipImageError, StorageError, TargetError
from aipimage.format import constants as c
from aipimage.format.header import Header
from aipimage.format.keyarea import KeyArea
from aipimage.io.merge.copying import KeptBeginning
from aipimage.io.merge.note import MergeNote, NotedFiles
from aipimage.io.merge.run import MergeRun
from aipimage.io.stream.opening import read_header, read_key_area
from aipimage.io.stream.outstream import PARTIAL
from aipimage.io.stream.partial import PartialStream, open_partial

_BEGUN = (bytes(4), c.HEADER_MAGIC[:4], c.PART_MAGIC[:4])
"""How a file begins whose header was not all written. After a power cut its first bytes may be
zeros though later ones are there.
"""


class LeftMerge:
    """The partial file at ``out``, as far as the note says that a merge of the chain left it."""

    def __init__(self, run: MergeRun, out: str, split: int | None, note: MergeNote) -> None:
        self._run, self._out, self._split, self._note = run, out, split, note
        self._storage = run.storage

    def reopen(self, wanted: Header, area: KeyArea | None) -> KeptBeginning | None:
        """Return what was kept; ``None`` where that was another merge of the chain, which is
        replaced, or where there is nothing.

        Args:
            wanted: the header that the merge would begin with now. area: likewise its key area.

        Raises:
            TargetError: the partial file is of no merge of this chain. StorageError: it cannot be
                read.
        """
        noted = self._note.read()
        stream = open_partial(self._storage, self._out, self._split)
        if stream is None:
            self._refuse_other_file(wanted, noted)
            return None
        try:
            self._refuse_other_image(stream, wanted, noted)
            header = self._same_header(stream, wanted, area) if noted and noted.same else None
        except BaseException:
            stream.close()
            raise
        if header is None:
            stream.close()
            return None
        return KeptBeginning(stream, header, self._run.keys)

    def _refuse_other_file(self, wanted: Header, noted: NotedFiles | None) -> None:
        """What begins no image is only ours where a merge ended before it had written one."""
        left = self._storage.open_left(self._out + PARTIAL)
        if left is None:
            return
        room = c.PART_RECORD + wanted.records_start
        with left:
            begun = left.pread(room + 1, 0)
        if noted is None or len(begun) > room or not (begun + bytes(4)).startswith(_BEGUN):
            raise self._other()

    def _refuse_other_image(
        self, stream: PartialStream, wanted: Header, noted: NotedFiles | None
    ) -> None:
        try:
            ours = noted is not None and read_header(stream).file_id in noted.files
        except StorageError:
            raise
        except AipImageError:
            # Cut short before its header was whole.
            ours = noted is not None and stream.size <= wanted.records_start
        if not ours:
            raise self._other()

    def _other(self) -> TargetError:
        return TargetError(
            f"{self._out}{PARTIAL}: was not left by a merge of this chain, and stays as it is; "
            "move it away, or merge without resuming, which replaces it"
        )

    def _same_header(
        self, stream: PartialStream, wanted: Header, area: KeyArea | None
    ) -> Header | None:
        try:
            header = read_header(stream)
            if _without_ids(header) != _without_ids(wanted):
                return None
            if self._run.keys is not None:
                self._run.keys.verify_header_mac(bytes(stream.pread(header.core_length, 0)))
                if read_key_area(stream, header)[0] != area:
                    return None
        except StorageError:
            raise
        except AipImageError:
            # Cut short before its header was whole: there is nothing to resume.
            return None
        return header


def _without_ids(header: Header) -> Header:
    """What is the same in each attempt at one merge."""
    return replace(
        header, file_id=c.ZERO_ID, created=0, header_mac=c.ZERO_DIGEST, header_digest=c.ZERO_DIGEST
    )
