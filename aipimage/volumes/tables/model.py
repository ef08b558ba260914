"""What a partition table says, whatever its form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

PARTITIONS_MAX = 1024
"""Partitions of a disk; Linux has no names for more than 255."""


@dataclass(frozen=True, slots=True)
class Partition:
    """A partition that can hold a volume; a container of logical ones is an ``Extended``.

    Attributes:
        number: as Linux numbers them: place in the GPT from 1, 1 to 4 in the MBR, logical ones
            from 5 on.
        start, size: bytes on the disk, inside of it; ``size`` is never 0.
        type: of an MBR as ``"0x07"``, of a GPT the GUID in lower case.
        name, guid: of a GPT. active: the boot flag of the MBR, or legacy BIOS bootable of a GPT.
        logical: inside an extended partition. attributes: of a GPT, as stored.
        doubt: why its place cannot be trusted, so that all of it counts as in use.
    """

    number: int
    start: int
    size: int
    type: str
    name: str = ""
    guid: str = ""
    active: bool = False
    logical: bool = False
    attributes: int = 0
    doubt: str | None = None

    @property
    def end(self) -> int:
        """Byte past the last one."""
        return self.start + self.size


class BootRecord(NamedTuple):
    """An extended boot record: its byte on the disk, and the logical partitions it names."""

    offset: int
    numbers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Extended:
    """An extended partition of an MBR: the container of logical ones.

    Attributes:
        number: 1 to 4. start, size: bytes on the disk. type: ``"0x05"``, ``"0x0f"``, ``"0x85"``.
        records: its chain of boot records, in the order of the links.
        plain: each record names at most one partition, by its first entry, and the chain ends
            as it should: it can be written anew.
    """

    number: int
    start: int
    size: int
    type: str
    records: tuple[BootRecord, ...] = ()
    plain: bool = True

    @property
    def end(self) -> int:
        """Byte past the last one."""
        return self.start + self.size


@dataclass(frozen=True, slots=True)
class PartitionTable:
    """The partition table of a disk.

    Attributes:
        scheme: ``"gpt"``, ``"mbr"``, or ``"none"``.
        size: bytes of the disk. sector_size: logical, that the table counts in: 512 or 4096.
        partitions: by number. extended: containers of an MBR.
        doubt: why the table cannot be trusted at all: then the whole disk is in use, and it is no
            single volume either.
        signature: of the MBR, eight hex digits, also beside a GPT; empty without an MBR.
        disk_guid: of a GPT, lower case. hybrid: a GPT beside an MBR that has partitions of its own.
        primary_ok, backup_ok: the copies of a GPT, header and entries.
        first_usable, usable_end: bytes between which a GPT may have partitions, as it says.
        entry_count, entry_size: of a GPT's array; entries, bytes.
        is_empty: an MBR in which no record is in use.
        warnings: whole sentences for the user.
    """

    scheme: str
    size: int
    sector_size: int = 512
    partitions: tuple[Partition, ...] = ()
    extended: tuple[Extended, ...] = ()
    doubt: str | None = None
    signature: str = ""
    disk_guid: str = ""
    hybrid: bool = False
    primary_ok: bool = False
    backup_ok: bool = False
    first_usable: int = 0
    usable_end: int = 0
    entry_count: int = 0
    entry_size: int = 0
    is_empty: bool = False
    warnings: tuple[str, ...] = ()

    @property
    def may_be_volume(self) -> bool:
        """Whether the disk as a whole may be one volume: there is no table, or an MBR without any
        partition (boot code before a file system looks like that).
        """
        return self.doubt is None and (self.scheme == "none" or self.is_empty)

    def partition(self, number: int) -> Partition | None:
        """Return the partition with that number, if there is one."""
        return next((part for part in self.partitions if part.number == number), None)

    def gaps(self) -> list[tuple[int, int]]:
        """Return what lies in no partition, ascending: (start, size) in bytes. There are boot code,
        a boot loader's core, the table itself, and extended boot records.
        """
        return gaps_between([(part.start, part.end) for part in self.partitions], self.size)


def gaps_between(taken: list[tuple[int, int]], size: int) -> list[tuple[int, int]]:
    """Return what of ``size`` bytes is in none of the (start, end), as (start, size)."""
    found, done = [], 0
    for start, end in [*sorted(taken), (size, size)]:
        if min(start, size) > done:
            found.append((done, min(start, size) - done))
        done = max(done, end)
    return found
