"""The command ``aipimage``: thin, over the library's public functions.

It needs the extra ``aipimage[cli]``, which importing ``aipimage`` does not.

Exit status: 0 done, 1 refused or failed, 2 wrong usage, 3 verification found damage.
"""

from __future__ import annotations

import gc
import os
import sys

from aipimage.version import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

# Nothing else is imported before `main` is there: what Ctrl-C interrupts until then ends in a
# traceback.
_EXTRA = ("click", "rich")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with these arguments, or those of the process; return the exit status.

    With those of the process it is the process's last act: the outcome was reported, and signals
    that come later are ignored.
    """
    is_process = arguments is None
    try:
        return _main(list(sys.argv[1:] if arguments is None else arguments), is_process)
    except KeyboardInterrupt:
        if is_process:
            _ignore_interrupts()
        if sys.stderr is not None:
            print("aipimage: error: interrupted", file=sys.stderr)
        return 130
    finally:
        if is_process:
            _ignore_interrupts()
            # The process ends: searching all that it loaded for cycles would free nothing.
            gc.freeze()


def _main(given: list[str], is_process: bool) -> int:
    if is_process:
        _occupy_standard_streams()
        _start_lightly()
    if given == ["--version"] and sys.stdout is not None and _printed_version():
        return 0
    try:
        from importlib.util import find_spec

        # It is loaded for a terminal only; that it is missing is said now, not halfway.
        if find_spec("rich") is None:
            return _without_extra("rich", "--json" in given)
        from aipimage.cli.app import run
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        return _without_extra(str(error.name), "--json" in given)
    return run(given, process_ends=is_process)


def _start_lightly() -> None:
    """Leave out work that no command needs, and that would cost each one a third of its start."""
    # OpenBLAS, which numpy loads, starts a thread for each processor; there is no algebra here.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # What is imported stays. The default looks through it for cycles at every 700 new objects.
    gc.set_threshold(50_000, 20, 20)


def _ignore_interrupts() -> None:
    """An interpreter that is ending would report Ctrl-C with a traceback."""
    import signal

    # Only the main thread may.
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    except ValueError:
        return


def _printed_version() -> bool:
    """Print the version without loading anything; where that fails, let the command say why."""
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
            _opened_nowhere()


def _opened_nowhere() -> None:
    try:
        # The lowest free number: those below are taken.
        os.open(os.devnull, os.O_RDWR)
    except OSError:
        return


def _without_extra(module: str, as_json: bool) -> int:
    import json

    text = f"the command needs {module}; install it with: pip install 'aipimage[cli]'"
    if as_json:
        print(json.dumps({"error": text, "type": "MissingExtraError"}))
    print(f"aipimage: error: {text}", file=sys.stderr)
    return 1
