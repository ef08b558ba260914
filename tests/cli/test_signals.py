"""Ctrl-C and SIGTERM: nothing half-valid stays, and what can be resumed is."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.running import COMMAND, Ran, done, spawn

from aipimage.cli.interrupts import InterruptedCommand, Interrupts  # isort: skip - after helpers

MIB = 1 << 20
# The command with a checkpoint after each stripe, so that a test need not write for 30 s.
EAGER = (
    "import functools, sys, aipimage; from aipimage.cli import main; "
    "aipimage.create = functools.partial(aipimage.create, checkpoint_bytes=1); "
    "sys.exit(main(sys.argv[1:]))"
)
# The command with a target that is slow to write.
SLOW = (
    "import sys, time; from aipimage.cli import main; "
    "from aipimage.io.blocks.sinks import FileSink; "
    "write = FileSink.write; FileSink.write = lambda *a: (time.sleep(0.05), write(*a)); "
    "sys.exit(main(sys.argv[1:]))"
)
# The command with a job that sleeps for an hour before it writes content, and does not report.
SLEEPING = [
    sys.executable,
    "-c",
    "import sys, time; from aipimage.cli import main; "
    "from aipimage.io.system.progress import RateLimit; "
    "RateLimit.wait = lambda *_: time.sleep(3600); sys.exit(main())",
]
# The command that makes a file when it waits for its rate, and breaks nothing off after a signal.
WAITING = """
import contextlib, pathlib, sys
from aipimage.cli import interrupts, main
from aipimage.io.system import progress
from aipimage.io.blocks import ratedsource

interrupts.GRACE = 3600.0
wait = progress.RateLimit.wait

def marked(limit, length, tick):
    pathlib.Path({waits!r}).touch()
    wait(limit, length, tick)

progress.RateLimit.wait = marked
if {phase!r} == "writing":
    ratedsource.RatedSource.limited = contextlib.nullcontext
sys.exit(main(sys.argv[1:]))
"""
# The command that is interrupted when it imports a module.
IMPORTING = """
import signal, sys
from aipimage.cli import main

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, Interrupting())
sys.exit(main())
"""
# The command that says when its guard stands.
STARTING = """
import sys
from aipimage import cli

occupy = cli._occupy_standard_streams

def started():
    print("started", flush=True)
    occupy()

cli._occupy_standard_streams = started
sys.exit(cli.main())
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """160 MiB that do not compress: over two stripes."""
    path = tmp_path_factory.mktemp("signals") / "large.raw"
    block = random.Random(2).randbytes(MIB)
    path.write_bytes(b"".join(number.to_bytes(4) + block[4:] for number in range(160)))
    return path


