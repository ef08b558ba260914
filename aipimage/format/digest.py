"""H(x) of docs/format.md, section 1, BLAKE3-256 without a key, and its start for a block (8)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blake3 import blake3

from aipimage.format import constants as c

if TYPE_CHECKING:
    from typing_extensions import Buffer


def digest(data: Buffer) -> bytes:
    """Return the 32-byte digest of ``data``; releases the GIL on large buffers."""
    return blake3(data).digest()


def block_digest(block: Buffer) -> bytes:
    """Return the 16 bytes that are kept of a block's digest; ``block`` is padded already."""
    return blake3(block).digest(c.BLOCK_DIGEST)
