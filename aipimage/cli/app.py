"""The program around the commands: runs one, prints its result or its one-line error."""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from aipimage import (
    AipImageError,
    IntegrityError,
    PasswordError,
    SourceError,
    StorageError,
    __version__,
)
from aipimage.cli.hints import with_flags
from aipimage.cli.interrupts import InterruptedCommand, Interrupts
from aipimage.cli.output import ExitCode, Report, discard_output, say, write_output, write_report
from aipimage.cli.session import Session

_MIDWAY = (StorageError, SourceError, IntegrityError)
"""What can end a job that had begun already; every other error comes before the first write."""


COMMANDS = {
    "cat": "listing",
    "convert": "converting",
    "createimage": "creating",
    "find": "listing",
    "info": "inspecting",
    "join": "splitting",
    "ls": "listing",
    "merge": "merging",
    "passwd": "passwd",
    "repair": "repairing",
    "restoredisk": "restoring",
    "restorevolume": "restoring",
    "split": "splitting",
    "verify": "inspecting",
}
"""The module of each command, a function of the same name; it is loaded when it is asked for."""


class Program(click.Group):
    """A group of commands that each return a :class:`Report`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """See :meth:`click.Group.list_commands`."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """See :meth:`click.Group.get_command`."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"aipimage.cli.{COMMANDS[cmd_name]}")
        command: click.Command = getattr(module, cmd_name)
        return command

    def main(
        self,
        args: Sequence[str] | None = None,
        *_: Any,
        interrupts: Interrupts | None = None,
        **extra: Any,
    ) -> Any:
        """Run a command and end the process with its exit status."""
        given = list(sys.argv[1:] if args is None else args) or ["--help"]
        extra |= {"prog_name": "aipimage", "standalone_mode": False}
        sys.exit(self._run(given, interrupts or Interrupts(), extra))

    def _run(self, given: list[str], interrupts: Interrupts, extra: dict[str, Any]) -> int:
        as_json = "--json" in given
        session = Session(interrupts, as_json)
        try:
            with interrupts:
                result = super().main(given, obj=session, **extra)
            if not isinstance(result, Report):  # of --help and --version
                return int(result or 0)
            write_report(result, as_json)
            return result.code
        except (Exception, KeyboardInterrupt, InterruptedCommand) as error:
            if os.environ.get("AIPIMAGE_DEBUG") == "1" and not isinstance(error, click.UsageError):
                import traceback

                traceback.print_exc()
            return _failed(error, session, as_json)


def run(arguments: Sequence[str], *, process_ends: bool = False) -> int:
    """Run the command; return its exit status.

    Args:
        arguments: those after the name of the command.
        process_ends: whether the caller does nothing more than end the process.
    """
    try:
        program.main(arguments, interrupts=Interrupts(process_ends=process_ends))
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else ExitCode.FAILED
    raise RuntimeError("internal error: the program did not end")


def _failed(error: BaseException, session: Session, as_json: bool) -> int:
    """Tell about an error; return the exit status."""
    if (of_output := _of_output(error)) is not None:
        error = of_output
    text, kind, code = _described(error, session)
    if isinstance(error, click.UsageError) and error.ctx is not None and sys.stderr is not None:
        click.echo(error.ctx.get_usage(), err=True)
    if as_json:
        try:
            write_output(json.dumps({"error": text, "type": kind}))
        except StorageError as also:
            say("error", str(also))
    say("error", text)
    return code


def _of_output(error: BaseException) -> StorageError | None:
    """The error of a help page that could not be printed: click writes those itself."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if not isinstance(error, OSError) or trace is None:
        return None
    if trace.tb_frame.f_globals.get("__name__") != "click.utils":
        return None
    discard_output()
    return StorageError.from_os_error("write", "standard output", error)


def _described(error: BaseException, session: Session) -> tuple[str, str, int]:
    """The one line, the name of the error, and the exit status."""
    interrupts = session.interrupts
    if isinstance(error, (KeyboardInterrupt, InterruptedCommand, click.Abort)) or (
        isinstance(error, AipImageError) and interrupts.number is not None
    ):
        text = _with_leftovers(f"stopped by {interrupts.name}", session)
        return text, "CancelledError", interrupts.exit_code
    if isinstance(error, click.ClickException):
        text = error.format_message().rstrip(".")
        if isinstance(error, click.UsageError) and error.ctx is not None:
            text += f"; see {error.ctx.command_path} --help"
        return text, "UsageError", error.exit_code
    if isinstance(error, AipImageError):
        text = with_flags(str(error))
        if isinstance(error, _MIDWAY):
            text = _with_leftovers(text, session)
        if isinstance(error, PasswordError) and not session.password_given:
            text += " (--password-file FILE or --password-env VAR)"
        return text, type(error).__name__, ExitCode.FAILED
    if isinstance(error, MemoryError):
        return _with_leftovers("not enough memory", session), "MemoryError", ExitCode.FAILED
    if isinstance(error, ImportError) and error.name is None and "compiled core" in str(error):
        return str(error), type(error).__name__, ExitCode.FAILED
    # The message is not shown: an unforeseen error may quote anything.
    kind = type(error).__name__
    return (
        f"internal error ({kind}); set AIPIMAGE_DEBUG=1 to see where, and please report it",
        kind,
        ExitCode.FAILED,
    )


def _with_leftovers(text: str, session: Session) -> str:
    left = session.after_failure() if session.after_failure is not None else None
    return f"{text}; {left}" if left else text


@click.group(
    cls=Program,
    no_args_is_help=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit status: 0 done, 1 refused or failed, 2 wrong usage, 3 damage was found.",
)
@click.version_option(__version__, message="aipimage %(version)s")
def program() -> None:
    """Images of disks and volumes, for backup: create, check and restore them.

    Each command has a help page with an example: aipimage COMMAND --help
    """
