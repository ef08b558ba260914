/* One look at a piece of a device: what of it is not zeros, the digests of its blocks (docs/format.md, section 8), and
   how it differs from what it was. */
#include "records.h"

/* Which byte ranges are made digests of; blocks[i] is the number of the block. */
struct batch {
    uint64_t ranges[2 * AT_ONCE];
    size_t blocks[AT_ONCE], count;
};

static void digest_batch(const uint8_t *p, size_t len, struct batch *batch, uint8_t *digests)
{
    uint8_t found[AT_ONCE * 32];

    aip_blake3_many(p, len, batch->ranges, batch->count, found, batch->count * DIGEST);
    for (size_t i = 0; i < batch->count; ++i)
        memcpy(digests + batch->blocks[i] * AIP_BLOCK_DIGEST, found + i * DIGEST, AIP_BLOCK_DIGEST);
    batch->count = 0;
}

/* Digests of the blocks of `p` whose bit is set in `wanted`, of all where that is NULL; zeros for the others, and for
   blocks of zeros. Returns how many are not zeros. */
static int64_t digest_blocks(const uint8_t *p, size_t len, const uint8_t *wanted, uint8_t *digests)
{
    size_t blocks = (size_t)aip_ceil_div(len, AIP_BLOCK);
    struct batch batch;
    int64_t filled = 0;

    batch.count = 0;
    for (size_t block = 0; block < blocks; ++block) {
        size_t start = block * AIP_BLOCK, length = len - start < AIP_BLOCK ? len - start : AIP_BLOCK;

        memset(digests + block * AIP_BLOCK_DIGEST, 0, AIP_BLOCK_DIGEST);
        if ((wanted != NULL && !(wanted[block / 8] >> block % 8 & 1u)) || aip_all_zero(p + start, length))
            continue;
        ++filled;
        if (length < AIP_BLOCK) {
            uint8_t found[32];
            aip_blake3_padded(p + start, length, AIP_BLOCK, found);
            memcpy(digests + block * AIP_BLOCK_DIGEST, found, AIP_BLOCK_DIGEST);
            continue;
        }
        batch.ranges[2 * batch.count] = start;
        batch.ranges[2 * batch.count + 1] = length;
        batch.blocks[batch.count++] = block;
        if (batch.count == AT_ONCE)
            digest_batch(p, len, &batch, digests);
    }
    digest_batch(p, len, &batch, digests);
    return filled;
}

int64_t aip_block_digests(const void *src, size_t src_len, const uint8_t *wanted, size_t wanted_len, uint8_t *digests,
                          size_t digests_len)
{
    uint64_t blocks = aip_ceil_div(src_len, AIP_BLOCK);

    if (!aip_fits(src, src_len, src_len) || (wanted != NULL && wanted_len < aip_ceil_div(blocks, 8)))
        return AIP_EINVAL;
    if (!aip_fits(digests, digests_len, blocks * AIP_BLOCK_DIGEST))
        return AIP_ESPACE;
    if (aip_overlaps(src, src_len, digests, digests_len) || aip_overlaps(wanted, wanted_len, digests, digests_len))
        return AIP_EOVERLAP;
    return digest_blocks(src, src_len, wanted, digests);
}

