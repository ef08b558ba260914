"""Measure commands and Python functions: wall and CPU seconds, peak memory, medians, ratios.

Every measured run is a fresh process.  For a command the CPU seconds and the peak resident set come
from ``os.wait4``: CPU is the sum over the command and all descendants it has waited for, while the
peak is that of the *largest single* process among them, not their sum.  For a Python function the
clock runs around the call only, so that interpreter start and imports do not count; its CPU seconds
are those of the call, and its peak is the high-water mark of its own address space (``VmHWM``),
which, unlike ``ru_maxrss``, is not inherited from the process that started it.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import platform
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

HERE = Path(__file__).resolve().parent
MIB = 1 << 20
LONGEST = 600.0
"""Seconds after which a command is ended as one that hangs; none that is measured takes half."""


@dataclass(frozen=True)
class Result:
    """One measured run, or the reason why there is none (``note``)."""

    seconds: float = 0.0
    cpu: float = 0.0
    peak: int = 0
    """Peak resident set in bytes."""
    size: int = 0
    """Bytes of output on the medium, or 0."""
    note: str = ""
    """Empty for a good run, else "not installed" or what went wrong."""
    values: dict[str, Any] = field(default_factory=dict)
    """What a measured Python function returned."""

    @property
    def good(self) -> bool:
        """True for a run that has figures."""
        return not self.note


NOT_INSTALLED = Result(note="not installed")


class CommandError(RuntimeError):
    """A measured command failed; the message holds the end of its standard error."""


def exit_on_terminate() -> None:
    """Turn SIGTERM into SystemExit, so that clean-up code runs as it does on Ctrl-C."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, leave)


def available(*tools: str) -> bool:
    """True when every one of ``tools`` is on the path."""
    return all(shutil.which(tool) for tool in tools)


def need_memory(size: int) -> str:
    """Return a reason not to run when less than ``size`` bytes of memory are free, else ''."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            free = int(line.split()[1]) * 1024
            if free < size:
                return f"skipped: needs {size / 1e9:.1f} GB of memory, {free / 1e9:.1f} free"
    return ""


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the process group of ``process``: first politely, then for good."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        if process.returncode is not None:
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)
            return


def _reap(process: subprocess.Popen[bytes]) -> resource.struct_rusage:
    """Wait for ``process`` and return what it used; on any exception end its whole group."""
    try:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        return usage
    except BaseException:
        _stop(process)
        raise


def command(
    args: Sequence[str] | str, *, env: dict[str, str] | None = None, cwd: Path | None = None
) -> Result:
    """Run ``args`` (a string is a bash pipeline) in its own process group and measure it."""
    if isinstance(args, str):
        args = ["bash", "-c", f"set -euo pipefail; {args}"]
    with _error_file() as errors:
        start = time.perf_counter()
        process = subprocess.Popen(
            args,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            env={**os.environ, **(env or {})},
            cwd=cwd,
            process_group=0,
        )
        alarm = threading.Timer(LONGEST, os.killpg, (process.pid, signal.SIGKILL))
        alarm.start()
        try:
            usage = _reap(process)
        finally:
            alarm.cancel()
        seconds = time.perf_counter() - start
        if process.returncode:
            end = os.pread(errors, MIB, max(0, os.fstat(errors).st_size - 800))
            text = end.decode(errors="replace")
            raise CommandError(f"{' '.join(args)}: exit {process.returncode}: {text.strip()}")
    return Result(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


@contextlib.contextmanager
def _error_file() -> Iterator[int]:
    """Give a nameless file for a command's standard error."""
    handle = os.memfd_create("errors")
    try:
        yield handle
    finally:
        os.close(handle)


@dataclass
class Daemon:
    """A running server and, once it has stopped, the CPU seconds it used."""

    process: subprocess.Popen[bytes]
    cpu: float = 0.0


@contextlib.contextmanager
def daemon(args: Sequence[str], socket: Path) -> Iterator[Daemon]:
    """Run a server in the foreground until the block ends; it is ready when ``socket`` exists."""
    socket.unlink(missing_ok=True)
    process = subprocess.Popen(
        args, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, process_group=0
    )
    served = Daemon(process)
    try:
        deadline = time.monotonic() + 20
        while not socket.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise CommandError(f"{' '.join(args)}: did not start")
            time.sleep(0.005)
        yield served
    finally:
        if process.returncode is None:
            process.terminate()
            usage = _reap(process)
            served.cpu = usage.ru_utime + usage.ru_stime
        socket.unlink(missing_ok=True)


def call(module: str, function: str, **arguments: Any) -> Result:
    """Run ``module.function(**arguments)`` in a fresh Python process and measure it.

    The arguments are JSON values.  The function does its preparations, then calls what it measures
    inside ``timed``; without that the whole call is measured.  It returns a JSON object or None;
    the key ``size`` becomes ``Result.size`` and ``note`` becomes ``Result.note``.
    """
    read_end, write_end = os.pipe()
    with os.fdopen(read_end, "rb") as answer:
        try:
            process = subprocess.Popen(
                [
                    sys.executable,
                    str(HERE / "measure.py"),
                    module,
                    function,
                    json.dumps(arguments),
                    str(write_end),
                ],
                stdin=subprocess.DEVNULL,
                pass_fds=[write_end],
                process_group=0,
            )
        finally:
            os.close(write_end)
        try:
            text = answer.read()
        except BaseException:
            _stop(process)
            raise
    usage = _reap(process)
    if process.returncode or not text:
        return Result(note=f"{module}.{function} failed (exit {process.returncode})")
    reply: dict[str, Any] = json.loads(text)
    values: dict[str, Any] = reply["values"]
    return Result(
        reply["seconds"],
        reply["cpu"],
        reply["peak"] or usage.ru_maxrss * 1024,
        int(values.get("size", 0)),
        str(values.get("note", "")),
        values,
    )


