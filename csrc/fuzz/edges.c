/* Arguments that must be refused, and the edges that must not: a plain program, run under the sanitizers. */
#include "common.h"

static void zero_edges(void)
{
    uint8_t buf[1024] = {0}, bitmap[1];
    uint64_t extents[2];

    CHECK(aip_is_zero(NULL, 0) == 1);
    CHECK(aip_is_zero(NULL, 1) == AIP_EINVAL);
    const size_t wrong[] = {0, 1, 256, 511, 513, 1536, (size_t)4 << 20, SIZE_MAX};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; ++i) {
        CHECK(aip_nonzero_bitmap(buf, sizeof buf, wrong[i], bitmap, 1) == AIP_EINVAL);
        CHECK(aip_nonzero_extents(buf, sizeof buf, wrong[i], extents, 1) == AIP_EINVAL);
    }
    CHECK(aip_nonzero_bitmap(NULL, 0, 512, NULL, 0) == AIP_OK);
    CHECK(aip_nonzero_bitmap(NULL, 8, 512, bitmap, 1) == AIP_EINVAL);
    CHECK(aip_nonzero_bitmap(buf, sizeof buf, 512, bitmap, 0) == AIP_ESPACE);
    CHECK(aip_nonzero_bitmap(buf, sizeof buf, 512, NULL, 1) == AIP_ESPACE);
    CHECK(aip_nonzero_bitmap(buf, sizeof buf, 512, buf + 5, 1) == AIP_EOVERLAP);
    CHECK(aip_nonzero_extents(buf, sizeof buf, 512, NULL, 1) == AIP_EINVAL);
    CHECK(aip_nonzero_extents(buf, sizeof buf, 512, extents, SIZE_MAX / 16 + 1) == AIP_EINVAL);
    CHECK(aip_nonzero_extents(buf, sizeof buf, 512, (uint64_t *)((uintptr_t)extents + 1), 0) == 0);
    CHECK(aip_nonzero_extents(NULL, 0, 512, NULL, 0) == 0);
}

/* Every place of a lone byte, in every length around the steps of the scan. */
static void zero_sees_every_byte(void)
{
    for (size_t len = 1; len < 530; ++len) {
        uint8_t *buf = exact(len);
        CHECK(aip_is_zero(buf, len) == 1);
        for (size_t place = 0; place < len; ++place) {
            buf[place] = 128;
            CHECK(aip_is_zero(buf, len) == 0);
            buf[place] = 0;
        }
        free(buf);
    }
}

static void cut_edges(void)
{
    uint64_t extents[4] = {7, 5, 100, 3}, huge[4] = {0, UINT64_MAX, 0, 1}, pieces[8], counts[4];

    CHECK(aip_cut_extents(extents, 2, 4, pieces, 4, counts, 2) == 3);
    CHECK(pieces[0] == 7 && pieces[1] == 4 && pieces[2] == 11 && pieces[3] == 1);
    CHECK(pieces[4] == 100 && pieces[5] == 3 && counts[0] == 1 && counts[1] == 2);
    CHECK(aip_cut_extents(extents, 2, 0, pieces, 4, counts, 2) == AIP_EINVAL);
    CHECK(aip_cut_extents(extents, 2, 4, pieces, 4, counts, 1) == AIP_EINVAL);
    CHECK(aip_cut_extents(extents, 2, 4, pieces, 3, counts, 2) == AIP_ESPACE);
    CHECK(aip_cut_extents(extents, 2, 4, pieces, 1, counts, 2) == AIP_ESPACE);
    CHECK(aip_cut_extents(extents, 2, 4, extents, 4, counts, 2) == AIP_EOVERLAP);
    CHECK(aip_cut_extents(extents, 2, 4, pieces, 4, pieces + 6, 2) == AIP_EOVERLAP);
    CHECK(aip_cut_extents(extents, SIZE_MAX, 4, pieces, 4, counts, 2) == AIP_EINVAL);
    CHECK(aip_cut_extents(huge, 2, 4, pieces, 4, counts, 0) == AIP_ERANGE);
    CHECK(aip_cut_extents(huge, 1, UINT64_MAX, pieces, 2, counts, 1) == 1 && pieces[1] == UINT64_MAX);
    CHECK(aip_cut_extents(NULL, 0, 4, NULL, 0, NULL, 0) == 0);
}

