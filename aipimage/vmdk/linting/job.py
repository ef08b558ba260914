"""What a check of a disk carries along: options, threads, progress, and what was counted."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass, field

from aipimage.io.system.progress import ProgressCallback, Reporter
from aipimage.io.system.storage import Storage, StrPath
from aipimage.vmdk.linting.findings import CheckedFile, Collector


@dataclass
class LintJob:
    """A check in progress.

    Attributes:
        deep: grains are decompressed. executor, in_flight: for that. files: paths that were
            looked at. done, grains: bytes of them, and stored grains, so far.
    """

    storage: Storage
    findings: Collector
    progress: ProgressCallback | None
    executor: Executor
    in_flight: int
    deep: bool = True
    files: list[str] = field(default_factory=list)
    bytes: int = 0
    done: int = 0
    grains: int = 0

    def __post_init__(self) -> None:
        self.reporter = Reporter("verify", 0, self.progress)

    def open(self, path: StrPath) -> CheckedFile:
        """Open a file to look at; the caller closes ``.file``."""
        file = self.storage.open_read(path)
        try:
            checked = CheckedFile(file, self.findings)
        except BaseException:
            file.close()
            raise
        self.files.append(checked.path)
        self.bytes += checked.size
        # How much there is to do becomes known file by file.
        started = self.reporter.started
        self.reporter = Reporter("verify", self.bytes, self.progress)
        self.reporter.started = started
        return checked

    def advance(self, count: int) -> None:
        """So many more bytes are done."""
        self.done += count
        self.reporter.report(self.done, self.done)
