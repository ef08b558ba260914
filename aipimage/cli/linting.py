"""``aipimage verify`` of a virtual disk: what the checker of VMDK files found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from aipimage.cli.appliances import is_appliance
from aipimage.cli.evidence import is_file_or_device, looks_like_image
from aipimage.cli.output import ExitCode, Report, counted, human_size, printable
from aipimage.cli.session import Session
from aipimage.cli.virtual import is_virtual

if TYPE_CHECKING:
    from aipimage.vmdk.lint import Finding, LintResult

_MAGICS = (b"KDMV", b"COWD", 0xCAFEBABE.to_bytes(8, "little"))
_FIRST_LINE = b"# disk descriptorfile"


def is_checked_as_disk(path: str) -> bool:
    """Whether ``verify`` takes a file for a virtual disk: by its name, or, where it is no image, by
    its first bytes. A wrong guess costs nothing here: the checker only reads.
    """
    if not is_file_or_device(path) or looks_like_image(path):
        return False
    if is_virtual(path):
        return True
    try:
        with open(path, "rb") as file:
            head = file.read(len(_FIRST_LINE))
    except OSError:
        return False
    return head.startswith(_MAGICS) or head.lower() == _FIRST_LINE


def disk_verified(session: Session, path: str, chain: bool, search: Sequence[str]) -> Report:
    """Check an appliance; or a virtual disk and its extents, with ``chain`` its parents, too.

    Raises:
        AipImageError: it cannot be read.
    """
    from aipimage.vmdk.lint import lint
    from aipimage.vmdk.ovf.checking import check_ova

    with session.progress("verifying") as callback:
        if is_appliance(path):
            result = check_ova(path, progress=callback)
        else:
            result = lint(path, search=search, chain=chain, progress=callback)
    return _report(result)


def _report(result: LintResult) -> Report:
    values: dict[str, Any] = {
        "path": result.path,
        "mode": "vmdk",
        "ok": result.ok,
        "grains": result.grains,
        "bytes": result.bytes,
        "seconds": round(result.seconds, 3),
        "files": list(result.files),
        "findings": [_values(each) for each in result.findings],
    }
    counts = Counter(each.severity for each in result.findings)
    told = [counted(counts[each], each) for each in ("error", "warning", "note") if counts[each]]
    amount = ", ".join(
        [
            counted(len(result.files), "file"),
            counted(result.grains, "grain"),
            human_size(result.bytes),
            f"{result.seconds:.1f} s",
        ]
    )
    what = "whole" if result.ok else "FAULTY"
    head = f"{printable(result.path)}: {', '.join([what, *told])} ({amount})"
    lines = [head, *(_line(each, result.path) for each in result.findings)]
    return Report(values, lines, ExitCode.DONE if result.ok else ExitCode.DAMAGED)


def _values(finding: Finding) -> dict[str, Any]:
    return {
        "severity": finding.severity,
        "code": finding.code,
        "message": finding.message,
        "path": finding.path,
        "offset": finding.offset,
    }


def _line(finding: Finding, path: str) -> str:
    where = "" if finding.path == path else f"{finding.path}: "
    at = "" if finding.offset is None else f" (byte {finding.offset})"
    return f"  {finding.severity:<7}  {printable(f'{where}{finding.message}')}{at} [{finding.code}]"
