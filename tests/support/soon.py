"""How long a job may take that must not go on for ever.

Tests assert no speed: machines differ, and other work runs beside them. Hostile input that makes a
loop turn for ever, or squares the work, takes minutes or hours; so the limit is wide, and it is of
processor time, which other programs do not use up.
"""

from __future__ import annotations

SOON = 60.0
"""Seconds of processor time."""
