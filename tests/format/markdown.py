"""What docs/format.md says, as data: its sections, and the fields and numbers of its tables."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "format.md").read_text(encoding="utf-8")
TIMES, MINUS = "\N{MULTIPLICATION SIGN}", "\N{MINUS SIGN}"

_HEADING = re.compile(r"^##+ (\d+(?:\.\d+)?)\.? ", re.MULTILINE)
_WIDTHS = {"u8": 1, "u16": 2, "u32": 4, "u64": 8, "i64": 8, "id": 16, "digest": 32, "reference": 64}


def sections() -> dict[str, str]:
    """Return the text of each section by its number; "4" does not hold the text of "4.1"."""
    found = list(_HEADING.finditer(TEXT))
    ends = [match.start() for match in found[1:]] + [len(TEXT)]
    return {match[1]: TEXT[match.end() : end] for match, end in zip(found, ends, strict=True)}


def rows(section: str, first: str) -> list[list[str]]:
    """Return the rows, without the head, of the table whose head begins with ``first``."""
    lines = iter(sections()[section].splitlines())
    for line in lines:
        if line.startswith(f"| {first} |"):
            break
    found = []
    for line in lines:
        if not line.startswith("|"):
            break
        found.append([cell.strip() for cell in line.strip().strip("|").split("|")])
    return [row for row in found if set(row[0]) != {"-"}]


def width(text: str) -> int | None:
    """Return the bytes that a type column tells, or ``None`` where it tells no fixed number."""
    parts = [part.strip() for part in text.removesuffix(" each").split(",")]
    total = 0
    for part in parts:
        product = re.fullmatch(rf"(?:(\d+) {TIMES} )?(\d+) bytes", part)
        if product:
            total += int(product[1] or 1) * int(product[2])
        elif part in _WIDTHS:
            total += _WIDTHS[part]
        else:
            return None
    return total


def number(text: str) -> int:
    """Return the first number of a cell: ``4,194,304 bytes``, ``2^57 bytes``, ``8 MiB …``."""
    power = re.match(rf"2\^(\d+)(?: {MINUS} (\d+))?", text)
    if power:
        return (1 << int(power[1])) - int(power[2] or 0)
    plain = re.match(r"[\d,]*\d", text)
    assert plain, f"no number in {text!r}"
    unit = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
    following = text[plain.end() :].split()
    return int(plain[0].replace(",", "")) * unit.get(following[0] if following else "", 1)
