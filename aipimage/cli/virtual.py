"""Virtual disks in commands that take any disk: opened by their names, and described."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, TypeVar

import click

import aipimage
from aipimage.cli.output import Report, aligned, human_size
from aipimage.cli.volumes import disk_lines, disk_values

if TYPE_CHECKING:
    from aipimage import BlockSource
    from aipimage.vmdk.source import VmdkSource

_Command = TypeVar("_Command", bound=Callable[..., Any])


def source_format_option(*formats: str) -> Callable[[_Command], _Command]:
    """Add ``--source-format``."""

    def add(command: _Command) -> _Command:
        return click.option(
            "--source-format",
            type=click.Choice(formats),
            help="What SOURCE is, where its name (.vmdk) does not say it or says it wrong.",
        )(command)

    return add


def outside_option(command: _Command) -> _Command:
    """Add ``--allow-outside``."""
    return click.option(
        "--allow-outside",
        is_flag=True,
        help="Let a .vmdk name files outside of its own directory and those of --search.",
    )(command)


def opened_sources(
    paths: Sequence[str],
    target: str,
    source_format: str | None,
    search: Sequence[str],
    allow_outside: bool,
    stack: ExitStack,
) -> tuple[list[str | BlockSource], list[str]]:
    """Sources of an image as the library takes them: a virtual disk, by its name, is opened, and so
    are all disks of an appliance; paths of all others stay as they are. What is opened is closed
    with the stack.

    Returns:
        The sources, and sentences on what is not as it should be: in a virtual disk, and
        around the disks of an appliance.

    Raises:
        AipImageError: as opening a virtual disk does, or the target is a file of one.
    """
    from aipimage.converting.formats import format_of_source, may_be_virtual

    virtual = source_format is None and any(map(may_be_virtual, paths))
    if source_format in (None, "raw") and not virtual:
        return list(paths), []
    # Few images are made of virtual disks, and all would wait for the import.
    from aipimage.converting.sources import files_of, open_appliance, open_disk, refuse_file

    found: list[str | BlockSource] = []
    warnings: list[str] = []
    for path in paths:
        kind = source_format or format_of_source(path, None)
        if kind in ("ova", "ovf"):
            package, disks = open_appliance(path, kind, stack)
            found += disks
            warnings += [*package.warnings, *(text for disk in disks for text in disk.warnings)]
            refuse_file(target, package.files)
            continue
        if kind != "vmdk":
            found.append(path)
            continue
        disk = open_disk(
            path, by_name=source_format is None, search=search, allow_outside=allow_outside
        )
        stack.callback(disk.close)
        refuse_file(target, files_of(disk))
        found.append(disk)
        warnings += disk.warnings
    return found, warnings


def virtual_report(path: str, search: Sequence[str]) -> Report:
    """What ``info`` says of a virtual disk, and of the volumes on it.

    Raises:
        AipImageError: it is none, or cannot be read.
    """
    from aipimage.vmdk.opening import open_vmdk

    with open_vmdk(path, search=search) as disk:
        found = aipimage.survey(disk)
        about = virtual_values(disk)
    values = disk_values(found) | about
    lines = disk_lines(values)
    return Report(
        values,
        [lines[0], *virtual_lines(about), *lines[1:]],
        warnings=(*disk.warnings, *found.warnings),
    )


def virtual_values(disk: VmdkSource) -> dict[str, Any]:
    """What ``info --json`` adds to a disk that is a VMDK."""
    about = disk.descriptor
    return {
        "kind": "vmdk",
        "subformat": disk.subformat,
        "cid": f"{about.cid:08x}",
        "parent_cid": f"{about.parent_cid:08x}",
        "adapter": about.ddb.get("adapterType", ""),
        "hardware": about.ddb.get("virtualHWVersion", ""),
        "extents": [
            {
                "access": each.access,
                "sectors": each.sectors,
                "type": each.kind,
                "name": each.name,
                "offset": each.offset,
            }
            for each in about.extents
        ],
        "chain": list(disk.chain),
    }


def virtual_lines(values: dict[str, Any]) -> list[str]:
    """The same for people."""
    parent = values["parent_cid"]
    rows = [
        ("sub-format", values["subformat"]),
        ("content ID", values["cid"]),
        ("parent's", parent if len(values["chain"]) > 1 or parent != "ffffffff" else ""),
        ("adapter", values["adapter"]),
        ("hardware", values["hardware"]),
    ]
    shown = [(f"  {name}", text) for name, text in rows if text]
    extents = [
        (
            f"  {number}  {each['name']}",
            f"{human_size(each['sectors'] * 512)} {each['type']}, {each['access']}",
        )
        for number, each in enumerate(values["extents"])
    ]
    lines = [*aligned(shown), "extents", *aligned(extents)]
    if len(values["chain"]) > 1:
        lines += ["chain, newest first", *(f"  {path}" for path in values["chain"])]
    return lines
