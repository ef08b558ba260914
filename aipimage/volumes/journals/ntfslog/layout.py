"""Where the fields of $LogFile lie; no logic. Little-endian throughout.

Sources: the Linux-NTFS project's "NTFS Documentation", file $LogFile; the names of fields and
operations are those of the same and of Microsoft's "NTFS Technical Reference".
"""

from __future__ import annotations

from struct import Struct
from typing import Final

RESTART_MAGIC, CHKDSK_MAGIC, PAGE_MAGIC = b"RSTR", b"CHKD", b"RCRD"
RESTART_PAGE: Final = Struct("<8xqIIHhh")
"""LSN of chkdsk, size of a system page and of a log page, offset of the restart area, minor and
major version."""
RESTART_AREA: Final = Struct("<qHHHHIHH")
"""Current LSN, clients, first free client, first client in use, flags, bits of a sequence number,
length of the area, offset of the clients."""
RESTART_SIZES: Final = Struct("<24xqIHH")
"""The rest of the same: bytes of the file, of the data of the last record, of a record's header,
and the offset of the data in a log page."""
NO_CLIENT = 0xFFFF
VOLUME_IS_CLEAN = 0x0002
CLIENT: Final = Struct("<qqHHH6xI")
"""Oldest LSN that is needed, LSN of the last checkpoint, clients before and after, sequence number,
bytes of the name, which follows."""
CLIENT_BYTES = 160
CLIENT_NAME = "NTFS".encode("utf-16-le")
VERSIONS: Final = {(1, 1): 4, (2, 0): 34}
"""Versions that are known, and the page at which the ring of each begins. Before it, from page 2
on, lie copies of pages that were not full yet."""
PAGE_MIN, PAGE_MAX = 512, 64 << 10
PAGE_USUAL, DATA_AT_USUAL = 4096, 64
"""Bytes of every page that Windows writes, and where its data begin."""
LOG_MAX = 256 << 20
"""Bytes of a log that is looked at; Windows makes them 64 MiB long at most."""

PAGE: Final = Struct("<8xqIHHH6xq")
"""Last LSN (in a copy of version 1.1 the offset of its place), flags, pages of the transfer, its
position among them, offset past the last record that ends in it, and that record's LSN."""
PLACE_AT = 60
"""Of a copy of version 2.0: four bytes with the offset of its place."""
PAGE_HEADER_MIN = 40

RECORD: Final = Struct("<qqqIHHIIH6x")
"""LSN, LSN of the client's record before, LSN of the next one to be undone, bytes of data, sequence
number and index of the client, type, transaction, flags."""
OF_CLIENT, OF_RESTART = 1, 2
NO_REDO_DATA, NO_UNDO_DATA = 2, 4
"""Flags: the data to redo are zeros, those to undo are not kept."""
DATA_MAX = 1 << 20
"""Bytes of a record's data: tables are the largest, and Windows cuts those of dirty pages."""

CHANGE: Final = Struct("<HHHHHHHHHHH2xq")
"""Operations to redo and to undo; offset and bytes of the data of each; target attribute, clusters
that follow; offsets in the record, in the attribute, and in the cluster (in units of 512 bytes);
VCN. The first cluster numbers follow."""
CHECKPOINT: Final = Struct("<IIqqqqqIIII")
"""Major and minor version, LSN at its begin; LSNs of the tables of attributes, of their names, of
dirty pages and of transactions; bytes of each."""
TABLE: Final = Struct("<HHH6xIII")
"""Bytes of an entry, entries, entries in use, and three places of the list of free ones."""
ENTRY_IN_USE = 0xFFFFFFFF
ATTRIBUTE_ENTRIES: Final = {0: Struct("<8xQq4xII8x"), 1: Struct("<8xI4xQq8x")}
"""By the version of the checkpoint, 44 or 40 bytes: file reference, LSN and type of an open
attribute; in version 1 the type comes first."""
NAME: Final = Struct("<HH")
"""Place of an open attribute in its table, bytes of its name, which follows with a closing zero."""
DIRTY_PAGES: Final = {0: Struct("<4xIII4xqq"), 1: Struct("<4xIIIqq")}
"""Target attribute, bytes, clusters that follow, VCN, oldest LSN; the cluster numbers follow."""
TRANSACTION: Final = Struct("<4xB3xqqqII")
"""State, LSNs of its first and last record and of the next one to be undone, records and bytes
that are to be undone."""

OPERATIONS: Final = (
    "Noop", "CompensationLogRecord", "InitializeFileRecordSegment", "DeallocateFileRecordSegment",
    "WriteEndOfFileRecordSegment", "CreateAttribute", "DeleteAttribute", "UpdateResidentValue",
    "UpdateNonresidentValue", "UpdateMappingPairs", "DeleteDirtyClusters", "SetNewAttributeSizes",
    "AddIndexEntryRoot", "DeleteIndexEntryRoot", "AddIndexEntryAllocation",
    "DeleteIndexEntryAllocation", "WriteEndOfIndexBuffer", "SetIndexEntryVcnRoot",
    "SetIndexEntryVcnAllocation", "UpdateFileNameRoot", "UpdateFileNameAllocation",
    "SetBitsInNonresidentBitMap", "ClearBitsInNonresidentBitMap", "HotFix", "EndTopLevelAction",
    "PrepareTransaction", "CommitTransaction", "ForgetTransaction", "OpenNonresidentAttribute",
    "OpenAttributeTableDump", "AttributeNamesDump", "DirtyPageTableDump", "TransactionTableDump",
    "UpdateRecordDataRoot", "UpdateRecordDataAllocation", "UpdateRelativeDataIndex",
    "UpdateRelativeDataAllocation", "ZeroEndOfFileRecord",
)  # fmt: skip
"""Operations by their number."""
NOOP, COMPENSATION, INITIALIZE, DEALLOCATE, WRITE_END = 0, 1, 2, 3, 4
CREATE_ATTRIBUTE, DELETE_ATTRIBUTE, UPDATE_MAPPING_PAIRS, DELETE_DIRTY, SET_SIZES = 5, 6, 9, 10, 11
SET_BITS, CLEAR_BITS, HOT_FIX = 0x15, 0x16, 0x17
FORGET_TRANSACTION = 0x1B
OPEN_ATTRIBUTE, ATTRIBUTE_TABLE, NAME_TABLE = 0x1C, 0x1D, 0x1E
DIRTY_PAGE_TABLE, TRANSACTION_TABLE = 0x1F, 0x20
BITS: Final = Struct("<II")
"""First bit and bits, of an operation on a bitmap; counted from the start of the cluster."""
CLUSTERS: Final = Struct("<QQ")
"""First cluster and clusters, of those whose pages are dirty no longer."""
