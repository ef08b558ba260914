"""``aipimage createimage``."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

import aipimage
from aipimage import RequestError
from aipimage.cli.created import created_report
from aipimage.cli.options import (
    checked_compression,
    checked_rate,
    checked_size,
    checked_volumes,
    example,
    json_option,
    password_options,
    search_option,
)
from aipimage.cli.output import Report, refuse_closed_output, show_now
from aipimage.cli.secret import image_password
from aipimage.cli.session import Session
from aipimage.cli.virtual import opened_sources, outside_option, source_format_option

if TYPE_CHECKING:
    from aipimage import CreateResult


@click.command(
    epilog=example(
        "aipimage createimage -o disk.aiv --compress zstd:1 /dev/sdb",
        "aipimage createimage -o disk-2.aiv --parent disk.aiv /dev/sdb",
    ),
    short_help="Make an image of disks or volumes.",
)
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE [SOURCE ...]")
@click.option("-o", "--output", metavar="OUT.aiv", help="The image to make.")
@click.option(
    "--kind",
    type=click.Choice(["full", "incremental", "differential"]),
    help="Default: full, or incremental with --parent.",
)
@click.option(
    "--parent",
    metavar="IMAGE|DIR",
    help="The image to build on, or a directory: then the newest image of these sources in it.",
)
@click.option(
    "--changed",
    multiple=True,
    metavar="FILE",
    help="What changed since the parent, from a tracker or nbdinfo; one FILE for each SOURCE.",
)
@click.option(
    "--compare",
    type=click.Choice(["auto", "digests", "data"]),
    default="auto",
    show_default=True,
    help="Find what changed with the parent's block digests, or with its data.",
)
@click.option(
    "--grain",
    type=click.Choice(["512", "1024", "2048", "4096"]),
    default="4096",
    show_default=True,
    help="Bytes of the smallest unit of change.",
)
@search_option
@source_format_option("raw", "vmdk", "ova", "ovf")
@outside_option
@click.option(
    "--compress",
    callback=checked_compression,
    default="zstd",
    metavar="none|zstd[:LEVEL]",
    show_default=True,
    help="Level -50 (fast) to 22 (small).",
)
@click.option(
    "--encrypt", type=click.Choice(["aes-128", "aes-256"]), help="Encrypt with a password."
)
@click.option(
    "--authenticate", is_flag=True, help="Do not encrypt, but detect tampering, with a password."
)
@password_options
@click.option(
    "--recovery-key",
    is_flag=True,
    help="Make a second password for emergencies, and print it once.",
)
@click.option(
    "--split", callback=checked_size, metavar="SIZE", help="Parts of at most this size: 650M, 4G."
)
@click.option("--include-free", is_flag=True, help="Keep the free space of file systems too.")
@click.option(
    "--volume",
    "volumes",
    multiple=True,
    callback=checked_volumes,
    metavar="[DISK:]N",
    help="Keep only volume N, as `info` numbers them (sda2 is 2); of the DISKth SOURCE, from 0.",
)
@click.option(
    "--leave-out-paging", is_flag=True, help="Leave out what pagefile.sys and hiberfil.sys hold."
)
@click.option(
    "--volumes-in-use",
    type=click.Choice(["safe", "best-effort", "whole"]),
    default="safe",
    show_default=True,
    help="Keep what the journals need, what can be found of NTFS without one, or everything.",
)
@click.option(
    "--frame",
    callback=checked_size,
    metavar="SIZE",
    default="64K",
    show_default=True,
    help="Bytes compressed together, up to 1M; more make images smaller and small reads slower.",
)
@click.option(
    "--rate", callback=checked_rate, metavar="BYTES/s", help="Read at most this fast: 50M/s."
)
@click.option("--comment", default="", metavar="TEXT", help="A text to keep in the image.")
@click.option("--resume", is_flag=True, help="Resume an interrupted creation of OUT.aiv.")
@click.option("--overwrite", is_flag=True, help="Replace OUT.aiv once the new image is whole.")
@click.option(
    "--stop-on-error", is_flag=True, help="Fail at an unreadable sector instead of recording it."
)
@click.option(
    "--no-digests",
    is_flag=True,
    help="Leave out the block digests that later images are compared with.",
)
@click.option("--threads", type=click.IntRange(1, 1024), metavar="N", help="Worker threads.")
@json_option
@click.pass_obj
def createimage(
    session: Session, /, sources: tuple[str, ...], output: str | None, **options: Any
) -> Report:
    """Make an image of each SOURCE, a disk, volume, file or .vmdk, in one file OUT.aiv.

    Of known file systems it holds only the used clusters; a volume in any doubt is imaged whole.
    With --parent it holds what changed since that image. Until it is whole, the image is called
    OUT.aiv.partial.
    """
    path = _checked_request(sources, output, options)
    password = image_password(
        session, options["password_file"], options["password_env"], is_new=options["parent"] is None
    )
    if options["recovery_key"] and password is None:
        raise click.UsageError("--recovery-key needs --encrypt or --authenticate, and a password")
    if options["recovery_key"]:
        # Before hours of work: the key could not be shown at their end.
        refuse_closed_output()
    with ExitStack() as stack:
        disks, told = opened_sources(
            sources,
            path,
            options["source_format"],
            options["search"],
            options["allow_outside"],
            stack,
        )
        session.after_failure = lambda: _leftovers(path)
        callback = stack.enter_context(session.progress("creating"))
        result = aipimage.create(
            path, disks, compress=options["compress"],
            encrypt="authenticate" if options["authenticate"] else options["encrypt"],
            password=password, split=options["split"], comment=options["comment"],
            rate=options["rate"], threads=options["threads"],
            block_digests=not options["no_digests"], stop_on_error=options["stop_on_error"],
            overwrite=options["overwrite"], resume=options["resume"], kind=options["kind"],
            parent=options["parent"], changed=_changed(options["changed"]),
            compare=options["compare"], grain=int(options["grain"]), search=options["search"],
            include_free=options["include_free"],
            volumes=_chosen(options["volumes"], len(disks)),
            leave_out_paging=options["leave_out_paging"],
            volumes_in_use=options["volumes_in_use"], frame_size=options["frame"],
            progress=callback,
        )  # fmt: skip
    result = replace(result, warnings=(*told, *result.warnings))
    if options["recovery_key"] and password is not None:
        return _with_recovery_key(session, path, password, result)
    session.after_failure = None
    return created_report(result, None)


def _with_recovery_key(session: Session, path: str, password: str, result: CreateResult) -> Report:
    """Add a recovery key to the finished image, since a resumed creation keeps the passwords that
    it was begun with. It is shown before its slot is written: it cannot be shown again later.
    """
    shown: list[Report] = []

    def show(key: str) -> None:
        shown.append(show_now(created_report(result, key), session.as_json))

    session.after_failure = lambda: (
        f"{path} is whole, but has no recovery key"
        + (": the one that was shown opens nothing" if shown else "; passwd --recovery makes one")
    )
    aipimage.add_recovery_key(path, password, show=show)
    return shown[0]


def _checked_request(sources: tuple[str, ...], output: str | None, options: dict[str, Any]) -> str:
    """Return the path of the image, or refuse what this release cannot do."""
    if output is None:
        if len(sources) == 1 and sources[0].lower().endswith(".ini"):
            raise RequestError(
                f"{sources[0]}: profiles come with a later release; "
                "use -o OUT.aiv and name the sources"
            )
        raise click.UsageError("Missing option '-o' / '--output'.")
    if options["authenticate"] and options["encrypt"]:
        raise click.UsageError(
            "--encrypt authenticates too; use only one of --encrypt and --authenticate"
        )
    virtual = options["source_format"] == "vmdk" or (
        options["source_format"] is None and any(each.lower().endswith(".vmdk") for each in sources)
    )
    if options["allow_outside"] and not virtual:
        raise RequestError("--allow-outside is of use only with a .vmdk")
    _check_chain(len(sources), virtual, options)
    return output


def _check_chain(sources: int, any_virtual: bool, options: dict[str, Any]) -> None:
    """Refuse, in the words of the options, what the library would refuse in its own."""
    parent, changed = options["parent"], options["changed"]
    if parent is None:
        kind = options["kind"]
        if kind in ("incremental", "differential"):
            raise RequestError(
                f"--kind {kind} needs a parent: use --parent IMAGE, or the directory of its chain"
            )
        if options["changed"]:
            raise RequestError("--changed is of use only with --parent")
        if options["search"] and not any_virtual:
            raise RequestError("--search is of use only with --parent")
    elif options["recovery_key"]:
        raise RequestError(
            "a recovery key is made with the first image of a chain; "
            "add one to an existing image with passwd --recovery"
        )
    if changed and len(changed) != sources:
        raise click.UsageError(
            f"{len(changed)} times --changed for {sources} sources: "
            "repeat it once for each, in order"
        )


def _changed(files: tuple[str, ...]) -> str | list[str] | None:
    if not files:
        return None
    return files[0] if len(files) == 1 else list(files)


def _chosen(wanted: tuple[tuple[int, int], ...], sources: int) -> list[list[int] | None] | None:
    """Numbers of volumes for each source; none where all are kept."""
    if not wanted:
        return None
    lists: list[list[int] | None] = [None] * sources
    for disk, number in wanted:
        if disk >= sources:
            raise click.UsageError(f"--volume {disk}:{number}: the disks are numbered from 0")
        lists[disk] = [*(lists[disk] or []), number]
    return lists


def _leftovers(path: str) -> str | None:
    if os.path.exists(path + ".partial"):
        return f"{path}.partial is kept; the same command with --resume continues it"
    return f"no {path} was made" if not os.path.exists(path) else None
