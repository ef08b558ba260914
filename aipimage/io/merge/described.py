"""What a merged image says of itself (docs/format.md, sections 3, 9.2, 9.4 and 9.5)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from aipimage.format import constants as c
from aipimage.format.constants import Compatible, ImageKind, Incompatible
from aipimage.format.header import Header
from aipimage.format.keyarea import KeyArea
from aipimage.format.metadata import encode_json
from aipimage.format.origins import OriginEntry
from aipimage.format.record import NO_REFERENCE
from aipimage.format.seal import Seal
from aipimage.io.creating.heading import tool
from aipimage.io.creating.imagewriter import PlaceInChain
from aipimage.io.index.origins import NamedOrigins, Origins
from aipimage.io.merge.plan import MergePlan
from aipimage.io.merge.run import MergeRun
from aipimage.io.stream.opening import read_key_area
from aipimage.io.system import entropy


def key_area_of(run: MergeRun) -> KeyArea | None:
    """The passwords of the last image."""
    last = run.last
    if not last.header.suite:
        return None
    area, _ = read_key_area(last.stream, last.header)
    return KeyArea(1, area.chain_id, area.slots)


def header_of(run: MergeRun, plan: MergePlan, file_id: bytes) -> Header:
    """The header, not sealed yet; it has the features of all members."""
    last = run.last.header
    incompatible, compatible = 0, last.compatible & Compatible.BLOCK_DIGESTS
    for member in run.members:
        incompatible |= member.header.incompatible
        if plan.bridged:
            compatible |= member.header.compatible & Compatible.CHECKPOINTS
    incompatible &= ~Incompatible.FOREIGN_ORIGINS
    if run.kind != ImageKind.FULL:
        incompatible |= Incompatible.FOREIGN_ORIGINS
    return Header(
        file_id,
        last.chain_id,
        entropy.now_us(),
        last.suite,
        incompatible,
        compatible,
        last.frame_shift,
        last.stripe_shift,
        last.fanout_shift,
        creator=tool(),
    )


def description_of(run: MergeRun, plan: MergePlan, last: Mapping[str, Any]) -> dict[str, Any]:
    """That of the last image, ``last``, with what the new one was made of (section 9.2)."""
    values = {name: value for name, value in last.items() if not name.startswith("parent_")}
    values["kind"] = run.kind.name.lower()
    parent_id, parent = run.first.place
    if parent.kind:
        values |= {
            "parent_id": parent_id.hex(),
            "parent_digest": parent.digest.hex(),
            "parent_sequence": parent.sequence,
            "parent_kind": parent.kind,
        }
    merged = plan.merged
    while _too_long(described := {**values, "merged": merged}) and merged:
        merged = merged[len(merged) // 2 + 1 :]
    return described


def place_of(run: MergeRun, seal: Seal) -> PlaceInChain:
    """After the parent of the first image, with the sequence of the last, whose seal this is."""
    parent_id, parent = run.first.place
    return PlaceInChain(
        run.kind, parent_id, parent.digest, parent.kind, seal.sequence, parent.sequence
    )


def origins_of(run: MergeRun, seal: Seal, own: bytes, out: str) -> list[OriginEntry]:
    """The new image's own, and those of the images that wrote the roots of its maps.

    Args:
        own: origin of the new image, whose path is ``out``. seal: of the last image.
    """

    def file_name(entry: OriginEntry) -> str:
        if run.holder(entry.origin) is not None:
            return os.path.basename(out)
        return run.foreign.name_of(entry.origin) or entry.file_name

    names = NamedOrigins(own)
    names.inherit(Origins(seal.origins), file_name)
    roots = [ref for each in seal.devices for ref in (each.map_root, each.digest_root)]
    return [OriginEntry(own, own, 0, NO_REFERENCE), *names.reached_from(roots)]


def _too_long(values: Mapping[str, Any]) -> bool:
    return len(encode_json(values)) > c.METADATA_MAX
