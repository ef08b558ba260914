"""Checking the pages of an image: metadata, maps, block digests, frame tables of other files."""

from __future__ import annotations

from functools import partial

import numpy as np

from aipimage.errors import AipImageError, FormatError, IncompleteError, IntegrityError
from aipimage.extents import SECTOR, ExtentArray, Kind
from aipimage.format import constants as c
from aipimage.format.constants import Compatible, ImageKind, RecordType
from aipimage.format.record import NO_REFERENCE, Reference
from aipimage.io.chain.files import replaced_seal
from aipimage.io.checking.results import Damage
from aipimage.io.checking.verification import Verification
from aipimage.io.index.digests import DigestView, check_digests
from aipimage.io.reading.device import Device
from aipimage.io.records.damage import damage_text


class PageCheck:
    """Goes down from the seal to every page.

    Attributes:
        views: the block digests of each device that were found whole, by its number.
    """

    def __init__(self, job: Verification) -> None:
        self._job, self._image = job, job.image
        self._is_full = job.image.seal.kind == ImageKind.FULL
        self.views: dict[int, DigestView | None] = {}

    def run(self) -> None:
        """Check all of them; damage goes to the findings."""
        job, image = self._job, self._image
        job.check(image.metadata_records.check, "metadata")
        for ref in image.seal.replaced:
            job.check(partial(self._check_replaced, ref), "replaced image")
        for device in image.devices:
            job.check(partial(self._check_device, device), f"map of device {device.index}")
        self._check_foreign_tables()

    def _check_replaced(self, ref: Reference) -> None:
        """The seal of an image that this one stands for, and its metadata (section 9.5)."""
        seal = replaced_seal(self._image, ref)
        for ref in (seal.description, seal.result):
            # What was damaged when the image was merged or repaired is not there, and nothing
            # needs it. What is there must be whole.
            if self._image.segments.covers(ref.origin, ref.offset, ref.record_length):
                self._image.records.fetch(ref, RecordType.METADATA)

    def _check_device(self, device: Device) -> None:
        """Every map page, the sums of the seal, and every block digest page."""
        counts = np.zeros(len(Kind), np.uint64)
        device.map.forget()
        for _, block in device.map.walk():
            np.add.at(counts, block["kind"], block["length"])
            self._check_data(block[block["kind"] == Kind.DATA])
        entry = device.entry
        sums = [entry.unused, entry.zero, entry.data, entry.unreadable, 0, entry.lost]
        if counts.tolist() != sums:
            raise IntegrityError(
                "the map and the seal disagree about how much there is of each kind"
            )
        self._check_digests(device)
        if self._is_full and self._job.foreign_pages:
            raise IntegrityError("a full image needs pages of another file")

    def _check_data(self, data: ExtentArray) -> None:
        """That extents of data lie within the frames of their origins."""
        job = self._job
        job.know_origins()
        job.used.update(np.unique(data["origin"]).tolist())
        if (data["position"] + data["length"] > job.limits[data["origin"]]).any():
            raise FormatError("an extent points past the last frame")
        if self._is_full and job.foreign[data["origin"]].any():
            raise FormatError("a full image names frames of another file")

    def _check_digests(self, device: Device) -> None:
        image, root = self._image, device.entry.digest_root
        stripe_shift = image.header.stripe_shift
        blocks = -(-device.size // c.BLOCK)
        if root != NO_REFERENCE:
            blocks = -(-device.entry.sectors * SECTOR // c.BLOCK)
            self.views[device.index] = check_digests(image.records, root, blocks, stripe_shift)
        elif image.header.compatible & Compatible.BLOCK_DIGESTS:
            self.views[device.index] = DigestView(image.records, root, blocks, stripe_shift)

    def _check_foreign_tables(self) -> None:
        """What pages say of origins that the maps name and other files hold (section 7.1): the
        reader of a frame believes it.
        """
        job = self._job
        for index in sorted(job.used):
            if not job.foreign[index] or index in job.known or index in job.direct:
                continue
            table = self._image.tables[index]
            try:
                table.check()
            except IncompleteError:
                # No file of it was found: what is in this one is whole all the same.
                continue
            except AipImageError as error:
                text = f"frame table of origin {table.origin.hex()}: {damage_text(error)}"
                job.damage.add(Damage(text, index))
