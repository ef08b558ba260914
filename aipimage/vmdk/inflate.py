"""Bounded inflating of one grain.

The note ("Compressed Grains") speaks of RFC 1951, deflate alone; every known writer stores a zlib
stream, RFC 1950. Both are read. No more is ever decoded than the caller has room for.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

from aipimage.errors import FormatError

if TYPE_CHECKING:
    from typing_extensions import Buffer

_Decode = Callable[["Buffer", int], "Buffer"]
_DEFLATE, _DICTIONARY = 8, 0x20


def inflate(data: Buffer, into: memoryview) -> int:
    """Decode one zlib or deflate stream to the front of ``into``; return how many bytes it held.

    Bytes after the end of the stream are not looked at. A zlib stream's Adler-32 is verified; the
    interpreter's lock is released while decoding.

    Raises:
        FormatError: damaged, cut short, holds more than ``into`` has room for, or asks for a
            dictionary. The message names no file: that is the caller's part.
    """
    head = bytes(memoryview(data)[:2])
    if len(head) < 2:
        raise FormatError("a deflate stream of less than two bytes")
    is_zlib = head[0] & 0x0F == _DEFLATE and int.from_bytes(head, "big") % 31 == 0
    if is_zlib and head[1] & _DICTIONARY:
        raise FormatError("its zlib stream asks for a dictionary")
    plain = memoryview(_decoder(is_zlib)(data, into.nbytes))
    into[: plain.nbytes] = plain
    return plain.nbytes


@cache
def _decoder(is_zlib: bool) -> _Decode:
    """libdeflate, of the decoders measured the fastest on grains; zlib where it is missing."""
    try:
        import deflate
    except ImportError:
        return _with_zlib(zlib.MAX_WBITS if is_zlib else -zlib.MAX_WBITS)
    whole: _Decode = deflate.zlib_decompress if is_zlib else deflate.deflate_decompress

    def decode(data: Buffer, room: int) -> Buffer:
        try:
            # Where there is no room at all this decoder would see nothing wrong.
            plain = memoryview(whole(data, max(room, 1)))
        except (deflate.DeflateError, ValueError) as error:
            raise _damaged() from error
        if plain.nbytes > room:
            raise _damaged()
        return plain

    return decode


def _with_zlib(wbits: int) -> _Decode:
    def decode(data: Buffer, room: int) -> Buffer:
        stream = zlib.decompressobj(wbits)
        try:
            # One byte more than there is room for, so that the end of a stream that fits is seen.
            plain = stream.decompress(data, room + 1)
        except zlib.error as error:
            raise _damaged() from error
        if len(plain) > room or not stream.eof:
            raise _damaged()
        return plain

    return decode


def _damaged() -> FormatError:
    return FormatError("its deflate stream is damaged, or holds more than a grain")
