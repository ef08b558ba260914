"""Btrfs: checksums of many blocks at a time.

A block (superblock or tree node) begins with 32 bytes for its checksum, which covers all the rest
("On-disk Format", Superblock: ``csum``; struct btrfs_header). Blocks have a power of two of bytes.
The four algorithms are CRC-32C (RFC 3720, appendix B.4), XXH64 (xxHash fast digest algorithm,
section "XXH64 Algorithm Description"), SHA-256 and BLAKE2b-256.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from aipimage.volumes.crc32c import crc32c_rows
from aipimage.volumes.filesystems.btrfs.layout import CHECKSUM_BYTES

Blocks = npt.NDArray[np.uint8]
"""Shape (n, bytes of a block)."""

_PRIMES = (0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x85EBCA77C2B2AE63)


def stored_and_found(kind: int, blocks: Blocks) -> tuple[Blocks, Blocks]:
    """Return the checksums that blocks bear, and those that they should, each of shape (n, bytes
    of a checksum). ``kind``: ``csum_type`` of the superblock, one of ``KINDS``.
    """
    found = KINDS[kind](blocks)
    return blocks[:, : found.shape[1]], found


def all_match(kind: int, blocks: Blocks) -> bool:
    """Whether every block has the checksum that it bears."""
    stored, found = stored_and_found(kind, blocks)
    return bool((stored == found).all())


def _crc32c(blocks: Blocks) -> Blocks:
    found = crc32c_rows(blocks[:, CHECKSUM_BYTES:]) ^ np.uint32(0xFFFFFFFF)
    return np.ascontiguousarray(found, "<u4").view(np.uint8).reshape(-1, 4)


def _xxh64(blocks: Blocks) -> Blocks:
    """Four lanes a block, all blocks side by side. What is covered is a multiple of 32 bytes, so
    that there is no rest to be mixed in.
    """
    first, second, third, fourth = (np.uint64(prime) for prime in _PRIMES)
    lanes: npt.NDArray[np.uint64] = np.ascontiguousarray(blocks[:, CHECKSUM_BYTES:]).view("<u8")
    lanes = lanes.reshape(len(blocks), -1, 4)
    start = (_PRIMES[0] + _PRIMES[1], _PRIMES[1], 0, -_PRIMES[0])
    state: npt.NDArray[np.uint64] = np.tile(
        np.array([value % 2**64 for value in start], np.uint64), (len(blocks), 1)
    )
    for place in range(lanes.shape[1]):
        state = _rotated(state + lanes[:, place] * second, 31) * first
    digest = np.zeros(len(blocks), np.uint64)
    for i, by in enumerate((1, 7, 12, 18)):
        digest += _rotated(state[:, i], by)
    for i in range(4):
        digest = (digest ^ _rotated(state[:, i] * second, 31) * first) * first + fourth
    digest += np.uint64(blocks.shape[1] - CHECKSUM_BYTES)
    digest = (digest ^ digest >> np.uint64(33)) * second
    digest = (digest ^ digest >> np.uint64(29)) * third
    digest ^= digest >> np.uint64(32)
    return np.ascontiguousarray(digest, "<u8").view(np.uint8).reshape(-1, 8)


def _rotated(values: npt.NDArray[np.uint64], by: int) -> npt.NDArray[np.uint64]:
    return values << np.uint64(by) | values >> np.uint64(64 - by)


def _sha256(blocks: Blocks) -> Blocks:
    return _each(blocks, lambda data: hashlib.sha256(data).digest())


def _blake2b(blocks: Blocks) -> Blocks:
    return _each(blocks, lambda data: hashlib.blake2b(data, digest_size=32).digest())


def _each(blocks: Blocks, digest: Callable[[memoryview], bytes]) -> Blocks:
    digests = b"".join(digest(memoryview(block[CHECKSUM_BYTES:])) for block in blocks)
    return np.frombuffer(digests, np.uint8).reshape(len(blocks), -1)


KINDS: dict[int, Callable[[Blocks], Blocks]] = {0: _crc32c, 1: _xxh64, 2: _sha256, 3: _blake2b}
"""By ``csum_type`` of the superblock (enum btrfs_csum_type)."""
