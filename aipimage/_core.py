"""The one door to the C core: every other module calls these functions, none imports cffi.

Buffers are anything contiguous with the buffer protocol (``bytes``, ``bytearray``,
``memoryview``, numpy arrays) and are taken as bytes. Each wrapper keeps the buffer exported
while C works, without the GIL, so that a ``bytearray`` which is resized meanwhile in another
thread raises :class:`BufferError` there and memory is never freed under C. A thread that *writes*
to a buffer which another thread has passed to C gets an undefined result, but no access outside
of the buffers.

Bitmaps are ``uint8`` arrays packed least significant bit first: bit ``i`` is ``bitmap[i // 8]
>> (i % 8) & 1``. Bits at ``nbits`` and beyond are read as zero and returned as zero. Extents
are ``uint64`` arrays of shape ``(n, 2)`` with rows (start, length). A wrong argument is a bug
of the caller inside this library and raises :class:`ValueError`; an object that is not a buffer or
no integer raises :class:`TypeError`.

Longer than other files, because the core has one door: a wrapper is a dozen lines and a docstring.
"""

from __future__ import annotations

from collections.abc import Iterator
from operator import index
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

try:
    from aipimage._native import ffi, lib
except ModuleNotFoundError as error:
    # In a clone the source folder hides the installed package, which has the core.
    raise ImportError(
        f"{__file__}: the compiled core is not beside it; in a clone run: pip install -e . (with a "
        "C compiler and Python's header files), or leave the clone to use the installed package"
    ) from error

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from aipimage._native import _CData

    # Numpy declares its arrays as buffers only to checkers of Python 3.12 and newer.
    AnyBuffer: TypeAlias = Buffer | npt.NDArray[Any]
    Bitmap: TypeAlias = npt.NDArray[np.uint8]
    Extents: TypeAlias = npt.NDArray[np.uint64]

__all__ = [
    "FRAME_DIGEST",
    "FRAME_GOOD",
    "FRAME_HEADER",
    "FRAME_PAYLOAD",
    "NO_CODEC",
    "CodecError",
    "CodecFunctions",
    "bitmap_and",
    "bitmap_andnot",
    "bitmap_count",
    "bitmap_or",
    "bitmap_to_extents",
    "blake3_chain",
    "blake3_many",
    "block_digests",
    "build_frames",
    "check_frames",
    "check_records",
    "compare_blocks",
    "compare_piece",
    "cut_extents",
    "extents_to_bitmap",
    "finish_records",
    "force_scalar",
    "implementation",
    "is_zero",
    "iter_bitmap_extents",
    "nonzero_bitmap",
    "nonzero_extents",
    "open_frames",
    "pack",
    "random_bitmap",
    "read_frame",
    "record_ends",
    "scan_pack",
    "unpack",
]

# Types parsed once: parsing the text costs as much as a small call.
_BYTE_ARRAY = ffi.typeof("uint8_t[]")
_WORD_ARRAY = ffi.typeof("uint64_t[]")
_CODEC = ffi.typeof("aip_codec_fn")
_MEASURE = ffi.typeof("aip_measure_fn")
_ADDRESS = ffi.typeof("void *")
_UINT64 = np.dtype(np.uint64)
FRAME_GOOD = lib.AIP_FRAME_GOOD
FRAME_HEADER = lib.AIP_FRAME_HEADER
"""The header of a frame is not the one that the table names."""
FRAME_DIGEST = lib.AIP_FRAME_DIGEST
FRAME_PAYLOAD = lib.AIP_FRAME_PAYLOAD
"""A payload that the core does not decode; others may."""
_MAX_UINT64 = 2**64 - 1
_EXTENTS_A_CALL = 4096

_REASONS = {
    lib.AIP_EINVAL: "an argument makes no sense: a size not allowed, or lengths that differ",
    lib.AIP_ERANGE: "an offset or a length lies outside its buffer",
    lib.AIP_EOVERLAP: "a buffer to be written overlaps one that is read",
    lib.AIP_ESPACE: "the output buffer is too small",
}


