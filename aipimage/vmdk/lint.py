"""A strict checker of VMDK files: what is wrong with a virtual disk, as data.

It parses descriptors by itself and walks a file by itself: the markers of a stream one by one and
the tables too, and compares both. It shares with the reader only the fields of headers and markers
(``layout``, ``cowdlayout``, ``sesparselayout``) and the search for parents (``parents``). What it
can find is ``CODES``, with the severity of each; no errors does not mean that every reader takes
the disk. The rules are those of VMware's "Virtual Disk Format 5.0" note, and what importers and
readers are known to fail on::

    result = aipimage.vmdk.lint("disk.vmdk")
    for finding in result.findings:
        print(finding.severity, finding.code, finding.message)
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from concurrent.futures import Executor

from aipimage import checks
from aipimage.io.system.pipeline import executor_for
from aipimage.io.system.progress import ProgressCallback
from aipimage.io.system.storage import Storage, StrPath, chosen
from aipimage.vmdk.linting.codes import CODES, Severity
from aipimage.vmdk.linting.disk import check_disk
from aipimage.vmdk.linting.findings import Collector, Finding, LintResult
from aipimage.vmdk.linting.job import LintJob

__all__ = ["CODES", "Finding", "LintResult", "Severity", "lint"]


def lint(
    path: StrPath,
    *,
    search: StrPath | Sequence[StrPath] | None = None,
    deep: bool = True,
    chain: bool = False,
    threads: int | None = None,
    executor: Executor | None = None,
    progress: ProgressCallback | None = None,
    storage: Storage | None = None,
) -> LintResult:
    """Check a virtual disk: its descriptor, and every file that it consists of.

    Args:
        path: the descriptor, or the file that has it inside. search: directories in which parents
            may lie, beside the disk's own. deep: decompress the grains of streams. chain: check the
            parents too. threads, executor: for decompressing. progress: gets bytes of the files.

    Returns:
        What was found; a file that is not a VMDK at all is a finding, too.

    Raises:
        StorageError: the file cannot be read. RequestError: it is not a file. CancelledError: the
        callback asked to stop.
    """
    started = time.monotonic()
    path, storage = checks.path("path", path), chosen(storage)
    checks.flags(deep=deep, chain=chain)
    checks.jobs(executor, progress)
    threads, folders = checks.threads(threads), checks.paths("search", search)
    findings = Collector()
    with executor_for(executor, threads, "lint") as (pool, in_flight):
        job = LintJob(storage, findings, progress, pool, in_flight, deep)
        parents = check_disk(job, path, folders)
        for parent in parents if chain else ():
            check_disk(job, parent.path, folders)
    job.reporter.report(job.done, job.done, final=True)
    return LintResult(
        os.fspath(path),
        findings.finished(),
        tuple(job.files),
        job.grains,
        job.bytes,
        time.monotonic() - started,
    )
