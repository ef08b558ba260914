/* Every function and constant that Python sees, in the subset of C that cffi parses: build_core.py hands this
   file to cffi as it is, and aip.h includes it for the C side, so the two cannot drift apart.

   Rules common to all functions:
   - a buffer comes with its length in bytes; NULL is allowed only where that length is 0;
   - the return value is a count >= 0, or AIP_OK, or one of the negative statuses below;
   - when a negative status is returned because of the arguments, nothing was written;
   - bitmaps are packed LSB first: bit i is (bitmap[i / 8] >> (i % 8)) & 1; bits at nbits and beyond are read as
     zero and, in every byte written, stored as zero;
   - extents are pairs (start, length) of uint64_t, 16 bytes each, aligned to 8 bytes; a count is of pairs. */

enum aip_status {
    AIP_OK = 0,
    AIP_EINVAL = -1,   /* an argument makes no sense on its own: NULL, a bad cluster size, unequal lengths */
    AIP_ERANGE = -2,   /* an offset or length lies outside its buffer, or a sum overflows */
    AIP_EOVERLAP = -3, /* a buffer to be written overlaps one that is read */
    AIP_ESPACE = -4,   /* the output buffer is too small */
    AIP_ECODEC = -5    /* the function that was handed in reported an error */
};

enum aip_bitmap_op { AIP_AND = 0, AIP_OR = 1, AIP_ANDNOT = 2 };

/* Sizes of the format in bytes, named as in aipimage/format/constants.py (docs/format.md, sections 5 to 8). */
enum aip_size {
    AIP_SECTOR = 512,
    AIP_RECORD_HEADER = 40,
    AIP_CHECK = 16,
    AIP_TAG = 16,
    AIP_FRAME_EXTENT = 12,
    AIP_FRAME_ENTRY = 48,
    AIP_BODY_MAX = 4456448,
    AIP_PLAIN_MAX = 4194304,
    AIP_BLOCK = 65536,
    AIP_BLOCK_DIGEST = 16
};

/* What is wrong with a frame: nothing; its header is not the one that the table names; its digest differs; its payload
   is not what the core decodes, which others may. */
enum aip_frame { AIP_FRAME_GOOD = 0, AIP_FRAME_HEADER = 1, AIP_FRAME_DIGEST = 2, AIP_FRAME_PAYLOAD = 3 };

/* dispatch.c */

/* 1 when the AVX2 variants are in use, 0 when the plain C ones are. */
int aip_uses_avx2(void);
/* Nonzero: use the plain C variants from now on, in all threads; 0: use the best the processor has. */
void aip_force_scalar(int force);

/* zero.c */

/* 1 when all `len` bytes are zero (also when len is 0), 0 when not. */
int aip_is_zero(const void *buf, size_t len);
/* One bit a cluster: 1 = the cluster has a nonzero byte. `cluster` is a power of two, 512 to 2 MiB; the last
   cluster may be short. Writes ceil(ceil(len / cluster) / 8) bytes. */
int aip_nonzero_bitmap(const void *buf, size_t len, size_t cluster, uint8_t *bitmap, size_t bitmap_len);
/* Runs of clusters with a nonzero byte, in clusters, ascending, never adjacent. Returns the number of runs in the
   buffer; when that is above max_extents, the first max_extents were written. */
int64_t aip_nonzero_extents(const void *buf, size_t len, size_t cluster, uint64_t *extents, size_t max_extents);

/* probe.c */

/* One bit a frame of `frame` bytes (any size >= 1, the last may be short): 1 = the bytes look like random or
   compressed data, so that compressing them would gain nothing. Frames below 4 KiB never do. */
int aip_random_bitmap(const void *buf, size_t len, size_t frame, uint8_t *bitmap, size_t bitmap_len);

/* bitmap.c */

/* out = a OP b over nbits bits; writes ceil(nbits / 8) bytes. `out` may be `a` or `b` itself, else it must not
   overlap them. AIP_ANDNOT is a & ~b. */
int aip_bitmap_combine(int op, const uint8_t *a, size_t a_len, const uint8_t *b, size_t b_len, uint8_t *out,
                       size_t out_len, uint64_t nbits);
/* The number of ones among the first nbits bits. */
int64_t aip_bitmap_count(const uint8_t *bitmap, size_t bitmap_len, uint64_t nbits);