class CodecError(ValueError):
    """The function that was handed in to :func:`build_frames` reported an error."""


class CodecFunctions(NamedTuple):
    """Addresses of another library's functions (csrc/aip_api.h says what they must be), of which
    nothing can be checked: a wrong one crashes the process.

    Attributes:
        function: compresses or decompresses; 0 for none.
        context: its first argument; for one thread at a time, and kept alive by the caller.
        measure: finds the length of a compressed frame; needed to decompress.
    """

    function: int
    context: int
    measure: int = 0


NO_CODEC = CodecFunctions(0, 0)


def _checked(status: int) -> int:
    """Return a count or 0 as it is; raise ValueError for a negative status."""
    if status < 0:
        raise ValueError(_REASONS.get(status, f"unknown status {status} of the C core"))
    return status


def _number(value: int) -> int:
    """Return an integer that fits C's unsigned 64 bits; ValueError when it does not."""
    value = index(value)
    if not 0 <= value <= _MAX_UINT64:
        raise ValueError(f"{value} is not between 0 and 2**64 - 1")
    return value


def _bytes(buf: AnyBuffer, writable: bool = False) -> _CData:
    """Export a buffer for C; it stays locked against resizing as long as the result lives."""
    try:
        return ffi.from_buffer(_BYTE_ARRAY, buf, writable)
    except BufferError as error:
        raise ValueError(f"not a usable buffer: {error}") from error


def _extent_array(extents: npt.ArrayLike) -> Extents:
    """Return extents as C takes them; an array that is right already is returned itself."""
    array = np.asarray(extents)
    if array.size == 0:
        return np.empty((0, 2), dtype=np.uint64)
    if array.ndim != 2 or array.shape[1] != 2:
        raise ValueError(f"extents have shape {array.shape}, not (n, 2)")
    flags = array.flags
    if array.dtype == _UINT64 and flags.c_contiguous and flags.aligned:
        return array
    if array.dtype.kind not in "iu":
        raise ValueError(f"extents have dtype {array.dtype}, not an integer one")
    if array.dtype.kind == "i" and int(array.min()) < 0:
        raise ValueError("an extent has a negative start or length")
    return np.array(array, dtype=np.uint64, order="C")


def _pairs(extents: Extents) -> _CData:
    """Export an aligned, contiguous array of extents for C."""
    return ffi.from_buffer(_WORD_ARRAY, extents)


def is_zero(buf: AnyBuffer) -> bool:
    """Return whether every byte of ``buf`` is zero; an empty buffer is."""
    view = _bytes(buf)
    return _checked(lib.aip_is_zero(view, len(view))) == 1


def blake3_many(buf: AnyBuffer, ranges: npt.ArrayLike) -> npt.NDArray[np.uint8]:
    """Return the BLAKE3-256 digests, shape (n, 32), of ``n`` byte ranges of ``buf`` with one call.

    ``ranges`` has rows (offset, length), in bytes, which may overlap and be empty; one that does
    not lie inside the buffer raises ValueError.
    """
    view, rows = _bytes(buf), _extent_array(ranges)
    out = np.empty((len(rows), 32), dtype=np.uint8)
    target = _bytes(out)
    _checked(lib.aip_blake3_many(view, len(view), _pairs(rows), len(rows), target, len(target)))
    return out


