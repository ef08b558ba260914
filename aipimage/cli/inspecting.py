"""``aipimage info`` and ``aipimage verify``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

import aipimage
from aipimage.cli.appliances import appliance_report
from aipimage.cli.chaintree import chain_lines, chain_values
from aipimage.cli.describe import described, description_lines
from aipimage.cli.evidence import first_file, is_damage
from aipimage.cli.linting import disk_verified
from aipimage.cli.options import (
    checked_digest,
    checked_percent,
    example,
    json_option,
    password_options,
    search_option,
)
from aipimage.cli.output import ExitCode, Report, counted, human_size, printable
from aipimage.cli.secret import image_password
from aipimage.cli.session import Session
from aipimage.cli.virtual import virtual_report
from aipimage.cli.volumes import disk_lines, disk_values

if TYPE_CHECKING:
    from aipimage import Damage, DiskInfo, MemberResult, VerifyResult

_SHOWN = 20
_UNKNOWN = (
    "is not an .aiv image, and has no partition table or file system that is known; createimage "
    "takes it as a raw disk, all of it"
)


@click.command(
    epilog=example("aipimage info disk.aiv", "aipimage info /dev/sdb", "aipimage info disk.vmdk"),
    short_help="Show what an image or a disk holds.",
)
@click.argument("image", metavar="IMAGE|DISK")
@click.option("--chain", is_flag=True, help="Draw all images of its chain.")
@search_option
@password_options
@json_option
@click.pass_obj
def info(
    session: Session,
    image: str,
    chain: bool,
    search: tuple[str, ...],
    password_file: str | None,
    password_env: str | None,
) -> Report:
    """Show what IMAGE holds: its devices and volumes, when and where it was made, its digest.

    IMAGE may be any part of a split image, a virtual disk (.vmdk), an appliance (.ova, .ovf), or a
    disk or volume that is not an image yet. An encrypted one shows nothing without its password.
    """
    from aipimage.converting.formats import kind_of

    kind = None if chain else kind_of(image)
    if kind == "vmdk":
        return virtual_report(image, search)
    if kind in ("ova", "ovf"):
        return appliance_report(image, kind)
    if kind == "raw":
        disk = _disk(image)
        values = disk_values(disk)
        return Report(values, disk_lines(values), warnings=disk.warnings)
    password = image_password(session, password_file, password_env)
    with aipimage.open(image, password, search=search) as opened:
        values = described(opened)
        lines = description_lines(values)
        if chain:
            values["chain"] = chain_values(opened.chain)
            values["chain_ok"] = opened.chain.ok
            lines += chain_lines(opened.chain)
        values["warnings"] = list(opened.warnings)
        return Report(values, lines, warnings=opened.warnings)


def _disk(path: str) -> DiskInfo:
    """What is on a raw disk.

    Raises:
        FormatError: nothing that is known; it says what the file is.
    """
    disk = aipimage.survey(path)
    known = disk.scheme != "none" or any(volume.filesystem for volume in disk.volumes)
    if known or disk.warnings:
        return disk
    from aipimage.io.blocks.containers import not_an_image
    from aipimage.io.system.storage import DEFAULT

    with DEFAULT.open_read(path) as file:
        raise not_an_image(file, _UNKNOWN)


@click.command(
    epilog=example(
        "aipimage verify disk.aiv",
        "aipimage verify --sample 5 disk.aiv",
        "aipimage verify disk.vmdk",
    ),
    short_help="Check that an image or a virtual disk is whole.",
)
@click.argument("image", metavar="IMAGE|DISK")
@click.option("--chain", is_flag=True, help="Check all images that it cannot be read without.")
@search_option
@click.option(
    "--sample",
    type=float,
    callback=checked_percent,
    metavar="PERCENT",
    help="Check only this share of the frames, chosen at random.",
)
@click.option("--keyless", is_flag=True, help="Check the stored bytes, without the password.")
@click.option(
    "--digest",
    metavar="DIGEST",
    callback=checked_digest,
    help="Fail unless the image has the digest that createimage printed.",
)
@password_options
@json_option
@click.pass_obj
def verify(
    session: Session,
    image: str,
    chain: bool,
    search: tuple[str, ...],
    sample: float | None,
    keyless: bool,
    digest: str | None,
    password_file: str | None,
    password_env: str | None,
) -> Report:
    """Check every byte of IMAGE. Exit status 3 means that damage was found.

    A virtual disk (.vmdk) is checked against the rules of its format: descriptor, headers, tables,
    markers and compressed grains; what troubles only some programs is a warning. Of an
    appliance (.ova, .ovf) the digests and all disks are checked.
    """
    from aipimage.converting.formats import kind_of

    kind = kind_of(image, by_content=True)
    if kind in ("vmdk", "ova", "ovf"):
        if keyless or sample is not None or digest is not None or password_file or password_env:
            raise click.UsageError(
                "a virtual disk is checked as a whole and has no password; leave out "
                "--sample, --keyless, --digest and the password"
            )
        return disk_verified(session, image, kind, chain, search)
    if keyless and (sample is not None or digest is not None):
        raise click.UsageError("--keyless checks everything; leave out --sample and --digest")
    path = first_file(image)
    mode = "keyless" if keyless else "full" if sample is None else "sample"
    lost = 0
    try:
        if keyless:
            with session.progress("verifying") as callback:
                result = aipimage.verify_keyless(
                    path, chain=chain, search=search, progress=callback
                )
        else:
            password = image_password(session, password_file, password_env)
            with (
                aipimage.open(path, password, expected_digest=digest, search=search) as opened,
                session.progress("verifying") as callback,
            ):
                result = opened.verify(chain=chain, sample=sample, progress=callback)
                lost = sum(device.bytes_of(aipimage.Kind.LOST) for device in opened.devices)
    except aipimage.AipImageError as error:
        if not is_damage(path, error):
            raise
        result = aipimage.VerifyResult(mode, 0, 0, 0.0, (aipimage.Damage(str(error)),))
    report = _report(image, result, chain)
    return _with_lost(report, lost) if lost else report


def _with_lost(report: Report, lost: int) -> Report:
    """The report with a warning of bytes that an earlier repair could not save."""
    text = f"{lost} bytes are marked as lost to earlier damage; reading them is an error"
    values = report.values | {"lost": lost}
    return Report(values, report.lines, report.code, (*report.warnings, text))


def _report(path: str, result: VerifyResult, chain: bool) -> Report:
    values: dict[str, Any] = {
        "path": path,
        "mode": result.mode,
        "ok": result.ok,
        "frames": result.frames,
        "bytes": result.bytes,
        "seconds": round(result.seconds, 3),
        "damage": [_damage_values(each) for each in result.damage],
    }
    if chain:
        members = [each._asdict() for each in result.members]
        values["chain"] = members or [{"path": path, "ok": result.ok}]
    size = human_size(result.bytes)
    amount = f"{counted(result.frames, 'frame')}, {size}, {result.seconds:.1f} s"
    if not result.bytes:
        amount = "it cannot be opened"
    what = {"full": "whole", "keyless": "whole as far as is seen without keys"}.get(
        result.mode, "no damage in the sample"
    )
    drawn = ["chain", *map(_member_line, result.members)] if result.members else []
    if result.ok:
        return Report(values, [f"{printable(path)}: {what} ({amount})", *drawn])
    found = counted(len(result.damage), "finding")
    lines = [f"{printable(path)}: DAMAGED, {found} ({amount})"]
    lines += [_damage_line(each) for each in result.damage[:_SHOWN]]
    if len(result.damage) > _SHOWN:
        lines.append(f"  and {len(result.damage) - _SHOWN} more; --json lists them")
    return Report(values, lines + drawn, ExitCode.DAMAGED)


def _member_line(member: MemberResult) -> str:
    name = printable(member.path) if member.path else f"{member.image_id}, which is missing"
    return f"  {'whole  ' if member.ok else 'DAMAGED'}  {name}"


def _damage_values(damage: Damage) -> dict[str, Any]:
    return {
        "what": damage.what,
        "path": damage.path,
        "origin": damage.origin,
        "frame": damage.frame,
        "ranges": [
            {"device": device, "offset": offset, "length": length}
            for device, offset, length in damage.ranges
        ],
    }


def _damage_line(damage: Damage) -> str:
    where = ", ".join(
        f"device {device} bytes {offset} to {offset + length - 1}"
        for device, offset, length in damage.ranges
    )
    text = f"{damage.path}: {damage.what}" if damage.path else damage.what
    return f"  {printable(text)}" + (f" ({where})" if where else "")
