"""The MFT, and the attributes of its files, wherever their parts lie."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from aipimage.volumes.filesystems.ntfs import layout
from aipimage.volumes.filesystems.ntfs.boot import Geometry
from aipimage.volumes.filesystems.ntfs.records import Attribute, Record, Reference, decode_record
from aipimage.volumes.filesystems.ntfs.runs import RUNS_MAX, Run, clusters_of, decode_runs
from aipimage.volumes.view import LayoutError, VolumeView


class Stream:
    """What an attribute holds.

    Attributes:
        name: for messages. size, initialised: bytes. flags: of the attribute.
        resident: whether it lies in its record. runs: where it lies if not.
    """

    def __init__(self, view: VolumeView, geometry: Geometry, head: Attribute, name: str) -> None:
        """``head``: the part that begins with VCN 0, or a resident attribute."""
        self._view, self._geometry = view, geometry
        self.name, self.flags = name, head.flags
        self._value = head.value
        self.resident = head.value is not None
        self.runs: list[Run] = []
        self._starts: list[int] = []
        if head.value is not None:
            self.allocated = self.size = self.initialised = len(head.value)
            return
        self.allocated, self.size, self.initialised = head.allocated, head.size, head.initialised
        if head.first or not 0 <= self.initialised <= self.size <= self.allocated:
            raise LayoutError(f"the sizes of {name} do not fit together")
        self.append(head)

    def append(self, part: Attribute) -> None:
        """Add the part of the attribute that follows on the parts so far."""
        if part.value is not None or part.first != self.clusters:
            raise LayoutError(f"the parts of {self.name} do not follow on each other")
        for run in decode_runs(part, self._geometry.clusters, self.name):
            if len(self.runs) >= RUNS_MAX:
                raise LayoutError(f"{self.name} lies in more than {RUNS_MAX} pieces")
            self.runs.append(run)
            self._starts.append(run.vcn)

    @property
    def clusters(self) -> int:
        """Clusters of the parts so far."""
        return self.runs[-1].vcn + self.runs[-1].length if self.runs else 0

    def complete(self) -> Stream:
        """The stream itself, once all parts are there; ``LayoutError`` where some are missing."""
        if not self.resident and self.clusters * self._geometry.cluster_size != self.allocated:
            raise LayoutError(f"the run list of {self.name} does not fit its size")
        return self

    def verified_plain(self) -> Stream:
        """The stream itself; ``LayoutError`` unless it lies on the disk as it is read."""
        if self.flags or any(run.cluster < 0 for run in self.runs):
            raise LayoutError(f"{self.name} is sparse, compressed or encrypted")
        return self

    def read(self, offset: int, length: int) -> bytes:
        """Return bytes; ``LayoutError`` where they are not all initialised, or lie in a hole."""
        if offset < 0 or offset + length > self.initialised:
            raise LayoutError(f"{self.name} is shorter than what it must hold")
        if self._value is not None:
            return self._value[offset : offset + length]
        pieces = list(self.places(offset, length))
        if sum(piece for _, piece in pieces) != length or any(at < 0 for at, _ in pieces):
            raise LayoutError(f"{self.name} has a hole where it must hold data")
        return b"".join(self._view.read(at, piece) for at, piece in pieces)

    def places(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        """Yield (byte of the volume, or -1 for a hole; bytes) of a range of what does not lie in
        its record.
        """
        size = self._geometry.cluster_size
        return clusters_of(self.runs, self._starts, offset, length, size)


class Mft:
    """The master file table of a volume.

    Attributes:
        data: what its unnamed $DATA holds: the records.
    """

    def __init__(self, view: VolumeView, geometry: Geometry) -> None:
        """Find all of it; ``LayoutError`` where that cannot be done."""
        self.view, self.geometry = view, geometry
        size = geometry.record_size
        view.allow(2 * size)
        first = decode_record(view.read(geometry.mft * geometry.cluster_size, size), layout.MFT)
        _verified_base(first)
        # Records that continue its run list are found by what is known of the list by then.
        own = first.all_of(layout.DATA)
        if len(own) != 1:
            raise LayoutError("the MFT does not know where it lies")
        self.data = Stream(view, geometry, own[0], "the MFT")
        for part in self._parts(first, layout.DATA, b""):
            if part != own[0]:
                self.data.append(part)
        self.data.complete().verified_plain()
        if self.data.resident or self.data.runs[0].cluster != geometry.mft:
            raise LayoutError("the MFT does not begin where the boot sector says")
        if self.base_record(layout.MFT) != first:
            raise LayoutError("the first record of the MFT lies in pieces")

    @property
    def records(self) -> int:
        """How many have ever been written."""
        return self.data.initialised // self.geometry.record_size

    def read_records(self, first: int, count: int) -> list[bytes]:
        """The bytes of records, as they lie on the disk."""
        size = self.geometry.record_size
        self.view.allow(count * size)
        data = self.data.read(first * size, count * size)
        return [data[at : at + size] for at in range(0, len(data), size)]

    def record(self, number: int) -> Record:
        """A record that is in use."""
        record = decode_record(self.read_records(number, 1)[0], number)
        if not record.in_use:
            raise LayoutError(f"FILE record {number} is not in use")
        return record

    def base_record(self, number: int) -> Record:
        """The first record of a file."""
        return _verified_base(self.record(number))

    def stream(self, record: Record, type_: int, name: bytes, title: str) -> Stream:
        """An attribute of a file, by its base record; ``title`` for messages."""
        parts = self._parts(record, type_, name)
        head = next(parts, None)
        if head is None:
            raise LayoutError(f"{title} has no content")
        stream = Stream(self.view, self.geometry, head, title)
        for part in parts:
            stream.append(part)
        return stream.complete()

    def value(self, record: Record, type_: int, name: bytes, title: str) -> bytes:
        """The value of an attribute that must be resident."""
        stream = self.stream(record, type_, name, title)
        if not stream.resident:
            raise LayoutError(f"{title} does not lie in its record")
        return stream.read(0, stream.size)

    def _parts(self, record: Record, type_: int, name: bytes) -> Iterator[Attribute]:
        """Yield the parts of an attribute in the order of their VCNs."""
        lists = record.all_of(layout.ATTRIBUTE_LIST)
        if not lists:
            yield from _single(record.all_of(type_, name), record)
            return
        for first, reference, instance in self._listed(record, lists, type_, name):
            holder = self._holder(record, reference)
            found = [
                part
                for part in holder.all_of(type_, name)
                if part.first == first and part.instance == instance
            ]
            if len(found) != 1:
                raise LayoutError(f"the attribute list of FILE record {record.number} is wrong")
            yield found[0]

    def _holder(self, record: Record, reference: Reference) -> Record:
        """The record that holds a part of a file; it must know whose part it is."""
        if reference.number == record.number:
            return record
        holder = self.record(reference.number)
        if holder.sequence != reference.sequence or holder.base != _own(record):
            raise LayoutError(f"FILE record {holder.number} is not part of {record.number}")
        return holder

    def _listed(
        self, record: Record, lists: list[Attribute], type_: int, name: bytes
    ) -> list[tuple[int, Reference, int]]:
        """(first VCN, where, instance) of the parts that an attribute list names."""
        title = f"the attribute list of FILE record {record.number}"
        head, *more = lists
        stream = Stream(self.view, self.geometry, head, title).complete().verified_plain()
        if more or stream.size > layout.LIST_MAX:
            raise LayoutError(f"{title} is too long")
        self.view.allow(stream.size)
        data = stream.read(0, stream.size)
        return [row[2:] for row in _list_entries(data, title) if row[:2] == (type_, name)]


def _list_entries(data: bytes, title: str) -> Iterable[tuple[int, bytes, int, Reference, int]]:
    """Yield (type, name, first VCN, where, instance) ("$ATTRIBUTE_LIST")."""
    at = 0
    while at < len(data):
        if at + layout.LIST_ENTRY.size > len(data):
            raise LayoutError(f"{title} is cut short")
        fields = layout.LIST_ENTRY.unpack_from(data, at)
        type_, length, characters, name_at, first, where, instance = fields
        end = at + length
        # 26 bytes are the shortest entry that Windows writes; each moves the loop on.
        if length < layout.LIST_ENTRY.size or length % 2 or end > len(data):
            raise LayoutError(f"an entry of {title} runs out of it")
        if characters and name_at + 2 * characters > length:
            raise LayoutError(f"a name in {title} runs out of its entry")
        name = data[at + name_at : at + name_at + 2 * characters] if characters else b""
        yield type_, name, first, Reference.decode(where), instance
        at = end


def _single(found: list[Attribute], record: Record) -> list[Attribute]:
    if len(found) > 1:
        raise LayoutError(f"FILE record {record.number} has an attribute twice")
    return found


def _own(record: Record) -> Reference:
    return Reference(record.number, record.sequence)


def _verified_base(record: Record) -> Record:
    if not record.in_use or record.base != (0, 0):
        raise LayoutError(f"FILE record {record.number} is not the first of a file")
    return record
