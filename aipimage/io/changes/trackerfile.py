"""The file of a change tracker: docs/tracking.md, "The tracker's file".

A file is written whole in the state "in use" and gets the state "clean" as the last step; the
first change after that sets it back. So a clean file holds every mark that was ever accepted.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from blake3 import blake3

from aipimage.errors import FormatError, IncompleteError, IntegrityError, UnsupportedError
from aipimage.format.constants import DEVICE_SIZE_MAX, ZERO_ID
from aipimage.format.digest import digest
from aipimage.format.gates import (
    verified_equal,
    verified_ids,
    verified_limit,
    verified_range,
    verified_text,
    verified_zero,
)
from aipimage.io.changes.chunkmap import CHUNK, CHUNK_GRANULES, FrozenChunks
from aipimage.io.system.storage import File

if TYPE_CHECKING:
    from typing_extensions import Buffer

MAGIC = b"AIVTRCK1"
VERSION = 1
CLEAN, IN_USE = 1, 2
HEAD = 512
CONSUMERS_MAX = 256
SEGMENTS_MAX = 1024
CHUNKS_MAX = 1 << 20
NAME_MAX, DOUBT_MAX = 255, 2000
"""Bytes of UTF-8."""

_HEAD = struct.Struct("<8sHBBIQ16sQIIQ32s")
_CONSUMER = struct.Struct("<16sQIHH")


@dataclass(frozen=True, slots=True)
class Head:
    """The first 512 bytes; names as in docs/tracking.md."""

    state: int
    granularity: int
    size: int
    epoch: bytes
    content_length: int
    consumer_count: int
    segment_count: int
    chunk_count: int
    content_digest: bytes

    def encode(self) -> bytes:
        """Return 512 bytes: one sector, which is written in one step."""
        fixed = _HEAD.pack(
            MAGIC, VERSION, self.state, self.granularity.bit_length() - 1, 0, self.size, self.epoch,
            self.content_length, self.consumer_count, self.segment_count, self.chunk_count,
            self.content_digest,
        ).ljust(HEAD - 32, b"\0")  # fmt: skip
        return fixed + digest(fixed)


@dataclass(frozen=True, slots=True)
class Consumer:
    """One maker of images, such as a schedule: its last image and the first segment after that.

    Attributes:
        since: hexadecimal id of its last image, or ``None``.
        watched: smallest size in bytes that the disk had since then.
        first: index of the first segment that is not in that image.
        doubt: why its changes are not to be trusted, or ``None``.
    """

    name: str
    since: str | None
    watched: int
    first: int
    doubt: str | None


@dataclass(frozen=True, slots=True)
class TrackerState:
    """All that a tracker keeps.

    Attributes:
        in_use: the file was not closed in order, so that marks may be missing.
    """

    size: int
    granularity: int
    epoch: bytes
    consumers: Sequence[Consumer]
    segments: Sequence[FrozenChunks]
    in_use: bool = True


def encode_tracker(state: TrackerState) -> tuple[Head, list[Buffer]]:
    """Return the head, in use, and the content that follows it."""
    table = b"".join(map(_encode_consumer, state.consumers))
    counts = np.array([len(segment) for segment in state.segments], "<u4")
    numbers = [number for segment in state.segments for number in sorted(segment)]
    verified_limit(len(numbers), CHUNKS_MAX, "number of chunks of the tracker")
    bits = [segment[number] for segment in state.segments for number in sorted(segment)]
    content: list[Buffer] = [table, counts.tobytes(), np.array(numbers, "<u8").tobytes(), *bits]
    hasher, length = blake3(), 0
    for each in content:
        hasher.update(each)
        length += memoryview(each).nbytes
    head = Head(
        IN_USE,
        state.granularity,
        state.size,
        state.epoch,
        length,
        len(state.consumers),
        len(counts),
        len(numbers),
        hasher.digest(),
    )
    return head, content


def _encode_consumer(consumer: Consumer) -> bytes:
    name, doubt = consumer.name.encode(), shortened(consumer.doubt or "", DOUBT_MAX)
    since = bytes.fromhex(consumer.since) if consumer.since else ZERO_ID
    fixed = _CONSUMER.pack(since, consumer.watched, consumer.first, len(name), len(doubt))
    return fixed + name + doubt


def shortened(text: str, limit: int) -> bytes:
    """Return at most ``limit`` bytes of UTF-8, cut between characters."""
    return text.encode("utf-8", "replace")[:limit].decode("utf-8", "ignore").encode()


def verified_magic(data: bytes) -> None:
    """Refuse a file that no tracker wrote, so that it is never taken for a damaged one."""
    if data[:8] != MAGIC:
        raise FormatError("not the file of a change tracker: the magic bytes are missing")


def decode_head(data: bytes) -> Head:
    """Decode and check the first 512 bytes of a tracker's file."""
    verified_magic(data)
    if len(data) < HEAD:
        raise IncompleteError("the tracker's file is cut short")
    if digest(data[:-32]) != data[-32:]:
        raise IntegrityError("the head of the tracker's file is damaged")
    _, version, state, shift, reserved, size, epoch, *counts, content = _HEAD.unpack_from(data)
    if version != VERSION:
        raise UnsupportedError(f"version {version} of tracker files is not known")
    verified_zero(data[_HEAD.size : -32], "head of the tracker's file")
    verified_equal(reserved, 0, "reserved field of the tracker's file")
    verified_range(state, CLEAN, IN_USE, "state of the tracker's file")
    verified_range(shift, 9, 30, "granularity exponent")
    verified_range(size, 1, DEVICE_SIZE_MAX, "disk size")
    verified_ids((epoch,), "tracker's file")
    length, consumers, segments, chunks = counts
    verified_limit(consumers, CONSUMERS_MAX, "number of consumers")
    verified_limit(segments, SEGMENTS_MAX, "number of segments")
    verified_limit(chunks, CHUNKS_MAX, "number of chunks")
    most = consumers * (_CONSUMER.size + NAME_MAX + DOUBT_MAX) + segments * 4 + chunks * (8 + CHUNK)
    verified_limit(length, most, "length of the tracker's content")
    return Head(state, 1 << shift, size, epoch, length, consumers, segments, chunks, content)


