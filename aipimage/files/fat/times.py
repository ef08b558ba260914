"""Dates and times of FAT and exFAT (fatgen103, Date and Time Formats; exFAT specification,
section 7.4.8).
"""

from __future__ import annotations

from datetime import datetime

from aipimage.files.model import Time

DAY, TWO_SECONDS, TEN_MS = 86_400_000_000_000, 2_000_000_000, 10_000_000
_EPOCH = datetime(1970, 1, 1)
_OFFSET_IS_VALID = 0x80


def dos_time(date: int, time: int | None, tens: int | None = None) -> Time | None:
    """A time without a zone; ``None`` where the date is none.

    Args:
        time: of the day; ``None`` where the date alone is kept. tens: hundredths of a second to
            add, 0 to 199; ``None`` where they are not kept.
    """
    of_day = time or 0
    hours, minutes, seconds = of_day >> 11, of_day >> 5 & 63, (of_day & 31) * 2
    try:
        found = datetime(1980 + (date >> 9), date >> 5 & 15, date & 31, hours, minutes, seconds)
    except ValueError:
        return None
    since = found - _EPOCH
    ns = (since.days * 86_400 + since.seconds) * 1_000_000_000
    if time is None:
        return Time(ns, DAY, None)
    if tens is None or tens > 199:
        return Time(ns, TWO_SECONDS, None)
    return Time(ns + tens * TEN_MS, TEN_MS, None)


def exfat_time(stamp: int, tens: int | None, offset: int) -> Time | None:
    """A time of exFAT: in UTC where its offset, in quarters of an hour, is valid."""
    found = dos_time(stamp >> 16, stamp & 0xFFFF, tens)
    if found is None or not offset & _OFFSET_IS_VALID:
        return found
    quarters = offset & 0x7F
    minutes = 15 * (quarters - 128 if quarters & 0x40 else quarters)
    return Time(found.ns - minutes * 60_000_000_000, found.resolution, minutes)