static void bitmap_edges(void)
{
    uint8_t a[16] = {0}, b[16] = {0}, out[16];
    uint64_t extents[4] = {0, 1, 0, 1}, position = 0;

    CHECK(aip_bitmap_combine(4, a, 16, b, 16, out, 16, 128) == AIP_EINVAL);
    CHECK(aip_bitmap_combine(-1, a, 16, b, 16, out, 16, 128) == AIP_EINVAL);
    CHECK(aip_bitmap_combine(AIP_AND, a, 16, b, 16, out, 16, 129) == AIP_ERANGE);
    CHECK(aip_bitmap_combine(AIP_AND, a, 16, b, 16, out, 16, UINT64_MAX) == AIP_ERANGE);
    CHECK(aip_bitmap_combine(AIP_AND, a, 16, b, 16, out, 15, 128) == AIP_ESPACE);
    CHECK(aip_bitmap_combine(AIP_AND, a, 15, b, 15, a + 1, 15, 120) == AIP_EOVERLAP);
    CHECK(aip_bitmap_combine(AIP_AND, NULL, 0, NULL, 0, NULL, 0, 0) == AIP_OK);
    CHECK(aip_bitmap_count(a, 16, 129) == AIP_ERANGE);
    CHECK(aip_bitmap_count(NULL, 0, 0) == 0);
    CHECK(aip_bitmap_to_extents(a, 16, 128, NULL, extents, 2) == AIP_EINVAL);
    CHECK(aip_bitmap_to_extents(a, 16, 129, &position, extents, 2) == AIP_ERANGE);
    CHECK(aip_bitmap_to_extents(a, 16, UINT64_MAX, &position, extents, 2) == AIP_ERANGE);
    CHECK(aip_bitmap_to_extents(a, 16, 128, &position, extents, 0) == 0 && position == 0);
    position = 129;
    CHECK(aip_bitmap_to_extents(a, 16, 128, &position, extents, 2) == AIP_ERANGE && position == 129);
    CHECK(aip_extents_to_bitmap(extents, SIZE_MAX, a, 16, 128) == AIP_EINVAL);
    CHECK(aip_extents_to_bitmap(extents, 2, a, 15, 128) == AIP_ESPACE);
    extents[2] = UINT64_MAX;
    extents[3] = 2;
    CHECK(aip_extents_to_bitmap(extents, 2, a, 16, 128) == AIP_ERANGE && a[0] == 0);
    extents[2] = 128;
    extents[3] = 0;
    CHECK(aip_extents_to_bitmap(extents, 2, a, 16, 128) == AIP_OK && a[0] == 1);
    cut_edges();
    CHECK(aip_compare_blocks(a, 16, b, 15, 4, out, 16) == AIP_EINVAL);
    CHECK(aip_compare_blocks(a, 16, b, 16, 0, out, 16) == AIP_EINVAL);
    CHECK(aip_compare_blocks(a, 16, b, 16, 1, out, 1) == AIP_ESPACE);
    CHECK(aip_compare_blocks(a, 16, b, 16, 4, b, 16) == AIP_EOVERLAP);
    CHECK(aip_compare_blocks(a, 16, b, 16, SIZE_MAX, out, 1) == AIP_OK && out[0] == 1);
}

static void pack_edges(void)
{
    union {
        uint64_t pairs[4];
        uint8_t bytes[32];
    } shared = {{0, 8, 8, 8}};
    uint8_t src[32] = {1}, dst[16];

    CHECK(aip_pack(src, 32, shared.pairs, 2, dst, 16) == 16);
    CHECK(aip_pack(src, 32, shared.pairs, 2, dst, 15) == AIP_ESPACE);
    CHECK(aip_pack(src, 15, shared.pairs, 2, dst, 16) == AIP_ERANGE);
    CHECK(aip_unpack(src, 15, shared.pairs, 2, dst, 16) == AIP_ESPACE);
    CHECK(aip_pack(src, 32, shared.pairs, 2, src + 31, 1) == AIP_EOVERLAP);
    CHECK(aip_pack(src, 17, shared.pairs, 2, src, 1) == AIP_EOVERLAP);
    CHECK(aip_pack(src, 16, shared.pairs, 2, src + 16, 16) == 16);
    CHECK(aip_pack(src + 16, 16, shared.pairs, 2, src, 16) == 16);
    CHECK(aip_pack(src, 32, shared.pairs, 2, shared.bytes, 32) == AIP_EOVERLAP);
    CHECK(aip_unpack(src, 32, shared.pairs, 2, shared.bytes, 32) == AIP_EOVERLAP);
    CHECK(aip_pack(NULL, 1, shared.pairs, 2, dst, 16) == AIP_EINVAL);
    CHECK(aip_pack(src, 32, (uint64_t *)(uintptr_t)(src + 1 + (uintptr_t)src % 2), 1, dst, 16) == AIP_EINVAL);
    CHECK(aip_pack(src, 32, NULL, 0, NULL, 0) == 0);
}

