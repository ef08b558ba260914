"""Virtual disks in VMware's format, VMDK: six sub-formats written, and more of them read.

``open`` gives a block source, usable wherever one is taken::

    with aipimage.vmdk.open("disk.vmdk") as disk:
        aipimage.create("disk.aiv", disk)
"""

from aipimage.vmdk.deltas import changed_between
from aipimage.vmdk.lint import Finding, LintResult, lint
from aipimage.vmdk.opening import open_vmdk as open
from aipimage.vmdk.source import VmdkSource
from aipimage.vmdk.writing.job import WriteResult
from aipimage.vmdk.writing.job import write_vmdk as write

__all__ = [
    "Finding", "LintResult", "VmdkSource", "WriteResult", "changed_between", "lint", "open",
    "write",
]  # fmt: skip
