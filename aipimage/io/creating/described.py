"""Descriptions that fit into a metadata record (docs/format.md, section 9.2).

What lies on a disk may be of any length, and must not keep it from being imaged.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aipimage.format import constants as c
from aipimage.format.metadata import encode_json

_ROOM = c.METADATA_MAX - (128 << 10)
_TEXTS = 256 << 10
_LONGEST = 1000
_DROPPED = (("notes", "left_out"), ("whole_because",), ("name", "label"), ("type", "guid", "uuid"))
"""Members of volumes that are left out, in this order, where there is no room for all."""


def fitting_devices(devices: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the description of devices, shortened where it is too long: at last only the volumes
    that were left out are told, which a restore has to know of.
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
