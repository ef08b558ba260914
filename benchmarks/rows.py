"""The rows of the table, and what all sections share to make them."""

from __future__ import annotations

import contextlib
import dataclasses
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import measure
import peers
from measure import Result

MIB = 1 << 20


@dataclass
class Row:
    """One line of the table: a median, what it is compared with, and the target of the ratio."""

    section: str
    name: str
    result: Result
    rate: str = ""
    against: str = ""
    other: Result | None = None
    ratio: float | None = None
    target: str = ""
    """"<= 1.25" or the like, or '' for a row that only informs."""

    @property
    def met(self) -> str:
        """'yes', 'NO', '?' without a figure, or '' without a target."""
        if not self.target:
            return ""
        if self.ratio is None:
            return "?"
        sign, bound = self.target.split()[:2]
        good = {
            "<=": self.ratio <= float(bound),
            "<": self.ratio < float(bound),
            ">=": self.ratio >= float(bound),
            ">": self.ratio > float(bound),
            "=": self.ratio == float(bound),
        }[sign]
        return "yes" if good else "NO"

    def cells(self) -> list[str]:
        """Return the cells of the table's line."""
        one, two = self.result, self.other or Result(note=" ")
        return [
            self.section,
            self.name,
            seconds_of(one),
            _amount(one.size),
            self.rate,
            f"{one.peak / MIB:.0f}" if one.peak else "",
            self.against,
            seconds_of(two),
            f"{self.ratio:.2f}" if self.ratio is not None else "",
            self.target,
            self.met,
        ]


HEAD = ("section", "what", "s (CPU s)", "MB", "rate", "peak MiB", "compared with", "s (CPU s)",
        "ratio", "target", "met")  # fmt: skip


def peak_row(section: str, name: str, results: Sequence[Result]) -> Row:
    """A row for the highest peak of memory of some runs."""
    peaks = [each.peak / MIB for each in results if each.good and each.peak]
    shown = Result(note=" " if peaks else "not run")
    if len(results) == 1:
        shown = results[0]
    return Row(section, name, shown, ratio=max(peaks, default=None), target="<= 256 MiB")


def seconds_of(result: Result) -> str:
    """Wall and CPU seconds, or the note."""
    if result.note:
        return result.note.strip()
    digits = 2 if result.seconds >= 0.2 else 4
    return f"{result.seconds:.{digits}f} ({result.cpu:.2f})"


def _amount(size: int) -> str:
    """Megabytes, or '' for nothing."""
    return f"{size / 1e6:,.0f}" if size else ""


def gb_s(size: int, result: Result) -> str:
    """Gigabytes a second."""
    return f"{size / 1e9 / result.seconds:.2f} GB/s" if result.good and result.seconds else ""


def reads_a_second(result: Result) -> str:
    """Reads a second, with latencies where they are known."""
    if not result.good or not result.seconds:
        return ""
    text = f"{result.values['reads'] / result.seconds:,.0f}/s"
    if "p50" in result.values:
        text += f" (p50 {result.values['p50']:.0f} µs, p99 {result.values['p99']:.0f})"
    return text


@dataclass
class Bench:
    """What all sections share: where things are, how often to run, and the rows found so far."""

    raw: Path
    work: Path
    runs: int
    data: int
    """Bytes of the disk's clusters that are not zero."""
    allocated: int
    second: Path
    """The disk's second state; there may be none."""
    peers: tuple[peers.Peer, ...]
    reads: int
    rows: list[Row] = field(default_factory=list)
    measured: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def race(self, section: str, contenders: dict[str, measure.Contender]) -> Found:
        """Run contenders in rounds and keep every single run for the JSON file."""
        print(f"{section}: {' | '.join(contenders)}", file=sys.stderr)
        found = measure.interleave(contenders, self.runs)
        for name, results in found.items():
            kept = [dataclasses.asdict(result) for result in results]
            self.measured.setdefault(f"{section}: {name}", []).extend(kept)
        return Found(section, found, self.rows)

    @contextlib.contextmanager
    def image(self, password: str | None = None) -> Iterator[Path]:
        """Give an image of ours of the disk for the length of a block."""
        path = self.work / ("secret.aiv" if password else "plain.aiv")
        try:
            made = measure.call(
                "ours", "create", path=str(path), source=str(self.raw), password=password
            )
            print(f"  image of ours: {made.note or seconds_of(made)}", file=sys.stderr)
            yield path
        finally:
            path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def frames(self) -> Iterator[Path]:
        """Give the limit's frames of the disk for the length of a block."""
        path = self.work / "frames"
        try:
            measure.call("limits", "store_frames", path=str(self.raw), target=str(path))
            yield path
        finally:
            path.unlink(missing_ok=True)
            path.with_name("frames.npz").unlink(missing_ok=True)

    def restored(self, restore: Callable[[Path], Result]) -> Result:
        """Restore, then compare with the disk outside of the timing, then drop the result."""
        target = self.work / "restored.raw"
        try:
            result = restore(target)
            if result.good and subprocess.run(["cmp", "-s", target, self.raw]).returncode:
                return Result(note="WRONG DATA: the restored disk differs")
            return result
        finally:
            target.unlink(missing_ok=True)


@dataclass
class Found:
    """The runs of one race, and how to make rows of them."""

    section: str
    runs: dict[str, list[Result]]
    rows: list[Row]

    def row(
        self, name: str, against: str = "", target: str = "", rate: str = "", inverse: bool = False
    ) -> Row:
        """Add a row; the ratio is seconds(name) / seconds(against), or with ``inverse`` the reverse."""  # noqa: E501
        ratio, other = None, None
        if against:
            other = measure.median(self.runs[against])
            above, below = self.runs[name], self.runs[against]
            ratio = measure.ratio(below, above) if inverse else measure.ratio(above, below)
        row = Row(
            self.section, name, measure.median(self.runs[name]), rate, against, other, ratio, target
        )
        self.rows.append(row)
        return row

    def figure(self, name: str, label: str, figure: float | None, target: str = "") -> None:
        """Add a row for a figure of a contender that is no ratio of times; None where it failed."""
        self.rows.append(Row(self.section, label, self.median(name), ratio=figure, target=target))

    def smaller(self, name: str, against: str, target: str = "> 1") -> None:
        """Add a row that says how many times smaller ``name`` is than ``against``."""
        one, two = self.median(name), self.median(against)
        ratio = two.size / one.size if one.good and two.good and one.size else None
        label, other = f"{name}: size", f"other: {_amount(two.size)} MB"
        self.rows.append(Row(self.section, label, one, other, against, two, ratio, target))

    def peak(self, names: Sequence[str]) -> None:
        """Add a row for the highest peak of memory of some contenders."""
        label = f"peak of {'; '.join(names)}, MiB" if len(names) > 1 else f"{names[0]}, MiB"
        self.rows.append(peak_row(self.section, label, [self.median(name) for name in names]))

    def median(self, name: str) -> Result:
        """Median of one contender."""
        return measure.median(self.runs[name])

    def best(self, names: Sequence[str]) -> str:
        """The fastest of ``names`` that ran, or ''."""
        good = [name for name in names if self.median(name).good]
        return min(good, key=lambda name: self.median(name).seconds, default="")