def start(*arguments: object, command: list[str] = COMMAND) -> subprocess.Popen[str]:
    """Begin the command."""
    return subprocess.Popen(
        [*command, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_for(path: Path, size: int, process: subprocess.Popen[str]) -> None:
    """Wait until a file is so large while the command runs."""
    for _ in range(3000):
        if path.exists() and path.stat().st_size >= size:
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    pytest.fail(f"{path} did not grow")


def ended(process: subprocess.Popen[str]) -> Ran:
    """What the command gave back."""
    out, err = process.communicate(timeout=30)
    return Ran(process.returncode, out, err)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_stopped_creation_leaves_nothing(
    number: signal.Signals, large: Path, tmp_path: Path
) -> None:
    """No image, no partial file, one line, the exit status that shells know."""
    path = tmp_path / "o.aiv"
    process = start("createimage", "-o", path, large, "--rate", "20M", "--json")
    wait_for(tmp_path / "o.aiv.partial", MIB, process)
    process.send_signal(number)
    ran = ended(process)
    assert ran.code == 128 + number
    assert ran.error == f"stopped by {number.name}; no {path} was made"
    assert ran.json["type"] == "CancelledError"
    assert not list(tmp_path.iterdir())


def test_stopped_creation_is_resumed(large: Path, tmp_path: Path) -> None:
    """After a checkpoint the partial file is kept, said so, and gone on from."""
    path = tmp_path / "o.aiv"
    command = ["createimage", "-o", path, large, "--compress", "none"]
    process = start(*command, "--rate", "60M", command=[sys.executable, "-c", EAGER])
    wait_for(tmp_path / "o.aiv.partial", 80 * MIB, process)
    process.send_signal(signal.SIGINT)
    ran = ended(process)
    assert ran.code == 130
    assert ran.error == (
        f"stopped by SIGINT; {path}.partial is kept; the same command with --resume continues it"
    )
    assert os.listdir(tmp_path) == ["o.aiv.partial"]
    assert spawn("verify", path).code == 1
    values = done(*command, "--resume", "--json").json
    assert values["resumed"] is True
    assert os.listdir(tmp_path) == ["o.aiv"]
    done("verify", path)
    done("restoredisk", path, tmp_path / "t.raw")
    assert subprocess.run(["cmp", large, tmp_path / "t.raw"], check=False).returncode == 0


@pytest.mark.parametrize("phase", ["looking", "writing"])
def test_a_job_that_waits_for_its_rate_is_stopped(phase: str, large: Path, tmp_path: Path) -> None:
    """At this rate it waits from the first byte on, over a minute for a block; it stops at the
    callback that it makes meanwhile, for nothing else stops it here.
    """
    path, waits = tmp_path / "o.aiv", tmp_path / "waits"
    command = [sys.executable, "-c", WAITING.format(waits=str(waits), phase=phase)]
    process = start("createimage", "-o", path, large, "--rate", "1K", command=command)
    wait_for(waits, 0, process)
    assert (tmp_path / "o.aiv.partial").exists() is (phase == "writing")
    process.send_signal(signal.SIGTERM)
    ran = ended(process)
    assert (ran.code, ran.error) == (143, f"stopped by SIGTERM; no {path} was made")
    assert os.listdir(tmp_path) == ["waits"]


@pytest.mark.parametrize(
    "module",
    [
        "rich", "aipimage.cli.app", "click", "aipimage.errors", "aipimage.cli.interrupts",
        "aipimage.cli.creating", "aipimage.cli.virtual", "aipimage.io", "numpy", "aipimage._native",
        "zstandard", "aipimage.io.creating.job", "aipimage.volumes.survey",
    ],
)  # fmt: skip
def test_ctrl_c_while_a_module_is_loaded(module: str, large: Path, tmp_path: Path) -> None:
    """One line and the exit status of the signal, whatever it is that is just imported."""
    command = [sys.executable, "-c", IMPORTING.format(module=module)]
    ran = ended(
        start("createimage", "-o", tmp_path / "o.aiv", large, "--rate", "1K", command=command)
    )
    assert (ran.code, ran.out) == (130, "")
    assert ran.error.startswith(("interrupted", "stopped by SIGINT"))
    assert ran.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_ctrl_c_at_any_moment_after_the_start(large: Path, tmp_path: Path) -> None:
    """The first moments come before the command is loaded, the last ones while it works."""
    command = [sys.executable, "-c", STARTING]
    for moment in range(16):
        process = start(
            "createimage", "-o", tmp_path / "o.aiv", large, "--rate", "1K", command=command
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        time.sleep(moment * 0.03)
        process.send_signal(signal.SIGINT)
        ran = ended(process)
        assert (ran.code, ran.out) == (130, ""), (moment, ran)
        assert ran.error
        assert ran.err.count("\n") == 1, (moment, ran)
        assert not list(tmp_path.iterdir())


def test_a_job_that_does_not_report_is_stopped_too(large: Path, tmp_path: Path) -> None:
    """It is broken off after a short time."""
    process = start("createimage", "-o", tmp_path / "o.aiv", large, command=SLEEPING)
    wait_for(tmp_path / "o.aiv.partial", 0, process)
    process.send_signal(signal.SIGTERM)
    assert ended(process).code == 143
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("pause", [0.2, 0.01, 0.001])
def test_a_second_signal_does_not_wait(large: Path, tmp_path: Path, pause: float) -> None:
    """Ctrl-C twice or held down to the end: nothing is left, and the exit status is the same."""
    process = start("createimage", "-o", tmp_path / "o.aiv", large, command=SLEEPING)
    wait_for(tmp_path / "o.aiv.partial", 0, process)
    began = time.monotonic()
    while process.poll() is None and time.monotonic() - began < 30:
        process.send_signal(signal.SIGINT)
        time.sleep(pause)
    ran = ended(process)
    assert ran.code == 130
    assert ran.error == f"stopped by SIGINT; no {tmp_path / 'o.aiv'} was made"
    assert not list(tmp_path.iterdir())


def test_signals_are_noted_then_insisted_on() -> None:
    """The first asks, the second breaks off; afterwards all is as it was before."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)
    before = [signal.getsignal(number) for number in numbers]
    with Interrupts() as interrupts:
        assert interrupts.number is None
        signal.raise_signal(signal.SIGTERM)
        assert (interrupts.number, interrupts.exit_code) == (signal.SIGTERM, 143)
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 0
        with pytest.raises(InterruptedCommand):
            signal.raise_signal(signal.SIGINT)
        assert signal.getitimer(signal.ITIMER_REAL)[0] == 0
        signal.raise_signal(signal.SIGINT)  # while it is cleaned up
        signal.raise_signal(signal.SIGALRM)
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0
    assert before == [signal.getsignal(number) for number in numbers]


def test_the_last_act_of_a_process_ignores_later_signals() -> None:
    """Where a signal came; else all is as it was before."""
    number = signal.SIGTERM
    touched = (number, signal.SIGINT, signal.SIGHUP, signal.SIGALRM)
    before = {each: signal.getsignal(each) for each in touched}
    with Interrupts(process_ends=True):
        pass
    assert {each: signal.getsignal(each) for each in touched} == before
    try:
        with Interrupts(process_ends=True):
            signal.raise_signal(number)
        signal.raise_signal(number)
        assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def test_stopped_restore(large: Path, tmp_path: Path) -> None:
    """A new target goes away; one that was there is named."""
    done("createimage", "-o", tmp_path / "o.aiv", large, "--compress", "none")
    target = tmp_path / "t.raw"
    command = [sys.executable, "-c", SLOW]
    process = start("restoredisk", tmp_path / "o.aiv", target, command=command)
    wait_for(tmp_path / "t.raw.partial", MIB, process)
    process.send_signal(signal.SIGINT)
    ran = ended(process)
    assert (ran.code, ran.error) == (130, "stopped by SIGINT")
    assert os.listdir(tmp_path) == ["o.aiv"]
    target.write_bytes(b"old")
    process = start(
        "restoredisk", tmp_path / "o.aiv", target, "--force", "--set-size", command=command
    )
    wait_for(target, MIB, process)
    process.send_signal(signal.SIGINT)
    ran = ended(process)
    assert (ran.code, ran.error) == (
        130,
        f"stopped by SIGINT; {target} may hold part of it only; restore it again",
    )


def test_an_ignored_signal_stays_ignored(large: Path, tmp_path: Path) -> None:
    """As under nohup, or in a shell's background job."""
    shell = 'trap "" INT; exec "$@"'
    command = ["sh", "-c", shell, "sh", *COMMAND]
    process = start(
        "createimage", "-o", tmp_path / "o.aiv", large, "--rate", "100M", command=command
    )
    wait_for(tmp_path / "o.aiv.partial", 1, process)
    process.send_signal(signal.SIGINT)
    assert ended(process).code == 0
