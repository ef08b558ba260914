"""Putting an image together from records that were written before (docs/format.md, sections 9.3 and
9.5).

A merge and a repair copy records as they are, with the addresses that they had, and add a few of
their own. The segments record, which says where all of them lie now, is made up here.

In order: :meth:`Assembly.begin` (or :meth:`Assembly.go_on` after what an interrupted run left),
then any number of copies and own records, then :meth:`Assembly.finish`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from aipimage.errors import LimitError
from aipimage.format import constants as c
from aipimage.format.checkpoint import Continuation, encode_continuation
from aipimage.format.constants import RecordType
from aipimage.format.header import Header
from aipimage.format.keyarea import KeyArea
from aipimage.format.origins import OriginEntry
from aipimage.format.record import Reference
from aipimage.format.seal import Seal, SealDevice
from aipimage.format.segments import Segment
from aipimage.io.creating.imagewriter import ImageWriter, PlaceInChain
from aipimage.io.records.keys import ChainKeys
from aipimage.io.records.numbering import RecordNumbers
from aipimage.io.records.running import Running
from aipimage.io.stream.outstream import OutStream
from aipimage.io.system import entropy

if TYPE_CHECKING:
    from typing_extensions import Buffer


class PlacedRecords:
    """Which addresses lie where in a stream, in the order in which they were put there.

    What follows on the one before, in addresses and in the stream, is one segment with it, so that
    a reader fetches neighbouring frames by one read.
    """

    def __init__(self) -> None:
        self._rows: list[Segment] = []

    def add(self, origin: bytes, address: int, length: int, stream_start: int) -> None:
        """Note that ``length`` bytes from (``origin``, ``address``) on lie at ``stream_start``."""
        last = self._rows[-1] if self._rows else None
        if last is not None and (
            last.origin == origin
            and last.origin_start + last.length == address
            and last.stream_start + last.length == stream_start
        ):
            self._rows[-1] = last._replace(length=last.length + length)
        elif length:
            self._rows.append(Segment(origin, address, length, stream_start))

    def __len__(self) -> int:
        return len(self._rows)

    def segments(self) -> list[Segment]:
        """The entries of a segments record (section 9.3).

        Raises:
            LimitError: there are more than a segments record can have.
        """
        if len(self._rows) > c.SEGMENTS_MAX:
            raise LimitError(
                f"the new image would be in {len(self._rows)} segments, over {c.SEGMENTS_MAX}"
            )
        return sorted(self._rows)


class Assembly:
    """A new image that consists of copied records and of own ones; from one thread.

    Attributes:
        writer: writes own records, under the origin of ``numbers``: for map pages and frame tables,
            for instance, with :class:`~aipimage.io.index.mapbuild.MapBuilder` and
            :class:`~aipimage.io.index.trees.TableBuilder` on ``records``.
        placed: what lies in the stream already; a run that resumes passes those that were kept.

    Args:
        header: sealed (:func:`~aipimage.io.creating.imagewriter.sealed_header`); its ``file_id``
            is the origin of ``numbers``, except where an interrupted run is resumed.
    """

    def __init__(
        self,
        stream: OutStream,
        header: Header,
        keys: ChainKeys | None,
        numbers: RecordNumbers,
        placed: PlacedRecords | None = None,
    ) -> None:
        self.stream, self.header = stream, header
        self.writer = ImageWriter(stream, header, keys, numbers)
        self.records = self.writer.records
        self.placed = placed or PlacedRecords()
        self.copied = 0
        self._own_from = stream.position

    def begin(self, key_area: KeyArea | None) -> None:
        """Write the header core and, with a suite, both copies of the key area."""
        self.writer.write_header(key_area)
        self._own_from = self.stream.position

    def go_on(self, previous: bytes, kept: Running) -> None:
        """Write the continuation that begins this run after that of origin ``previous``.

        The earlier run may have written own records before it ended, so that its numbers must not
        be used again (sections 4.6 and 11).

        Args:
            kept: over all records that the stream has.
        """
        record = Continuation(
            previous, self.stream.position, entropy.now_us(), kept.records, kept.value
        )
        self.records.write(RecordType.CONTINUATION, encode_continuation(record))

    def copy(self, spans: Sequence[tuple[bytes, int, int]], data: Buffer, count: int) -> None:
        """Append ``count`` whole records as they are.

        Args:
            spans: (origin, address, length) of the bytes in ``data``, one after the other; where
                only the record was found, the address is the offset at which its origin wrote
                it (section 5).
        """
        self._place_own()
        at = self.stream.position
        self.stream.append([data])
        for origin, address, length in spans:
            self.placed.add(origin, address, length, at)
            at += length
        if at != self.stream.position:
            raise RuntimeError("internal error: spans of another length than their records")
        self._own_from = at
        self.copied += count

    def _place_own(self) -> None:
        """Note the own records since the last copy: their addresses are their places."""
        start, end = self._own_from, self.stream.position
        self.placed.add(self.records.origin, start, end - start, start)
        self._own_from = end

    def finish(
        self,
        description: Mapping[str, Any] | Reference,
        result: Mapping[str, Any],
        devices: Sequence[SealDevice],
        place: PlaceInChain,
        origins: Sequence[OriginEntry],
        replaced: Sequence[Reference] = (),
    ) -> tuple[bytes, bytes]:
        """Write metadata and all that ends an image; return image id and image digest.

        The stream is not finished by this: the caller, who began it, names it.

        Args:
            description: the values of section 9.2, or a reference to the record where that was
                written or copied already.
            origins: of the seal.
            replaced: seals of the images that this one stands for, oldest first (section 9.5).

        Raises:
            LimitError: too many segments, or too much metadata.
        """
        if not isinstance(description, Reference):
            description = self.writer.write_metadata(description)
        result_ref = self.writer.write_metadata(result)
        self._place_own()
        segments = self.writer.write_segments(self.placed.segments())
        image_id = self.records.origin
        seal = Seal(
            image_id, self.header.chain_id, place.kind, self.header.header_digest,
            self.copied + self.records.count, description, result_ref, tuple(devices),
            tuple(origins), place.parent_id, place.parent_digest, place.sequence,
            place.parent_sequence, place.parent_kind, tuple(replaced),
        )  # fmt: skip
        return image_id, self.writer.write_end(seal, segments)
