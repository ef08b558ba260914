"""Wrong clocks: before 1970, after April 2262 (where 64 bits of nanoseconds end), after 9999."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from pathlib import Path
from unittest import mock

import pytest

import aipimage
from aipimage.io.system import entropy
from tests.cli.running import PASSWORD, done

YEAR_2300 = 10_413_792_000
FAR = 300_000_000_000_000_000
"""Microseconds: behind the year 9999."""


def overflow() -> int:
    raise OverflowError("timestamp too large to convert to C _PyTime_t")


@pytest.fixture
def in_2300(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Python behaves there."""
    monkeypatch.setattr(time, "time_ns", overflow)
    monkeypatch.setattr(time, "clock_gettime", lambda _: float(YEAR_2300))


def through_all(folder: Path) -> None:
    """Create, build on it, merge, show, change passwords."""
    disk = folder / "disk"
    disk.write_bytes(bytes(range(256)) * 4096)
    aipimage.create(folder / "0.aiv", [disk], encrypt="aes-128", password=PASSWORD)
    disk.write_bytes(b"\1" * (1 << 20))
    aipimage.create(folder / "1.aiv", [disk], parent=folder, password=PASSWORD)
    aipimage.merge(folder / "m.aiv", [folder / "0.aiv", folder / "1.aiv"], password=PASSWORD)
    aipimage.add_recovery_key(folder / "m.aiv", PASSWORD)
    with aipimage.open(folder / "m.aiv", PASSWORD) as image:
        assert image.verify().ok
    password = folder / "password"
    password.write_text(PASSWORD)
    password.chmod(0o600)
    for name in ("0.aiv", "1.aiv", "m.aiv"):
        done("info", folder / name, "--password-file", password)
        done("info", folder / name, "--password-file", password, "--chain")
        done("passwd", folder / name, "--list")
    aipimage.repair(folder / "1.aiv", folder / "r.aiv", password=PASSWORD)


@pytest.mark.usefixtures("in_2300")
def test_after_2262(tmp_path: Path) -> None:
    assert entropy.now_us() == YEAR_2300 * 1_000_000
    through_all(tmp_path)
    with aipimage.open(tmp_path / "0.aiv", PASSWORD) as image:
        assert image.metadata["description"]["created"].startswith("2300-01-01T00:00:00")


@pytest.mark.parametrize("microseconds", [0, FAR, (1 << 63) - 1])
def test_other_ends_of_time(microseconds: int, tmp_path: Path) -> None:
    with mock.patch.object(entropy, "now_us", return_value=microseconds):
        through_all(tmp_path)


def test_a_clock_before_1970() -> None:
    with mock.patch.object(time, "time_ns", return_value=-5_000_000_000):
        assert entropy.now_us() == 0


@pytest.mark.parametrize(
    ("microseconds", "text"),
    [
        (0, "1970-01-01T00:00:00+00:00"),
        (1_796_065_952_999_999, "2026-11-30T19:12:32+00:00"),
        (FAR, "9999-12-31T23:59:59+00:00"),
        ((1 << 63) - 1, "9999-12-31T23:59:59+00:00"),
    ],
)
def test_times_as_text(microseconds: int, text: str) -> None:
    assert entropy.time_text(microseconds) == text
    assert datetime.fromisoformat(text).tzinfo == UTC


def test_files_of_every_time_are_sources(tmp_path: Path) -> None:
    """A file's own time may be anything that its file system can hold."""
    disk = tmp_path / "disk"
    for seconds in (-10_000_000, 0, YEAR_2300):
        disk.write_bytes(b"\1" * 8192)
        os.utime(disk, (seconds, seconds))
        aipimage.create(tmp_path / f"{seconds}.aiv", [disk])
        aipimage.convert(disk, tmp_path / f"{seconds}.vmdk", format="vmdk", resume=True)
