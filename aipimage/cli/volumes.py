"""Volumes of an image or a disk, as values and for people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from aipimage.cli.output import aligned, human_size, printable

if TYPE_CHECKING:
    from aipimage import DiskInfo, VolumeInfo

_HEAD = ("", "file system", "size", "used", "kept", "cluster", "first sector", "label", "UUID")


def volume_values(volume: VolumeInfo, kept: int | None) -> dict[str, Any]:
    """The object of a volume that ``info --json`` prints; ``kept_bytes`` of an image only."""
    values = {each.name: getattr(volume, each.name) for each in fields(volume)}
    del values["_device"]
    values["first_sector"] = volume.start // 512
    return values if kept is None else values | {"kept_bytes": kept}


def volume_lines(volumes: Sequence[dict[str, Any]]) -> list[str]:
    """A table of some volumes, as :func:`volume_values` returns them, and notes below it."""
    if not volumes:
        return []
    rows = [_HEAD, *map(_row, volumes)]
    used = [column for column in range(len(_HEAD)) if any(row[column] for row in rows[1:])]
    widths = {column: max(len(row[column]) for row in rows) for column in used}
    table = [
        "  " + "  ".join(f"{row[column]:<{widths[column]}}" for column in used).rstrip()
        for row in rows
    ]
    return ["volumes", *table, *(line for volume in volumes for line in _notes(volume))]


def _row(volume: dict[str, Any]) -> tuple[str, ...]:
    kept = volume.get("kept_bytes")
    return (
        f"{volume['number']}",
        printable(volume["filesystem"] or "unknown"),
        human_size(volume["size"]),
        human_size(volume["used"]),
        "" if kept is None else human_size(kept),
        human_size(volume["cluster_size"]) if volume["cluster_size"] else "",
        f"{volume['first_sector']}",
        printable(volume["label"] or volume["name"]),
        printable(volume["uuid"]),
    )


def _notes(volume: dict[str, Any]) -> list[str]:
    texts = list(volume["notes"])
    if not volume["kept"]:
        texts.append("left out on request")
    elif volume["whole_because"]:
        texts.append(f"taken whole: {volume['whole_because']}")
    if volume["left_out"]:
        texts.append(f"without the content of {', '.join(volume['left_out'])}")
    return [f"  volume {volume['number']}: {printable(text)}" for text in texts]


def disk_values(disk: DiskInfo) -> dict[str, Any]:
    """The object that ``info --json`` prints of a disk or volume that is not an image."""
    return {
        "path": disk.name,
        "kind": "disk" if disk.scheme != "none" else "volume",
        "size": disk.size,
        "sector_size": disk.sector_size,
        "partition_table": disk.scheme,
        "signature": disk.signature,
        "disk_guid": disk.disk_guid,
        "volumes": [volume_values(volume, None) for volume in disk.volumes],
    }


def disk_lines(values: dict[str, Any]) -> list[str]:
    """The same for people."""
    table = {"gpt": "GPT", "mbr": "MBR"}.get(values["partition_table"], "none")
    rows = [
        ("partition table", table),
        ("disk signature", values["signature"].strip("0") and values["signature"]),
        ("disk GUID", values["disk_guid"]),
        ("size", human_size(values["size"])),
        ("sector size", f"{values['sector_size']} bytes"),
    ]
    shown = [(f"  {name}", printable(text)) for name, text in rows if text]
    return [printable(values["path"]), *aligned(shown), *volume_lines(values["volumes"])]
