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

/* codec.c */

/* A function of another library that writes at most dst_len bytes and returns how many it wrote, or its error as a
   number above dst_len; ZSTD_compress2 and ZSTD_decompressDCtx are such functions. */
typedef size_t (*aip_codec_fn)(void *context, void *dst, size_t dst_len, const void *src, size_t src_len);
/* The bytes of the compressed frame at the start of src, or an error as a number above src_len;
   ZSTD_findFrameCompressedSize is such a function. */
typedef size_t (*aip_measure_fn)(const void *src, size_t src_len);

/* Compress each `frame` bytes of src (the last may be short) into out, one after the other, leaving gaps[i] bytes
   before frame i and gaps[count] behind the last, whose content is undefined; lengths[i] becomes the bytes of frame i.
   A frame whose bit is set in `stored`, all when codec is NULL, and those that would not become shorter are copied as
   they are: then lengths[i] is the frame's own length. Returns the bytes used with all gaps. AIP_ESPACE when gaps and
   frames would not fit as they are; room beyond that is the codec's to work in. AIP_ECODEC leaves undefined bytes in
   out. */
int64_t aip_encode_frames(aip_codec_fn codec, void *context, const void *src, size_t src_len, size_t frame,
                          const uint8_t *stored, size_t stored_len, const uint64_t *gaps, size_t gap_count, void *out,
                          size_t out_len, uint64_t *lengths, size_t length_count);
/* Decompress pieces of src to places of dst: rows of (source offset, source length, target offset, target length) in
   bytes. The bit of a piece is set in `decoded` when `measure` finds that it is one whole frame and the codec returns
   exactly the target length; else it is clear, and its place in dst has undefined bytes. Returns the ones. */
int64_t aip_decode_frames(aip_codec_fn codec, aip_measure_fn measure, void *context, const void *src, size_t src_len,
                          const uint64_t *pieces, size_t count, void *dst, size_t dst_len, uint8_t *decoded,
                          size_t decoded_len);
