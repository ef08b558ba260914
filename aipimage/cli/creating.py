"""``aipimage createimage``."""

from __future__ import annotations

import os
from typing import Any

import click

import aipimage
from aipimage import CreateResult, RequestError
from aipimage.cli.options import (
    checked_compression,
    checked_rate,
    checked_size,
    example,
    json_option,
    password_options,
)
from aipimage.cli.output import Report, counted, human_size, printable, ratio_of
from aipimage.cli.secret import image_password
from aipimage.cli.session import Session


@click.command(
    epilog=example("aipimage createimage -o disk.aiv --compress zstd:1 /dev/sdb"),
    short_help="Make an image of disks or volumes.",
)
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE [SOURCE ...]")
@click.option("-o", "--output", metavar="OUT.aiv", help="The image to make.")
@click.option(
    "--kind", type=click.Choice(["full", "incremental", "differential"]), default="full",
    help="What to keep. This release makes full images.",
)  # fmt: skip
@click.option("--parent", metavar="IMAGE", help="The image that an incremental one builds on.")
@click.option("--changed", metavar="BITMAP", help="Which clusters changed since the parent.")
@click.option(
    "--compress", callback=checked_compression, default="zstd", metavar="none|zstd[:LEVEL]",
    show_default=True, help="Level -50 (fast) to 22 (small).",
)  # fmt: skip
@click.option(
    "--encrypt", type=click.Choice(["aes-128", "aes-256"]), help="Encrypt with a password."
)
@click.option(
    "--authenticate", is_flag=True, help="Do not encrypt, but find tampering with a password."
)
@password_options
@click.option(
    "--recovery-key", is_flag=True,
    help="Make a second password for emergencies, and print it once.",
)  # fmt: skip
@click.option(
    "--split", callback=checked_size, metavar="SIZE", help="Parts of at most this size: 650M, 4G."
)
@click.option(
    "--include-free", is_flag=True,
    help="Keep free space too. This release keeps all that is not zero, so it always does.",
)  # fmt: skip
@click.option(
    "--rate", callback=checked_rate, metavar="BYTES/s", help="Read at most so fast: 50M/s."
)
@click.option("--comment", default="", metavar="TEXT", help="Kept in the image.")
@click.option("--resume", is_flag=True, help="Go on with an interrupted creation of OUT.aiv.")
@click.option("--overwrite", is_flag=True, help="Replace OUT.aiv once the new image is whole.")
@click.option(
    "--stop-on-error", is_flag=True, help="Fail at an unreadable sector instead of noting it."
)
@click.option("--no-digests", is_flag=True, help="Leave out what later images are compared with.")
@click.option("--threads", type=click.IntRange(1, 1024), metavar="N", help="Worker threads.")
@json_option
@click.pass_obj
def createimage(
    session: Session, /, sources: tuple[str, ...], output: str | None, **options: Any
) -> Report:
    """Make an image of each SOURCE, a disk, volume or file, in one file OUT.aiv.

    The image bears its name only once it is whole; until then it is OUT.aiv.partial.
    """
    path = _checked_request(sources, output, options)
    password = image_password(session, options["password_file"], options["password_env"])
    if options["recovery_key"] and password is None:
        raise click.UsageError("--recovery-key needs --encrypt or --authenticate, and a password")
    session.after_failure = lambda: _leftovers(path)
    with session.progress("creating") as callback:
        result = aipimage.create(
            path, list(sources), compress=options["compress"],
            encrypt="authenticate" if options["authenticate"] else options["encrypt"],
            password=password, split=options["split"], comment=options["comment"],
            rate=options["rate"], threads=options["threads"],
            block_digests=not options["no_digests"], stop_on_error=options["stop_on_error"],
            overwrite=options["overwrite"], resume=options["resume"], progress=callback,
        )  # fmt: skip
    session.after_failure = lambda: f"{path} is whole, but has no recovery key"
    # Added to the finished image: a resumed creation keeps the passwords that it was begun with.
    key = (
        aipimage.add_recovery_key(path, password)
        if options["recovery_key"] and password is not None
        else None
    )
    session.after_failure = None
    return _report(result, key)


def _checked_request(sources: tuple[str, ...], output: str | None, options: dict[str, Any]) -> str:
    """Return the path of the image, or refuse what this release cannot do."""
    if output is None:
        if len(sources) == 1 and sources[0].lower().endswith(".ini"):
            raise RequestError(
                f"{sources[0]}: profiles come with a later release; give -o OUT.aiv and sources"
            )
        raise click.UsageError("Missing option '-o' / '--output'.")
    if options["authenticate"] and options["encrypt"]:
        raise click.UsageError("--encrypt authenticates too; give it or --authenticate")
    for name in ("parent", "changed"):
        if options[name] is not None:
            raise RequestError(f"--{name} comes with a later release; this one makes full images")
    if options["kind"] != "full":
        raise RequestError(
            f"{options['kind']} images come with a later release; this one makes full images"
        )
    return output


def _leftovers(path: str) -> str | None:
    if os.path.exists(path + ".partial"):
        return f"{path}.partial is kept, and the same command with --resume goes on from it"
    return f"no {path} was made" if not os.path.exists(path) else None


def _report(result: CreateResult, recovery_key: str | None) -> Report:
    values = {
        "path": result.path, "image_id": result.image_id, "digest": result.digest,
        "kind": result.kind, "size": result.size, "data": result.data, "zero": result.zero,
        "unreadable": result.unreadable, "stored": result.stored, "parts": result.parts,
        "ratio": ratio_of(result.data, result.stored), "seconds": round(result.seconds, 3),
        "resumed": result.resumed,
        "unreadable_ranges": [
            {"device": device, "offset": offset, "length": length}
            for device, offset, length in result.unreadable_ranges
        ],
        "warnings": list(result.warnings),
    }  # fmt: skip
    ratio = f" ({values['ratio']:.2f}:1)" if values["ratio"] else ""
    lines = [
        f"{printable(result.path)}: {result.kind} image of {human_size(result.size)}, "
        f"{human_size(result.data)} of it data, stored in {human_size(result.stored)}{ratio}, "
        f"{counted(result.parts, 'part')}, {result.seconds:.1f} s",
        f"digest {result.digest}",
    ]
    lines += [
        f"device {device}: {length} bytes at {offset} could not be read"
        for device, offset, length in result.unreadable_ranges[:20]
    ]
    if recovery_key is not None:
        values["recovery_key"] = recovery_key
        lines.append(f"recovery key {recovery_key}  (write it down: it is not shown again)")
    return Report(values, lines, warnings=result.warnings)
