"""Whether the block digests of a damaged image are all there (docs/format.md, section 8)."""

from __future__ import annotations

from aipimage.errors import AipImageError
from aipimage.format import constants as c
from aipimage.format.record import NO_REFERENCE, Reference
from aipimage.format.seal import Seal
from aipimage.io.index.digests import DigestView
from aipimage.io.records.records import RecordReader

_BLOCKS = 1 << 16


def whole_digest_roots(
    records: RecordReader, seal: Seal, stripe_shift: int
) -> dict[int, Reference] | None:
    """Return each device's root; ``None`` where anything below one is lost.

    Part of them is of no use: no digest and the digest of zeros look alike.
    """
    roots: dict[int, Reference] = {}
    for index, device in enumerate(seal.devices):
        roots[index] = device.digest_root
        if device.digest_root == NO_REFERENCE:
            continue
        blocks = -(-device.size // c.BLOCK)
        try:
            view = DigestView(records, device.digest_root, blocks, stripe_shift)
            for first in range(0, blocks, _BLOCKS):
                view.read(first, min(_BLOCKS, blocks - first))
        except AipImageError:
            return None
    return roots
