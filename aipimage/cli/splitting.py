"""``aipimage split`` and ``aipimage join``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

import aipimage
from aipimage.cli.options import checked_size, example, json_option
from aipimage.cli.output import Report, counted, human_size, printable
from aipimage.cli.session import Session

if TYPE_CHECKING:
    from aipimage import CopyResult


@click.command(
    epilog=example("aipimage split disk.aiv /mnt/usb/disk.aiv --size 4G"),
    short_help="Copy an image into parts.",
)
@click.argument("image", metavar="IMAGE")
@click.argument("out", metavar="OUT")
@click.option(
    "--size",
    callback=checked_size,
    required=True,
    metavar="SIZE",
    help="Of a part at most: 650M, 4G.",
)
@json_option
@click.pass_obj
def split(session: Session, image: str, out: str, size: int) -> Report:
    """Copy IMAGE into parts OUT, OUT.002, OUT.003 and so on.

    No password is needed, and the digest stays the same. IMAGE may be split already, and is kept.
    """
    with session.progress("splitting") as callback:
        return _report(image, aipimage.split(image, out, size, progress=callback))


@click.command(
    epilog=example("aipimage join /mnt/usb/disk.aiv disk.aiv"),
    short_help="Copy a split image into one file.",
)
@click.argument("image", metavar="IMAGE")
@click.argument("out", metavar="OUT")
@click.option("--overwrite", is_flag=True, help="Replace OUT once the new image is whole.")
@json_option
@click.pass_obj
def join(session: Session, image: str, out: str, overwrite: bool) -> Report:
    """Copy a split image into one file OUT. IMAGE is any of its parts; all are kept."""
    with session.progress("joining") as callback:
        return _report(image, aipimage.join(image, out, overwrite=overwrite, progress=callback))


def _report(image: str, result: CopyResult) -> Report:
    values = {
        "image": image,
        "path": result.path,
        "parts": result.parts,
        "stored": result.stored,
        "warnings": list(result.warnings),
    }
    line = (
        f"{printable(result.path)}: {human_size(result.stored)} in {counted(result.parts, 'part')}"
    )
    return Report(values, [line], warnings=result.warnings)
