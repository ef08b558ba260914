"""Defaults that the public functions share with ``io``; importing them loads nothing else."""

from __future__ import annotations

DEFAULT_CACHE = 32 << 20
"""Bytes of decoded frames that an open image keeps."""
DEFAULT_FRAME_SHIFT = 16
"""Frames of a new image have 2 to the power of this many bytes."""