/* runs.c */

/* Runs of ones as extents in bits, from bit *position on. Writes at most max_extents pairs, returns how many, and
   moves *position to where the next call goes on: nbits when all is done. A run is never cut by a full output. */
int64_t aip_bitmap_to_extents(const uint8_t *bitmap, size_t bitmap_len, uint64_t nbits, uint64_t *position,
                              uint64_t *extents, size_t max_extents);
/* Set the bits of every extent; other bits stay as they are. Order and overlap of extents do not matter. */
int aip_extents_to_bitmap(const uint64_t *extents, size_t count, uint8_t *bitmap, size_t bitmap_len, uint64_t nbits);
/* Lay extents end to end and cut the whole every `size`, the last part short. Writes the pieces in order, and to
   counts[i] how many of them part i has; returns how many there are. `parts` must be the number of parts, and
   max_pieces at least that and the extents together. */
int64_t aip_cut_extents(const uint64_t *extents, size_t count, uint64_t size, uint64_t *pieces, size_t max_pieces,
                        uint64_t *counts, size_t parts);

/* compare.c */

/* One bit a block of `block` bytes (any size >= 1, the last may be short): 1 = a and b differ there. */
int aip_compare_blocks(const void *a, size_t a_len, const void *b, size_t b_len, size_t block, uint8_t *bitmap,
                       size_t bitmap_len);

/* pack.c */

/* Gather the byte extents of src one after the other into dst; returns the bytes written. */
int64_t aip_pack(const void *src, size_t src_len, const uint64_t *extents, size_t count, void *dst, size_t dst_len);
/* Scatter src, read from its start, into the byte extents of dst; returns the bytes consumed. */
int64_t aip_unpack(const void *src, size_t src_len, const uint64_t *extents, size_t count, void *dst, size_t dst_len);

/* blake3.c */

/* BLAKE3-256 digests, 32 bytes each, one after the other, of `count` byte ranges of src, rows of (offset, length),
   which may overlap and be empty. */
int aip_blake3_many(const void *src, size_t src_len, const uint64_t *ranges, size_t count, uint8_t *digests,
                    size_t digests_len);
/* Updates a chain of digests (docs/format.md, section 11): value becomes H(value | digest) for one digest of 32 bytes
   after the other; both lengths are in bytes. */
int aip_blake3_chain(uint8_t *value, size_t value_len, const uint8_t *digests, size_t digests_len);

/* codec.c */

/* A function of another library that writes at most dst_len bytes and returns how many it wrote, or its error as a
   number above dst_len; ZSTD_compress2 and ZSTD_decompressDCtx are such functions. */
typedef size_t (*aip_codec_fn)(void *context, void *dst, size_t dst_len, const void *src, size_t src_len);
/* The bytes of the compressed frame at the start of src, or an error as a number above src_len;
   ZSTD_findFrameCompressedSize is such a function. */
typedef size_t (*aip_measure_fn)(const void *src, size_t src_len);

/* records.c */

/* Where the records that lie one after the other in data end: at most max_ends of them. stop[0] becomes where the last
   of them ends; stop[1] 1 where no record can begin there, 0 where there is the start of one, or nothing. Returns how
   many there are. */
int64_t aip_record_ends(const void *data, size_t data_len, uint64_t *ends, size_t max_ends, uint64_t *stop);
/* Compare the digest of each record with its check; they lie one after the other from the start of data to `ends`.
   Writes 32 bytes of digest and one of type a record, and one bit in `bad` where they differ. Returns the ones. */
int64_t aip_check_records(const void *data, size_t data_len, const uint64_t *ends, size_t count, uint8_t *digests,
                          size_t digests_len, uint8_t *types, size_t types_len, uint8_t *bad, size_t bad_len);
/* Digest the records that entries of 48 bytes (docs/format.md, 6.2) name by their offset in data: the digest goes to
   the entry, its first 16 bytes to the end of the record. Returns how many there are. */
int64_t aip_finish_records(void *data, size_t data_len, uint8_t *entries, size_t entries_len);

/* frames.c */

