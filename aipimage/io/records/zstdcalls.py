"""libzstd's own functions, for many frames with one call and without the interpreter's lock.

The package ``zstandard`` carries libzstd, and its cffi backend the addresses of the functions,
which the C core calls. Where a build of it comes without that backend, :data:`AVAILABLE` is false,
and frames are compressed one by one; the result is the same.
"""

from __future__ import annotations

import importlib
import threading
from typing import Any

import zstandard

from aipimage._core import CodecFunctions

_zstd: Any
try:
    _zstd = importlib.import_module("zstandard._cffi")
except ImportError:  # a build without the cffi backend
    _zstd = None

_PARAMETERS = (
    ("windowLog", "window_log"),
    ("hashLog", "hash_log"),
    ("chainLog", "chain_log"),
    ("searchLog", "search_log"),
    ("minMatch", "min_match"),
    ("targetLength", "target_length"),
    ("strategy", "strategy"),
    ("contentSizeFlag", "write_content_size"),
    ("checksumFlag", "write_checksum"),
    ("dictIDFlag", "write_dict_id"),
)
"""Names of the parameters in libzstd's header, and those of zstandard's object for them."""
_FUNCTIONS = (
    "ZSTD_createCCtx",
    "ZSTD_freeCCtx",
    "ZSTD_CCtx_setParameter",
    "ZSTD_compress2",
    "ZSTD_createDCtx",
    "ZSTD_freeDCtx",
    "ZSTD_decompressDCtx",
    "ZSTD_findFrameCompressedSize",
    "ZSTD_isError",
)
AVAILABLE = _zstd is not None and all(
    hasattr(_zstd.lib, name)
    for name in (*_FUNCTIONS, *(f"ZSTD_c_{name}" for name, _ in _PARAMETERS))
)
_local = threading.local()


def room_to_work(frame_size: int) -> int:
    """Bytes beyond a frame's own length that its compressed form could take at most, for a moment:
    ``ZSTD_COMPRESSBOUND`` of zstd.h.
    """
    return (frame_size >> 8) + 64


def compressor(
    key: tuple[int, bool], parameters: zstandard.ZstdCompressionParameters
) -> CodecFunctions:
    """This thread's compressor with some parameters, which ``key`` stands for.

    Raises:
        MemoryError: there is too little for it.
    """
    made: dict[object, tuple[CodecFunctions, Any]] = _local.__dict__.setdefault("compressors", {})
    if key not in made:
        made[key] = _new_compressor(parameters)
    return made[key][0]


def _new_compressor(parameters: zstandard.ZstdCompressionParameters) -> tuple[CodecFunctions, Any]:
    context = _owned(_zstd.lib.ZSTD_createCCtx(), _zstd.lib.ZSTD_freeCCtx)
    for name, attribute in _PARAMETERS:
        number = getattr(_zstd.lib, f"ZSTD_c_{name}")
        status = _zstd.lib.ZSTD_CCtx_setParameter(context, number, getattr(parameters, attribute))
        if _zstd.lib.ZSTD_isError(status):
            raise RuntimeError(f"internal error: zstd refuses its parameter {name}")
    return CodecFunctions(_address_of("ZSTD_compress2"), _number(context)), context


def decompressor() -> CodecFunctions:
    """This thread's decompressor.

    Raises:
        MemoryError: there is too little for it.
    """
    made: tuple[CodecFunctions, Any] | None = getattr(_local, "decompressor", None)
    if made is None:
        context = _owned(_zstd.lib.ZSTD_createDCtx(), _zstd.lib.ZSTD_freeDCtx)
        functions = CodecFunctions(
            _address_of("ZSTD_decompressDCtx"),
            _number(context),
            _address_of("ZSTD_findFrameCompressedSize"),
        )
        made = _local.decompressor = functions, context
    return made[0]


def _owned(context: Any, free: Any) -> Any:
    """The same pointer, freed with the last reference to it."""
    if context == _zstd.ffi.NULL:
        raise MemoryError("zstd has no memory for its tables")
    return _zstd.ffi.gc(context, free)


def _address_of(name: str) -> int:
    return _number(_zstd.ffi.addressof(_zstd.lib, name))


def _number(pointer: Any) -> int:
    return int(_zstd.ffi.cast("uintptr_t", pointer))
