"""``aipimage restoredisk`` and ``aipimage restorevolume``."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeVar

import click

import aipimage
from aipimage.cli.options import checked_size, example, json_option, password_options, search_option
from aipimage.cli.output import Report, human_size, printable
from aipimage.cli.secret import image_password
from aipimage.cli.session import Session

if TYPE_CHECKING:
    from aipimage import ProgressCallback, RestoreResult

_FORCE = "Also write over a file that is not empty; never over what is mounted."
_Command = TypeVar("_Command", bound=Callable[..., Any])


def _target_options(command: _Command) -> _Command:
    """Options about the target that both commands have."""
    force = click.option("--force", is_flag=True, help=_FORCE)
    size = click.option(
        "--size", metavar="SIZE", callback=checked_size, help="Give a file this size, such as 40G."
    )
    scratch = click.option(
        "--scratch",
        metavar="DIR",
        type=click.Path(exists=True, file_okay=False),
        help="Where copies of volumes go that have to become smaller; by default the directory "
        "of the target, /var/tmp for a device.",
    )
    return force(size(scratch(command)))


@click.command(
    epilog=example(
        "aipimage restoredisk disk.aiv /dev/sdc", "aipimage restoredisk disk.aiv new.raw --size 1T"
    ),
    short_help="Write a disk of an image back.",
)
@click.argument("image", metavar="IMAGE")
@click.argument("target", metavar="TARGET")
@click.option(
    "--disk",
    type=click.IntRange(0),
    default=0,
    metavar="N",
    show_default=True,
    help="Which disk of the image; `info` numbers them from 0.",
)
@click.option(
    "--mbr",
    is_flag=True,
    help="Where TARGET has content: write only the boot code of its first sector.",
)
@click.option(
    "--signature",
    is_flag=True,
    help="Where TARGET has content: write only the disk signature in its first sector.",
)
@click.option(
    "--new-ids",
    is_flag=True,
    help="New disk signature, disk GUID and partition GUIDs, for a clone beside its original.",
)
@_target_options
@click.option("--set-size", is_flag=True, help="Give an existing file the size of the disk.")
@search_option
@password_options
@json_option
@click.pass_obj
def restoredisk(
    session: Session, image: str, target: str, disk: int, mbr: bool, signature: bool,
    new_ids: bool, force: bool, size: int | None, scratch: str | None, set_size: bool,
    search: tuple[str, ...], password_file: str | None, password_env: str | None,
) -> Report:  # fmt: skip
    """Write a disk of IMAGE to TARGET, a device or a file. What TARGET held is lost.

    On a larger TARGET partitions stay where they are, and a GPT gets its backup at the new end. On
    a smaller one partitions are moved down and made smaller, where what is in use fits.

    A mounted device, one that is too small, and a file that is not empty are refused.
    """
    if new_ids and (mbr or signature):
        raise click.UsageError("--new-ids goes with a whole disk, not with --mbr or --signature")
    if size is not None and set_size:
        raise click.UsageError("use --size or --set-size, not both")
    password = image_password(session, password_file, password_env)
    with aipimage.open(image, password, search=search) as opened:
        return _restored(
            session, image, target,
            lambda callback: opened.restore(
                target, device=disk, force=force, set_size=set_size, size=size,
                new_ids=new_ids, boot_code=mbr, signature=signature, scratch=scratch,
                progress=callback,
            ),
        )  # fmt: skip


@click.command(
    epilog=example("aipimage restorevolume disk.aiv /dev/sdc2 --volume 2 --expand"),
    short_help="Write a volume of an image back.",
)
@click.argument("image", metavar="IMAGE")
@click.argument("target", metavar="TARGET")
@click.option(
    "--disk",
    type=click.IntRange(0),
    metavar="N",
    help="The disk of the image that the volume is on; `info` numbers them from 0.",
)
@click.option(
    "--volume",
    type=click.IntRange(0),
    metavar="N",
    help="Which volume, as the system numbers partitions; 0 is a disk without a partition table. "
    "Not needed where the image has only one.",
)
@click.option(
    "--expand",
    is_flag=True,
    help="Let the file system grow to the size of TARGET, by the system's own tools.",
)
@_target_options
@search_option
@password_options
@json_option
@click.pass_obj
def restorevolume(
    session: Session, image: str, target: str, disk: int | None, volume: int | None, expand: bool,
    force: bool, size: int | None, scratch: str | None, search: tuple[str, ...],
    password_file: str | None, password_env: str | None,
) -> Report:  # fmt: skip
    """Write a volume of IMAGE to TARGET, a partition, a device or a file. What TARGET held is lost.

    TARGET may be larger. It may be smaller where the file system can become smaller.
    """
    password = image_password(session, password_file, password_env)
    with aipimage.open(image, password, search=search) as opened:
        return _restored(
            session,
            image,
            target,
            lambda callback: opened.restore_volume(
                target,
                device=disk,
                volume=volume,
                expand=expand,
                force=force,
                size=size,
                scratch=scratch,
                progress=callback,
            ),
        )


def _restored(
    session: Session,
    path: str,
    target: str,
    restore: Callable[[ProgressCallback | None], RestoreResult],
) -> Report:
    session.after_failure = lambda: (
        f"{target} may hold part of it only; restore it again" if os.path.exists(target) else None
    )
    with session.progress("restoring") as callback:
        result = restore(callback)
    return _report(path, result)


def _report(path: str, result: RestoreResult) -> Report:
    values = {"image": path, **asdict(result), "seconds": round(result.seconds, 3)}
    what = f"volume {result.volume}, " if result.volume else ""
    line = (
        f"{printable(result.target)}: restored {what}"
        f"{human_size(result.size)}, {human_size(result.written)} of it data, "
        f"{result.seconds:.1f} s"
    )
    lines = [line, *_change_lines(result), *(printable(note) for note in result.notes)]
    if result.expanded is not None:
        lines.append(f"its file system fills {human_size(result.expanded)} now")
    unread = (
        f"{result.unreadable} bytes could not be read when the image was made or repaired; "
        "they are zeros"
    )
    warnings = (*((unread,) if result.unreadable else ()), *result.warnings)
    return Report(values, lines, warnings=warnings)


def _change_lines(result: RestoreResult) -> list[str]:
    """What became of partitions, for people."""
    lines = []
    for change in result.changes:
        done = []
        if change.start != change.old_start:
            done.append(f"moved from byte {change.old_start} to {change.start}")
        if change.size != change.old_size:
            done.append(
                f"made smaller, from {human_size(change.old_size)} to {human_size(change.size)}"
            )
        lines.append(f"partition {change.number} was {' and '.join(done)}")
    return lines