static size_t halve(void *context, void *dst, size_t dst_len, const void *src, size_t src_len)
{
    (void)context;
    if (dst_len < src_len / 2)
        return SIZE_MAX;
    memcpy(dst, src, src_len / 2);
    return src_len / 2;
}

static size_t whole(const void *src, size_t src_len)
{
    (void)src;
    return src_len;
}

static void blake3_edges(void)
{
    static const uint8_t of_nothing[4] = {0xaf, 0x13, 0x49, 0xb9};
    uint8_t src[64] = {0}, digests[64];
    uint64_t ranges[4] = {64, 0, 0, 64}, beyond[2] = {1, 64}, wraps[2] = {2, UINT64_MAX};

    CHECK(aip_blake3_many(src, 64, ranges, 2, digests, 64) == AIP_OK);
    CHECK(memcmp(digests, of_nothing, 4) == 0);
    CHECK(aip_blake3_many(NULL, 0, NULL, 0, NULL, 0) == AIP_OK);
    ranges[0] = 0;
    CHECK(aip_blake3_many(NULL, 0, ranges, 1, digests, 32) == AIP_OK);
    CHECK(memcmp(digests, of_nothing, 4) == 0);
    CHECK(aip_blake3_many(NULL, 1, ranges, 1, digests, 32) == AIP_EINVAL);
    CHECK(aip_blake3_many(src, 64, NULL, 1, digests, 32) == AIP_EINVAL);
    CHECK(aip_blake3_many(src, 64, ranges, SIZE_MAX / 8, digests, 64) == AIP_EINVAL);
    CHECK(aip_blake3_many(src, 64, ranges, 2, digests, 63) == AIP_ESPACE);
    CHECK(aip_blake3_many(src, 64, ranges, 2, NULL, 64) == AIP_ESPACE);
    CHECK(aip_blake3_many(src, 64, beyond, 1, digests, 32) == AIP_ERANGE);
    CHECK(aip_blake3_many(src, 64, wraps, 1, digests, 32) == AIP_ERANGE);
    CHECK(aip_blake3_many(src, 64, ranges, 1, src + 63, 32) == AIP_EOVERLAP);
    CHECK(aip_blake3_many(src, 64, ranges, 1, (uint8_t *)ranges, 32) == AIP_EOVERLAP);
}

/* A frame that is stored, of one sector, without extents. */
static size_t stored_frame(uint8_t *record, uint8_t *entry)
{
    static const uint8_t head[16] = {'A', 'I', 'V', 'R', 1, 0, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0};

    memset(record, 7, 568);
    memcpy(record, head, sizeof head);
    memset(entry, 0, 48);
    entry[8] = 568 - 512;
    entry[9] = 2;
    entry[13] = 2;
    CHECK(aip_finish_records(record, 568, entry, 48) == 1);
    return 568;
}

