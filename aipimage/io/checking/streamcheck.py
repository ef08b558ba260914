"""Checking what of a stream no page leads to: dead records, checkpoints, spare area, key area."""

from __future__ import annotations

from functools import partial

from aipimage.errors import AipImageError
from aipimage.format.constants import RecordType
from aipimage.format.record import NO_REFERENCE, verified_record
from aipimage.io.checking.results import Damage
from aipimage.io.checking.verification import Verification
from aipimage.io.records.damage import damage_text
from aipimage.io.records.walk import Walked, walk_records
from aipimage.io.stream.opening import read_key_area
from aipimage.io.stream.spare import spare_damage


class StreamCheck:
    """Looks at every byte that the steps before it did not."""

    def __init__(self, job: Verification) -> None:
        self._job, self._image = job, job.image

    def run(self) -> None:
        """Check all; for a sample only what the image hangs on."""
        job = self._job
        if not job.is_sample:
            job.check(self._check_rest, "stream")
            self._check_order()
            self._check_key_copies()
        job.check(self._check_spare, "stream")

    def _check_rest(self) -> None:
        """Records that nothing refers to, between those that were seen."""
        job, image = self._job, self._image
        trailer = image.trailer
        job.covered.add(trailer.seal.offset, trailer.seal.record_length)
        if trailer.segments != NO_REFERENCE:
            job.covered.add(trailer.segments.offset, trailer.segments.record_length)
        for start, end in job.covered.gaps(image.header.records_start, trailer.records_end):
            for records in walk_records(image.stream, start, end, image.records.tag):
                for walked in records:
                    job.bytes += walked.data.nbytes
                    step = partial(self._check_dead, walked)
                    job.check(step, f"record at byte {walked.offset}")

    def _check_dead(self, walked: Walked) -> None:
        """A record that nothing refers to: its check, and with keys its tag."""
        order = self._job.order
        found = verified_record(walked.data)
        if walked.header.type in set(RecordType):
            opened = self._image.records.open_unreferenced(walked.data)
            order.add_dead(walked.offset, found, walked.header, opened.plain)
        else:
            order.add(walked.offset, found)

    def _check_order(self) -> None:
        """Checkpoints and continuations, where all records are whole."""
        job = self._job
        if job.damage.is_empty:
            # The frame tables are read once more.
            self._image.records.on_fetch = None
            job.check(job.order.check, "stream")

    def _check_key_copies(self) -> None:
        job, image = self._job, self._image
        if not image.header.suite:
            return
        try:
            _, damaged = read_key_area(image.stream, image.header)
        except AipImageError as error:
            job.damage.add(Damage(damage_text(error)))
            return
        for copy in damaged:
            text = f"copy {copy} of the key area is damaged; change a password to write it anew"
            job.damage.add(Damage(text))

    def _check_spare(self) -> None:
        """Originals and copies of what has any (section 10.1), as they are in the file."""
        job, image = self._job, self._image
        named = zip(("description", "result"), image.metadata_records.references, strict=True)
        places = [(name, ref, image.locate(ref)) for name, ref in named]
        for text in spare_damage(image.stream, image.trailer, places):
            job.damage.add(Damage(text))
        job.bytes += image.trailer.spare_length
