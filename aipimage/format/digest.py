"""H(x) of docs/format.md, section 1: BLAKE3-256 without a key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blake3 import blake3

if TYPE_CHECKING:
    from typing_extensions import Buffer


def digest(data: Buffer) -> bytes:
    """Return the 32-byte digest of ``data``; releases the GIL on large buffers."""
    return blake3(data).digest()
