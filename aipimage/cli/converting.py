"""``aipimage convert``."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, BinaryIO

import click

import aipimage
from aipimage.cli.options import (
    checked_compression,
    checked_size,
    example,
    password_options,
    search_option,
)
from aipimage.cli.output import Report, counted, human_size, printable, say
from aipimage.cli.secret import image_password
from aipimage.cli.session import Session
from aipimage.cli.virtual import outside_option, source_format_option

if TYPE_CHECKING:
    from aipimage.converting.request import ConvertResult

_SUBFORMATS = (
    "monolithicSparse",
    "monolithicFlat",
    "twoGbMaxExtentSparse",
    "twoGbMaxExtentFlat",
    "streamOptimized",
    "vmfs",
)
_ADAPTERS = ("lsilogic", "buslogic", "ide", "lsilogicsas", "pvscsi", "sata")
_APPLIANCE = ("name", "os", "firmware", "cpus", "memory", "networks", "nic", "manifest")


def _checked_cid(_: click.Context, __: click.Parameter, value: str | None) -> int | None:
    """Eight hexadecimal digits at most, as a descriptor has them."""
    if value is None:
        return None
    if not re.fullmatch("[0-9a-fA-F]{1,8}", value):
        raise click.BadParameter(f"{value!r} has not 1 to 8 hexadecimal digits")
    return int(value, 16)


def _checked_subformat(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    """A sub-format in any case of letters; click itself would list them in small letters."""
    if value is None:
        return None
    found = [name for name in _SUBFORMATS if name.lower() == value.lower()]
    if not found:
        raise click.BadParameter(f"{value!r} is none of {', '.join(_SUBFORMATS)}")
    return found[0]


@click.command(
    epilog=example(
        "aipimage convert disk.aiv disk.vmdk",
        "aipimage convert disk.aiv - --format vmdk | ssh host 'cat > disk.vmdk'",
        "aipimage convert server.aiv server.ova --memory 4G --cpus 2",
        "aipimage convert guest.vmdk guest.aiv --compress zstd:9",
    ),
    short_help="Turn an image into a virtual disk, and back.",
)
@click.argument("source", metavar="SOURCE")
@click.argument("target", metavar="TARGET")
@click.option(
    "--format",
    type=click.Choice(["vmdk", "raw", "aiv", "ova", "ovf"]),
    help="Of TARGET; by the end of its name by default.",
)
@click.option(
    "--disk",
    "disks",
    multiple=True,
    type=click.IntRange(0),
    metavar="N",
    help="Which disk, from 0; several for .aiv, .ova and .ovf, which get all by default.",
)
@source_format_option("aiv", "vmdk", "ova", "ovf", "raw")
@outside_option
@click.option(
    "--subformat",
    callback=_checked_subformat,
    metavar="NAME",
    help="Of a VMDK: monolithicSparse (the default), monolithicFlat, "
    "twoGbMaxExtentSparse, twoGbMaxExtentFlat, streamOptimized (in a pipe), vmfs.",
)
@click.option(
    "--adapter",
    type=click.Choice(_ADAPTERS),
    help="Of the disk: lsilogic by default; the last three for an appliance only.",
)
@click.option(
    "--hardware",
    type=click.IntRange(1, 99),
    metavar="N",
    help="Version of the virtual hardware: 11 by default.",
)
@click.option(
    "--cid", callback=_checked_cid, metavar="HEX", help="Content ID of the VMDK; random by default."
)
@click.option(
    "--split",
    callback=checked_size,
    metavar="SIZE",
    help="Extents of a twoGbMaxExtent disk, or parts of an .aiv, of at most this size.",
)
@click.option(
    "--level",
    type=click.Choice(["fast", "dense"]),
    help="Of a streamOptimized disk: fast by default; dense is smaller.",
)
@click.option(
    "--compress",
    callback=lambda c, p, value: value and checked_compression(c, p, value),
    metavar="none|zstd[:LEVEL]",
    help="Of an .aiv.",
)
@click.option(
    "--encrypt", type=click.Choice(["aes-128", "aes-256"]), help="Encrypt an .aiv with a password."
)
@click.option("--include-free", is_flag=True, help="Keep free space of file systems in an .aiv.")
@click.option("--comment", default="", metavar="TEXT", help="Kept in an .aiv.")
@click.option("--name", metavar="TEXT", help="Of an appliance; its file's name otherwise.")
@click.option("--os", metavar="NAME", help="Guest system of an appliance; as its disks show.")
@click.option(
    "--firmware", type=click.Choice(["bios", "efi"]), help="Of an appliance; as its disks show."
)
@click.option("--cpus", type=click.IntRange(1), metavar="N", help="Processors of an appliance.")
@click.option(
    "--memory", callback=checked_size, metavar="SIZE", help="Of an appliance: 4G by default."
)
@click.option(
    "--network",
    "networks",
    multiple=True,
    metavar="NAME",
    help="A network that an appliance is connected to; may be repeated.",
)
@click.option("--nic", metavar="TYPE", help="Network adapter of an appliance: E1000, VmxNet3, ...")
@click.option(
    "--manifest",
    type=click.Choice(["sha256", "sha1", "none"]),
    help="Digests of an appliance's files: sha256 by default.",
)
@search_option
@click.option("--resume", is_flag=True, help="Resume an interrupted conversion to TARGET.")
@click.option("--overwrite", is_flag=True, help="Replace TARGET once the new one is whole.")
@click.option("--threads", type=click.IntRange(1, 1024), metavar="N", help="Worker threads.")
@password_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on standard output.")
@click.pass_obj
def convert(session: Session, /, source: str, target: str, **options: Any) -> Report | None:
    """Convert SOURCE, an .aiv image of any chain, a .vmdk, a disk of an .ova or .ovf or a raw
    disk, to TARGET.

    Names say the formats: .aiv, .vmdk, .ova, .ovf, .raw or .img; any other SOURCE is raw. TARGET
    may be -, standard output. A target gets its name only once it is whole.
    """
    into = _target(target, options)
    password = image_password(session, options["password_file"], options["password_env"])
    if into is target:
        session.after_failure = lambda: _leftovers(target)
    with session.progress("converting") as callback:
        result = aipimage.convert(
            source, into, password=password, progress=callback, **_arguments(options)
        )
    report = _report(result)
    if into is target:
        return report
    for level, lines in (("warning", report.warnings), ("note", report.lines)):
        for line in lines:
            say(level, line)
    return None


def _target(target: str, options: dict[str, Any]) -> str | BinaryIO:
    """The target as the library takes it: standard output for ``-``."""
    if target != "-":
        return target
    if options["as_json"]:
        raise click.UsageError("--json prints where the disk goes, on standard output")
    if options["format"] is None and options["subformat"] is None:
        raise click.UsageError("standard output has no name that shows the format; use --format")
    if sys.stdout is None or sys.stdout.isatty():
        raise click.UsageError("standard output is a terminal; lead it into a file or a program")
    options["format"] = options["format"] or "vmdk"
    return sys.stdout.buffer


def _arguments(options: dict[str, Any]) -> dict[str, Any]:
    """The options as arguments of :func:`aipimage.convert`."""
    given = dict(options)
    for name in ("as_json", "password_file", "password_env"):
        del given[name]
    disks = given.pop("disks")
    given["disk"] = None if not disks else disks[0] if len(disks) == 1 else list(disks)
    appliance = {name: value for name in _APPLIANCE if (value := given.pop(name))}
    given["appliance"] = appliance or None
    return given


def _report(result: ConvertResult) -> Report:
    values = asdict(result)
    values |= {
        "seconds": round(result.seconds, 3),
        "warnings": list(result.warnings),
        "cid": None if result.cid is None else f"{result.cid:08x}",
        "notes": list(result.notes),
        "disks": list(result.disks),
        "files": list(result.files),
    }
    kind = f"{result.format} {result.subformat}" if result.subformat else result.format
    several = f"{counted(len(result.disks), 'disk')}, " if len(result.disks) > 1 else ""
    files = f" in {counted(len(result.files), 'file')}" if len(result.files) > 1 else ""
    lines = [
        f"{printable(result.target or 'standard output')}: {kind}, {several}"
        f"{human_size(result.size)}, {human_size(result.data)} of it data, stored in "
        f"{human_size(result.stored)}{files}, {result.seconds:.1f} s"
    ]
    if result.digest is not None:
        lines.append(f"digest {result.digest}")
    lines += [printable(note) for note in result.notes]
    unread = f"{result.unreadable} bytes could not be read; they are zeros"
    warnings = (*((unread,) if result.unreadable else ()), *result.warnings)
    return Report(values, lines, warnings=warnings)


def _leftovers(path: str) -> str | None:
    if os.path.exists(path + ".partial"):
        return f"{path}.partial is kept; the same command with --resume continues it"
    return f"no {path} was made" if not os.path.exists(path) else None
