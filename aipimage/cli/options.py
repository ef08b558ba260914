"""Kinds of arguments, and options that several commands have."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

import click

from aipimage import RequestError
from aipimage.checks import parse_size

_Command = TypeVar("_Command", bound=Callable[..., Any])


def checked_volumes(
    context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> tuple[tuple[int, int], ...]:
    """``N`` or ``DISK:N`` as (disk, volume)."""
    found = []
    for value in values:
        disk, _, number = value.rpartition(":")
        if not number.isdecimal() or (disk and not disk.isdecimal()) or len(value) > 12:
            raise click.BadParameter(f"{value!r} is not N or DISK:N")
        found.append((int(disk or 0), int(number)))
    return tuple(found)


def checked_size(_: click.Context, __: click.Parameter, value: str | None) -> int | None:
    """Turn the text of a size option into bytes; anything else is wrong usage."""
    try:
        return None if value is None else parse_size(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def checked_rate(ctx: click.Context, option: click.Parameter, value: str | None) -> int | None:
    """Likewise for a rate, which may end in ``/s``."""
    return checked_size(ctx, option, None if value is None else value.removesuffix("/s"))


def checked_percent(_: click.Context, __: click.Parameter, value: float | None) -> float | None:
    """Let more than 0 up to 100 pass; the comparison also stops what is not a number."""
    if value is not None and not 0 < value <= 100:
        raise click.BadParameter(f"{value} percent: use more than 0, at most 100")
    return value


def checked_compression(_: click.Context, __: click.Parameter, value: str) -> str:
    """Let ``none``, ``zstd`` and ``zstd:LEVEL`` pass, as the library understands them."""
    from aipimage.io.records.codec import parse_compression

    try:
        parse_compression(value)
    except RequestError as error:
        raise click.BadParameter(str(error)) from error
    return value


def checked_digest(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    """Let what can be an image digest pass."""
    if value is not None and not re.fullmatch("[0-9a-fA-F]{64}", value):
        raise click.BadParameter("a digest has 64 hexadecimal digits")
    return value


def json_option(command: _Command) -> _Command:
    """Add ``--json``; the program around the commands looks at it."""
    text = "Print one JSON object on standard output."
    return click.option("--json", "as_json", is_flag=True, expose_value=False, help=text)(command)


def search_option(command: _Command) -> _Command:
    """Add ``--search``."""
    text = "Also look for other images of its chain in DIR; may be repeated."
    return click.option("--search", multiple=True, metavar="DIR", help=text)(command)


def password_options(command: _Command) -> _Command:
    """Add ``--password-file`` and ``--password-env``."""
    return _password_pair("", "The password is the first line of FILE (- is standard input).")(
        command
    )


def new_password_options(command: _Command) -> _Command:
    """Add ``--new-password-file`` and ``--new-password-env``."""
    return _password_pair("new-", "The new password, for --add and --change.")(command)


def _password_pair(prefix: str, text: str) -> Callable[[_Command], _Command]:
    def add(command: _Command) -> _Command:
        env = click.option(
            f"--{prefix}password-env",
            metavar="VAR",
            help="Likewise; it is in the environment variable VAR.",
        )
        file = click.option(f"--{prefix}password-file", metavar="FILE", help=text)
        return file(env(command))

    return add


def example(*lines: str) -> str:
    """The end of a help page; click keeps the lines of such a block as they are."""
    return "\b\nExample:\n" + "\n".join(f"  {line}" for line in lines)