/* Cut src, whole sectors, every `frame` bytes, and write a frame record of each part to out, one after the other. The
   runs, pairs of (sector, sectors) that are as long as src together, say where its sectors are from; `where` is added
   to each sector. A part is stored as it is when codec is NULL, when it would not become shorter, and, where `probe` is
   nonzero, when it looks random. What out has beyond the records, uncompressed, is for the codec to work in: AIP_ESPACE
   where they would not fit so; AIP_ECODEC leaves undefined bytes in out and entries. Numbers ascend from `first`. `tag` bytes are left before each check.
   Writes an entry of 48 bytes a frame, its offset counted from the start of out. Without a tag the records are
   finished; with one, digests in the entries are zeros and checks undefined, for aip_finish_records to fill once they
   are sealed. Returns the bytes used. */
int64_t aip_build_frames(aip_codec_fn codec, void *context, const void *src, size_t src_len, size_t frame, int probe,
                         const uint64_t *runs, size_t run_count, uint64_t where, const uint8_t *origin,
                         size_t origin_len, uint64_t first, size_t tag, void *out, size_t out_len, uint8_t *entries,
                         size_t entries_len);

/* opening.c */

/* Compare the headers and the digests of a run of frames with entries of 48 bytes a frame. The record of the first
   begins data, and the offsets of the others are counted from its. Writes one of enum aip_frame a frame; returns how
   many are good. */
int64_t aip_check_frames(const void *data, size_t data_len, const uint8_t *entries, size_t entries_len,
                         const uint8_t *origin, size_t origin_len, uint64_t first, size_t tag, uint8_t *kinds,
                         size_t kinds_len);
/* Decode those frames of a run, opened in place where it is sealed, that are good in `kinds`, and copy what is wanted
   of them to dst. A copy is a row of (frame of the run, offset in it, length, offset in dst), ascending by frame. A
   frame that is wanted once and whole is decoded to its place, others to scratch, which has room for the longest. The
   kind of a frame that the core does not decode becomes AIP_FRAME_PAYLOAD, with undefined bytes in its places.
   Returns how many were decoded. */
int64_t aip_open_frames(aip_codec_fn codec, aip_measure_fn measure, void *context, const void *data, size_t data_len,
                        const uint8_t *entries, size_t entries_len, size_t tag, const uint64_t *copies,
                        size_t copy_count, void *dst, size_t dst_len, void *scratch, size_t scratch_len,
                        uint8_t *kinds, size_t kinds_len);
/* Both with one call, for one frame that is not sealed, whose record begins data: compared with its entry of 48 bytes,
   and decoded to the start of dst, which has undefined bytes where the result is not AIP_FRAME_GOOD. Returns one of
   enum aip_frame. */
int aip_read_frame(aip_codec_fn codec, aip_measure_fn measure, void *context, const void *data, size_t data_len,
                   const uint8_t *entry, size_t entry_len, const uint8_t *origin, size_t origin_len, uint64_t number,
                   void *dst, size_t dst_len);

/* scan.c */

/* The first 16 bytes of the digest of each block of 64 KiB, the last padded with zeros; 16 zero bytes for a block of
   zeros, and for one whose bit is clear in `wanted`, unless that is NULL. Returns how many are not zeros. */
int64_t aip_block_digests(const void *src, size_t src_len, const uint8_t *wanted, size_t wanted_len, uint8_t *digests,
                          size_t digests_len);
/* Runs of clusters with a nonzero byte, as pairs of (sector, sectors) of src, which is whole sectors; where there are
   two and more, their bytes one after the other in dst. digests_len of 0 asks for none; else they are as in
   aip_block_digests. Returns the number of runs; AIP_ESPACE where there are more than max_runs. */
int64_t aip_scan_pack(const void *src, size_t src_len, size_t cluster, uint64_t *runs, size_t max_runs,
                      uint8_t *digests, size_t digests_len, void *dst, size_t dst_len);
/* One bit a cluster that has a nonzero byte, and one for each that is not as it was. Where there are `expected` block
   digests, all clusters of a block whose digest is another one count as such, and digests becomes those of now; else
   `was`, as long as src, is compared. Returns the clusters that differ. */
int64_t aip_compare_piece(const void *src, size_t src_len, size_t cluster, const void *was, size_t was_len,
                          const uint8_t *expected, size_t expected_len, uint8_t *nonzero, size_t nonzero_len,
                          uint8_t *differs, size_t differs_len, uint8_t *digests, size_t digests_len);
