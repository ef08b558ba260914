"""``aipimage info`` of an appliance."""

from __future__ import annotations

from typing import Any

import aipimage
from aipimage.cli.output import Report, aligned, counted, human_size, printable
from aipimage.cli.virtual import virtual_values
from aipimage.cli.volumes import disk_lines, disk_values


def appliance_report(path: str, kind: str) -> Report:
    """What ``info`` says of an appliance, its files, its disks and the volumes on them.

    Args:
        kind: ``ova`` or ``ovf``.

    Raises:
        AipImageError: it is none, or cannot be read.
    """
    from aipimage.vmdk.ovf import open_ova, open_ovf

    disks: list[dict[str, Any]] = []
    warnings: list[str] = []
    opener = open_ova if kind == "ova" else open_ovf
    with opener(path) as appliance:
        warnings += appliance.warnings
        for number in range(len(appliance.disks)):
            with appliance.open_disk(number) as disk:
                found = aipimage.survey(disk)
                disks.append(disk_values(found) | virtual_values(disk))
                warnings += [*disk.warnings, *found.warnings]
        values: dict[str, Any] = {
            "path": path,
            "kind": kind,
            "name": appliance.envelope.name,
            "files": [{"name": each.name, "size": each.size} for each in appliance.members],
            "manifest": bool(appliance.manifest),
            "disks": disks,
        }
    return Report(values, _lines(values), warnings=tuple(warnings))


def _lines(values: dict[str, Any]) -> list[str]:
    rows = [
        ("  machine", values["name"]),
        ("  manifest", "digests of all files" if values["manifest"] else "none"),
    ]
    lines = [printable(values["path"]), *aligned([row for row in rows if row[1]])]
    lines += [
        "files",
        *aligned([(f"  {each['name']}", human_size(each["size"])) for each in values["files"]]),
    ]
    lines.append(counted(len(values["disks"]), "disk"))
    return lines + [line for disk in values["disks"] for line in disk_lines(disk)]
