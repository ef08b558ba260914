"""What a damaged image was: its seal or, where that is lost, what its description says
(docs/format.md, sections 9, 9.2, 9.5 and 11).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aipimage.errors import AipImageError, IncompleteError
from aipimage.format import constants as c
from aipimage.format.constants import ImageKind
from aipimage.format.record import Reference
from aipimage.format.seal import Seal, SealDevice
from aipimage.format.segments import Segment
from aipimage.format.tables import unpack_at
from aipimage.io.creating.imagewriter import PlaceInChain
from aipimage.io.repair.survey import SealFound, Survey

_KINDS = {kind.name.lower(): kind for kind in ImageKind}


@dataclass(slots=True)
class DeviceFacts:
    """Size in bytes, and of a logical sector; the seal's entry where there is one."""

    size: int
    sector_size: int
    entry: SealDevice | None

    @property
    def sectors(self) -> int:
        """Sectors, the last one padded."""
        return -(-self.size // 512)


@dataclass(slots=True)
class Facts:
    """What the image was.

    Attributes:
        own: its own seal. last: the seal whose maps describe it: its own, or that of the last
            image that it stands for.
        replaced: seals that the new image can stand for, oldest first.
        in_order: whether all frames lie in the order of the disk, as a creation writes them; they
            do not in a merged image.
        segments: where addresses lie. origins: those that the file holds.
        missing: why records of other images of the chain could not be read: the first message;
            empty where all were found.
    """

    place: PlaceInChain
    devices: list[DeviceFacts]
    own: SealFound | None
    last: SealFound | None
    replaced: list[SealFound]
    in_order: bool
    segments: list[Segment]
    origins: set[bytes]
    description: dict[str, Any]
    result: dict[str, Any]
    used: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    missing: str = ""

    def note(self, error: AipImageError) -> None:
        """Note why something is lost, where that is a file of another image that is missing."""
        if isinstance(error, IncompleteError):
            self.missing = self.missing or str(error)


def find_facts(survey: Survey) -> Facts:
    """Choose what to believe of what was found."""
    used = [] if survey.beginning.is_made_up else ["header"]
    warnings: list[str] = []
    own = _own_seal(survey)
    joined = _is_joined(survey, own)
    last = own or (_last_seal(survey) if joined else None)
    description = _metadata(survey, own.seal.description if own else None, 0, joined)
    result = _metadata(survey, own.seal.result if own else None, 1, joined)
    segments = survey.segments
    if own is not None and not joined:
        _add_runs(survey, own.seal, segments)
    for what, there in (
        ("trailer", survey.trailer),
        ("seal", own),
        ("segments", segments),
        ("description", description),
        ("result", result),
    ):
        if there:
            used.append(what)
    replaced = _replaced(survey, own, last)
    devices = _devices(survey, last, description, warnings)
    place = _place(survey, own, last, replaced, description)
    origins = _held(survey, own, last, segments, joined)
    return Facts(
        place, devices, own, last, replaced, not joined, segments, origins, description, result,
        used, warnings,
    )  # fmt: skip


def _add_runs(survey: Survey, seal: Seal, segments: list[Segment]) -> None:
    """Runs whose continuation is lost, as the segments record places them."""
    mine = {each.origin for each in seal.origins if each.holder == seal.image_id}
    for segment in segments:
        if segment.origin in mine:
            survey.runs.setdefault(segment.origin, segment.stream_start)
    survey.runs = dict(sorted(survey.runs.items(), key=lambda run: run[1]))


def _own_seal(survey: Survey) -> SealFound | None:
    if survey.trailer is not None:
        for found in survey.seals:
            if found.ref.digest == survey.trailer.seal.digest:
                return found
    header = survey.beginning.header
    for found in reversed(survey.seals):
        fits = found.seal.header_digest == header.header_digest
        if fits and found.seal.chain_id == header.chain_id and header.header_digest != bytes(32):
            return found
    return None


def _is_joined(survey: Survey, own: SealFound | None) -> bool:
    """Whether the file was put together from others, so that it has no frames of its own run."""
    if own is not None and own.seal.replaced:
        return True
    return bool(survey.frames) and not any(origin in survey.runs for origin in survey.frames)


def _last_seal(survey: Survey) -> SealFound | None:
    chain = survey.beginning.header.chain_id
    fitting = [found for found in survey.seals if found.seal.chain_id == chain]
    return fitting[-1] if fitting else None


def _metadata(survey: Survey, ref: Reference | None, number: int, joined: bool) -> dict[str, Any]:
    for found, values in survey.metadata.values():
        if ref is not None and found.digest == ref.digest:
            return values
    if ref is not None:
        return {}
    origins = list(survey.runs)
    if number == 0:
        own = survey.metadata.get((origins[0], 0), ({}, {}))[1]
        others = [values for _, values in survey.metadata.values() if "devices" in values]
        # A merged or repaired image keeps those of the images that it stands for.
        return own or (others[-1] if others and joined else {})
    # The result is the first metadata of a run that resumed, else the second.
    last = (origins[-1], 0 if len(origins) > 1 else 1)
    return survey.metadata.get(last, ({}, {}))[1]


def _replaced(survey: Survey, own: SealFound | None, last: SealFound | None) -> list[SealFound]:
    """Whole seals that the image stood for, then its own."""
    if own is not None:
        by_digest = {found.ref.digest: found for found in survey.seals}
        old = [by_digest[r.digest] for r in own.seal.replaced if r.digest in by_digest]
        return [*old, own]
    if last is None:
        return []
    chain = survey.beginning.header.chain_id
    return [found for found in survey.seals if found.seal.chain_id == chain]


def _devices(
    survey: Survey, last: SealFound | None, description: Mapping[str, Any], warnings: list[str]
) -> list[DeviceFacts]:
    if last is not None:
        return [DeviceFacts(each.size, each.sector_size, each) for each in last.seal.devices]
    told = description.get("devices")
    rows = [_described_device(each) for each in told] if isinstance(told, list) else []
    if rows and all(rows) and len(rows) <= c.DEVICES_MAX:
        return [row for row in rows if row is not None]
    warnings.append(
        "seal and description are lost: the sizes of the devices are not known, and each is taken "
        "to end after the last byte that was found of it"
    )
    reach = survey.maps.devices()
    for runs in survey.frames.values():
        for run in runs.runs:
            for at in (run.at + 1, run.after):
                device, sector = unpack_at(at)
                reach[device] = max(reach.get(device, 0), sector)
    last_device = max(reach, default=0)
    return [
        DeviceFacts(max(1, reach.get(device, 1)) * 512, 512, None)
        for device in range(last_device + 1)
    ]


def _described_device(values: object) -> DeviceFacts | None:
    if not isinstance(values, dict):
        return None
    size, sector = values.get("size"), values.get("sector_size", 512)
    if not isinstance(size, int) or not 0 < size <= c.DEVICE_SIZE_MAX:
        return None
    if not isinstance(sector, int) or sector & (sector - 1) or not 512 <= sector <= 65_536:
        sector = 512
    return DeviceFacts(size, sector, None)


def _place(
    survey: Survey,
    own: SealFound | None,
    last: SealFound | None,
    replaced: list[SealFound],
    description: Mapping[str, Any],
) -> PlaceInChain:
    if own is not None:
        return _place_of(own.seal, own.seal.sequence)
    if last is not None and replaced:
        return _place_of(replaced[0].seal, last.seal.sequence)
    return _described_place(description)


def _place_of(seal: Seal, sequence: int) -> PlaceInChain:
    return PlaceInChain(
        ImageKind(seal.kind),
        seal.parent_id,
        seal.parent_digest,
        seal.parent_kind,
        sequence,
        seal.parent_sequence,
    )


def _described_place(values: Mapping[str, Any]) -> PlaceInChain:
    """Section 11: the description names the parent before the seal does."""
    kind = _KINDS.get(str(values.get("kind")), ImageKind.FULL)
    try:
        parent = bytes.fromhex(str(values["parent_id"]))
        digest = bytes.fromhex(str(values["parent_digest"]))
        sequence, parent_kind = int(values["parent_sequence"]), int(values["parent_kind"])
        if len(parent) != 16 or len(digest) != 32 or not any(parent):
            raise AipImageError("the description names no parent")
        if not (0 <= sequence < c.CHAIN_MAX - 1 and 1 <= parent_kind <= 3):
            raise AipImageError("the description names an impossible parent")
    except (KeyError, ValueError, TypeError, AipImageError):
        return PlaceInChain()
    return PlaceInChain(kind, parent, digest, parent_kind, sequence + 1, sequence)


def _held(
    survey: Survey,
    own: SealFound | None,
    last: SealFound | None,
    segments: list[Segment],
    joined: bool,
) -> set[bytes]:
    """Origins whose records belong to this file; what else was found is foreign."""
    held = set(survey.runs)
    if segments:
        held |= {segment.origin for segment in segments}
    elif joined:
        held |= {each.origin for each in survey.whole}
    if own is not None:
        held.add(own.seal.image_id)
    if last is not None and not segments:
        names = {each.origin for each in last.seal.origins}
        held |= names & {each.origin for each in survey.whole} if joined else set()
    if survey.beginning.is_made_up:
        held |= survey.beginning.origins & ({each.origin for each in survey.whole})
    return held
