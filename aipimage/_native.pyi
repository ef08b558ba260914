"""The shape of the extension module that csrc/build_core.py makes; for the type checker alone."""

from typing import Any

class _CData:
    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> int: ...

class _CType: ...

class _FFI:
    NULL: _CData
    def from_buffer(
        self, cdecl: _CType, python_buffer: Any, require_writable: bool = ...
    ) -> _CData: ...
    def typeof(self, cdecl: str) -> _CType: ...
    def cast(self, cdecl: _CType, source: int) -> _CData: ...
    def new(self, cdecl: str, init: Any = ...) -> _CData: ...

class _Lib:
    AIP_OK: int
    AIP_EINVAL: int
    AIP_ERANGE: int
    AIP_EOVERLAP: int
    AIP_ESPACE: int
    AIP_ECODEC: int
    AIP_AND: int
    AIP_OR: int
    AIP_ANDNOT: int
    AIP_SECTOR: int
    AIP_RECORD_HEADER: int
    AIP_CHECK: int
    AIP_TAG: int
    AIP_FRAME_EXTENT: int
    AIP_FRAME_ENTRY: int
    AIP_BODY_MAX: int
    AIP_PLAIN_MAX: int
    AIP_BLOCK: int
    AIP_BLOCK_DIGEST: int
    AIP_FRAME_GOOD: int
    AIP_FRAME_HEADER: int
    AIP_FRAME_DIGEST: int
    AIP_FRAME_PAYLOAD: int
    def aip_uses_avx2(self) -> int: ...
    def aip_force_scalar(self, force: int) -> None: ...
    def aip_blake3_many(
        self, src: _CData, src_len: int, ranges: _CData, count: int, digests: _CData, size: int
    ) -> int: ...
    def aip_is_zero(self, buf: _CData, length: int) -> int: ...
    def aip_nonzero_bitmap(
        self, buf: _CData, length: int, cluster: int, bitmap: _CData, bitmap_len: int
    ) -> int: ...
    def aip_nonzero_extents(
        self, buf: _CData, length: int, cluster: int, extents: _CData, max_extents: int
    ) -> int: ...
    def aip_random_bitmap(
        self, buf: _CData, length: int, frame: int, bitmap: _CData, bitmap_len: int
    ) -> int: ...
    def aip_bitmap_combine(
        self,
        op: int,
        a: _CData,
        a_len: int,
        b: _CData,
        b_len: int,
        out: _CData,
        out_len: int,
        nbits: int,
    ) -> int: ...
    def aip_bitmap_count(self, bitmap: _CData, bitmap_len: int, nbits: int) -> int: ...
    def aip_bitmap_to_extents(
        self,
        bitmap: _CData,
        bitmap_len: int,
        nbits: int,
        position: _CData,
        extents: _CData,
        max_extents: int,
    ) -> int: ...
    def aip_extents_to_bitmap(
        self, extents: _CData, count: int, bitmap: _CData, bitmap_len: int, nbits: int
    ) -> int: ...
    def aip_cut_extents(
        self,
        extents: _CData,
        count: int,
        size: int,
        pieces: _CData,
        max_pieces: int,
        counts: _CData,
        parts: int,
    ) -> int: ...
    def aip_compare_blocks(
        self,
        a: _CData,
        a_len: int,
        b: _CData,
        b_len: int,
        block: int,
        bitmap: _CData,
        bitmap_len: int,
    ) -> int: ...
    def aip_pack(
        self, src: _CData, src_len: int, extents: _CData, count: int, dst: _CData, dst_len: int
    ) -> int: ...
    def aip_unpack(
        self, src: _CData, src_len: int, extents: _CData, count: int, dst: _CData, dst_len: int
    ) -> int: ...
    def aip_blake3_chain(
        self, value: _CData, value_len: int, digests: _CData, digests_len: int
    ) -> int: ...
    def aip_record_ends(
        self, data: _CData, data_len: int, ends: _CData, max_ends: int, stop: _CData
    ) -> int: ...
    def aip_check_records(
        self,
        data: _CData,
        data_len: int,
        ends: _CData,
        count: int,
        digests: _CData,
        digests_len: int,
        types: _CData,
        types_len: int,
        bad: _CData,
        bad_len: int,
    ) -> int: ...
    def aip_finish_records(
        self, data: _CData, data_len: int, entries: _CData, entries_len: int
    ) -> int: ...
    def aip_build_frames(
        self,
        codec: _CData,
        context: _CData,
        src: _CData,
        src_len: int,
        frame: int,
        probe: int,
        runs: _CData,
        run_count: int,
        where: int,
        origin: _CData,
        origin_len: int,
        first: int,
        tag: int,
        out: _CData,
        out_len: int,
        entries: _CData,
        entries_len: int,
    ) -> int: ...
    def aip_check_frames(
        self,
        data: _CData,
        data_len: int,
        entries: _CData,
        entries_len: int,
        origin: _CData,
        origin_len: int,
        first: int,
        tag: int,
        kinds: _CData,
        kinds_len: int,
    ) -> int: ...
    def aip_open_frames(
        self,
        codec: _CData,
        measure: _CData,
        context: _CData,
        data: _CData,
        data_len: int,
        entries: _CData,
        entries_len: int,
        tag: int,
        copies: _CData,
        copy_count: int,
        dst: _CData,
        dst_len: int,
        scratch: _CData,
        scratch_len: int,
        kinds: _CData,
        kinds_len: int,
    ) -> int: ...
    def aip_read_frame(
        self,
        codec: _CData,
        measure: _CData,
        context: _CData,
        data: _CData,
        data_len: int,
        entry: bytes,
        entry_len: int,
        origin: bytes,
        origin_len: int,
        number: int,
        dst: _CData,
        dst_len: int,
    ) -> int: ...
    def aip_block_digests(
        self,
        src: _CData,
        src_len: int,
        wanted: _CData,
        wanted_len: int,
        digests: _CData,
        digests_len: int,
    ) -> int: ...
    def aip_scan_pack(
        self,
        src: _CData,
        src_len: int,
        cluster: int,
        runs: _CData,
        max_runs: int,
        digests: _CData,
        digests_len: int,
        dst: _CData,
        dst_len: int,
    ) -> int: ...
    def aip_compare_piece(
        self,
        src: _CData,
        src_len: int,
        cluster: int,
        was: _CData,
        was_len: int,
        expected: _CData,
        expected_len: int,
        nonzero: _CData,
        nonzero_len: int,
        differs: _CData,
        differs_len: int,
        digests: _CData,
        digests_len: int,
    ) -> int: ...

ffi: _FFI
lib: _Lib
