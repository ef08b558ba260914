"""``aipimage merge``."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

import aipimage
from aipimage.cli.options import checked_size, example, json_option, password_options
from aipimage.cli.output import Report, counted, human_size, printable
from aipimage.cli.secret import image_password
from aipimage.cli.session import Session

if TYPE_CHECKING:
    from aipimage import MergeResult


@click.command(
    epilog=example("aipimage merge week.aiv full.aiv mon.aiv tue.aiv --remove"),
    short_help="Make one image of consecutive ones of a chain.",
)
@click.argument("output", metavar="OUT.aiv")
@click.argument("images", metavar="IMAGE [IMAGE ...]", nargs=-1, required=True)
@click.option(
    "--split", callback=checked_size, metavar="SIZE", help="Parts of at most SIZE: 650M, 4G."
)
@click.option("--threads", type=click.IntRange(1), metavar="N", help="Worker threads.")
@click.option("--overwrite", is_flag=True, help="Replace OUT.aiv once the new image is whole.")
@click.option(
    "--no-resume", is_flag=True, help="Begin anew instead of resuming an interrupted merge."
)
@click.option(
    "--remove", is_flag=True, help="Remove the images once the new one is whole and durable."
)
@click.option("--dry-run", is_flag=True, help="Only show what would be copied and dropped.")
@click.option(
    "--search",
    multiple=True,
    metavar="DIR",
    help="Another directory with images of the chain; may be repeated.",
)
@password_options
@json_option
@click.pass_obj
def merge(
    session: Session, output: str, images: tuple[str, ...], split: int | None, threads: int | None,
    overwrite: bool, no_resume: bool, remove: bool, dry_run: bool, search: tuple[str, ...],
    password_file: str | None, password_env: str | None,
) -> Report:  # fmt: skip
    """Make one image OUT.aiv of consecutive images of a chain, named in any order.

    It is the point in time of the newest IMAGE, and a full image where the oldest is one. Images
    that build on the newest one stay valid. The password is that of the newest one.
    """
    if len(images) < 2:
        raise click.UsageError("name at least two images to merge")
    password = image_password(session, password_file, password_env)
    with session.progress("merging") as callback:
        result = aipimage.merge(
            output,
            images,
            password=password,
            split=split,
            overwrite=overwrite,
            resume=not no_resume,
            dry_run=dry_run,
            remove=remove,
            search=search,
            threads=threads,
            progress=callback,
        )
    return _report(result, len(images), dry_run)


def _report(result: MergeResult, images: int, dry_run: bool) -> Report:
    values = asdict(result) | {"seconds": round(result.seconds, 3), "dry_run": dry_run}
    copied = f"{human_size(result.bytes_copied)} ({counted(result.frames_copied, 'frame')})"
    dropped = f"{human_size(result.bytes_dropped)} ({counted(result.frames_dropped, 'frame')})"
    path = printable(result.path)
    if dry_run:
        would = f"{path}: would be {result.kind}, of {counted(images, 'image')}"
        return Report(values, [would, f"would copy {copied} and drop {dropped}"])
    resumed = ", resumed" if result.resumed else ""
    lines = [
        f"{path}: {result.kind}, of {counted(images, 'image')}, {result.seconds:.1f} s{resumed}",
        f"copied {copied}, dropped {dropped}",
        *(f"removed {printable(name)}" for name in result.removed),
        f"digest {result.digest}",
    ]
    return Report(values, lines, warnings=result.warnings)
