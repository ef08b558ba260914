"""Compressing grains as zlib streams (RFC 1950), which is what real files hold.

The level of isal was chosen by measuring (docs/performance.md): level 2 is as fast as level 1 and
half a percent smaller, and its files are 5.5 % larger than those of zlib's level 6. libdeflate at
level 6 makes smaller files than zlib's 6, in half the time.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

from aipimage.errors import RequestError
from aipimage.io.records.codec import BytesLike

LEVELS = ("fast", "dense")
_ISAL_LEVEL = 2
_DENSE_LEVEL = 6
_ZLIB_FAST_LEVEL = 1


class Compressor:
    """Compresses grains; safe for threads, and it releases the interpreter's lock.

    Args:
        level: ``"fast"``, or ``"dense"``: a smaller file in some five times the time.

    Attributes:
        name: what compresses, and how: two with one name give the same bytes.

    Raises:
        RequestError: an unknown level.
    """

    def __init__(self, level: str = "fast") -> None:
        if level not in LEVELS:
            raise RequestError(f"unknown level {level!r}: use one of {', '.join(LEVELS)}")
        self.name, self._compress = _fast() if level == "fast" else _dense()

    def compress(self, grain: BytesLike) -> bytes:
        """Return a zlib stream; of what looks random it is a few bytes longer than the grain."""
        return self._compress(grain)


def _fast() -> tuple[str, Callable[[BytesLike], bytes]]:
    try:
        from isal import igzip_lib
    except ImportError:
        return _zlib(_ZLIB_FAST_LEVEL)
    compress: Callable[..., bytes] = igzip_lib.compress
    zlib_stream: Any = igzip_lib.COMP_ZLIB

    def work(grain: BytesLike) -> bytes:
        return compress(grain, _ISAL_LEVEL, zlib_stream)

    return f"isal {_ISAL_LEVEL}", work


def _dense() -> tuple[str, Callable[[BytesLike], bytes]]:
    try:
        import deflate
    except ImportError:
        return _zlib(_DENSE_LEVEL)
    compress: Callable[..., bytes | bytearray] = deflate.zlib_compress

    def work(grain: BytesLike) -> bytes:
        return bytes(compress(grain, _DENSE_LEVEL))

    return f"libdeflate {_DENSE_LEVEL}", work


def _zlib(level: int) -> tuple[str, Callable[[BytesLike], bytes]]:
    return f"zlib {level}", lambda grain: zlib.compress(grain, level)
