"""Units of a disk's capacity: DSP0004's programmatic units, and what drafts and makers write."""

from __future__ import annotations

import re

_UNIT = re.compile(
    r"(?P<base>bits?|bytes?|b|(?:kilo|mega|giga|tera|peta|kibi|mebi|gibi|tebi|pebi)bytes?"
    r"|[kmgtp]i?b?)(?P<factors>.*)",
    re.IGNORECASE | re.DOTALL,
)
_FACTOR = re.compile(r"[*x]\s*(\d{1,19})(?:\s*(?:\^|\*\*)\s*(\d{1,3}))?\s*", re.IGNORECASE)
_POWERS = {"k": 10, "m": 20, "g": 30, "t": 40, "p": 50}
UNIT_MAX = 1 << 62


def bytes_of_unit(text: str) -> int | None:
    """Return the bytes of a unit, at most 2^62; ``None`` where it is not known.

    ``byte * 2^30``, ``byte*1024*1024``, ``GigaBytes``, ``GB``, ``MiB``, ``byte * 10^9``.
    Kilo and so on are powers of 1024: that is what their writers mean.
    """
    text = text.strip()
    if not text:
        return 1
    found = _UNIT.fullmatch(text)
    if found is None:
        return None
    word = found["base"].lower()
    value = 1 if word[0] == "b" else 1 << _POWERS[word[0]]
    rest = found["factors"].strip()
    while rest:
        factor = _FACTOR.match(rest)
        if factor is None:
            return None
        value = min(value * min(_power(factor[1], factor[2]), UNIT_MAX), UNIT_MAX)
        rest = rest[factor.end() :]
    if word.startswith("bit"):
        value = value // 8 if value % 8 == 0 else 0
    return value or None


def _power(base: str, exponent: str | None) -> int:
    """A factor; a power past the limit is cut to it before it is computed."""
    number, power = int(base), int(exponent or 1)
    if number > 1 and power * (number.bit_length() - 1) > 62:
        return UNIT_MAX
    return int(number**power)
