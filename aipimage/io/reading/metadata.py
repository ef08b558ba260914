"""What an image says of itself in words: its description and result (docs/format.md, section 9.2).

No restore needs them, so that damage of them is a warning. Both have a copy in the spare area.
"""

from __future__ import annotations

from typing import Any

from aipimage.errors import FormatError, IntegrityError, naming
from aipimage.format.constants import RecordType
from aipimage.format.metadata import decode_metadata
from aipimage.format.record import Reference
from aipimage.format.seal import Seal
from aipimage.format.trailer import Trailer
from aipimage.io.records.records import RecordReader
from aipimage.io.stream.instream import InStream
from aipimage.io.stream.segmentmap import SegmentMap
from aipimage.io.stream.spare import heal_record, metadata_copies

_NAMES = ("description", "result")


class MetadataRecords:
    """Reads the metadata records of an image, when they are first asked for.

    Attributes:
        references: to description and result.
        warnings: one sentence for each of them that could not be read so far.
    """

    def __init__(
        self,
        stream: InStream,
        trailer: Trailer,
        seal: Seal,
        segments: SegmentMap,
        records: RecordReader,
    ) -> None:
        self._stream, self._trailer, self._path = stream, trailer, stream.name
        self._segments, self._records = segments, records
        self.references = (seal.description, seal.result)
        self.warnings: tuple[str, ...] = ()
        self._read: dict[str, Any] | None = None

    def both(self) -> dict[str, Any]:
        """``description`` and ``result`` by these names, as far as they can be read."""
        if self._read is None:
            warnings: list[str] = []
            places = zip(_NAMES, self._places(), strict=True)
            self._read = {name: self._or_nothing(name, *place, warnings) for name, place in places}
            self.warnings = tuple(warnings)
        return self._read

    def check(self) -> None:
        """Read both again.

        Raises:
            IntegrityError, FormatError: one is damaged in both its places, or never was valid.
        """
        for ref, copy in self._places():
            self._healed(ref, copy)

    def read(self, ref: Reference) -> dict[str, Any]:
        """A metadata record of this or of another image.

        Raises:
            IntegrityError, FormatError: it is damaged, or never was valid.
        """
        with naming(self._path):
            return decode_metadata(self._records.fetch(ref, RecordType.METADATA).plain)

    def _places(self) -> list[tuple[Reference, int]]:
        """Reference and place of the copy, of description and result."""
        copies = metadata_copies(self._trailer, *self.references)
        return list(zip(self.references, copies, strict=True))

    def _or_nothing(
        self, name: str, ref: Reference, copy: int, warnings: list[str]
    ) -> dict[str, Any]:
        try:
            return self._healed(ref, copy)
        except (FormatError, IntegrityError) as error:
            text = str(error).removeprefix(f"{self._path}: ")
            warnings.append(
                f"{self._path}: its {name} cannot be read, the data is not concerned: {text}; "
                "repair the image to get a whole one"
            )
        return {}

    def _healed(self, ref: Reference, copy: int) -> dict[str, Any]:
        """A metadata record, or its copy in the spare area where it is damaged."""
        try:
            return self.read(ref)
        except IntegrityError:
            if not self._segments.holds(ref.origin):
                raise
            with naming(self._path):
                place = self._segments.locate(ref.origin, ref.offset, ref.record_length)
            kind, tag = RecordType.METADATA, self._records.tag
            if not heal_record(self._stream, ref, kind, place, copy, tag):
                raise
        return self.read(ref)
