"""Sizes, and what else is checked before a command begins."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cli.running import invoke

from aipimage.cli.options import parse_size  # isort: skip - helpers skip where click is missing

UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40, "P": 2**50}


@pytest.mark.parametrize(
    ("text", "size"),
    [("650M", 650 << 20), ("4G", 4 << 30), ("512K", 512 << 10), ("1T", 1 << 40), ("512", 512),
     ("4g", 4 << 30), ("0512", 512), ("8191P", 8191 << 50), ("9223372036854775807", 2**63 - 1)],
)  # fmt: skip
def test_sizes(text: str, size: int) -> None:
    """The forms that the help names."""
    assert parse_size(text) == size


@given(st.integers(1, 2**63 - 1), st.sampled_from(sorted(UNITS)))
def test_every_size_is_exact(number: int, unit: str) -> None:
    """Nothing is rounded, and what does not fit is refused."""
    if number * UNITS[unit] < 2**63:
        assert parse_size(f"{number}{unit}") == number * UNITS[unit]
        assert parse_size(f"{number}{unit.lower()}") == number * UNITS[unit]
    else:
        with pytest.raises(ValueError, match="not possible"):
            parse_size(f"{number}{unit}")


@given(st.text(max_size=24))
def test_any_text_is_a_size_or_refused(text: str) -> None:
    """No other error, whatever is typed."""
    try:
        size = parse_size(text)
    except ValueError:
        return
    assert 0 < size < 2**63
    assert text.isascii()


@pytest.mark.parametrize(
    "text",
    ["", "0", "0K", "-1", "+1", "1.5G", "4GB", "4GiB", "M", "1 M", "4G/s", "\u0663", "1_000",
     "0x10", "1e3", "8192P", "9" * 19, "9" * 5000, "\n1", "1\n"],
)  # fmt: skip
def test_bad_sizes_are_wrong_usage(text: str, disk: Path, tmp_path: Path) -> None:
    """Exit status 2, before anything is made."""
    ran = invoke("createimage", "-o", tmp_path / "o.aiv", disk, "--split", text)
    assert ran.code == 2
    assert ran.error.startswith("Invalid value for '--split': ")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "arguments",
    [
        ["frobnicate"],
        ["mount", "a", "b"],  # of a later release: unknown, not half there
        ["convert", "a"],
        ["convert", "a", "b.vmdk", "--subformat", "other"],
        ["merge", "a", "b"],
        ["createimage"],
        ["createimage", "disk"],
        ["createimage", "-o", "o.aiv"],
        ["createimage", "-o", "o.aiv", "disk", "--kind", "partial"],
        ["createimage", "-o", "o.aiv", "disk", "--compress", "lz4"],
        ["createimage", "-o", "o.aiv", "disk", "--compress", "zstd:99"],
        ["createimage", "-o", "o.aiv", "disk", "--encrypt", "des"],
        ["createimage", "-o", "o.aiv", "disk", "--encrypt", "aes-256", "--authenticate"],
        ["createimage", "-o", "o.aiv", "disk", "--password", "s3cret"],
        ["createimage", "-o", "o.aiv", "disk", "--password-file", "a", "--password-env", "B"],
        ["createimage", "-o", "o.aiv", "disk", "--recovery-key"],
        ["createimage", "-o", "o.aiv", "disk", "--rate", "5 M/s"],
        ["createimage", "-o", "o.aiv", "disk", "--rate", "/s"],
        ["createimage", "-o", "o.aiv", "disk", "--threads", "0"],
        ["info"],
        ["info", "a.aiv", "b.aiv"],
        ["verify", "a.aiv", "--sample", "0"],
        ["verify", "a.aiv", "--sample", "101"],
        ["verify", "a.aiv", "--sample", "nan"],
        ["verify", "a.aiv", "--keyless", "--sample", "5"],
        ["verify", "a.aiv", "--digest", "abc"],
        ["restoredisk", "a.aiv"],
        ["restoredisk", "a.aiv", "t", "--disk", "-1"],
        ["restorevolume", "a.aiv", "t", "--set-size"],
        ["split", "a.aiv", "b.aiv"],
        ["join", "a.aiv"],
        ["passwd", "a.aiv"],
        ["passwd", "a.aiv", "--list", "--recovery"],
        ["passwd", "a.aiv", "--remove", "x"],
        ["passwd", "a.aiv", "--remove", "0"],
        ["passwd", "a.aiv", "--add", "--password-env", "A"],
        ["passwd", "a.aiv", "--list", "--new-password-env", "A"],
        ["passwd", "a.aiv", "--recovery", "--label", "x", "--password-env", "A"],
    ],
    ids=" ".join,
)
def test_wrong_usage(arguments: list[str]) -> None:
    """Exit status 2, the usage, one error line, and the error as JSON where that was asked for."""
    ran = invoke(*arguments)
    assert ran.code == 2
    assert ran.error
    assert ran.err.startswith("Usage: aipimage")
    assert ran.out == ""
    assert "s3cret" not in ran.err
    with_json = invoke(*arguments, "--json")
    assert with_json.code == 2
    assert with_json.json["type"] == "UsageError"


def test_help_and_version() -> None:
    """Every command explains itself with an example; what is not there yet is not shown."""
    assert invoke("--version").out.startswith("aipimage ")
    listed = invoke("--help")
    assert listed.code == 0
    for name in (
        "createimage",
        "info",
        "verify",
        "restoredisk",
        "restorevolume",
        "split",
        "join",
        "passwd",
    ):
        page = invoke(name, "--help")
        assert page.code == 0
        assert f"\n  Example:\n    aipimage {name} " in page.out
        assert "--json" in page.out
        assert f"\n  {name} " in listed.out
    assert "mount" not in listed.out