def read_tracker(file: File) -> TrackerState:
    """Read a tracker's file whole, and check every byte of it.

    Raises:
        FormatError: not such a file, of a newer version, or its numbers contradict each other.
        IntegrityError: damaged.
    """
    head = decode_head(file.pread(HEAD, 0))
    verified_equal(file.size(), HEAD + head.content_length, "length of the tracker's file")
    content = file.pread(head.content_length, HEAD)
    if digest(content) != head.content_digest:
        raise IntegrityError("the content of the tracker's file is damaged")
    consumers, at = _decode_consumers(content, head)
    segments = _decode_segments(content, at, head)
    in_use = head.state == IN_USE
    return TrackerState(head.size, head.granularity, head.epoch, consumers, segments, in_use)


def _decode_consumers(content: bytes, head: Head) -> tuple[list[Consumer], int]:
    consumers: list[Consumer] = []
    at = 0
    for _ in range(head.consumer_count):
        verified_limit(at + _CONSUMER.size, len(content), "end of a consumer")
        since, watched, first, name, doubt = _CONSUMER.unpack_from(content, at)
        at += _CONSUMER.size
        verified_range(watched, 1, head.size, "watched size of a consumer")
        verified_limit(first, head.segment_count, "first segment of a consumer")
        verified_range(name, 1, NAME_MAX, "length of a consumer's name")
        verified_limit(doubt, DOUBT_MAX, "length of a consumer's doubt")
        verified_limit(at + name + doubt, len(content), "end of a consumer")
        texts = (
            verified_text(content[at : at + name], "name of a consumer"),
            verified_text(content[at + name : at + name + doubt], "doubt of a consumer"),
        )
        at += name + doubt
        known = since.hex() if since != ZERO_ID else None
        consumers.append(Consumer(texts[0], known, watched, first, texts[1] or None))
    if len({consumer.name for consumer in consumers}) < len(consumers):
        raise FormatError("a consumer occurs twice in the tracker's file")
    return consumers, at


def _decode_segments(content: bytes, at: int, head: Head) -> list[FrozenChunks]:
    tables = 4 * head.segment_count + 8 * head.chunk_count
    verified_equal(len(content) - at, tables + CHUNK * head.chunk_count, "length of the segments")
    counts = np.frombuffer(content, "<u4", head.segment_count, at).tolist()
    verified_equal(sum(counts), head.chunk_count, "number of chunks")
    numbers = np.frombuffer(content, "<u8", head.chunk_count, at + 4 * head.segment_count)
    # Bits past the end are allowed, because a disk may have shrunk; sums stay within 64 bits.
    most = DEVICE_SIZE_MAX // (head.granularity * CHUNK_GRANULES)
    if (numbers > most).any():
        raise FormatError("a chunk in the tracker's file lies past the end of any disk")
    bits = memoryview(content)[at + tables :]
    segments: list[FrozenChunks] = []
    begin = 0
    for count in counts:
        own = numbers[begin : begin + count]
        if (own[1:] <= own[:-1]).any():
            raise FormatError("the chunks of a segment do not ascend")
        places = range(begin * CHUNK, (begin + count) * CHUNK, CHUNK)
        chunks = (bytes(bits[place : place + CHUNK]) for place in places)
        segments.append(dict(zip(own.tolist(), chunks, strict=True)))
        begin += count
    return segments
