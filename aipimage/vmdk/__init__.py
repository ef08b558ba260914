"""Virtual disks in VMware's format, VMDK: six sub-formats written, and more of them read.

``open`` returns a block source, usable wherever one is taken::

    with aipimage.vmdk.open("disk.vmdk") as disk:
        aipimage.create("disk.aiv", disk)

What calls what; each line knows only those further down::

    ovf/         appliances: descriptor, disks and manifest, read, written and checked
    lint         the checker; in linting/ a walk of its own for each kind of file
    writing/     job -> plan -> disks -> sparse, flat, stream; feed reads what they write
    p2v          what a new machine needs (geometry), from guest/: what machine a disk comes from
    deltas       what changed between two disks of a chain
    opening      a file by its first bytes -> assembling: the extents that a descriptor names,
                 from where paths lets them lie; parents finds the files that a delta stands on
    source       the block source: disks of a chain (member), laid over each other (overlay)
    extents/     a reader for each kind of extent, each an ExtentReader (model)
    descriptor   the text, with descriptortext and textcodes for what editors made of it
    layout       headers and markers as bytes, with cowdlayout and sesparselayout; pieces: what is
                 where, as arrays; deflate and inflate: streams of compressed grains

Begin with ``opening``, then ``source``; what a reader of extents does is in ``model``.
"""

from aipimage.vmdk.deltas import changed_between
from aipimage.vmdk.lint import Finding, LintResult, lint
from aipimage.vmdk.opening import open_vmdk as open
from aipimage.vmdk.source import VmdkSource
from aipimage.vmdk.writing.job import WriteResult
from aipimage.vmdk.writing.job import write_vmdk as write

__all__ = [
    "Finding",
    "LintResult",
    "VmdkSource",
    "WriteResult",
    "changed_between",
    "lint",
    "open",
    "write",
]
