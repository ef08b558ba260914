"""The changed-bitmap file: docs/tracking.md, "The changed-bitmap file"."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy as np
from blake3 import blake3

from aipimage.errors import (
    FormatError,
    IncompleteError,
    IntegrityError,
    RequestError,
    UnsupportedError,
)
from aipimage.format.constants import DEVICE_SIZE_MAX, ZERO_ID
from aipimage.format.gates import verified_equal, verified_limit, verified_range
from aipimage.io.changes.changeset import Changes
from aipimage.io.changes.wholefile import sync_directory_of, write_whole
from aipimage.io.system.storage import File, Storage, StrPath
from aipimage.ranges import ByteRanges, aligned, bitmap_of, cut, granules_of, ranges_of_runs

if TYPE_CHECKING:
    from typing_extensions import Buffer

MAGIC = b"AIVCHNG1"
VERSION = 1
FORM_BITMAP, FORM_EXTENTS = 1, 2
HEAD = 96
BODY_MAX = 1 << 31
"""Bytes of a bitmap or of extents: a bit for every 4 KiB of 64 TiB."""

_FIXED = struct.Struct("<8sHBBIQ16sQ16x")
_EXTENT = 16


def write_change_file(
    storage: Storage, path: StrPath, changes: Changes, granularity: int, *, overwrite: bool
) -> None:
    """Write a set of verified ranges whose ``size`` is known; durable when this returns."""
    if changes.size is None:
        raise RuntimeError("internal error: changes of a disk of unknown size cannot be written")
    body, form, count = _encode_body(changes.ranges, granularity, changes.size)
    fixed = _FIXED.pack(
        MAGIC,
        VERSION,
        form,
        granularity.bit_length() - 1,
        0,
        changes.size,
        bytes.fromhex(changes.since) if changes.since else ZERO_ID,
        count,
    )
    head = fixed + blake3(fixed).update(body).digest()
    write_whole(storage, path, [head, body], replace=overwrite).close()
    sync_directory_of(storage, path)


def _encode_body(ranges: ByteRanges, granularity: int, size: int) -> tuple[Buffer, int, int]:
    """Return the smaller form of a set, with the form's number and count."""
    wide, granules = aligned(ranges, granularity, size), granules_of(size, granularity)
    if min(len(wide) * _EXTENT, granules // 8) > BODY_MAX:
        raise RequestError(f"too many changes at {granularity} bytes; choose a larger granularity")
    if len(wide) * _EXTENT <= granules // 8:
        return wide.astype("<u8").tobytes(), FORM_EXTENTS, len(wide)
    return bitmap_of(wide, granularity, size).tobytes(), FORM_BITMAP, granules


def read_changes(file: File) -> Changes:
    """Read a changed-bitmap file whole, and check every byte of it.

    Raises:
        FormatError: not such a file, of a newer version, cut short, or its numbers contradict each
            other. IntegrityError: its digest does not match.
    """
    length = file.size()
    if length < HEAD:
        raise IncompleteError("the changed-bitmap file is cut short; write it again")
    head = file.pread(HEAD, 0)
    magic, version, form, shift, reserved, size, since, count = _FIXED.unpack_from(head)
    verified_equal(magic, MAGIC, "magic of a changed-bitmap file")
    verified_limit(length - HEAD, BODY_MAX, "length of the changed-bitmap file")
    body = bytearray(length - HEAD)
    file.pread_into(body, HEAD)
    if blake3(head[:64]).update(body).digest() != head[64:]:
        raise IntegrityError("the changed-bitmap file is damaged or cut short; write it again")
    if version != VERSION:
        raise UnsupportedError(f"version {version} of changed-bitmap files is not known")
    verified_equal((reserved, head[48:64]), (0, bytes(16)), "reserved field of the file")
    verified_range(shift, 9, 30, "granularity exponent")
    verified_range(size, 1, DEVICE_SIZE_MAX, "disk size")
    ranges = _decode_body(body, form, count, 1 << shift, size)
    return Changes(size, ranges, since.hex() if since != ZERO_ID else None)


def _decode_body(body: bytearray, form: int, count: int, grain: int, size: int) -> ByteRanges:
    if form == FORM_BITMAP:
        verified_equal(count, granules_of(size, grain), "number of granules")
        verified_equal(len(body), -(-count // 8), "length of the bitmap")
        if count % 8 and body[-1] >> count % 8:
            raise FormatError("bits past the end of the disk are set in the bitmap")
        return ranges_of_runs([(0, body, count)], grain, size)
    verified_equal(form, FORM_EXTENTS, "form of the changes")
    verified_equal(len(body), count * _EXTENT, "length of the extents")
    ranges = np.frombuffer(body, "<u8").astype(np.uint64).reshape(-1, 2)
    # Cutting first keeps sums within 64 bits; what it changes then differs from what was stored.
    whole = np.array_equal(aligned(cut(ranges, size), grain, size), ranges)
    if not whole or not ranges[:, 1].all():
        raise FormatError("the extents are not ascending, whole granules within the disk")
    return ranges
