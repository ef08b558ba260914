"""Checking an image with all that it needs from other files of its chain (docs/format.md, sections
9.4 and 13).

Each file is verified as it is. What the image's map names in another file is compared with what was
found there; where its reader would take another file than the one that was verified, such as a
copy, the frames are checked in that one. Where there are block digests, all that the image that was
asked for reads as is compared with them, with the frames of all files, as a restore reads them.
"""

from __future__ import annotations

import time
from concurrent.futures import Executor

from aipimage.errors import AipImageError, CancelledError
from aipimage.io.chain.chain import ChainMember, ChainMembers, open_in_chain
from aipimage.io.checking.findings import DAMAGE_MAX, located
from aipimage.io.checking.results import Damage, MemberResult, VerifyResult
from aipimage.io.checking.verification import CheckedOrigin, Verification
from aipimage.io.checking.verify import verified
from aipimage.io.index.frameranges import ranges_of_origins, used_origins
from aipimage.io.reading.image import ImageReader
from aipimage.io.system.progress import JoinedProgress, ProgressCallback
from aipimage.io.system.storage import absolute


def verify_with_chain(
    image: ImageReader,
    chain: ChainMembers,
    sample: float | None,
    executor: Executor | None,
    threads: int | None,
    progress: ProgressCallback | None,
) -> VerifyResult:
    """Verify an image and every other one of its ``chain`` that it cannot be read without.

    Raises:
        LimitError, StorageError: the chain cannot be looked for. Whatever is wrong with an image is
            a finding.
    """
    image.check_open()
    job = _ChainVerification(image, chain, progress)
    for member in chain.needed[:-1]:
        job.verify_member(member, sample, executor, threads)
    return job.verify_last(sample, executor, threads)


class _ChainVerification:
    def __init__(
        self, image: ImageReader, chain: ChainMembers, progress: ProgressCallback | None
    ) -> None:
        self._image, self._chain = image, chain
        # Walks the maps, so that all origins that they name are known from now on.
        self._used = used_origins(image)
        total = sum(member.stored for member in self._chain.needed)
        self._progress = JoinedProgress(total, progress)
        self._damage: list[Damage] = []
        self._members: list[MemberResult] = []
        self._checked: dict[str, dict[bytes, CheckedOrigin]] = {}

    # The other images

    def verify_member(
        self,
        member: ChainMember,
        sample: float | None,
        executor: Executor | None,
        threads: int | None,
    ) -> None:
        """Verify one as it is; its damage is kept, located in the image that was asked for."""
        self._image.check_open()
        found = wrong_state(member)
        frames = stored = 0
        if member.path is not None and member.state != "damaged":
            try:
                with _opened(self._image, member) as other:
                    verification = Verification(other, sample, self._progress.callback)
                    result = verified(verification, executor, threads)
                    self._checked[absolute(member.path)] = verification.checked()
                    found += [self._located(damage, other, member) for damage in result.damage]
                    frames, stored = result.frames, result.bytes
            except CancelledError:
                raise
            except AipImageError as error:
                found.append(Damage(str(error), path=member.path))
        self._progress.end(member.stored)
        self._damage += found[: max(0, DAMAGE_MAX - len(self._damage))]
        self._members.append(MemberResult(member.image_id, member.path, not found, frames, stored))

    def _located(self, damage: Damage, other: ImageReader, member: ChainMember) -> Damage:
        """A finding of another image as one of this: the same origin has another index here."""
        origin = None
        if damage.origin is not None:
            name = other.origins.entry(damage.origin).origin
            origin = self._image.origins.get(name)
        return damage._replace(origin=origin, ranges=(), path=member.path)

    # The image itself

    def verify_last(
        self, sample: float | None, executor: Executor | None, threads: int | None
    ) -> VerifyResult:
        """Verify the image that was asked for, and what its map names elsewhere."""
        image, own = self._image, self._chain.needed[-1]
        known, direct = self._foreign_origins()
        self._damage = located(image, self._damage)
        verification = Verification(image, sample, self._progress.callback, known, direct, True)
        result = verified(verification, executor, threads)
        image.check_open()
        found = [*wrong_state(own, here=True), *result.damage]
        self._members.append(
            MemberResult(own.image_id, own.path, not found, result.frames, result.bytes)
        )
        return VerifyResult(
            result.mode,
            sum(each.frames for each in self._members),
            sum(each.bytes for each in self._members),
            time.monotonic() - self._progress.started,
            tuple([*self._damage, *found][:DAMAGE_MAX]),
            tuple(self._members),
        )

    def _foreign_origins(self) -> tuple[dict[int, CheckedOrigin], set[int]]:
        """Of the origins that other files hold: those verified there, and those to read from."""
        image = self._image
        known: dict[int, CheckedOrigin] = {}
        direct: set[int] = set()
        missing: dict[int, str] = {}
        for index in sorted(self._used):
            entry = image.origins.entry(index)
            if image.segments.holds(entry.origin):
                continue
            image.check_open()
            try:
                path = image.foreign.holder(entry.origin).stream.name
            except AipImageError as error:
                missing[index] = str(error)
                continue
            checked = self._checked.get(absolute(path), {}).get(entry.origin)
            if checked is not None and checked.is_of(entry):
                known[index] = checked
            else:
                direct.add(index)
        ranges = ranges_of_origins(image, missing)
        self._damage += [
            Damage(text, index, ranges=tuple(ranges[index])) for index, text in missing.items()
        ]
        return known, direct


def wrong_state(member: ChainMember, here: bool = False) -> list[Damage]:
    """What the links say against an image; for what it lacks, another one is named."""
    if member.state not in ("missing", "exchanged", "damaged", "contradicts"):
        return []
    text = f"image {member.image_id} is {_STATES[member.state]}: {member.reason}"
    return [Damage(text, path=None if here else member.path)]


_STATES = {
    "missing": "missing",
    "exchanged": "exchanged",
    "damaged": "damaged",
    "contradicts": "not the only one",
}


def _opened(image: ImageReader, member: ChainMember) -> ImageReader:
    """The image of a member's path, whichever it is: its place in the chain was judged already."""
    assert member.path is not None
    storage = image.beside.storage
    return open_in_chain(member.path, keys=image.keys, files=image.beside, storage=storage)
