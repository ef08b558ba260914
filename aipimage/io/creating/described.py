"""Descriptions that fit into a metadata record (docs/format.md, section 9.2).

What lies on a disk may be of any length, and must not keep it from being imaged.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from aipimage.format import constants as c
from aipimage.format.metadata import encode_json
from aipimage.io.blocks.sources import BlockSource, place_of
from aipimage.io.blocks.usedsource import UsedSource
from aipimage.io.reading.image import ImageReader
from aipimage.io.system import entropy

_ROOM = c.METADATA_MAX - (128 << 10)
_TEXTS = 256 << 10
_LONGEST = 1000
_DROPPED = (("notes", "left_out"), ("whole_because",), ("name", "label"), ("type", "guid", "uuid"))
"""Members of volumes that are left out, in this order, where there is no room for all."""


def described_sources(sources: Sequence[BlockSource]) -> list[dict[str, Any]]:
    """What the description says of each source, as far as there is room."""
    return fitting_devices(
        [
            {
                "name": os.path.basename(source.name) or source.name,
                "source": place_of(source),
                "size": source.size,
                "sector_size": source.sector_size,
                "fingerprint": source.fingerprint(),
                "volumes": [],
                **(source.layout if isinstance(source, UsedSource) else {}),
            }
            for source in sources
        ]
    )


def described_parent(parent: ImageReader) -> dict[str, str | int]:
    """What the description of an image says of its parent (section 11)."""
    return {
        "parent_id": parent.image_id,
        "parent_digest": parent.digest,
        "parent_sequence": parent.seal.sequence,
        "parent_kind": parent.seal.kind,
    }


def time_of_content(created: datetime | None) -> str:
    """The time that the content is from, as the description has it; ``None`` is now."""
    if created is None:
        return entropy.time_text(entropy.now_us())
    return created.astimezone(UTC).isoformat(timespec="seconds")


def fitting_devices(devices: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the description of devices, shortened where it is too long. What stays to the last
    are the volumes that were left out, which a restore has to know of.
    """
    for names in _DROPPED:
        if len(encode_json(devices)) <= _ROOM:
            return devices
        devices = [
            device
            | {
                "volumes": [
                    {name: value for name, value in volume.items() if name not in names}
                    for volume in device["volumes"]
                ]
            }
            for device in devices
        ]
    if len(encode_json(devices)) > _ROOM:
        devices = [
            device | {"volumes": [each for each in device["volumes"] if not each.get("kept", True)]}
            for device in devices
        ]
    return devices


def fitting_texts(texts: Sequence[str]) -> list[str]:
    """Return as many sentences as there is room for, and how many more there were."""
    found: list[str] = []
    room = _TEXTS
    for text in texts:
        short = text[:_LONGEST]
        room -= len(encode_json(short)) + 1
        if room < 0:
            return [*found, f"and {len(texts) - len(found)} more"]
        found.append(short)
    return found
