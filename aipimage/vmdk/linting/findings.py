"""What a check found, as data, and the collection that keeps it bounded."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from aipimage.io.system.storage import File
from aipimage.vmdk.linting.codes import CODES, Severity

KEPT = 3
"""Findings of one code that are kept for one file; the last one says how many more there are."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, or worth knowing.

    Attributes:
        severity: ``"error"``, ``"warning"`` or ``"note"``. code: a key of ``CODES``.
        message: what and where, without the file. path: the file.
        offset: in bytes in that file, or ``None`` where it is about no place.
    """

    severity: Severity
    code: str
    message: str
    path: str
    offset: int | None = None


@dataclass(frozen=True, slots=True)
class LintResult:
    """What a check of a virtual disk found.

    Attributes:
        path: the file that was checked. findings: in the order in which they were found.
        files: all files that were looked at. grains: stored grains. bytes: of these files.
        seconds: how long it took.
    """

    path: str
    findings: tuple[Finding, ...]
    files: tuple[str, ...]
    grains: int
    bytes: int
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether there is no error; warnings and notes may be there."""
        return not any(finding.severity == "error" for finding in self.findings)


class Collector:
    """Takes findings; of many of one kind in one file it keeps the first and counts the rest."""

    def __init__(self) -> None:
        self._found: list[Finding] = []
        self._counts: dict[tuple[str, str], int] = {}
        self._last: dict[tuple[str, str], int] = {}

    def add(
        self,
        code: str,
        message: str,
        path: str,
        offset: int | None = None,
        count: int = 1,
        severity: Severity | None = None,
    ) -> None:
        """Take a finding, which stands for ``count`` of its kind."""
        key = (code, path)
        kept = self._counts.get(key, 0)
        self._counts[key] = kept + count
        if kept >= KEPT:
            return
        self._last[key] = len(self._found)
        self._found.append(Finding(severity or CODES[code][0], code, message, path, offset))
        # Those that this one stands for are not listed one by one.
        self._counts[key] = kept + 1
        self._more(key, count - 1)

    def _more(self, key: tuple[str, str], count: int) -> None:
        if count > 0:
            at = self._last[key]
            finding = self._found[at]
            self._found[at] = replace(finding, message=f"{finding.message}; {count} more like it")

    def finished(self) -> tuple[Finding, ...]:
        """Return what was found; the last kept of each kind says how many were not kept."""
        for key, count in self._counts.items():
            self._more(key, count - KEPT)
        return tuple(self._found)

    def codes(self) -> Iterable[str]:
        """The codes found so far."""
        return {finding.code for finding in self._found}


class CheckedFile:
    """A file that is looked at, and where its findings go."""

    def __init__(self, file: File, findings: Collector) -> None:
        self.file = file
        self.path = file.name
        self.size = file.size()
        self.findings = findings

    def read(self, offset: int, length: int) -> bytes:
        """Return up to ``length`` bytes, fewer at the end; the caller has bounded ``length``."""
        return self.file.pread(length, offset)

    def add(
        self,
        code: str,
        message: str,
        offset: int | None = None,
        count: int = 1,
        severity: Severity | None = None,
    ) -> None:
        """Take a finding about this file."""
        self.findings.add(code, message, self.path, offset, count, severity)
