"""Who judges a virtual disk that was written: others' programs, each with a time-out, and ours.

Each checker takes a :class:`Case`, fails the test where it finds the disk wrong, and returns the
word that the table gets.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.support.tools import run
from tests.support.virtual.disks import GRAIN, MIB, SECTOR, Disk, ranges_to_compare

PYTHON = "/usr/bin/python3"
"""The interpreter that python3-libvmdk is a module of."""
READ_BACK = Path(__file__).with_name("readback.py")
"""A program of its own: it runs with the interpreter of the system, which has libvmdk's binding."""
_VMDKINFO_TYPES = {
    "monolithicSparse": "Monolithic sparse",
    "monolithicFlat": "Monolithic flat",
    "twoGbMaxExtentSparse": "2GB extent sparse",
    "twoGbMaxExtentFlat": "2GB extent flat",
    "streamOptimized": "Stream optimized",
    "vmfs": "VMFS flat",
}
SEVENZIP_MAX = 128 * MIB
"""Bytes of the disks that 7-Zip is asked about, where it is installed."""


@dataclass(frozen=True)
class Case:
    """A virtual disk that was written, and what it was made of."""

    subformat: str
    disk: Disk
    raw: Path
    path: Path
    seconds: float = 60

    @property
    def sizes(self) -> range:
        """Sizes in bytes that it may have: the disk's, or padded to the next grain or MiB."""
        size = self.disk.size
        return range(size, -(-size // MIB) * MIB + 1, SECTOR)


def qemu_check(case: Case) -> str:
    run(["qemu-img", "check", "-q", "-f", "vmdk", case.path], timeout=case.seconds)
    return "ok"


def qemu_info(case: Case) -> str:
    found = json.loads(
        run(["qemu-img", "info", "--output=json", "-f", "vmdk", case.path], timeout=case.seconds)
    )
    assert found["virtual-size"] in case.sizes
    assert found["format-specific"]["data"]["create-type"] == case.subformat
    return "ok"


def qemu_compare(case: Case) -> str:
    """Behind the end of the shorter one everything must be zeros, as qemu-img has it."""
    run(
        ["qemu-img", "compare", "-q", "-f", "vmdk", "-F", "raw", case.path, case.raw],
        timeout=case.seconds,
    )
    return "ok"


def vmdkinfo(case: Case) -> str:
    text = run(["vmdkinfo", case.path], timeout=case.seconds)
    kind = re.search(r"Disk type:\s+(.+)", text)
    size = re.search(r"Media size:.*?(\d+)(?: bytes)?\)?$", text, re.MULTILINE)
    assert kind is not None, text
    assert kind[1].strip() == _VMDKINFO_TYPES[case.subformat], text
    assert size is not None, text
    assert int(size[1]) in case.sizes, text
    return "ok"


def libvmdk_read(case: Case) -> str:
    """Everything that is compared is read back through libvmdk, in a process of its own."""
    ranges = case.path.with_suffix(".ranges")
    ranges.write_text("".join(f"{at} {size}\n" for at, size in ranges_to_compare(case.raw)))
    text = run([PYTHON, READ_BACK, case.path, case.raw, ranges], timeout=case.seconds)
    assert int(text) in case.sizes, text
    return "ok"


def sevenzip(case: Case) -> str:
    """7-Zip reads disks of any size, but only from end to end."""
    if shutil.which("7z") is None or case.disk.size > SEVENZIP_MAX:
        return "not asked"
    command = ["7z", "e", "-tvmdk", "-so", str(case.path)]
    done = subprocess.run(command, capture_output=True, timeout=case.seconds, check=False)
    raw = case.raw.read_bytes()
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    assert len(done.stdout) in case.sizes
    assert done.stdout == raw.ljust(len(done.stdout), b"\0"), "7-Zip reads something else"
    return "ok"


def lint(case: Case) -> str:
    from aipimage.vmdk.lint import lint as look

    result = look(case.path)
    assert not result.findings, result.findings
    assert result.ok
    return "ok"


def reader(case: Case) -> str:
    """Our own: what may hold data is where the raw file has it, and all of it is the same."""
    from aipimage import vmdk

    with vmdk.open(case.path) as source, case.raw.open("rb") as raw:
        assert source.subformat == case.subformat
        assert source.size in case.sizes
        grains = set()
        for offset, length in source.data_ranges(0, source.size):
            grains.update(range(offset // GRAIN, -(-(offset + length) // GRAIN)))
        for offset, length in ranges_to_compare(case.raw):
            raw.seek(offset)
            expected, found = raw.read(length), bytearray(length)
            source.read_into(found, offset)
            assert found == expected, f"at {offset}"
            for at in range(0, length, GRAIN):
                known = (offset + at) // GRAIN in grains
                assert known or not any(expected[at : at + GRAIN]), f"a hole at {offset + at}"
        rest = bytearray(source.size - case.disk.size)
        source.read_into(rest, case.disk.size)
        assert not any(rest)
    return "ok"


Checker = Callable[[Case], str]
OTHERS: dict[str, Checker] = {
    "qemu-img check": qemu_check,
    "qemu-img info": qemu_info,
    "qemu-img compare": qemu_compare,
    "vmdkinfo": vmdkinfo,
    "libvmdk read-back": libvmdk_read,
    "7-Zip": sevenzip,
}
OURS: dict[str, Checker] = {"lint": lint, "reader": reader}
PROGRAMS = ("qemu-img", "vmdkinfo", PYTHON)


class Tally:
    """How often each checker was content with each sub-format, as a table for people."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str, str]] = Counter()

    def add(self, subformat: str, checker: str, word: str) -> None:
        self.counts[subformat, checker, word] += 1

    def table(self) -> str:
        rows = sorted({subformat for subformat, _, _ in self.counts})
        columns = list(dict.fromkeys(checker for _, checker, _ in self.counts))
        lines = [["sub-format", *columns], ["---"] * (len(columns) + 1)]
        lines += [[row, *(self._cell(row, column) for column in columns)] for row in rows]
        return "".join(f"| {' | '.join(line)} |\n" for line in lines)

    def _cell(self, row: str, column: str) -> str:
        words = {
            word: count
            for (one, two, word), count in self.counts.items()
            if (one, two) == (row, column)
        }
        return ", ".join(f"{count} {word}" for word, count in sorted(words.items())) or "none"
