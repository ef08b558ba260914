"""Where a password comes from: the first line of a file, or an environment variable.

Never an argument: arguments are seen by every user of the machine, in the list of processes.
"""

from __future__ import annotations

import os
import stat
import sys
import unicodedata
from typing import BinaryIO

import click

from aipimage import RequestError
from aipimage.cli.output import say
from aipimage.cli.session import Session

_LONGEST = 65_536


_BOM = "\ufeff"
_WIDE = (b"\xff\xfe", b"\xfe\xff")


def image_password(
    session: Session, file: str | None, variable: str | None, *, is_new: bool = False
) -> str | None:
    """Return the password of the image, or ``None`` where none was given.

    Args:
        is_new: an image is made with it, so that a warning says what a person could not type.
    """
    password = read_password(file, variable, is_new=is_new)
    session.password_given = password is not None
    return password


def read_password(
    file: str | None, variable: str | None, prefix: str = "", *, is_new: bool = False
) -> str | None:
    """Return what one of two options leads to, or ``None`` where neither was given.

    Raises:
        click.UsageError: both were given. RequestError: there is no password.
    """
    if file is not None and variable is not None:
        raise click.UsageError(
            f"--{prefix}password-file and --{prefix}password-env exclude each other"
        )
    if file is None and variable is None:
        return None
    password = _from_file(file) if file is not None else _from_environment(variable or "")
    if is_new:
        _warn_about_text(password, file or variable or "")
    return password


def _warn_about_text(password: str, where: str) -> None:
    """Editors and shells leave invisible characters, which must be typed later all the same."""
    found = []
    if password != password.strip():
        found.append("begins or ends with a space")
    if any(unicodedata.category(char) in ("Cc", "Cf", "Zl", "Zp") for char in password):
        found.append("has control characters or others that cannot be seen")
    if any(unicodedata.category(char) == "Zs" and char != " " for char in password.strip()):
        found.append("has a space other than the ordinary one")
    if found:
        say(
            "warning",
            f"{where}: the new password {' and '.join(found)}; all of it belongs to the password",
        )


def _from_environment(variable: str) -> str:
    # In bytes where there are any: a name or value that is not text must not be shown by an error.
    value = os.environ.get(variable)
    if not value:
        raise RequestError(f"the environment variable {variable} is not set, or is empty")
    return value


def _from_file(path: str) -> str:
    name = "standard input" if path == "-" else path
    try:
        if path == "-":
            line = _standard_input().readline(_LONGEST)
        else:
            with open(path, "rb") as file:
                _warn_about_mode(file, path)
                line = file.readline(_LONGEST)
    except OSError as error:
        raise RequestError(
            f"{name}: cannot read the password: {error.strerror or error}"
        ) from error
    except ValueError:
        # A path with a NUL in it.
        raise RequestError(f"{name}: not the name of a file") from None
    return _decoded(line, name)


def _standard_input() -> BinaryIO:
    if sys.stdin is None:
        raise RequestError("standard input: is closed; no password can be read")
    return sys.stdin.buffer


def _decoded(line: bytes, name: str) -> str:
    """Text of the first line: without what editors put around it, a mark of its encoding in front
    and the end of the line after it.
    """
    if line.startswith(_WIDE) or b"\0" in line:
        raise RequestError(f"{name}: its first line is UTF-16, or no text; save it as UTF-8")
    line = line.removeprefix(_BOM.encode()).removesuffix(b"\n").removesuffix(b"\r")
    if not line:
        raise RequestError(f"{name}: its first line is empty; the password belongs there")
    if len(line) >= _LONGEST - 1:
        raise RequestError(f"{name}: its first line is too long for a password")
    text = line.decode("utf-8", "replace")
    # Raised outside of a handler: the decoder's own error carries the bytes.
    if text.encode() != line:
        raise RequestError(f"{name}: its first line is not UTF-8 text")
    return text


def _warn_about_mode(file: BinaryIO, path: str) -> None:
    info = os.fstat(file.fileno())
    if os.name == "posix" and stat.S_ISREG(info.st_mode) and info.st_mode & 0o044:
        say("warning", f"{path}: other users can read this password file; chmod 600 keeps them out")