static void record_edges(void)
{
    uint8_t data[568], entry[48], digests[64], types[2], bad[1], value[32] = {0}, kinds[1], dst[512], scratch[512];
    uint64_t ends[2] = {568, 568}, stop[2], copies[4] = {0, 0, 512, 0};
    size_t size = stored_frame(data, entry);
    const uint8_t *origin = data + 16;
    const uint64_t first = UINT64_C(0x0707070707070707);

    CHECK(aip_record_ends(data, size, ends, 2, stop) == 1 && ends[0] == 568 && stop[0] == 568 && stop[1] == 0);
    CHECK(aip_record_ends(data, size, ends, 2, NULL) == AIP_EINVAL);
    CHECK(aip_record_ends(NULL, 1, ends, 2, stop) == AIP_EINVAL);
    CHECK(aip_record_ends(data, size, ends, SIZE_MAX / 4, stop) == AIP_EINVAL);
    CHECK(aip_record_ends(NULL, 0, NULL, 0, stop) == 0);
    CHECK(aip_check_records(data, size, ends, 1, digests, 31, types, 2, bad, 1) == AIP_ESPACE);
    CHECK(aip_check_records(data, size, ends, 1, digests, 64, types, 0, bad, 1) == AIP_ESPACE);
    CHECK(aip_check_records(data, size, ends, 1, digests, 64, types, 2, bad, 0) == AIP_ESPACE);
    CHECK(aip_check_records(data, size, ends, 1, data, 32, types, 2, bad, 1) == AIP_EOVERLAP);
    CHECK(aip_check_records(data, size, ends, 1, digests, 64, digests, 2, bad, 1) == AIP_EOVERLAP);
    CHECK(aip_check_records(data, size, ends, SIZE_MAX / 4, digests, 64, types, 2, bad, 1) == AIP_EINVAL);
    CHECK(aip_check_records(data, size, ends, 1, digests, 64, types, 2, bad, 1) == 0 && types[0] == 1);
    ends[1] = 568;
    CHECK(aip_check_records(data, size, ends, 2, digests, 64, types, 2, bad, 1) == AIP_ERANGE);
    CHECK(aip_finish_records(data, size, entry, 47) == AIP_EINVAL);
    CHECK(aip_finish_records(data, 567, entry, 48) == AIP_ERANGE);
    CHECK(aip_finish_records(data, size, data + 100, 48) == AIP_EOVERLAP);
    CHECK(aip_blake3_chain(value, 31, digests, 32) == AIP_EINVAL);
    CHECK(aip_blake3_chain(value, 32, digests, 33) == AIP_EINVAL);
    CHECK(aip_blake3_chain(digests, 32, digests, 64) == AIP_EOVERLAP);
    CHECK(aip_blake3_chain(value, 32, NULL, 0) == AIP_OK);

    CHECK(aip_check_frames(data, size, entry, 48, origin, 16, first, 0, kinds, 1) == 1);
    CHECK(aip_check_frames(data, size, entry, 48, origin, 15, first, 0, kinds, 1) == AIP_EINVAL);
    CHECK(aip_check_frames(data, size, entry, 48, origin, 16, first, 17, kinds, 1) == AIP_EINVAL);
    CHECK(aip_check_frames(data, size, entry, 48, origin, 16, first, 0, kinds, 0) == AIP_ESPACE);
    CHECK(aip_check_frames(data, size, entry, 48, origin, 16, first, 0, entry + 47, 1) == AIP_EOVERLAP);
    CHECK(aip_check_frames(data, size - 1, entry, 48, origin, 16, first, 0, kinds, 1) == AIP_ERANGE);
    CHECK(aip_check_frames(NULL, 0, NULL, 0, origin, 16, 0, 0, NULL, 0) == 0);
    CHECK(aip_open_frames(halve, whole, NULL, data, size, entry, 48, 0, copies, 1, dst, 512, scratch, 512, kinds, 1) == 1);
    CHECK(memcmp(dst, data + 40, 512) == 0);
    CHECK(aip_open_frames(NULL, whole, NULL, data, size, entry, 48, 0, copies, 1, dst, 512, scratch, 512, kinds, 1) ==
          AIP_EINVAL);
    CHECK(aip_open_frames(halve, whole, NULL, data, size, entry, 48, 0, copies, 1, dst, 512, scratch, 511, kinds, 1) ==
          AIP_ESPACE);
    CHECK(aip_open_frames(halve, whole, NULL, data, size, entry, 48, 0, copies, 1, dst, 512, dst, 512, kinds, 1) ==
          AIP_EOVERLAP);
    CHECK(aip_open_frames(halve, whole, NULL, data, size, entry, 48, 0, copies, 1, dst, 511, scratch, 512, kinds, 1) ==
          AIP_ERANGE);
    CHECK(aip_open_frames(halve, whole, NULL, data, size, entry, 48, 0, copies, SIZE_MAX / 16, dst, 512, scratch, 512,
                          kinds, 1) == AIP_EINVAL);
}

/* What another thread could do while C works: the runs are other ones than those that were counted. */
static size_t scatter(void *context, void *dst, size_t dst_len, const void *src, size_t src_len)
{
    uint64_t *runs = context;

    runs[3] = 1;
    runs[5] = 1;
    return halve(NULL, dst, dst_len, src, src_len);
}

