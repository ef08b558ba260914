"""``aipimage restoredisk`` and ``aipimage restorevolume``."""

from __future__ import annotations

import os

import click

import aipimage
from aipimage import Image, RequestError, RestoreResult
from aipimage.cli.options import example, json_option, password_options, search_option
from aipimage.cli.output import Report, human_size, printable
from aipimage.cli.secret import image_password
from aipimage.cli.session import Session
from aipimage.cli.tables import partition_table

_FORCE = "Also write over a file that is not empty; never over what is mounted."


@click.command(
    epilog=example("aipimage restoredisk disk.aiv /dev/sdc"),
    short_help="Write a disk of an image back.",
)
@click.argument("image", metavar="IMAGE")
@click.argument("target", metavar="TARGET")
@click.option(
    "--disk", type=click.IntRange(0), default=0, metavar="N", show_default=True,
    help="Which disk of the image; `info` numbers them from 0.",
)  # fmt: skip
@click.option("--mbr", is_flag=True, hidden=True)
@click.option("--signature", is_flag=True, hidden=True)
@click.option("--force", is_flag=True, help=_FORCE)
@click.option("--set-size", is_flag=True, help="Give an existing file the size of the disk.")
@search_option
@password_options
@json_option
@click.pass_obj
def restoredisk(
    session: Session, image: str, target: str, disk: int, mbr: bool, signature: bool, force: bool,
    set_size: bool, search: tuple[str, ...], password_file: str | None, password_env: str | None,
) -> Report:  # fmt: skip
    """Write a disk of IMAGE to TARGET, a device or a file. What TARGET held is lost.

    A mounted device, one that is too small, and a file that is not empty are refused.
    """
    for name, wanted in (("mbr", mbr), ("signature", signature)):
        if wanted:
            raise RequestError(f"--{name} comes with the volumes release; nothing was written")
    password = image_password(session, password_file, password_env)
    with aipimage.open(image, password, search=search) as opened:
        return _restored(session, opened, target, disk, force, set_size)


@click.command(
    epilog=example("aipimage restorevolume data.aiv /dev/sdc1"),
    short_help="Write a volume of an image back.",
)
@click.argument("image", metavar="IMAGE")
@click.argument("target", metavar="TARGET")
@click.option(
    "--volume", type=click.IntRange(0), default=0, metavar="N", show_default=True,
    help="Which volume of the image; `info` numbers its devices from 0.",
)  # fmt: skip
@click.option("--expand", is_flag=True, hidden=True)
@click.option("--force", is_flag=True, help=_FORCE)
@search_option
@password_options
@json_option
@click.pass_obj
def restorevolume(
    session: Session, image: str, target: str, volume: int, expand: bool, force: bool,
    search: tuple[str, ...], password_file: str | None, password_env: str | None,
) -> Report:  # fmt: skip
    """Write a volume of IMAGE to TARGET, a device or a file. What TARGET held is lost.

    IMAGE must have been made of the volume itself. One that was made of a whole disk is restored
    with restoredisk.
    """
    if expand:
        raise RequestError("--expand comes with the volumes release; nothing was written")
    password = image_password(session, password_file, password_env)
    with aipimage.open(image, password, search=search) as opened:
        if volume < len(opened.devices) and (table := partition_table(opened.devices[volume])):
            raise RequestError(
                f"{image}: device {volume} is a disk with {table}, not a volume; "
                "restoredisk restores the disk"
            )
        return _restored(session, opened, target, volume, force, set_size=False)


def _restored(
    session: Session, image: Image, target: str, device: int, force: bool, set_size: bool
) -> Report:
    session.after_failure = lambda: (
        f"{target} may hold part of it only; restore it again" if os.path.exists(target) else None
    )
    with session.progress("restoring") as callback:
        result = image.restore(
            target, device=device, force=force, set_size=set_size, progress=callback
        )
    return _report(image.path, device, result)


def _report(path: str, device: int, result: RestoreResult) -> Report:
    values = {
        "image": path, "target": result.target, "device": device, "size": result.size,
        "written": result.written, "unreadable": result.unreadable,
        "seconds": round(result.seconds, 3),
    }  # fmt: skip
    line = (
        f"{printable(result.target)}: restored {human_size(result.size)}, "
        f"{human_size(result.written)} of it data, {result.seconds:.1f} s"
    )
    warnings = (
        (
            f"{result.unreadable} bytes could not be read when the image was made or repaired; "
            "they are zeros",
        )
        if result.unreadable
        else ()
    )
    return Report(values, [line], warnings=warnings)