@dataclass
class Stopwatch:
    """Sums wall and CPU seconds of this process over the blocks run inside ``timed``."""

    seconds: float = 0.0
    cpu: float = 0.0
    used: bool = False


_watch = Stopwatch()


@contextlib.contextmanager
def timed() -> Iterator[None]:
    """Count the block as (part of) what the present ``call`` measures."""
    wall, cpu = time.perf_counter(), time.process_time()
    try:
        yield
    finally:
        _watch.seconds += time.perf_counter() - wall
        _watch.cpu += time.process_time() - cpu
        _watch.used = True


def resident(name: str = "VmHWM") -> int:
    """Bytes of this process's peak (``VmHWM``) or present (``VmRSS``) resident set, 0 elsewhere."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(name + ":"):
                return int(line.split()[1]) * 1024
    return 0


def _child(module: str, function: str, arguments: str, answer: str) -> None:
    """Serve one ``call`` in this fresh process."""
    exit_on_terminate()
    # The functions import `measure` by name; it must be this module, with this stopwatch.
    sys.modules["measure"] = sys.modules["__main__"]
    target = getattr(importlib.import_module(module), function)
    wall, cpu = time.perf_counter(), time.process_time()
    values = target(**json.loads(arguments)) or {}
    if not _watch.used:
        _watch.seconds, _watch.cpu = time.perf_counter() - wall, time.process_time() - cpu
    reply = {"seconds": _watch.seconds, "cpu": _watch.cpu, "peak": resident(), "values": values}
    with os.fdopen(int(answer), "w") as pipe:
        json.dump(reply, pipe)


Contender = Callable[[], Result]


def interleave(contenders: dict[str, Contender], runs: int) -> dict[str, list[Result]]:
    """Run all contenders one after the other, ``runs`` rounds; one that fails is not tried again.

    Rounds make neighbours in time share the machine's mood, so their ratios are worth comparing.
    Each begins with another contender: who follows on whom makes a difference too, by the memory
    that the one before left.
    """
    found: dict[str, list[Result]] = {name: [] for name in contenders}
    names = list(contenders)
    for number in range(runs):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            if found[name] and not found[name][-1].good:
                continue
            found[name].append(_attempt(contenders[name]))
            last = found[name][-1]
            text = last.note or f"{last.seconds:.2f} s, CPU {last.cpu:.2f} s"
            print(f"  round {number + 1}: {name}: {text}", file=sys.stderr, flush=True)
    return found


def _attempt(contender: Contender) -> Result:
    """Run one contender; a failing command is a note in the table, not the end of the run."""
    try:
        return contender()
    except (CommandError, OSError, subprocess.CalledProcessError) as error:
        return Result(note=f"failed: {error}"[:300])


def median(results: Sequence[Result]) -> Result:
    """Median of each figure over the good runs, or the last failed run when there is none."""
    good = [result for result in results if result.good]
    if not good:
        return results[-1] if results else Result(note="not run")
    return Result(
        statistics.median(result.seconds for result in good),
        statistics.median(result.cpu for result in good),
        max(result.peak for result in good),
        int(statistics.median(result.size for result in good)),
        values=good[-1].values,
    )


def ratio(above: Sequence[Result], below: Sequence[Result]) -> float | None:
    """Median over the rounds of seconds(above) / seconds(below), or None without a good pair."""
    pairs = [
        one.seconds / two.seconds
        for one, two in zip(above, below, strict=False)
        if one.good and two.good and two.seconds
    ]
    return statistics.median(pairs) if pairs else None


def machine() -> dict[str, str]:
    """CPU model, cores, memory, kernel and Python of this machine."""
    facts = {"cpu": platform.processor() or platform.machine(), "cores": str(os.cpu_count())}
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                facts["cpu"] = line.split(":", 1)[1].strip()
                break
        memory = int(Path("/proc/meminfo").read_text().split()[1])
        facts["memory"] = f"{memory / MIB:.1f} GiB"
    facts["kernel"] = platform.release()
    facts["python"] = platform.python_version()
    return facts


def versions(tools: dict[str, list[str]]) -> dict[str, str]:
    """First line of each tool's version output, or "not installed"."""
    found = {}
    for name, args in tools.items():
        if not available(args[0]):
            found[name] = "not installed"
            continue
        done = subprocess.run(args, capture_output=True, text=True, check=False)
        lines = (done.stdout + done.stderr).strip().splitlines()
        found[name] = lines[0].strip(" *") if lines else "unknown"
    return found


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Format a markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    escaped = [[cell.replace("|", "\\|").replace("\n", " ") for cell in line] for line in lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in escaped)


if __name__ == "__main__":
    _child(*sys.argv[1:5])
