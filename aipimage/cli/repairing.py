"""``aipimage repair``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

import aipimage
from aipimage.cli.options import example, json_option, password_options
from aipimage.cli.output import ExitCode, Report, counted, human_size, printable
from aipimage.cli.secret import image_password
from aipimage.cli.session import Session

if TYPE_CHECKING:
    from aipimage import RepairResult

_SHOWN = 20
_LISTED = 10_000


@click.command(
    epilog=example(
        "aipimage repair damaged.aiv saved.aiv", "aipimage repair disk.aiv.partial saved.aiv"
    ),
    short_help="Save what is whole of a damaged image.",
)
@click.argument("image", metavar="IMAGE")
@click.argument("out", metavar="OUT")
@click.option(
    "--search",
    multiple=True,
    metavar="DIR",
    help="Where the other images of its chain are; by default IMAGE's directory.",
)
@click.option(
    "--zero-lost",
    is_flag=True,
    help="Let lost ranges read as zeros, marked as unreadable, instead of failing.",
)
@password_options
@json_option
@click.pass_obj
def repair(
    session: Session,
    image: str,
    out: str,
    search: tuple[str, ...],
    zero_lost: bool,
    password_file: str | None,
    password_env: str | None,
) -> Report:
    """Make a new image OUT of all that is whole in IMAGE, which is never changed.

    IMAGE may be damaged, cut, without its end, a .partial file, or any part of a split image of
    which parts are missing. Exit status 3 means that something is lost; it is listed.
    """
    password = image_password(session, password_file, password_env)
    with session.progress("repairing") as callback:
        result = aipimage.repair(
            image,
            out,
            password=password,
            search=search or None,
            zero_lost=zero_lost,
            progress=callback,
        )
    return _report(image, result)


def _report(image: str, result: RepairResult) -> Report:
    values = {"image": image, **_values(result)}
    code = ExitCode.DONE if result.ok else ExitCode.DAMAGED
    return Report(values, _lines(result), code, result.warnings)


def _values(result: RepairResult) -> dict[str, Any]:
    return {
        "path": result.path,
        "ok": result.ok,
        "image_id": result.image_id,
        "digest": result.digest,
        "frames": result.frames,
        "frames_lost": result.frames_lost,
        "kept": result.kept,
        "stored": result.stored,
        "lost_bytes": result.lost_bytes,
        "lost": [
            {"device": device, "offset": offset, "length": length}
            for device, offset, length in result.lost[:_LISTED]
        ],
        "lost_ranges": len(result.lost),
        "used": list(result.used),
        "warnings": list(result.warnings),
        "seconds": round(result.seconds, 3),
    }


def _lines(result: RepairResult) -> list[str]:
    head = f"{printable(result.path)}: {counted(result.frames, 'frame')}, "
    if result.ok:
        return [head + "nothing is lost", f"digest  {result.digest}"]
    lost = human_size(result.lost_bytes)
    lines = [head + f"{lost} LOST in {counted(len(result.lost), 'range')}"]
    lines += [
        f"  device {device} bytes {offset} to {offset + length - 1}"
        for device, offset, length in result.lost[:_SHOWN]
    ]
    if len(result.lost) > _SHOWN:
        lines.append(f"  and {len(result.lost) - _SHOWN} more; --json lists them")
    return [*lines, f"digest  {result.digest}"]
