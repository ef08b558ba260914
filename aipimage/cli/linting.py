"""``aipimage verify`` of a virtual disk: what the checker of VMDK files found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from aipimage.cli.output import ExitCode, Report, counted, human_size, printable
from aipimage.cli.session import Session

if TYPE_CHECKING:
    from aipimage.vmdk.lint import Finding, LintResult


def disk_verified(
    session: Session, path: str, kind: str, chain: bool, search: Sequence[str]
) -> Report:
    """Check an appliance; or a virtual disk and its extents, with ``chain`` its parents, too.

    Args:
        kind: ``vmdk``, ``ova`` or ``ovf``.

    Raises:
        AipImageError: it cannot be read.
    """
    from aipimage.vmdk.lint import lint
    from aipimage.vmdk.ovf.checking import check_ova, check_ovf

    with session.progress("verifying") as callback:
        if kind == "ova":
            result = check_ova(path, progress=callback)
        elif kind == "ovf":
            result = check_ovf(path, progress=callback)
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
