"""Bytes that are written over a disk or a volume: what planning one change hands to writing it."""

from __future__ import annotations

Patch = tuple[int, bytes]
"""An offset in bytes, within the disk or the volume that is spoken of, and what to write there."""
