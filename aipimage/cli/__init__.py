"""The command ``aipimage``: thin, over the library's public functions.

It needs the extra ``aipimage[cli]``, which importing ``aipimage`` does not.

Exit status: 0 done, 1 refused or failed, 2 wrong usage, 3 verification found damage.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Sequence

from aipimage.version import __version__

_EXTRA = ("click", "rich")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with these arguments, or those of the process; return the exit status.

    With those of the process it is the process's last act: stopped by a signal, it leaves the later
    ones ignored.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if arguments is None:
        _occupy_standard_streams()
    if given == ["--version"] and sys.stdout is not None and _printed_version():
        return 0
    try:
        import rich  # noqa: F401 - used where there is a terminal; asked for now, not halfway

        from aipimage.cli.app import run
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        return _without_extra(str(error.name), "--json" in given)
    except KeyboardInterrupt:
        print("aipimage: error: interrupted", file=sys.stderr)
        return 130
    return run(given, process_ends=arguments is None)


def _printed_version() -> bool:
    """Print the version without loading anything; where that fails, let the command tell why."""
    try:
        sys.stdout.write(f"aipimage {__version__}\n")
        sys.stdout.flush()
    except OSError:
        return False
    return True


def _occupy_standard_streams() -> None:
    """Lead closed standard streams to nowhere: else an image that is opened gets the number of one,
    and whatever writes to that, a tool that is started for instance, writes into the image.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            with contextlib.suppress(OSError):
                # The lowest free number: those below are taken.
                os.open(os.devnull, os.O_RDWR)


def _without_extra(module: str, as_json: bool) -> int:
    text = f"the command needs {module}; install it with: pip install 'aipimage[cli]'"
    if as_json:
        print(json.dumps({"error": text, "type": "MissingExtraError"}))
    print(f"aipimage: error: {text}", file=sys.stderr)
    return 1