def nonzero_bitmap(buf: AnyBuffer, cluster: int) -> Bitmap:
    """Return one bit a cluster, set where the cluster has a nonzero byte.

    ``cluster`` is in bytes, a power of two from 512 to 2 MiB, else ValueError. The last cluster
    may be short.
    """
    view = _bytes(buf)
    cluster = _number(cluster)
    out = np.empty((-(-len(view) // (cluster or 1)) + 7) // 8, dtype=np.uint8)
    target = _bytes(out)
    _checked(lib.aip_nonzero_bitmap(view, len(view), cluster, target, len(target)))
    return out


def nonzero_extents(buf: AnyBuffer, cluster: int) -> Extents:
    """Return the runs of clusters with a nonzero byte, in clusters, ascending, never adjacent.

    ``cluster`` is in bytes, a power of two from 512 to 2 MiB, else ValueError. The last cluster
    may be short.
    """
    view = _bytes(buf)
    cluster = _number(cluster)
    # Runs are separated by at least one cluster: at most every second cluster starts one.
    room = (-(-len(view) // (cluster or 1)) + 1) // 2
    out = np.empty((room, 2), dtype=np.uint64)
    target = _pairs(out)
    count = _checked(lib.aip_nonzero_extents(view, len(view), cluster, target, room))
    # A copy, so that a caller who keeps few extents does not keep the room for many.
    return out if count == room else out[:count].copy()


def random_bitmap(buf: AnyBuffer, frame: int) -> Bitmap:
    """Return one bit a frame, set where compressing it would gain nothing, as far as samples tell.

    ``frame`` is in bytes, at least 1, else ValueError. The last frame may be short; frames below
    4 KiB never have their bit set. A guess for deciding how bytes are stored, never which.
    """
    view = _bytes(buf)
    frame = _number(frame)
    out = np.empty((-(-len(view) // (frame or 1)) + 7) // 8, dtype=np.uint8)
    target = _bytes(out)
    _checked(lib.aip_random_bitmap(view, len(view), frame, target, len(target)))
    return out


def _combine(operation: int, a: AnyBuffer, b: AnyBuffer, nbits: int) -> Bitmap:
    left, right = _bytes(a), _bytes(b)
    nbits = _number(nbits)
    need = (nbits + 7) // 8
    if need > len(left) or need > len(right):
        raise ValueError(f"bitmaps of {len(left)} and {len(right)} bytes do not hold {nbits} bits")
    out = np.empty(need, dtype=np.uint8)
    target = _bytes(out)
    _checked(
        lib.aip_bitmap_combine(operation, left, len(left), right, len(right), target, need, nbits)
    )
    return out


def bitmap_and(a: AnyBuffer, b: AnyBuffer, nbits: int) -> Bitmap:
    """Return a & b, ``ceil(nbits / 8)`` bytes; ValueError when an input is shorter than that."""
    return _combine(lib.AIP_AND, a, b, nbits)


def bitmap_or(a: AnyBuffer, b: AnyBuffer, nbits: int) -> Bitmap:
    """Return a | b, ``ceil(nbits / 8)`` bytes; ValueError when an input is shorter than that."""
    return _combine(lib.AIP_OR, a, b, nbits)


def bitmap_andnot(a: AnyBuffer, b: AnyBuffer, nbits: int) -> Bitmap:
    """Return a & ~b, ``ceil(nbits / 8)`` bytes; ValueError when an input is shorter than that."""
    return _combine(lib.AIP_ANDNOT, a, b, nbits)


def bitmap_count(bitmap: AnyBuffer, nbits: int) -> int:
    """Return the number of ones among the first ``nbits`` bits; ValueError when there are fewer."""
    view = _bytes(bitmap)
    return _checked(lib.aip_bitmap_count(view, len(view), _number(nbits)))


def iter_bitmap_extents(
    bitmap: AnyBuffer, nbits: int, max_extents: int = _EXTENTS_A_CALL
) -> Iterator[Extents]:
    """Yield the runs of ones in bits, ascending, as arrays of 1 to ``max_extents`` extents.

    Memory is bounded by ``max_extents`` (16 bytes each) however large the bitmap is; no run is cut
    between two arrays. The bitmap stays locked against resizing until the iterator is exhausted or
    dropped. ValueError, at the first step, when the bitmap is shorter than ``nbits`` or
    ``max_extents`` is below 1.
    """
    view = _bytes(bitmap)
    nbits, max_extents = _number(nbits), _number(max_extents)
    if max_extents == 0:
        raise ValueError("max_extents is below 1")
    position = ffi.new("uint64_t *")
    # Runs alternate with zeros, so half the bits, rounded up, bounds their number.
    room = min(max_extents, (nbits + 1) // 2)
    out = np.empty((room, 2), dtype=np.uint64)
    target = _pairs(out)
    while True:
        count = _checked(lib.aip_bitmap_to_extents(view, len(view), nbits, position, target, room))
        if count:
            yield out[:count].copy()
        if position[0] == nbits:
            return


def bitmap_to_extents(bitmap: AnyBuffer, nbits: int) -> Extents:
    """Return all runs of ones in bits, ascending and never adjacent.

    ValueError when the bitmap is shorter than ``nbits``.
    """
    parts = list(iter_bitmap_extents(bitmap, nbits))
    if len(parts) == 1:
        return parts[0]
    return np.concatenate(parts) if parts else np.empty((0, 2), dtype=np.uint64)


def extents_to_bitmap(extents: npt.ArrayLike, nbits: int) -> Bitmap:
    """Return a bitmap of ``nbits`` bits in which the bits of every extent are set.

    Extents are in bits, in any order, and may overlap. ValueError when one reaches beyond
    ``nbits``.
    """
    rows = _extent_array(extents)
    nbits = _number(nbits)
    out = np.zeros((nbits + 7) // 8, dtype=np.uint8)
    target = _bytes(out)
    _checked(lib.aip_extents_to_bitmap(_pairs(rows), len(rows), target, len(target), nbits))
    return out


def cut_extents(extents: npt.ArrayLike, size: int) -> tuple[Extents, npt.NDArray[np.uint64]]:
    """Lay extents end to end and cut the whole every ``size``; the last part may be short.

    Returns:
        the pieces in order, as extents, and how many of them each part has. Extents of length 0
        yield none.

    ValueError when ``size`` is below 1 or the lengths sum to more than 64 bits hold.
    """
    rows = _extent_array(extents)
    size = _number(size)
    total = int(rows[:, 1].sum())
    parts = -(-total // (size or 1))
    pieces = np.empty((len(rows) + parts, 2), np.uint64)
    counts = np.empty(parts, np.uint64)
    made = _checked(
        lib.aip_cut_extents(
            _pairs(rows), len(rows), size, _pairs(pieces), len(pieces), _pairs(counts), parts
        )
    )
    return pieces[:made], counts


def compare_blocks(a: AnyBuffer, b: AnyBuffer, block: int) -> Bitmap:
    """Return one bit a block of ``block`` bytes, set where ``a`` and ``b`` differ.

    The last block may be short. ValueError when the buffers differ in length or ``block`` is
    below 1.
    """
    left, right = _bytes(a), _bytes(b)
    block = _number(block)
    out = np.empty((-(-len(left) // (block or 1)) + 7) // 8, dtype=np.uint8)
    target = _bytes(out)
    _checked(lib.aip_compare_blocks(left, len(left), right, len(right), block, target, len(target)))
    return out


def pack(src: AnyBuffer, extents: npt.ArrayLike, dst: AnyBuffer) -> int:
    """Gather the byte extents of ``src`` without gaps into ``dst``; return the bytes written.

    ValueError, before anything is written, when an extent leaves ``src``, when all of them do not
    fit ``dst``, when ``dst`` is read-only, or when the two buffers overlap.
    """
    rows = _extent_array(extents)
    source, target = _bytes(src), _bytes(dst, True)
    pairs = _pairs(rows)
    return _checked(lib.aip_pack(source, len(source), pairs, len(rows), target, len(target)))


def unpack(src: AnyBuffer, extents: npt.ArrayLike, dst: AnyBuffer) -> int:
    """Scatter the start of ``src`` into the byte extents of ``dst``; return the bytes consumed.

    ValueError, before anything is written, when an extent leaves ``dst``, when ``src`` is shorter
    than all of them, when ``dst`` is read-only, or when the two buffers overlap.
    """
    rows = _extent_array(extents)
    source, target = _bytes(src), _bytes(dst, True)
    pairs = _pairs(rows)
    return _checked(lib.aip_unpack(source, len(source), pairs, len(rows), target, len(target)))


# Records and frames (docs/format.md, sections 5 to 8 and 11)


def blake3_chain(value: bytes, digests: AnyBuffer) -> bytes:
    """Return ``value`` after it became H(value | digest) for one digest after the other.

    ValueError when ``value`` is not 32 bytes, or ``digests`` no multiple of them.
    """
    made, view = bytearray(value), _bytes(digests)
    target = _bytes(made, True)
    _checked(lib.aip_blake3_chain(target, len(target), view, len(view)))
    return bytes(made)


def record_ends(buf: AnyBuffer, most: int) -> tuple[npt.NDArray[np.uint64], int, bool]:
    """Return where the records end that lie one after the other from the start of ``buf``, at most
    ``most``; where the last of them ends, or 0; and whether what stands there is not a record.

    A record that is cut short by the end of ``buf`` is not among them.
    """
    view = _bytes(buf)
    # One more than there can be, so that what stands after the last of them is looked at.
    room = min(_number(most), len(view) // (lib.AIP_RECORD_HEADER + lib.AIP_CHECK) + 1)
    ends, stop = np.empty(room, np.uint64), ffi.new("uint64_t[2]")
    target = _pairs(ends)
    count = _checked(lib.aip_record_ends(view, len(view), target, len(ends), stop))
    return ends[:count], stop[0], bool(stop[1])


def check_records(
    buf: AnyBuffer, ends: npt.NDArray[np.uint64]
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], Bitmap]:
    """Return of the records that lie one after the other and end at ``ends``: their digests, shape
    (n, 32), their types, and one bit each, set where the digest is not that of the record's check.

    ValueError when ``ends`` do not ascend inside ``buf`` by more than the edges of a record.
    """
    view, places = _bytes(buf), np.ascontiguousarray(ends, np.uint64)
    count = len(places)
    digests, types = np.empty((count, 32), np.uint8), np.empty(count, np.uint8)
    bad = np.empty((count + 7) // 8, np.uint8)
    made, kinds, wrong = _bytes(digests), _bytes(types), _bytes(bad)
    _checked(
        lib.aip_check_records(
            view, len(view), _pairs(places), count, made, len(made), kinds, len(kinds), wrong,
            len(wrong),
        )
    )  # fmt: skip
    return digests, types, bad


def finish_records(buf: AnyBuffer, entries: npt.NDArray[np.void]) -> None:
    """Digest records of ``buf``, and write each digest to its entry of 48 bytes, whose offset is
    counted from the start of ``buf``, and its first 16 bytes to the end of the record.
    """
    view, rows = _bytes(buf, True), _bytes(entries, True)
    _checked(lib.aip_finish_records(view, len(view), rows, len(rows)))


def build_frames(
    codec: CodecFunctions,
    src: AnyBuffer,
    frame: int,
    probe: bool,
    where: tuple[npt.ArrayLike, int],
    first: tuple[AnyBuffer, int],
    tag: int,
    out: AnyBuffer,
    entries: npt.NDArray[np.void],
) -> int:
    """Cut ``src`` every ``frame`` bytes and write the frame records of the parts to ``out``, one
    after the other; return the bytes that they take.

    Args:
        codec: ``NO_CODEC`` stores all parts as they are. probe: so are those that look random.
        where: runs (sector, sectors), as long as ``src`` together, that its sectors are from, and
            what is added to each sector.
        first: origin, and number of the first frame.
        tag: bytes to leave before each check; without any the records are finished, with some
            :func:`finish_records` finishes them once they are sealed.
        out: what it has beyond the records, uncompressed, is for the codec to work in.
        entries: as many rows of 48 bytes as there are parts; filled.

    ValueError, before anything is written, when lengths do not fit; CodecError, with ``out`` in
    part written, when the codec fails.
    """
    source, target, rows = _bytes(src), _bytes(out, True), _bytes(entries, True)
    runs, origin = _extent_array(where[0]), _bytes(first[0])
    status = lib.aip_build_frames(
        ffi.cast(_CODEC, codec.function), ffi.cast(_ADDRESS, codec.context), source, len(source),
        _number(frame), probe, _pairs(runs), len(runs), _number(where[1]), origin, len(origin),
        _number(first[1]), _number(tag), target, len(target), rows, len(rows),
    )  # fmt: skip
    if status == lib.AIP_ECODEC:
        raise CodecError("the codec reported an error")
    return _checked(status)


def check_frames(
    data: AnyBuffer, entries: npt.NDArray[np.void], origin: AnyBuffer, first: int, tag: int
) -> npt.NDArray[np.uint8]:
    """Return one of ``FRAME_…`` a frame, for a run of frames that begins at the start of ``data``:
    whether header and digest are those that its entry of 48 bytes says.

    Args:
        origin, first: of the frames, and the number of the first of them.
        tag: bytes of tag in each record.

    ValueError when a record does not lie in ``data``.
    """
    view, rows, name = _bytes(data), _bytes(entries), _bytes(origin)
    kinds = np.empty(len(entries), np.uint8)
    target = _bytes(kinds)
    _checked(
        lib.aip_check_frames(
            view, len(view), rows, len(rows), name, len(name), _number(first), _number(tag),
            target, len(target),
        )
    )  # fmt: skip
    return kinds


def open_frames(
    codec: CodecFunctions,
    data: AnyBuffer,
    entries: npt.NDArray[np.void],
    tag: int,
    copies: npt.NDArray[np.uint64],
    dst: AnyBuffer,
    scratch: AnyBuffer,
    kinds: npt.NDArray[np.uint8],
) -> int:
    """Decode the frames of a run that are ``FRAME_GOOD`` in ``kinds``, and copy what is wanted of
    them to ``dst``; return how many were decoded. The others become ``FRAME_PAYLOAD``.

    Args:
        copies: rows (frame of the run, offset in it, length, offset in ``dst``), ascending by
            frame. One that is wanted whole, and there alone, is decoded to its place.
        scratch: room for the longest frame.

    ValueError, before anything is written, when a frame or a copy leaves its buffer.
    """
    view, rows, target = _bytes(data), _bytes(entries), _bytes(dst, True)
    work, state = _bytes(scratch, True), _bytes(kinds, True)
    wanted = np.ascontiguousarray(copies, np.uint64)
    if wanted.ndim != 2 or wanted.shape[1] != 4:
        raise ValueError(f"copies have shape {wanted.shape}, not (n, 4)")
    return _checked(
        lib.aip_open_frames(
            ffi.cast(_CODEC, codec.function), ffi.cast(_MEASURE, codec.measure),
            ffi.cast(_ADDRESS, codec.context), view, len(view), rows, len(rows), _number(tag),
            _pairs(wanted), len(wanted), target, len(target), work, len(work), state, len(state),
        )
    )  # fmt: skip


def read_frame(
    codec: CodecFunctions, data: AnyBuffer, entry: bytes, origin: bytes, number: int, dst: AnyBuffer
) -> int:
    """Check one frame that is not sealed and decode it to the start of ``dst``; return one of
    ``FRAME_…``. With another one than ``FRAME_GOOD``, ``dst`` has undefined bytes.

    Args:
        data: begins with the frame's record. entry: 48 bytes, as in the frame table.
        origin, number: of the frame.

    ValueError when the record does not lie in ``data``, or ``dst`` is too small.
    """
    # Of what the interpreter does for a small read, this is the most: no helpers.
    view = ffi.from_buffer(_BYTE_ARRAY, data)
    target = ffi.from_buffer(_BYTE_ARRAY, dst, True)
    kind: int = lib.aip_read_frame(
        ffi.cast(_CODEC, codec.function), ffi.cast(_MEASURE, codec.measure),
        ffi.cast(_ADDRESS, codec.context), view, len(view), entry, len(entry), origin, len(origin),
        number, target, len(target),
    )  # fmt: skip
    return kind if kind >= 0 else _checked(kind)


def block_digests(src: AnyBuffer, wanted: AnyBuffer | None = None) -> npt.NDArray[np.uint8]:
    """Return the first 16 bytes of the digest of each block of 64 KiB, shape (n, 16), the last
    padded with zeros; zeros for blocks of zeros, and for those whose bit is clear in ``wanted``.
    """
    view = _bytes(src)
    out = np.empty((-(-len(view) // lib.AIP_BLOCK), lib.AIP_BLOCK_DIGEST), np.uint8)
    target = _bytes(out)
    bits = ffi.NULL if wanted is None else _bytes(wanted)
    size = 0 if wanted is None else len(bits)
    _checked(lib.aip_block_digests(view, len(view), bits, size, target, len(target)))
    return out


def scan_pack(
    src: AnyBuffer, cluster: int, dst: AnyBuffer, digests: bool
) -> tuple[Extents, npt.NDArray[np.uint8]]:
    """Return the runs of clusters with a nonzero byte, in sectors, and the block digests, or none;
    where there are two runs or more their bytes are one after the other in ``dst`` afterwards.

    ``src`` is whole sectors. ValueError as in :func:`nonzero_extents`, and when ``dst`` is too
    small.
    """
    view, target = _bytes(src), _bytes(dst, True)
    room = (-(-len(view) // (_number(cluster) or 1)) + 1) // 2
    runs = np.empty((room, 2), np.uint64)
    found = np.empty((-(-len(view) // lib.AIP_BLOCK) if digests else 0, 16), np.uint8)
    bytes_of = _bytes(found)
    count = _checked(
        lib.aip_scan_pack(
            view, len(view), cluster, _pairs(runs), room, bytes_of, len(bytes_of), target,
            len(target),
        )
    )  # fmt: skip
    return runs[:count].copy(), found


def compare_piece(
    src: AnyBuffer, cluster: int, was: AnyBuffer | None, expected: AnyBuffer | None
) -> tuple[Bitmap, Bitmap, npt.NDArray[np.uint8]]:
    """Return one bit a cluster that has a nonzero byte, one for each that is not as it was, and the
    block digests of now, shape (n, 16).

    Args:
        was: the bytes that there were; then no digests are made. expected: else the block digests
            of those; all clusters of a block with another digest count.
    """
    view, blocks = _bytes(src), 0
    old = [_bytes(b"") if each is None else _bytes(each) for each in (was, expected)]
    size = (-(-len(view) // (_number(cluster) or 1)) + 7) // 8
    if expected is not None:
        blocks = -(-len(view) // lib.AIP_BLOCK)
    nonzero, differs = np.empty(size, np.uint8), np.empty(size, np.uint8)
    digests = np.empty((blocks, 16), np.uint8)
    filled, changed, made = _bytes(nonzero), _bytes(differs), _bytes(digests)
    _checked(
        lib.aip_compare_piece(
            view, len(view), cluster, old[0], len(old[0]), old[1], len(old[1]), filled,
            len(filled), changed, len(changed), made, len(made),
        )
    )  # fmt: skip
    return nonzero, differs, digests


def force_scalar(force: bool) -> None:
    """Use the plain C variants (True), or the best the processor has (False), in the whole process.

    For tests and benchmarks: the results are the same.
    """
    lib.aip_force_scalar(1 if force else 0)


def implementation() -> str:
    """Return which variants run: ``"avx2"`` or ``"scalar"``."""
    return "avx2" if lib.aip_uses_avx2() else "scalar"
