"""What ``aipimage createimage`` says of the image that it made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aipimage.cli.output import Report, counted, human_size, printable, ratio_of

if TYPE_CHECKING:
    from aipimage import CreateResult, DeviceChanges

_FOUND = {
    "tracked": "changes as reported by --changed",
    "digests": "compared with the parent's block digests",
    "data": "compared with the parent's data",
    "full": "taken whole",
}
_SHOWN = 20


def created_report(result: CreateResult, recovery_key: str | None) -> Report:
    """The object that ``--json`` prints, the lines for people, and the warnings."""
    warnings = result.warnings
    values = _values(result) | {"warnings": list(warnings)}
    lines = [_summary(result, values["ratio"])]
    if result.parent_id is not None:
        lines.append(f"parent {result.parent_id}; number {result.sequence} of its chain, from 0")
    if result.parent_id is not None or any(each.reason for each in result.changes):
        lines += [_change_line(*each) for each in enumerate(result.changes)]
    lines.append(f"digest {result.digest}")
    lines += [
        f"device {device}: {length} bytes at {offset} could not be read"
        for device, offset, length in result.unreadable_ranges[:_SHOWN]
    ]
    if recovery_key is not None:
        values["recovery_key"] = recovery_key
        lines.append(f"recovery key {recovery_key}  (write it down: it is not shown again)")
    return Report(values, lines, warnings=warnings)


def _values(result: CreateResult) -> dict[str, Any]:
    return {
        "path": result.path, "image_id": result.image_id, "digest": result.digest,
        "kind": result.kind, "parent_id": result.parent_id, "sequence": result.sequence,
        "size": result.size, "data": result.data, "zero": result.zero,
        "unreadable": result.unreadable, "stored": result.stored, "parts": result.parts,
        "ratio": ratio_of(_kept(result), result.stored), "seconds": round(result.seconds, 3),
        "resumed": result.resumed,
        "unreadable_ranges": [
            {"device": device, "offset": offset, "length": length}
            for device, offset, length in result.unreadable_ranges
        ],
        "changes": [
            {"device": device, **each._asdict()} for device, each in enumerate(result.changes)
        ],
    }  # fmt: skip


def _kept(result: CreateResult) -> int:
    """Bytes that the image holds itself, for its ratio: of an increment what changed."""
    return result.data if result.kind == "full" else sum(each.changed for each in result.changes)


def _summary(result: CreateResult, ratio: float | None) -> str:
    what = "it data" if result.kind == "full" else "it changed"
    shown = f" ({ratio:.2f}:1)" if ratio else ""
    return (
        f"{printable(result.path)}: {result.kind} image of {human_size(result.size)}, "
        f"{human_size(_kept(result))} of {what}, stored in {human_size(result.stored)}{shown}, "
        f"{counted(result.parts, 'part')}, {result.seconds:.1f} s"
    )


def _change_line(device: int, changes: DeviceChanges) -> str:
    why = f": {printable(changes.reason)}" if changes.reason else ""
    return (
        f"device {device}: {_FOUND[changes.method]}{why}; {human_size(changes.read)} read, "
        f"{human_size(changes.changed)} changed"
    )
