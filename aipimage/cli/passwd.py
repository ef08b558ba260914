"""``aipimage passwd``: the passwords of an image."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

import aipimage
from aipimage.cli.options import example, json_option, new_password_options, password_options
from aipimage.cli.output import Report, aligned, printable, show_now
from aipimage.cli.secret import image_password, read_password
from aipimage.cli.session import Session

if TYPE_CHECKING:
    from aipimage import SlotInfo

_ACTIONS = ("list", "add", "change", "remove", "recovery")


@click.command(
    epilog=example(
        "aipimage passwd disk.aiv --list",
        "aipimage passwd disk.aiv --add --password-file old --new-password-file new",
        "aipimage passwd disk.aiv --remove 1 --password-file old",
    ),
    short_help="List, add, change and remove passwords.",
)
@click.argument("image", metavar="IMAGE")
@click.option(
    "--list", "list_", is_flag=True, help="List the slots of the passwords; needs no password."
)
@click.option("--add", is_flag=True, help="Let a new password open the image too.")
@click.option("--change", is_flag=True, help="Replace the password that is passed by a new one.")
@click.option("--remove", type=click.IntRange(0), metavar="N", help="Free slot N.")
@click.option("--recovery", is_flag=True, help="Make a recovery key, and print it once.")
@click.option("--label", default="", metavar="TEXT", help="A name for the new slot, with --add.")
@password_options
@new_password_options
@json_option
@click.pass_obj
def passwd(session: Session, /, image: str, **options: Any) -> Report:
    """List or change the passwords of IMAGE, with exactly one of the first five options.

    Only the slots are rewritten, never the data. Copies that were made before still open with the
    old password.
    """
    action = _chosen_action(options)
    if action == "list":
        return _listed(image, aipimage.list_slots(image))
    password = image_password(session, options["password_file"], options["password_env"])
    if password is None:
        raise click.UsageError(
            f"--{action} needs a password of the image: --password-file or --password-env"
        )
    values: dict[str, Any] = {"path": image, "action": action}
    if action == "recovery":
        return _recovery(session, image, values, password)
    return _done(image, values, password, options)


def _chosen_action(options: dict[str, Any]) -> str:
    options["list"] = options.pop("list_")
    # Slot 0 is false, but given.
    chosen = [name for name in _ACTIONS if options[name] is not None and options[name] is not False]
    if len(chosen) != 1:
        raise click.UsageError("use one of --list, --add, --change, --remove N, --recovery")
    wants_new = chosen[0] in ("add", "change")
    has_new = options["new_password_file"] is not None or options["new_password_env"] is not None
    if wants_new and not has_new:
        raise click.UsageError(f"--{chosen[0]} needs --new-password-file or --new-password-env")
    if has_new and not wants_new:
        raise click.UsageError(f"--{chosen[0]} takes no new password")
    if options["label"] and chosen[0] != "add":
        raise click.UsageError("--label goes with --add")
    return chosen[0]


def _done(image: str, values: dict[str, Any], password: str, options: dict[str, Any]) -> Report:
    """Carry one of the changes out."""
    new = (
        read_password(
            options["new_password_file"], options["new_password_env"], "new-", is_new=True
        )
        or ""
    )
    name = printable(image)
    if values["action"] == "add":
        values["slot"] = aipimage.add_password(image, password, new, label=options["label"])
        return Report(values, [f"{name}: the new password is in slot {values['slot']}"])
    if values["action"] == "change":
        aipimage.change_password(image, password, new)
        return Report(values, [f"{name}: the password was changed"])
    aipimage.remove_password(image, password, options["remove"])
    values["slot"] = options["remove"]
    return Report(values, [f"{name}: slot {values['slot']} is free"])


def _recovery(session: Session, image: str, values: dict[str, Any], password: str) -> Report:
    """Show a new recovery key before its slot is written: it cannot be shown again later."""
    shown: list[Report] = []

    def show(key: str) -> None:
        line = f"{printable(image)}: recovery key {key}  (write it down: it is not shown again)"
        shown.append(show_now(Report(values | {"recovery_key": key}, [line]), session.as_json))

    session.after_failure = lambda: (
        "the key that was shown opens nothing" if shown else "no recovery key was made"
    )
    aipimage.add_recovery_key(image, password, show=show)
    return shown[0]


def _listed(image: str, slots: list[SlotInfo]) -> Report:
    listed = [
        {
            "slot": slot.index,
            "state": slot.state,
            "label": slot.label,
            "created": _time_text(slot.created),
            "memory": slot.memory,
            "passes": slot.passes,
            "lanes": slot.lanes,
        }
        for slot in slots
    ]
    rows = [
        (f"  {slot['slot']}  {slot['state']}", f"{slot['created']}  {printable(slot['label'])}")
        for slot in listed
    ]
    return Report({"path": image, "slots": listed}, [printable(image), *aligned(rows)])


def _time_text(microseconds: int) -> str:
    """The time a slot was made; nothing vouches for it, so it may be no time at all."""
    try:
        return datetime.fromtimestamp(microseconds / 1e6, UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):
        return "unknown"
