"""What ``aipimage info`` says of an image, as values and for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aipimage.cli.output import aligned, counted, human_size, printable, ratio_of
from aipimage.cli.volumes import volume_lines, volume_values

if TYPE_CHECKING:
    from aipimage import Device, Image


def described(image: Image) -> dict[str, Any]:
    """The object that ``info --json`` prints."""
    devices = [_device(device) for device in image.devices]
    data = sum(device["data"] for device in devices)
    about = image.metadata["description"]
    return {
        "path": image.path, "kind": image.kind, "image_id": image.image_id,
        "sequence": image.sequence, "parent_id": image.parent_id,
        "chain_id": image.chain_id, "digest": image.digest,
        "created": _text(about, "created"), "tool": _text(about, "tool"),
        "host": _text(about, "host"), "comment": _text(about, "comment"),
        "encryption": image.encryption, "parts": image.parts, "stored": image.stored,
        "size": sum(device["size"] for device in devices), "data": data,
        "ratio": ratio_of(data, image.stored), "devices": devices,
        "volumes": [
            volume_values(each, kept)
            for each, kept in zip(image.volumes, image.kept_bytes(), strict=True)
        ],
        **({"tags": image.tags} if image.tags else {}),
    }  # fmt: skip


def _device(device: Device) -> dict[str, Any]:
    from aipimage import Kind

    table = device.metadata.get("table")
    about = table if isinstance(table, dict) else {}
    return {
        "partition_table": _text(about, "scheme"),
        "signature": _text(about, "signature"),
        "disk_guid": _text(about, "disk_guid"),
        "index": device.index,
        "name": device.name,
        "size": device.size,
        "sector_size": device.sector_size,
        "data": device.bytes_of(Kind.DATA),
        "zero": device.bytes_of(Kind.ZERO),
        "unused": device.bytes_of(Kind.UNUSED),
        "unreadable": device.bytes_of(Kind.UNREADABLE),
        "lost": device.bytes_of(Kind.LOST),
    }


def _text(values: dict[str, Any], name: str) -> str:
    """A member of the metadata, which may hold anything where another program wrote it."""
    return str(values.get(name, ""))


def description_lines(values: dict[str, Any]) -> list[str]:
    """The same for people."""
    ratio = f", {values['ratio']:.2f}:1" if values["ratio"] else ""
    rows = [
        ("kind", _kind(values)),
        ("created", f"{values['created']} on {values['host']} by {values['tool']}"),
        ("comment", values["comment"]),
        ("tags", ", ".join(f"{name}={text}" for name, text in values.get("tags", {}).items())),
        ("encryption", values["encryption"] or "none"),
        ("size", f"{human_size(values['size'])}, {human_size(values['data'])} of it data"),
        ("stored", f"{human_size(values['stored'])} in {counted(values['parts'], 'part')}{ratio}"),
        ("image id", values["image_id"]),
        ("parent", values["parent_id"]),
        ("chain id", values["chain_id"]),
        ("digest", values["digest"]),
    ]
    shown = [(f"  {name}", printable(text)) for name, text in rows if text]
    devices = [_device_row(device) for device in values["devices"]]
    lines = [printable(values["path"]), *aligned(shown), "devices", *aligned(devices)]
    for device in values["devices"]:
        volumes = [each for each in values["volumes"] if each["device"] == device["index"]]
        table = volume_lines(volumes)
        if len(values["devices"]) > 1 and table:
            table[0] = f"volumes of device {device['index']}"
        lines += table
    return lines


def _kind(values: dict[str, Any]) -> str:
    if values["parent_id"] is None:
        return str(values["kind"])
    return f"{values['kind']}, number {values['sequence']} of its chain"


def _device_row(device: dict[str, Any]) -> tuple[str, str]:
    kinds = [
        f"{human_size(device[kind])} {kind}"
        for kind in ("data", "zero", "unused", "unreadable", "lost")
        if device[kind]
    ]
    name = f"  {device['index']}  {printable(device['name'])}"
    table = {"gpt": ", GPT", "mbr": ", MBR"}.get(device["partition_table"], "")
    return name, f"{human_size(device['size'])}{table}: {', '.join(kinds)}"
