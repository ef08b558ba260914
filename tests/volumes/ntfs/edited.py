"""Changing an NTFS volume that lies in memory, with fix-ups and the mirror kept right."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence

from aipimage.io.blocks.sources import BinaryFileSource
from aipimage.volumes.filesystems.ntfs import PARSER
from aipimage.volumes.model import SAFE, Allocation, SurveyOptions
from aipimage.volumes.view import LayoutError, VolumeView
from tests.volumes.ntfs import small as ntfs_small

FIRST_ATTRIBUTE, FLAGS, USED, BASE = 20, 22, 24, 32


def protect(data: bytes) -> bytes:
    """Put update sequence numbers into a FILE or index record or restart page."""
    out = bytearray(data)
    offset, words = struct.unpack_from("<HH", out, 4)
    for sector in range(1, words):
        tail = sector * 512 - 2
        out[offset + 2 * sector : offset + 2 * sector + 2] = out[tail : tail + 2]
        out[tail : tail + 2] = out[offset : offset + 2]
    return bytes(out)


def unprotect(data: bytes) -> bytearray:
    """The contrary, of a record that is right."""
    out = bytearray(data)
    offset, words = struct.unpack_from("<HH", out, 4)
    for sector in range(1, words):
        out[sector * 512 - 2 : sector * 512] = out[offset + 2 * sector : offset + 2 * sector + 2]
    return out


def mapping_pairs(runs: Sequence[tuple[int | None, int]]) -> bytes:
    """Runs (first cluster or ``None`` for a hole, clusters) as they are stored."""
    out, before = b"", 0
    for cluster, count in runs:
        length = count.to_bytes(count.bit_length() // 8 + 1, "little")
        offset = b""
        if cluster is not None:
            delta, before = cluster - before, cluster
            offset = delta.to_bytes(delta.bit_length() // 8 + 1, "little", signed=True)
        out += bytes([len(length) | len(offset) << 4]) + length + offset
    return out + b"\0"


def outside(
    kind: int,
    pairs: bytes,
    first: int,
    count: int,
    size: int,
    allocated: int | None = None,
    name: str = "",
    flags: int = 0,
    instance: int = 9,
    initialised: int | None = None,
) -> bytes:
    """A non-resident attribute of ``count`` clusters from VCN ``first`` on."""
    text = name.encode("utf-16-le")
    at = -(-(64 + len(text)) // 8) * 8
    length = -(-(at + len(pairs)) // 8) * 8
    allocated = count * ntfs_small.CLUSTER if allocated is None else allocated
    head = struct.pack("<IIBBHHH", kind, length, 1, len(name), 64, flags, instance)
    head += struct.pack("<qqHHI", first, first + count - 1, at, 0, 0)
    head += struct.pack("<qqq", allocated, size, size if initialised is None else initialised)
    return (head + text.ljust(at - 64, b"\0") + pairs).ljust(length, b"\0")


def inside(kind: int, value: bytes, instance: int = 9) -> bytes:
    """A resident attribute without a name."""
    length = -(-(24 + len(value)) // 8) * 8
    head = struct.pack("<IIBBHHHIHH", kind, length, 0, 0, 24, 0, instance, len(value), 24, 0)
    return (head + value).ljust(length, b"\0")


def list_entry(kind: int, first: int, record: int, instance: int, sequence: int = 1) -> bytes:
    """An entry of an attribute list."""
    reference = record | sequence << 48
    return struct.pack("<IHBBQQH6x", kind, 32, 0, 26, first, reference, instance)


def restart_pages(
    *pages: tuple[int, int, int], version: tuple[int, int] = (1, 1), magic: bytes = b"RSTR"
) -> bytes:
    """Restart pages of 4 KiB, each of (LSN, first client in use, flags)."""
    out = b""
    for lsn, in_use, flags in pages:
        page = bytearray(4096)
        struct.pack_into("<4sHHqIIHhh", page, 0, magic, 30, 9, 0, 4096, 4096, 64, *version[::-1])
        struct.pack_into("<H", page, 30, 7)
        struct.pack_into(
            "<qHHHHIHHq", page, 64, lsn, 1, 0xFFFF, in_use, flags, 40, 224, 64, 1 << 18
        )
        out += protect(bytes(page))
    return out


class Editor:
    """A volume and how to change it."""

    def __init__(self, data: bytearray | None = None) -> None:
        self.data = ntfs_small.small_volume() if data is None else data

    def record(self, number: int) -> bytearray:
        """A FILE record without fix-ups."""
        at = ntfs_small.MFT + number * ntfs_small.RECORD
        return unprotect(bytes(self.data[at : at + ntfs_small.RECORD]))

    def put(self, number: int, record: bytes) -> None:
        """Write a FILE record, to the mirror too."""
        data = protect(record)
        at = ntfs_small.MFT + number * ntfs_small.RECORD
        self.data[at : at + len(data)] = data
        if number < 4:
            at = ntfs_small.MIRROR + number * ntfs_small.RECORD
            self.data[at : at + len(data)] = data

    def find(self, number: int, kind: int) -> tuple[int, int]:
        """Offset and length of the first attribute of a type in a record."""
        record = self.record(number)
        at = int.from_bytes(record[FIRST_ATTRIBUTE : FIRST_ATTRIBUTE + 2], "little")
        while True:
            found, length = struct.unpack_from("<II", record, at)
            assert found != 0xFFFFFFFF, f"record {number} has no attribute {kind:#x}"
            if found == kind:
                return at, length
            at += length

    def patch(self, number: int, at: int, value: bytes, kind: int | None = None) -> None:
        """Write bytes into a record, or into an attribute of it."""
        record = self.record(number)
        at += 0 if kind is None else self.find(number, kind)[0]
        record[at : at + len(value)] = value
        self.put(number, record)

    def replace(self, number: int, kind: int, attribute: bytes) -> None:
        """Put something in the place of an attribute."""
        at, length = self.find(number, kind)
        record = self.record(number)
        used = int.from_bytes(record[USED : USED + 4], "little")
        changed = record[:at] + attribute + record[at + length : used]
        changed[USED : USED + 4] = len(changed).to_bytes(4, "little")
        assert len(changed) <= len(record)
        self.put(number, changed.ljust(len(record), b"\0"))

    def new_record(self, number: int, base: int, *attributes: bytes) -> None:
        """Write a record that continues another one (whose sequence number is its own, or 1)."""
        record = bytearray(ntfs_small.RECORD)
        body = b"".join(attributes) + b"\xff\xff\xff\xff\0\0\0\0"
        sequence = int.from_bytes(self.record(base)[16:18], "little")
        struct.pack_into("<4sHHqHHHH", record, 0, b"FILE", 48, 3, 0, 1, 0, 56, 1)
        struct.pack_into(
            "<IIQHHI", record, 24, 56 + len(body), 1024, base | sequence << 48, 9, 0, number
        )
        record[48:50] = b"\x05\0"
        record[56 : 56 + len(body)] = body
        self.put(number, record)

    def journal(self, data: bytes) -> None:
        """Write the start of the journal."""
        self.data[ntfs_small.JOURNAL : ntfs_small.JOURNAL + len(data)] = data

    def use(self, first: int, count: int) -> None:
        """Mark clusters as in use."""
        for cluster in range(first, first + count):
            self.data[ntfs_small.BITMAP + cluster // 8] |= 1 << cluster % 8

    def survey(self, leave_out_paging: bool = False, in_use: str = SAFE) -> Allocation:
        """What the parser makes of it."""
        source = BinaryFileSource(io.BytesIO(self.data))
        view = VolumeView(source, 0, source.size)
        found = PARSER.probe(view)
        assert found is not None
        assert PARSER.allocation is not None
        return PARSER.allocation(view, found, SurveyOptions(leave_out_paging, in_use))

    def free(self) -> int:
        """Free clusters, where the map is trusted."""
        return self.survey().free.total // ntfs_small.CLUSTER

    def reason(self) -> str:
        """Why the volume is taken whole; empty where it is not."""
        try:
            self.survey()
        except LayoutError as error:
            return str(error)
        return ""
