"""Each finding of the checker has a disk with exactly that fault, and good disks have none."""

from __future__ import annotations

from pathlib import Path

import pytest

from aipimage.errors import UnsupportedError
from aipimage.vmdk.layout import KNOWN_FLAGS
from aipimage.vmdk.lint import CODES, LintResult, lint
from aipimage.vmdk.opening import open_vmdk
from tests.support.virtual import extents as build
from tests.vmdk.linting.faults import ALSO, FAULTS

GOOD = {
    "plain": build.plain,
    "stream": build.stream,
    "flat": build.flat,
    "split": build.split,
    "cowd": build.cowd,
    "sesparse": build.sesparse,
}


def codes(result: LintResult) -> set[str]:
    return {finding.code for finding in result.findings}


def test_every_code_has_its_disk() -> None:
    assert set(FAULTS) == set(CODES)


@pytest.mark.parametrize("name", GOOD)
def test_good_disks_have_no_findings(name: str, tmp_path: Path) -> None:
    result = lint(GOOD[name]().write(tmp_path))
    assert result.findings == ()
    assert result.ok
    assert result.grains == {"flat": 0, "split": 4}.get(name, 2)
    assert len(result.files) == {"plain": 1, "stream": 1, "split": 3}.get(name, 2)


@pytest.mark.parametrize("code", CODES)
def test_exactly_this_is_found(code: str, tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    (folder / "folder").mkdir(parents=True)
    result = lint(FAULTS[code]().write(folder))
    assert codes(result) == {code} | ALSO.get(code, set())
    found = next(each for each in result.findings if each.code == code)
    assert found.severity == CODES[code][0]
    assert result.ok is ("error" not in {each.severity for each in result.findings})
    assert "\n" not in found.message
    assert found.offset is None or 0 <= found.offset <= 1 << 50


@pytest.mark.parametrize("bit", [bit for bit in range(32) if not KNOWN_FLAGS >> bit & 1])
def test_flags_no_reader_knows_are_an_error_where_the_reader_refuses(
    bit: int, tmp_path: Path
) -> None:
    """The upper half of the flags changes what the data mean; the lower half may be ignored."""
    path = build.plain(flags=3 | 1 << bit).write(tmp_path)
    found = [each for each in lint(path).findings if each.code == "header-flags"]
    assert [each.severity for each in found] == ["error" if bit > 15 else "warning"]
    if bit > 15:
        with pytest.raises(UnsupportedError, match="unknown VMDK flags"):
            open_vmdk(path)
    else:
        open_vmdk(path).close()
