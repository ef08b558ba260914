/* Finding the parts of a buffer that are all zero. */
#include "internal.h"

#define MIN_CLUSTER ((size_t)512)
#define MAX_CLUSTER ((size_t)2 << 20)
/* Bytes looked at between two exits: wide enough to fill the vector units, small enough that a cluster of data, whose
   first bytes are seldom all zero, is left at once. */
#define STEP ((size_t)256)

typedef int (*zero_test)(const uint8_t *p, size_t len);

AIP_INLINE int zero_body(const uint8_t *p, size_t len)
{
    uint64_t any = 0;
    for (; len >= STEP; p += STEP, len -= STEP) {
        any = 0;
        for (size_t i = 0; i < STEP; i += 8)
            any |= aip_load64(p + i);
        if (any)
            return 0;
    }
    for (; len >= 8; p += 8, len -= 8)
        any |= aip_load64(p);
    for (; len; ++p, --len)
        any |= *p;
    return any == 0;
}

static int zero_plain(const uint8_t *p, size_t len)
{
    return zero_body(p, len);
}

#if AIP_HAVE_AVX2
/* Measured (benchmarks/test_core.py): up to a fifth faster on buffers in cache, which the hot path has just read; no
   difference on buffers in memory. */
AIP_TARGET_AVX2 static int zero_avx2(const uint8_t *p, size_t len)
{
    return zero_body(p, len);
}
#endif

static zero_test pick_test(void)
{
#if AIP_HAVE_AVX2
    if (aip_uses_avx2())
        return zero_avx2;
#endif
    return zero_plain;
}

static int valid_cluster(size_t cluster)
{
    return cluster >= MIN_CLUSTER && cluster <= MAX_CLUSTER && (cluster & (cluster - 1)) == 0;
}

int aip_all_zero(const uint8_t *p, size_t length)
{
    return pick_test()(p, length);
}

int aip_is_zero(const void *buf, size_t len)
{
    if (!aip_fits(buf, len, len))
        return AIP_EINVAL;
    return pick_test()(buf, len);
}

int aip_nonzero_bitmap(const void *buf, size_t len, size_t cluster, uint8_t *bitmap, size_t bitmap_len)
{
    const uint8_t *p = buf;
    zero_test is_zero = pick_test();
    uint64_t need;

    if (!valid_cluster(cluster) || !aip_fits(buf, len, len))
        return AIP_EINVAL;
    need = aip_ceil_div(aip_ceil_div(len, cluster), 8);
    if (!aip_fits(bitmap, bitmap_len, need))
        return AIP_ESPACE;
    if (aip_overlaps(buf, len, bitmap, (size_t)need))
        return AIP_EOVERLAP;
    for (size_t byte = 0; byte < need; ++byte) {
        unsigned bits = 0;
        for (unsigned bit = 0; bit < 8 && len; ++bit) {
            size_t part = len < cluster ? len : cluster;
            bits |= (unsigned)!is_zero(p, part) << bit;
            p += part;
            len -= part;
        }
        bitmap[byte] = (uint8_t)bits;
    }
    return AIP_OK;
}

int64_t aip_nonzero_extents(const void *buf, size_t len, size_t cluster, uint64_t *extents, size_t max_extents)
{
    const uint8_t *p = buf;
    zero_test is_zero = pick_test();
    uint64_t index = 0, start = 0;
    size_t count = 0;
    int in_run = 0;

    if (!valid_cluster(cluster) || !aip_fits(buf, len, len) || !aip_valid_extents(extents, max_extents))
        return AIP_EINVAL;
    if (aip_overlaps(buf, len, extents, max_extents * 2 * sizeof *extents))
        return AIP_EOVERLAP;
    for (;; ++index) {
        size_t part = len < cluster ? len : cluster;
        int data = part && !is_zero(p, part);
        if (data && !in_run) {
            start = index;
        } else if (!data && in_run) {
            if (count < max_extents) {
                extents[2 * count] = start;
                extents[2 * count + 1] = index - start;
            }
            ++count;
        }
        in_run = data;
        if (!part)
            return (int64_t)count;
        p += part;
        len -= part;
    }
}
