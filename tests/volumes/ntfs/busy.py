"""NTFS volumes in use: what a volume was like before its journal's changes reached their places."""

from __future__ import annotations

import io
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from aipimage.io.blocks.sources import BinaryFileSource
from aipimage.volumes.filesystems.ntfs.bitmap import open_bitmap
from aipimage.volumes.filesystems.ntfs.boot import decode_geometry
from aipimage.volumes.filesystems.ntfs.journal import journal_of
from aipimage.volumes.filesystems.ntfs.streams import Mft, Stream
from aipimage.volumes.journals.ntfslog.operations import Change, decode_change
from aipimage.volumes.journals.ntfslog.pages import LogPages
from aipimage.volumes.journals.ntfslog.records import LogRecords, Record
from aipimage.volumes.journals.ntfslog.restart import shape_of
from aipimage.volumes.view import LayoutError, VolumeView
from tests.support.tools import run
from tests.volumes.journals.judge import hashes
from tests.volumes.journals.ntfslog import built
from tests.volumes.ntfs.edited import protect, unprotect
from tests.volumes.ntfs.made import ntfs_3g

PAGE = 4096
Used = np.ndarray[tuple[int], np.dtype[np.bool_]]


class Disk:
    """A volume in memory.

    Attributes:
        data: its bytes. mft: reads them as they are. cluster: bytes.
    """

    def __init__(self, data: bytes) -> None:
        self.data = bytearray(data)
        source = BinaryFileSource(io.BytesIO(data))
        view = VolumeView(source, 0, source.size, 1 << 30)
        self.mft = Mft(view, decode_geometry(view.read(0, 512)))
        self.cluster = self.mft.geometry.cluster_size
        self.journal = journal_of(self.mft)
        self.bitmap = open_bitmap(self.mft)

    def spans(self, stream: Stream, offset: int, length: int) -> Iterator[tuple[int, int]]:
        """(byte of the volume, bytes) of a range of a stream."""
        yield from stream.places(offset, length)

    def used(self) -> Used:
        """Which clusters $Bitmap calls used."""
        count = self.mft.geometry.clusters
        self.mft.view.allow(1 << 30)
        bits = np.frombuffer(self.bitmap.read(0, -(-count // 8)), np.uint8)
        return np.unpackbits(bits, count=count, bitorder="little").astype(np.bool_)

    def set_used(self, first: int, count: int, used: bool) -> None:
        """Change bits of $Bitmap."""
        for cluster in range(first, first + count):
            ((at, _),) = self.spans(self.bitmap, cluster // 8, 1)
            bit = 1 << cluster % 8
            self.data[at] = self.data[at] | bit if used else self.data[at] & ~bit

    def record(self, number: int) -> bytes:
        """A FILE record as it lies there."""
        self.mft.view.allow(1 << 20)
        return self.mft.read_records(number, 1)[0]

    def put_record(self, number: int, data: bytes) -> None:
        """Write a FILE record as it is to lie there."""
        for at, length in self.spans(self.mft.data, number * len(data), len(data)):
            self.data[at : at + length], data = data[:length], data[length:]

    def journal_bytes(self) -> bytes:
        """The whole journal."""
        self.mft.view.allow(1 << 30)
        return self.journal.stream.read(0, self.journal.stream.initialised)

    def put_journal(self, data: bytes | bytearray) -> None:
        """Write the start of the journal."""
        left = bytes(data)
        for at, length in self.spans(self.journal.stream, 0, len(data)):
            self.data[at : at + length], left = left[:length], left[length:]

    def records(self, oldest: int | None = None) -> list[Record]:
        """The journal's records from one on, or from the first of the newest turns that leads to
        the last.
        """
        data = self.journal_bytes()
        shape = shape_of(self.journal.pages, len(data))
        pages = LogPages(lambda at, length: data[at : at + length], shape)
        reader = LogRecords(pages)
        starts = [oldest] if oldest is not None else sorted(_starts(pages))
        for start in starts:
            found = list(reader.from_lsn(start))
            if found[-1].lsn >= shape.current:
                return found
        raise AssertionError("no record leads to the last one")

    def reopen(self, oldest: int) -> None:
        """Let the restart pages say that the volume is in use, and which record is the oldest."""
        data = bytearray(self.journal_bytes()[: 2 * PAGE])
        for at in (0, PAGE):
            page = unprotect(bytes(data[at : at + PAGE]))
            area = int.from_bytes(page[24:26], "little")
            clients = int.from_bytes(page[area + 22 : area + 24], "little")
            page[area + 14 : area + 16] = b"\0\0"
            page[area + clients : area + clients + 8] = oldest.to_bytes(8, "little")
            data[at : at + PAGE] = protect(bytes(page))
        self.put_journal(data)

    def take_back_bits(self, records: list[Record]) -> None:
        """Give $Bitmap the bits that it had before some records, as if none of its pages had been
        written since.
        """
        for change in reversed(list(_changes(records))):
            place = next(self.bitmap.places(change.vcn * self.cluster, 1), (0, 0))
            operations = (built.SET_BITS, built.CLEAR_BITS)
            if change.redo in operations and place[0] == change.clusters[0] * self.cluster:
                first, count = struct.unpack("<II", change.redo_data)
                at = 8 * (change.vcn * self.cluster + change.cluster_at) + first
                self.set_used(at, count, change.redo == built.CLEAR_BITS)


def _starts(pages: LogPages) -> Iterator[int]:
    """LSNs that lie at their own places."""
    shape = pages.shape
    bits = 64 - shape.sequence_bits
    for at in range(pages.first, shape.size, shape.page):
        try:
            data = pages.page(at).data
        except LayoutError:
            continue
        for inside in range(shape.data_at, shape.page - 48, 8):
            lsn = int.from_bytes(data[inside : inside + 8], "little")
            if lsn >> bits and lsn & (1 << bits) - 1 == (at + inside) >> 3:
                yield lsn


def _changes(records: list[Record]) -> Iterator[Change]:
    yield from (decode_change(record) for record in records if record.kind == 1)


def replayed(volume: Path, at: Path) -> tuple[dict[str, str], Used] | None:
    """Let ntfsrecover replay a copy of a volume; return its files, and which clusters are used;
    ``None`` where it gives up, as it does on some journals of Windows.
    """
    copy = volume.with_name("replayed")
    shutil.copyfile(volume, copy)
    # With -k also journals of version 2.0.
    if "failed" in run(["ntfsrecover", "-k", copy], codes=(0, 1)):
        return None
    with ntfs_3g(copy, at, "ro,norecover") as there:
        files = hashes(there)
    return files, Disk(copy.read_bytes()).used()