int64_t aip_scan_pack(const void *src, size_t src_len, size_t cluster, uint64_t *runs, size_t max_runs,
                      uint8_t *digests, size_t digests_len, void *dst, size_t dst_len)
{
    uint64_t blocks = aip_ceil_div(src_len, AIP_BLOCK), total = 0;
    int64_t count;

    if (src_len % AIP_SECTOR || !aip_fits(dst, dst_len, dst_len) || !aip_fits(digests, digests_len, digests_len))
        return AIP_EINVAL;
    if (digests_len && digests_len < blocks * AIP_BLOCK_DIGEST)
        return AIP_ESPACE;
    if (aip_overlaps(src, src_len, dst, dst_len) || aip_overlaps(src, src_len, digests, digests_len) ||
        aip_overlaps(dst, dst_len, digests, digests_len) ||
        aip_overlaps(runs, max_runs * 2 * sizeof *runs, dst, dst_len) ||
        aip_overlaps(runs, max_runs * 2 * sizeof *runs, digests, digests_len))
        return AIP_EOVERLAP;
    count = aip_nonzero_extents(src, src_len, cluster, runs, max_runs);
    if (count < 0)
        return count;
    if ((uint64_t)count > max_runs)
        return AIP_ESPACE;
    for (int64_t i = 0; i < count; ++i) {
        uint64_t start = aip_read_once(runs + 2 * i) * (cluster / AIP_SECTOR), end = src_len / AIP_SECTOR;
        uint64_t length = aip_read_once(runs + 2 * i + 1) * (cluster / AIP_SECTOR);
        /* Another thread may have changed the array since. */
        if (start > end)
            return AIP_ERANGE;
        length = length < end - start ? length : end - start;
        runs[2 * i] = start;
        runs[2 * i + 1] = length;
        total += length;
    }
    if (count > 1 && total * AIP_SECTOR > dst_len)
        return AIP_ESPACE;
    if (digests_len)
        digest_blocks(src, src_len, NULL, digests);
    if (count > 1) {
        uint8_t *to = dst;
        for (int64_t i = 0; i < count; ++i) {
            uint64_t start = aip_read_once(runs + 2 * i), length = aip_read_once(runs + 2 * i + 1);
            if (!aip_in_range(start, length, src_len / AIP_SECTOR) || length > total)
                return AIP_ERANGE;
            memcpy(to, (const uint8_t *)src + start * AIP_SECTOR, (size_t)length * AIP_SECTOR);
            to += length * AIP_SECTOR;
            total -= length;
        }
    }
    return count;
}

/* Set the bits of the clusters of a block. */
static void mark_block(uint8_t *bits, size_t block, size_t cluster, size_t clusters)
{
    size_t per = AIP_BLOCK / cluster, end = (block + 1) * per < clusters ? (block + 1) * per : clusters;

    for (size_t i = block * per; i < end; ++i)
        bits[i / 8] |= (uint8_t)(1u << i % 8);
}

int64_t aip_compare_piece(const void *src, size_t src_len, size_t cluster, const void *was, size_t was_len,
                          const uint8_t *expected, size_t expected_len, uint8_t *nonzero, size_t nonzero_len,
                          uint8_t *differs, size_t differs_len, uint8_t *digests, size_t digests_len)
{
    size_t clusters, blocks, bytes;
    int status;

    if (cluster == 0 || !aip_fits(src, src_len, src_len) || !aip_fits(was, was_len, was_len) ||
        !aip_fits(expected, expected_len, expected_len) || !aip_fits(nonzero, nonzero_len, nonzero_len) ||
        !aip_fits(differs, differs_len, differs_len) || !aip_fits(digests, digests_len, digests_len))
        return AIP_EINVAL;
    clusters = (size_t)aip_ceil_div(src_len, cluster);
    blocks = (size_t)aip_ceil_div(src_len, AIP_BLOCK);
    bytes = (clusters + 7) / 8;
    if (expected_len ? expected_len != blocks * AIP_BLOCK_DIGEST || was_len || cluster > AIP_BLOCK
                     : was_len != src_len)
        return AIP_EINVAL;
    if (nonzero_len < bytes || differs_len < bytes || (expected_len && digests_len < expected_len))
        return AIP_ESPACE;
    const struct {
        const void *at;
        size_t length;
    } read[] = {{src, src_len}, {was, was_len}, {expected, expected_len}},
      written[] = {{nonzero, nonzero_len}, {differs, differs_len}, {digests, digests_len}};
    for (size_t i = 0; i < 3; ++i)
        for (size_t k = 0; k < 3; ++k)
            if (aip_overlaps(read[i].at, read[i].length, written[k].at, written[k].length) ||
                (i < k && aip_overlaps(written[i].at, written[i].length, written[k].at, written[k].length)))
                return AIP_EOVERLAP;
    status = aip_nonzero_bitmap(src, src_len, cluster, nonzero, nonzero_len);
    if (status < 0)
        return status;
    if (expected_len == 0) {
        status = aip_compare_blocks(src, src_len, was, was_len, cluster, differs, differs_len);
        return status < 0 ? status : aip_bitmap_count(differs, bytes, clusters);
    }
    memset(differs, 0, bytes);
    digest_blocks(src, src_len, NULL, digests);
    for (size_t block = 0; block < blocks; ++block)
        if (memcmp(digests + block * AIP_BLOCK_DIGEST, expected + block * AIP_BLOCK_DIGEST, AIP_BLOCK_DIGEST) != 0)
            mark_block(differs, block, cluster, clusters);
    return aip_bitmap_count(differs, bytes, clusters);
}
