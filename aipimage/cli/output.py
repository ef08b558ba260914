"""What a command returns, and how it reaches the terminal or another program."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Any, TextIO

from aipimage import StorageError
from aipimage.cli.hints import with_flags


class ExitCode(IntEnum):
    """The exit status of the command."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    DAMAGED = 3


@dataclass(frozen=True, slots=True)
class Report:
    """The result of a command.

    Attributes:
        values: the object that ``--json`` prints.
        lines: the same for people.
        warnings: printed on standard error in both cases.
        is_written: it was printed already (:func:`show_now`).
    """

    values: dict[str, Any] = field(repr=False)
    lines: list[str] = field(repr=False)
    code: ExitCode = ExitCode.DONE
    warnings: tuple[str, ...] = ()
    is_written: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "warnings", tuple(map(with_flags, self.warnings)))
        if "warnings" in self.values:
            told = [with_flags(each) for each in self.values["warnings"]]
            object.__setattr__(self, "values", self.values | {"warnings": told})


def human_size(count: int) -> str:
    """Bytes in binary units, with about three digits: ``1.62 GiB``."""
    if count < 1024:
        return f"{count} bytes"
    value, unit = float(count), "bytes"
    for name in ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB"):
        # 1023.95 would be shown as 1024, which is one of the next unit.
        if value < 1023.5:
            break
        value, unit = value / 1024, name
    return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f} {unit}"


def counted(count: int, noun: str) -> str:
    """``1 part``, ``2 parts``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def ratio_of(data: int, stored: int) -> float | None:
    """How many times the data is larger than what is stored of it; ``None`` without data."""
    return round(data / stored, 3) if data and stored else None


def printable(value: object) -> str:
    """Text from a file or a path, on one line and without what would steer a terminal: controls,
    marks of direction, line breaks and what is not a character. All that reaches a terminal passes
    here, at the latest in :func:`write_report` and :func:`say`.
    """
    return "".join(
        char if char.isprintable() else ascii(char)[1:-1] for char in str(value)
    )  # lone surrogates of undecodable file names are not printable either


def aligned(rows: Iterable[tuple[str, str]]) -> list[str]:
    """Two columns, the first as wide as its longest entry."""
    listed = [(printable(name), text) for name, text in rows]
    width = max((len(name) for name, _ in listed), default=0)
    return [f"{name:<{width}}  {text}".rstrip() for name, text in listed]


def write_report(report: Report, as_json: bool) -> None:
    """Print the result on standard output, warnings on standard error.

    Raises:
        StorageError: standard output cannot be written. A reader that went away is not an error.
    """
    if report.is_written:
        return
    for warning in report.warnings:
        say("warning", warning)
    write_output(_text_of(report, as_json))


def _text_of(report: Report, as_json: bool) -> str:
    # JSON is exact, and escapes everything but ASCII. Lines quote what files say of themselves.
    return json.dumps(report.values) if as_json else "\n".join(map(printable, report.lines))


def show_now(report: Report, as_json: bool) -> Report:
    """Print a result that exists nowhere else, such as a recovery key, before it becomes valid.

    Raises:
        StorageError: it did not reach standard output: closed, full, or its reader went away.
    """
    for warning in report.warnings:
        say("warning", warning)
    refuse_closed_output()
    write_output(_text_of(report, as_json), must_arrive=True)
    return replace(report, is_written=True)


def refuse_closed_output() -> None:
    """``StorageError`` where there is no standard output to show something on."""
    if sys.stdout is None:
        raise StorageError("standard output: is closed, so the key could not be shown")


def write_output(text: str, *, must_arrive: bool = False) -> None:
    """Print text on standard output; see :func:`write_report`.

    Args:
        must_arrive: a reader that went away is an error too.
    """
    stream = sys.stdout
    if stream is None:  # closed by the process that started this one
        return
    try:
        _print(text, stream)
    except OSError as error:
        _discard(stream)
        if isinstance(error, BrokenPipeError) and not must_arrive:
            return
        raise StorageError.from_os_error("write", "standard output", error) from error


def say(level: str, text: str) -> None:
    """Print ``aipimage: LEVEL: TEXT`` on standard error, on one line."""
    if sys.stderr is None:
        return
    # Where standard error itself fails, there is no place to report it.
    with contextlib.suppress(OSError):
        _print(f"aipimage: {level}: {printable(text)}", sys.stderr)


def _print(text: str, stream: TextIO) -> None:
    """Print, with escapes for what the stream's encoding lacks."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    stream.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
    stream.flush()


def discard_output() -> None:
    """Standard output takes nothing any more."""
    if sys.stdout is not None:
        _discard(sys.stdout)


def _discard(stream: TextIO) -> None:
    """Lead a broken stream to nowhere: the interpreter flushes it once more when it ends."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
