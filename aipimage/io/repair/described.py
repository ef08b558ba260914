"""What a repaired image says of itself: description, result and warnings (docs/format.md, section
9.2).
"""

from __future__ import annotations

from typing import Any

from aipimage.format.constants import Compatible
from aipimage.format.record import Reference
from aipimage.io.creating.heading import tool
from aipimage.io.repair.doubts import Doubts
from aipimage.io.repair.facts import Facts
from aipimage.io.repair.survey import Survey


def description_of(survey: Survey, facts: Facts, zero_lost: bool) -> dict[str, Any]:
    """The old description, with what the new image was made of."""
    values = dict(facts.description)
    if not isinstance(values.get("devices"), list):
        values["devices"] = [
            {"size": each.size, "sector_size": each.sector_size} for each in facts.devices
        ]
    own = facts.own
    values["repaired"] = {
        "of": own.seal.image_id.hex() if own else list(survey.runs)[-1].hex(),
        "tool": tool(),
        "lost_as": "unreadable" if zero_lost else "lost",
    }
    return values


def result_of(
    facts: Facts, lost: tuple[tuple[int, int, int], ...], lost_bytes: int
) -> dict[str, Any]:
    """The old result, with what is lost: ``lost`` as (device, offset, length) in bytes."""
    values = dict(facts.result)
    values["lost_bytes"] = lost_bytes
    values["lost"] = [
        [device, start // 512, -(-length // 512)] for device, start, length in lost[:1000]
    ]
    old = values.get("warnings")
    values["warnings"] = [*(old if isinstance(old, list) else []), *facts.warnings]
    values.setdefault("unreadable", [])
    return values


def warnings_of(
    survey: Survey, facts: Facts, doubts: Doubts, lost_bytes: int, replaced: list[Reference],
    has_parent: bool, has_digests: bool,
) -> list[str]:  # fmt: skip
    """What the user should know besides what is lost.

    Args:
        replaced: seals of the images that the new one stands for.
        has_parent: whether the parent was found. has_digests: whether block digests were kept.
    """
    warnings: list[str] = []
    beginning, stream = survey.beginning, survey.stream
    if beginning.is_made_up:
        warnings.append("the header was damaged and was made up from the records")
    if not beginning.chain_known:
        warnings.append("which chain the image belonged to is not known; it begins a new one")
    if facts.own is None or facts.own.ref.digest not in {ref.digest for ref in replaced}:
        warnings.append(
            "the seal is lost: images that build on this one do not recognise the new one"
        )
    if lost_bytes and facts.missing:
        warnings.append(
            f"what only other images of its chain have is lost ({facts.missing}); pass their "
            "directories"
        )
    elif lost_bytes and facts.place.parent_kind and not has_parent:
        warnings.append(
            f"the parent {facts.place.parent_id.hex()} was not found: what only it has "
            "is lost; pass its directory, and those of the chain's other images"
        )
    if stream.unreadable:
        warnings.append(f"{stream.unreadable} bytes of the file could not be read")
    if doubts.ranges:
        warnings.append(
            "some data was whole by itself and contradicted what the image says of it: it is "
            f"lost ({doubts.text})"
        )
    if not has_digests and beginning.header.compatible & Compatible.BLOCK_DIGESTS:
        warnings.append("the block digests were left out")
    if not facts.result and not facts.own:
        warnings.append("which sectors the source could not read is not known: they read as zeros")
    return warnings
