"""``aipimage ls``, ``aipimage find`` and ``aipimage cat``."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

import aipimage
from aipimage.checks import parse_size
from aipimage.cli.options import example, json_option, password_options, search_option
from aipimage.cli.output import ExitCode, Report, discard_output, printable, say, write_output
from aipimage.cli.places import opened_files, place_of
from aipimage.cli.secret import image_password
from aipimage.cli.session import Session

if TYPE_CHECKING:
    from aipimage.files import Entry, Files, Time

_LINES = 512
_PIECE = 1 << 20
_LETTERS = {
    "file": "-", "directory": "d", "symlink": "l", "block": "b", "character": "c", "fifo": "p",
    "socket": "s",
}  # fmt: skip
_TYPES = {"f": "file", "d": "directory", "l": "symlink"}


class Trouble:
    """What cannot be shown is a warning, and the rest is shown; the exit status says so."""

    def __init__(self) -> None:
        self.code = ExitCode.DONE

    def __call__(self, path: str, error: aipimage.AipImageError) -> None:
        """Show an error, and remember it."""
        self.code = ExitCode.FAILED
        say("warning", str(error))


@click.command(
    epilog=example(
        "aipimage ls disk.aiv 2:/etc", "aipimage ls -l disk.vmdk 1:/", "aipimage ls -R --json d.raw"
    ),
    short_help="List files in an image or a disk.",
)
@click.argument("image", metavar="IMAGE")
@click.argument("place", metavar="[VOLUME:PATH]", required=False)
@click.option("-l", "--long", is_flag=True, help="Also show mode, links, owner, size and time.")
@click.option("-R", "--recursive", is_flag=True, help="Also list all below, with their paths.")
@search_option
@password_options
@json_option
@click.pass_obj
def ls(
    session: Session,
    image: str,
    place: str | None,
    long: bool,
    recursive: bool,
    search: tuple[str, ...],
    password_file: str | None,
    password_env: str | None,
) -> Report:
    """List what is in a directory of IMAGE: an image of any chain, a virtual disk, an appliance, a
    raw disk or a device.

    VOLUME is its number as info shows it, or DISK.VOLUME; without it the only volume whose files
    can be read. With --json each file is one line.
    """
    password, where = image_password(session, password_file, password_env), place_of(place)
    trouble = Trouble()
    with ExitStack() as stack:
        volume = opened_files(stack, image, where, password, search)
        entry = volume.stat(where.path)
        if entry.kind != "directory":
            found: Iterable[Entry] = [entry]
        elif recursive:
            found = volume.walk(entry, trouble)
        else:
            found = volume.entries(entry, trouble)

        def shown(each: Entry) -> str:
            name = where.prefix + each.path if recursive else each.name
            return _long_line(each, name, trouble) if long else printable(name)

        _write(session, found, shown, trouble)
    return Report({}, [], trouble.code, is_written=True)


def _checked_time(_: click.Context, __: click.Parameter, value: str | None) -> int | None:
    """A date or time of ISO 8601 as nanoseconds since 1970; without a zone it is local time."""
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(value).astimezone(UTC)
    except (ValueError, OverflowError, OSError) as error:
        text = f"{value!r} is not a time; write 2026-11-30 or 2026-11-30T18:00"
        raise click.BadParameter(text) from error
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return ((since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds) * 1000


def _checked_bounds(
    _: click.Context, __: click.Parameter, value: str | None
) -> tuple[int, int] | None:
    """``+SIZE``, ``-SIZE`` or ``SIZE`` as the least and the most bytes."""
    if value is None:
        return None
    try:
        size = parse_size(value.lstrip("+-"), 0)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    return {"+": (size, 1 << 63), "-": (0, size)}.get(value[0], (size, size))


@click.command(
    epilog=example(
        "aipimage find disk.aiv 2:/home --name '*.docx' --newer 2026-11-01",
        "aipimage find disk.aiv 1: --type f --size +1G",
    ),
    short_help="Find files in an image or a disk.",
)
@click.argument("image", metavar="IMAGE")
@click.argument("place", metavar="[VOLUME:PATH]", required=False)
@click.option("--name", metavar="GLOB", help="Files whose name matches a pattern.")
@click.option("--newer", metavar="TIME", callback=_checked_time, help="Changed after TIME.")
@click.option(
    "--size",
    metavar="[+|-]SIZE",
    callback=_checked_bounds,
    help="Files of SIZE bytes; at least (+), or at most (-).",
)
@click.option(
    "--type", "kind", type=click.Choice([*_TYPES]), help="f: files, d: directories, l: links."
)
@search_option
@password_options
@json_option
@click.pass_obj
def find(
    session: Session,
    image: str,
    place: str | None,
    name: str | None,
    newer: int | None,
    size: tuple[int, int] | None,
    kind: str | None,
    search: tuple[str, ...],
    password_file: str | None,
    password_env: str | None,
) -> Report:
    """Show the paths of the files below a directory of IMAGE for which all options hold.

    VOLUME is its number as info shows it; without it the only volume whose files can be read. A
    directory has no size here. With --json each file is one line.
    """
    import fnmatch

    password, where = image_password(session, password_file, password_env), place_of(place)
    trouble = Trouble()

    def wanted(each: Entry) -> bool:
        return (
            (name is None or fnmatch.fnmatchcase(each.name, name))
            and (newer is None or (each.modified is not None and each.modified.ns > newer))
            and (size is None or (each.kind == "file" and size[0] <= each.size <= size[1]))
            and (kind is None or each.kind == _TYPES[kind])
        )

    with ExitStack() as stack:
        volume = opened_files(stack, image, where, password, search)
        found = filter(wanted, volume.walk(where.path, trouble))
        _write(session, found, lambda each: printable(where.prefix + each.path), trouble)
    return Report({}, [], trouble.code, is_written=True)


@click.command(
    epilog=example(
        "aipimage cat disk.aiv 2:/etc/fstab", "aipimage cat disk.aiv 1:/boot/vmlinuz > vmlinuz"
    ),
    short_help="Write files of an image or a disk to standard output.",
)
@click.argument("image", metavar="IMAGE")
@click.argument("place", metavar="VOLUME:PATH")
@search_option
@password_options
@click.pass_obj
def cat(
    session: Session,
    image: str,
    place: str,
    search: tuple[str, ...],
    password_file: str | None,
    password_env: str | None,
) -> Report:
    """Write the content of a file in IMAGE to standard output, byte for byte."""
    password, where = image_password(session, password_file, password_env), place_of(place)
    with ExitStack() as stack:
        volume = opened_files(stack, image, where, password, search)
        _copy(session, volume, where.path)
    return Report({}, [], is_written=True)


def _copy(session: Session, volume: Files, path: str) -> None:
    """Write a file to standard output; ``StorageError`` where that fails."""
    with volume.open(path) as file:
        if sys.stdout is None:
            return
        buffer = memoryview(bytearray(_PIECE))
        try:
            while (count := file.readinto(buffer)) and session.interrupts.number is None:
                sys.stdout.buffer.write(buffer[:count])
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            discard_output()
        except OSError as error:
            discard_output()
            raise aipimage.StorageError.from_os_error("write", "standard output", error) from error


def _write(
    session: Session, found: Iterable[Entry], shown: Callable[[Entry], str], trouble: Trouble
) -> None:
    """Print entries as they come, many with one call."""
    lines: list[str] = []
    for entry in found:
        if session.interrupts.number is not None:
            break
        lines.append(json.dumps(_values(entry, trouble)) if session.as_json else shown(entry))
        if len(lines) >= _LINES:
            write_output("\n".join(lines))
            lines = []
    if lines:
        write_output("\n".join(lines))


def _values(entry: Entry, trouble: Trouble) -> dict[str, Any]:
    """An entry as JSON; times in nanoseconds since 1970."""
    return {
        "path": entry.path,
        "kind": entry.kind,
        "size": entry.size,
        "allocated": entry.allocated,
        "mode": None if entry.mode is None else f"{entry.mode:04o}",
        "uid": entry.uid,
        "gid": entry.gid,
        "links": entry.links,
        "identity": entry.identity,
        "flags": sorted(entry.flags),
        "target": _target(entry, trouble),
    } | {
        name: _time_values(getattr(entry, name))
        for name in ("modified", "accessed", "changed", "created")
    }


def _time_values(time: Time | None) -> dict[str, int | None] | None:
    if time is None:
        return None
    return {"ns": time.ns, "resolution": time.resolution, "offset": time.offset}


def _target(entry: Entry, trouble: Trouble) -> str:
    try:
        return entry.target
    except aipimage.AipImageError as error:
        trouble(entry.path, error)
        return "?"


def _long_line(entry: Entry, name: str, trouble: Trouble) -> str:
    arrow = f" -> {printable(_target(entry, trouble))}" if entry.kind == "symlink" else ""
    size = "{},{}".format(*entry.device) if entry.device is not None else str(entry.size)
    return (
        f"{_LETTERS.get(entry.kind, '?')}{_rights(entry.mode)} {entry.links:>3} "
        f"{entry.owner or '-':<9} {size:>12} {_moment(entry.modified)} {printable(name)}{arrow}"
    )


def _rights(mode: int | None) -> str:
    """The nine letters of ``chmod``; dashes where the file system has none."""
    if mode is None:
        return "---------"
    return "".join(_triple(mode, shift) for shift in (6, 3, 0))


def _triple(mode: int, shift: int) -> str:
    bits, special = mode >> shift & 7, mode >> (9 + shift // 3) & 1
    letter = "t" if shift == 0 else "s"
    last = (letter if bits & 1 else letter.upper()) if special else "x" if bits & 1 else "-"
    return f"{'r' if bits & 4 else '-'}{'w' if bits & 2 else '-'}{last}"


def _moment(time: Time | None) -> str:
    if time is None:
        return " " * 16
    try:
        return time.datetime.strftime("%Y-%m-%d %H:%M")
    except (OverflowError, ValueError):
        return f"{time.ns // 10**9:>16}"
