"""The codec stage: payloads to and from one Zstandard frame (docs/format.md, section 5)."""

from __future__ import annotations

import functools
import re
import threading

import zstandard

from aipimage import _core
from aipimage.errors import IntegrityError, OptionError, UnsupportedError
from aipimage.format import constants as c
from aipimage.format.constants import Codec
from aipimage.io.records import zstdcalls

BytesLike = bytes | memoryview
_local = threading.local()
_NAME = re.compile(r"zstd(?::(-?\d{1,3}))?$")
DEFAULT_LEVEL = 3
PAGE_LEVEL = 3
_SMALL = 1 << 16


def parse_compression(name: str) -> int | None:
    """Return the zstd level of ``zstd``, ``zstd:LEVEL``, or ``None`` of ``none``."""
    if name == "none":
        return None
    match = _NAME.match(name)
    if not match:
        raise OptionError(f"compression {name!r} is not known; use none, zstd or zstd:LEVEL")
    level = int(match[1]) if match[1] else DEFAULT_LEVEL
    if not -50 <= level <= zstandard.MAX_COMPRESSION_LEVEL:
        raise OptionError(
            f"zstd has no level {level}; use -50 to {zstandard.MAX_COMPRESSION_LEVEL}"
        )
    return level


def compress(plain: BytesLike, level: int | None, size: int = 0) -> tuple[Codec, BytesLike]:
    """Return (codec, payload): compressed where that is smaller, else as it is.

    ``size``: bytes of the longest frame of those that it is one of.
    """
    if level is None:
        return Codec.NONE, plain
    packed = compressor(level, max(size, memoryview(plain).nbytes)).compress(plain)
    if len(packed) < memoryview(plain).nbytes:
        return Codec.ZSTD, packed
    return Codec.NONE, plain


def frames_codec(level: int | None, size: int) -> _core.CodecFunctions | None:
    """What compresses frames of up to ``size`` bytes in this thread, many with one call; ``None``
    where they are to be compressed one by one.
    """
    if level is None:
        return _core.NO_CODEC
    if not zstdcalls.AVAILABLE:
        return None
    key = level, size > _SMALL
    return zstdcalls.compressor(key, _parameters(*key))


def room_for_frames(plain_length: int, frame_size: int, gaps: int) -> int:
    """Bytes that building frames takes at most; ``gaps`` is what lies between their payloads."""
    return plain_length + gaps + zstdcalls.room_to_work(frame_size)


def frames_decoder() -> _core.CodecFunctions | None:
    """What decodes frames in this thread, many with one call; ``None`` where they are to be decoded
    one by one.
    """
    return zstdcalls.decompressor() if zstdcalls.AVAILABLE else None


def decompress(codec: int, payload: BytesLike, plain_length: int) -> BytesLike:
    """Return exactly ``plain_length`` bytes.

    Raises:
        IntegrityError: the payload is not one frame of exactly this size, without a dictionary and
            within the window limit. The frame's own header is looked at first, because it drives
            what the library allocates.
        UnsupportedError: the codec is not known.
    """
    if codec == Codec.NONE:
        if len(payload) != plain_length:
            raise IntegrityError("a stored record has another length than it states")
        return payload
    if codec != Codec.ZSTD:
        raise UnsupportedError(f"codec {codec} is not known")
    try:
        _check_parameters(payload, plain_length)
        plain = _decompressor().decompress(
            payload, max_output_size=plain_length, allow_extra_data=False
        )
    except zstandard.ZstdError as error:
        raise IntegrityError(f"a record does not decompress: {error}") from error
    if len(plain) != plain_length:
        raise IntegrityError("a record decompresses to another length than it states")
    return plain


def _check_parameters(payload: BytesLike, plain_length: int) -> None:
    view = memoryview(payload)
    # A skippable frame (0x184D2A5x) has parameters too, with a content size of 0.
    frame = zstandard.get_frame_parameters(view[:18])
    if frame.content_size != plain_length:
        raise IntegrityError("a compressed record states another length than its header")
    if frame.dict_id != 0:
        raise IntegrityError("a compressed record asks for a dictionary; the format has none")
    if frame.window_size > c.ZSTD_WINDOW_MAX:
        raise IntegrityError("a compressed record asks for a window over the limit")


def compressor(level: int, size: int) -> zstandard.ZstdCompressor:
    """This thread's compressor of a level for frames of up to ``size`` bytes."""
    made: dict[tuple[int, bool], zstandard.ZstdCompressor]
    made = _local.__dict__.setdefault("compressors", {})
    key = level, size > _SMALL
    if key not in made:
        made[key] = zstandard.ZstdCompressor(compression_params=_parameters(*key))
    return made[key]


@functools.cache
def _parameters(level: int, is_large: bool) -> zstandard.ZstdCompressionParameters:
    """Those of a level; for level 1 with a larger table, which finds more at the same speed. One
    that is too large for its frame takes longer to clear than it saves (docs/performance.md).
    """
    if level == 1:
        return zstandard.ZstdCompressionParameters.from_level(
            1,
            source_size=_SMALL << 2 if is_large else _SMALL,
            hash_log=15 if is_large else 14,
            write_checksum=0,
            write_content_size=1,
        )
    return zstandard.ZstdCompressionParameters.from_level(
        level, write_checksum=0, write_content_size=1
    )


def _decompressor() -> zstandard.ZstdDecompressor:
    made: zstandard.ZstdDecompressor | None = getattr(_local, "decompressor", None)
    if made is None:
        made = _local.decompressor = zstandard.ZstdDecompressor()
    return made
