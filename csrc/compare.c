/* Comparing two buffers block by block. There is no AVX2 variant: memcmp of the C library chooses its own. */
#include "internal.h"

int aip_compare_blocks(const void *a, size_t a_len, const void *b, size_t b_len, size_t block, uint8_t *bitmap,
                       size_t bitmap_len)
{
    const uint8_t *p = a, *q = b;
    size_t len = a_len;
    uint64_t need;

    if (block == 0 || a_len != b_len || !aip_fits(a, a_len, a_len) || !aip_fits(b, b_len, b_len))
        return AIP_EINVAL;
    need = aip_ceil_div(aip_ceil_div(len, block), 8);
    if (!aip_fits(bitmap, bitmap_len, need))
        return AIP_ESPACE;
    if (aip_overlaps(a, len, bitmap, (size_t)need) || aip_overlaps(b, len, bitmap, (size_t)need))
        return AIP_EOVERLAP;
    for (size_t byte = 0; byte < need; ++byte) {
        unsigned bits = 0;
        for (unsigned bit = 0; bit < 8 && len; ++bit) {
            size_t part = len < block ? len : block;
            bits |= (unsigned)(memcmp(p, q, part) != 0) << bit;
            p += part;
            q += part;
            len -= part;
        }
        bitmap[byte] = (uint8_t)bits;
    }
    return AIP_OK;
}
