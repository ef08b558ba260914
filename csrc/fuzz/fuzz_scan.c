/* aip_block_digests, aip_scan_pack and aip_compare_piece against loops over sectors and blocks. */
#include "common.h"

static void digest_of(const uint8_t *data, size_t size, size_t block, uint8_t out[16])
{
    uint8_t *copy = exact(65536), whole[32];
    uint64_t range[2] = {0, 65536};
    size_t start = block * 65536, length = size - start < 65536 ? size - start : 65536;

    memcpy(copy, data + start, length);
    CHECK(aip_blake3_many(copy, 65536, range, 1, whole, 32) == AIP_OK);
    memcpy(out, whole, 16);
    if (aip_is_zero(copy, 65536))
        memset(out, 0, 16);
    free(copy);
}

static void check_pack(struct input *in, const uint8_t *data, size_t size, size_t cluster, int digests)
{
    size_t max_runs = take(in, 1) % 8 ? size / cluster + 1 : (size_t)take(in, 1) % 4, blocks = (size + 65535) / 65536;
    size_t dst_len = take(in, 1) % 8 ? size : (size_t)take(in, 2);
    uint64_t *runs = exact(16 * max_runs);
    uint8_t *dst = exact(dst_len), *found = exact(digests ? 16 * blocks : 0), wanted[16];
    int64_t count = aip_scan_pack(data, size, cluster, runs, max_runs, found, digests ? 16 * blocks : 0, dst, dst_len);
    size_t run = 0, total = 0, at = 0;
    int before = 0;

    for (size_t start = 0; start < size; start += cluster) {
        size_t length = size - start < cluster ? size - start : cluster;
        int filled = !aip_is_zero(data + start, length);
        run += filled && !before;
        total += filled ? length : 0;
        before = filled;
    }
    if (size % 512)
        CHECK(count == AIP_EINVAL);
    else if (run > max_runs || (run > 1 && total > dst_len))
        CHECK(count == AIP_ESPACE);
    else {
        CHECK(count == (int64_t)run);
        for (size_t i = 0; i < run; ++i) {
            size_t start = (size_t)runs[2 * i] * 512, length = (size_t)runs[2 * i + 1] * 512;
            CHECK(start % cluster == 0 && length && length <= size - start);
            CHECK(run == 1 || memcmp(dst + at, data + start, length) == 0);
            at += length;
        }
        CHECK(at == total);
        for (size_t block = 0; digests && block < blocks; ++block) {
            digest_of(data, size, block, wanted);
            CHECK(memcmp(found + 16 * block, wanted, 16) == 0);
        }
    }
    free(runs);
    free(dst);
    free(found);
}

static void check_compare(struct input *in, const uint8_t *data, size_t size, size_t cluster)
{
    size_t blocks = (size + 65535) / 65536, clusters = (size + cluster - 1) / cluster, bytes = bytes_for(clusters);
    uint8_t *was = exact_copy(data, size), *nonzero = exact(bytes), *differs = exact(bytes);
    uint8_t *expected = exact(16 * blocks), *now = exact(16 * blocks), *digests = exact(16 * blocks);
    int64_t count = 0, status;

    for (size_t changes = (size_t)take(in, 1) % 4; size && changes; --changes)
        was[take(in, 3) % size] ^= (uint8_t)take(in, 1);
    CHECK(aip_block_digests(was, size, NULL, 0, expected, 16 * blocks) >= 0);
    CHECK(aip_block_digests(data, size, NULL, 0, now, 16 * blocks) >= 0);
    status = aip_compare_piece(data, size, cluster, was, size, NULL, 0, nonzero, bytes, differs, bytes, NULL, 0);
    CHECK(tail_clear(nonzero, clusters) && tail_clear(differs, clusters));
    for (size_t i = 0; i < clusters; ++i) {
        size_t start = i * cluster, length = size - start < cluster ? size - start : cluster;
        CHECK((int)bit_of(nonzero, i) == !aip_is_zero(data + start, length));
        CHECK((int)bit_of(differs, i) == (memcmp(data + start, was + start, length) != 0));
        count += bit_of(differs, i);
    }
    CHECK(status == count);
    status = aip_compare_piece(data, size, cluster, NULL, 0, blocks ? expected : NULL, 16 * blocks, nonzero, bytes,
                               differs, bytes, digests, 16 * blocks);
    CHECK(status >= 0 && memcmp(digests, now, 16 * blocks) == 0);
    for (size_t i = 0; i < clusters; ++i) {
        size_t block = i * cluster / 65536;
        CHECK((int)bit_of(differs, i) == (memcmp(expected + 16 * block, now + 16 * block, 16) != 0));
    }
    free(was);
    free(nonzero);
    free(differs);
    free(expected);
    free(now);
    free(digests);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t input_size)
{
    struct input in = {input, input_size};
    size_t size = (size_t)take(&in, 2) * 3, cluster = (size_t)512 << take(&in, 1) % 5, spots = (size_t)take(&in, 1) % 8;
    uint8_t wanted[16], bits;

    aip_force_scalar((int)(take(&in, 1) % 4 == 0));
    size = take(&in, 1) % 4 ? size / 512 * 512 : size;
    uint8_t *data = exact(size);
    for (; size && spots; --spots) {
        size_t start = (size_t)take(&in, 3) % size, length = (size_t)take(&in, 2) % (size - start + 1);
        memset(data + start, (int)take(&in, 1), length);
    }
    bits = (uint8_t)take(&in, 1);
    size_t blocks = (size + 65535) / 65536;
    uint8_t *found = exact(16 * blocks);
    CHECK(aip_block_digests(data, size, &bits, 1, found, 16 * blocks) >= 0);
    for (size_t block = 0; block < blocks; ++block) {
        digest_of(data, size, block, wanted);
        if (!(bits >> block & 1))
            memset(wanted, 0, 16);
        CHECK(memcmp(found + 16 * block, wanted, 16) == 0);
    }
    free(found);
    check_pack(&in, data, size, cluster, (int)take(&in, 1) % 2);
    check_compare(&in, data, size, cluster);
    free(data);
    return 0;
}
