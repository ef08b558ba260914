"""Checking an appliance: archive and descriptor, the digests of its manifest, and every disk."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from aipimage.errors import AipImageError, FormatError, UnsupportedError
from aipimage.io.system.progress import ProgressCallback
from aipimage.io.system.storage import DEFAULT, Storage, StrPath
from aipimage.vmdk.lint import Finding, LintResult, Severity, lint
from aipimage.vmdk.ovf.archive import OvaFile, open_ova, open_ovf


def check_ova(
    path: StrPath,
    *,
    threads: int | None = None,
    progress: ProgressCallback | None = None,
    storage: Storage = DEFAULT,
) -> LintResult:
    """Check an appliance: what it says of its files, their digests, and its disks by
    :func:`aipimage.vmdk.lint`.

    Returns:
        What was found: codes ``ova``, ``ova-manifest``, ``ova-no-manifest``, ``ova-file``, and
        those of the checker of disks. A file that is not an OVA is a finding, too.

    Raises:
        StorageError, RequestError: the file cannot be read. CancelledError: the callback asked to
        stop.
    """
    return _checked(open_ova, path, threads, progress, storage)


def check_ovf(
    path: StrPath,
    *,
    threads: int | None = None,
    progress: ProgressCallback | None = None,
    storage: Storage = DEFAULT,
) -> LintResult:
    """Check a descriptor and the files beside it; else as :func:`check_ova`."""
    return _checked(open_ovf, path, threads, progress, storage)


def _checked(
    opener: Callable[..., OvaFile],
    path: StrPath,
    threads: int | None,
    progress: ProgressCallback | None,
    storage: Storage,
) -> LintResult:
    started, name = time.monotonic(), os.fspath(path)
    try:
        appliance = opener(path, storage=storage)
    except FormatError as error:
        found = (Finding("error", "ova", _without(name, error), name),)
        size = storage.stat(path).size
        return LintResult(name, found, (name,), 0, size, time.monotonic() - started)
    with appliance:
        findings, grains = _Checks(appliance).run(threads, progress)
        return LintResult(
            name, findings, appliance.files, grains, appliance.size, time.monotonic() - started
        )


class _Checks:
    """The checks of an appliance that could be opened."""

    def __init__(self, appliance: OvaFile) -> None:
        self._appliance, self._name = appliance, appliance.name
        self._findings: list[Finding] = []
        self._grains = 0

    def run(
        self, threads: int | None, progress: ProgressCallback | None
    ) -> tuple[tuple[Finding, ...], int]:
        """Return what was found, and how many grains were looked at."""
        for text in self._appliance.warnings:
            severity: Severity = "error" if text in self._appliance.faults else "warning"
            self._add(severity, "ova", text.removeprefix(f"{self._name}: "))
        if not self._appliance.is_in_order:
            self._add("error", "ova", "the descriptor is not the first file of the archive")
        self._manifest()
        for number in range(len(self._appliance.disks)):
            self._disk(number, threads, progress)
        return tuple(self._findings), self._grains

    def _add(self, severity: Severity, code: str, message: str) -> None:
        self._findings.append(Finding(severity, code, message, self._name))

    def _manifest(self) -> None:
        if not self._appliance.manifest:
            self._add("note", "ova-no-manifest", "no manifest: digests cannot be compared")
        for name in self._appliance.damaged():
            self._add("error", "ova-manifest", f"{name} is missing or not what the manifest says")

    def _disk(self, number: int, threads: int | None, progress: ProgressCallback | None) -> None:
        try:
            member, odd = self._appliance.located(number)
            self._appliance.open_disk(number).close()
        except UnsupportedError as error:
            self._add("warning", "ova-file", _without(self._name, error))
            return
        except AipImageError as error:
            self._add("error", "ova-file", _without(self._name, error))
            return
        for text in odd:
            self._add("error", "ova-file", text.removeprefix(f"{self._name}: "))
        result = lint(
            self._appliance.path_of(member),
            threads=threads,
            progress=progress,
            storage=self._appliance.storage(member),
        )
        self._findings += result.findings
        self._grains += result.grains


def _without(name: str, error: Exception) -> str:
    """A message without the file's name, which a finding has beside it."""
    return str(error).removeprefix(f"{name}: ")