static void frame_edges(void)
{
    static const uint8_t origin[16] = {1};
    uint64_t runs[8] = {0, 1, 9, 3, 20, 3, 40, 1};
    uint8_t src[8 * 512] = {0}, out[8 * 600], entries[8 * 48];

    CHECK(aip_build_frames(halve, NULL, src, 4096, 512, 0, runs, 4, 0, origin, 16, 0, 0, out, sizeof out, entries, 384) ==
          8 * (256 + 56 + 12));
    CHECK(aip_build_frames(halve, NULL, src, 4096, 512, 0, runs, 4, 0, origin, 16, 0, 0, out, 4096 + 8 * 68 - 1, entries,
                           384) == AIP_ESPACE);
    CHECK(aip_build_frames(NULL, NULL, src, 4096, 512, 0, runs, 4, 0, origin, 16, 0, 0, out, 4096 + 8 * 68, entries,
                           384) == 4096 + 8 * 68);
    CHECK(aip_build_frames(halve, NULL, src, 4096, 512, 0, runs, 4, 0, NULL, 16, 0, 0, out, sizeof out, entries, 384) ==
          AIP_EINVAL);
    CHECK(aip_build_frames(halve, NULL, src, 4096, 512, 0, runs, 4, 0, origin, 16, 0, 0, src, 4096, entries, 384) ==
          AIP_EOVERLAP);
    CHECK(aip_build_frames(halve, NULL, NULL, 0, 512, 0, NULL, 0, 0, origin, 16, 0, 0, NULL, 0, NULL, 0) == 0);
    CHECK(aip_build_frames(scatter, runs, src, 4096, 4096, 0, runs, 4, 0, origin, 16, 0, 0, out, sizeof out, entries,
                           48) == AIP_ERANGE);
}

static void scan_edges(void)
{
    uint64_t runs[4];
    uint8_t src[1536] = {1}, digests[16], dst[1024], bits[2][1], expected[16] = {0};

    src[1024] = 1;
    CHECK(aip_scan_pack(src, 1536, 512, runs, 2, digests, 16, dst, 1024) == 2 && dst[0] == 1 && dst[512] == 1);
    CHECK(aip_scan_pack(src, 1536, 512, runs, 1, digests, 16, dst, 1024) == AIP_ESPACE);
    CHECK(aip_scan_pack(src, 1536, 512, runs, 2, digests, 15, dst, 1024) == AIP_ESPACE);
    CHECK(aip_scan_pack(src, 1536, 512, runs, 2, digests, 16, dst, 1023) == AIP_ESPACE);
    CHECK(aip_scan_pack(src, 1536, 512, runs, 2, NULL, 16, dst, 1024) == AIP_EINVAL);
    CHECK(aip_scan_pack(src, 1535, 512, runs, 2, digests, 16, dst, 1024) == AIP_EINVAL);
    CHECK(aip_scan_pack(src, 1536, 512, runs, 2, src + 1530, 16, dst, 1024) == AIP_EOVERLAP);
    CHECK(aip_block_digests(src, 1536, bits[0], 0, digests, 16) == AIP_EINVAL);
    CHECK(aip_block_digests(src, 1536, NULL, 0, digests, 15) == AIP_ESPACE);
    CHECK(aip_block_digests(src, 1536, NULL, 0, src, 16) == AIP_EOVERLAP);
    CHECK(aip_block_digests(NULL, 0, NULL, 0, NULL, 0) == 0);
    CHECK(aip_compare_piece(src, 1536, 512, NULL, 0, expected, 16, bits[0], 1, bits[1], 1, digests, 16) == 3);
    CHECK(bits[0][0] == 5 && bits[1][0] == 7);
    CHECK(aip_compare_piece(src, 1536, 512, NULL, 0, expected, 16, bits[0], 1, bits[1], 1, digests, 15) == AIP_ESPACE);
    CHECK(aip_compare_piece(src, 1536, 512, NULL, 0, expected, 16, bits[0], 0, bits[1], 1, digests, 16) == AIP_ESPACE);
    CHECK(aip_compare_piece(src, 1536, 512, NULL, 0, expected, 15, bits[0], 1, bits[1], 1, digests, 16) == AIP_EINVAL);
    CHECK(aip_compare_piece(src, 1536, 512, NULL, 0, NULL, 0, bits[0], 1, bits[1], 1, digests, 16) == AIP_EINVAL);
    CHECK(aip_compare_piece(src, 1536, 512, src, 1536, NULL, 0, bits[0], 1, bits[1], 1, NULL, 0) == 0);
    CHECK(aip_compare_piece(src, 1536, 512, src, 1536, NULL, 0, bits[0], 1, bits[0], 1, NULL, 0) == AIP_EOVERLAP);
}

int main(void)
{
    for (int scalar = 0; scalar < 2; ++scalar) {
        aip_force_scalar(scalar);
        CHECK(!scalar || !aip_uses_avx2());
        zero_edges();
        zero_sees_every_byte();
        bitmap_edges();
        pack_edges();
        blake3_edges();
        record_edges();
        frame_edges();
        scan_edges();
    }
    return 0;
}
