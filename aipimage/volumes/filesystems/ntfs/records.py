"""FILE records and their attributes, taken apart and checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from aipimage.volumes.filesystems.ntfs import layout
from aipimage.volumes.fixups import fixed_up
from aipimage.volumes.view import LayoutError


class Reference(NamedTuple):
    """What identifies a file: its record's number, and how often that record was used anew."""

    number: int
    sequence: int

    @classmethod
    def decode(cls, data: bytes) -> Reference:
        """From 8 bytes ("File Reference")."""
        return cls(int.from_bytes(data[:6], "little"), int.from_bytes(data[6:8], "little"))


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute of a FILE record ("Attributes", header).

    Attributes:
        type, name, flags, instance: the name in UTF-16, little-endian.
        value: of a resident one, else ``None``.
        first, last: VCNs of a non-resident one. pairs: its mapping pairs.
        allocated, size, initialised: bytes; they count only in the part that begins at VCN 0.
    """

    type: int
    name: bytes
    flags: int
    instance: int
    value: bytes | None = None
    first: int = 0
    last: int = -1
    pairs: bytes = b""
    allocated: int = 0
    size: int = 0
    initialised: int = 0


@dataclass(frozen=True, slots=True)
class Record:
    """A FILE record.

    Attributes:
        number: which one. sequence, links, flags: as it says. base: of the file that it continues;
            all zeros where it is the first of its own.
    """

    number: int
    sequence: int
    links: int
    flags: int
    base: Reference
    attributes: tuple[Attribute, ...]

    @property
    def in_use(self) -> bool:
        """Whether it belongs to a file."""
        return bool(self.flags & layout.IN_USE)

    def all_of(self, type_: int, name: bytes = b"") -> list[Attribute]:
        """Its own attributes of a type and name."""
        return [one for one in self.attributes if one.type == type_ and one.name == name]


def decode_record(data: bytes, number: int) -> Record:
    """Read a FILE record as it lies on the disk ("FILE Record").

    Raises:
        LayoutError: something in it does not fit.
    """
    what = f"FILE record {number}"
    fixed = fixed_up(data, layout.FILE_MAGIC, what)
    fields = layout.RECORD.unpack_from(fixed)
    sequence, links, offset, flags, used, allocated, base = fields
    if allocated != len(data) or used > allocated:
        raise LayoutError(f"{what} says that {used} of its {allocated} bytes are in use")
    if offset % 8 or offset < layout.RECORD_BYTES:
        raise LayoutError(f"the attributes of {what} begin at byte {offset}")
    attributes = _attributes(fixed[:used], offset, what)
    return Record(number, sequence, links, flags, Reference.decode(base), attributes)


def _attributes(data: bytes, offset: int, what: str) -> tuple[Attribute, ...]:
    """All up to the end mark, each at least 24 bytes long, so that the loop ends."""
    found: list[Attribute] = []
    while True:
        if offset + 4 > len(data):
            raise LayoutError(f"the attributes of {what} run out of it")
        if int.from_bytes(data[offset : offset + 4], "little") == layout.ATTRIBUTES_END:
            return tuple(found)
        length = int.from_bytes(data[offset + 4 : offset + 8], "little")
        if length < 24 or length % 8 or offset + length > len(data):
            raise LayoutError(f"an attribute of {what} runs out of it")
        found.append(_attribute(data[offset : offset + length], what))
        offset += length


def _attribute(data: bytes, what: str) -> Attribute:
    type_, _, outside, characters, name_at, flags, instance = layout.ATTRIBUTE.unpack_from(data)
    if outside > 1 or (characters and name_at + 2 * characters > len(data)):
        raise LayoutError(f"an attribute of {what} has a name that runs out of it")
    name = data[name_at : name_at + 2 * characters] if characters else b""
    if not outside:
        length, at = layout.RESIDENT.unpack_from(data)
        if at + length > len(data):
            raise LayoutError(f"an attribute of {what} has a value that runs out of it")
        return Attribute(type_, name, flags, instance, data[at : at + length])
    if len(data) < layout.NON_RESIDENT.size:
        raise LayoutError(f"an attribute of {what} is too short")
    first, last, at, _, allocated, size, initialised = layout.NON_RESIDENT.unpack_from(data)
    if not layout.NON_RESIDENT.size <= at <= len(data) or not 0 <= first <= last + 1:
        raise LayoutError(f"an attribute of {what} has mapping pairs that run out of it")
    return Attribute(
        type_, name, flags, instance, None, first, last, data[at:], allocated, size, initialised
    )
