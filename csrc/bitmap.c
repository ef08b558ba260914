/* Set operations and counting on packed bitmaps. */
#include "internal.h"

/* Bytes a step; the step loads all of its input before it stores, so that `out` may be an input itself. */
#define STEP ((size_t)64)

AIP_INLINE uint64_t combine_word(int op, uint64_t a, uint64_t b)
{
    switch (op) {
    case AIP_AND: return a & b;
    case AIP_OR: return a | b;
    default: return a & ~b;
    }
}

/* `op` is a constant at every call, so each becomes a loop without the switch. */
AIP_INLINE void combine_body(int op, const uint8_t *a, const uint8_t *b, uint8_t *out, size_t len)
{
    size_t i = 0;
    for (; i + STEP <= len; i += STEP) {
        uint64_t words[STEP / 8];
        for (size_t k = 0; k < STEP / 8; ++k)
            words[k] = combine_word(op, aip_load64(a + i + 8 * k), aip_load64(b + i + 8 * k));
        memcpy(out + i, words, STEP);
    }
    for (; i < len; ++i)
        out[i] = (uint8_t)combine_word(op, a[i], b[i]);
}

/* Loads and stores bound this loop: built for AVX2 it measured no faster (benchmarks/test_core.py), so it has no variant. */
static void combine_all(int op, const uint8_t *a, const uint8_t *b, uint8_t *out, size_t len)
{
    switch (op) {
    case AIP_AND: combine_body(AIP_AND, a, b, out, len); break;
    case AIP_OR: combine_body(AIP_OR, a, b, out, len); break;
    default: combine_body(AIP_ANDNOT, a, b, out, len); break;
    }
}

AIP_INLINE uint64_t count_body(const uint8_t *p, size_t len)
{
    uint64_t ones = 0;
    for (; len >= 8; p += 8, len -= 8)
        ones += aip_popcount64(aip_load64(p));
    for (; len; ++p, --len)
        ones += aip_popcount64(*p);
    return ones;
}

static uint64_t count_plain(const uint8_t *p, size_t len)
{
    return count_body(p, len);
}

#if AIP_HAVE_AVX2
/* Measured (benchmarks/test_core.py): five times as fast, by the processor's own popcount. */
AIP_TARGET_AVX2 static uint64_t count_avx2(const uint8_t *p, size_t len)
{
    return count_body(p, len);
}
#endif

/* The bits of the last byte that belong to a bitmap of nbits bits. */
static uint8_t tail_mask(uint64_t nbits)
{
    return nbits % 8 ? (uint8_t)((1u << nbits % 8) - 1u) : 0xff;
}

static int overlaps_in_part(const uint8_t *in, const uint8_t *out, size_t len)
{
    return in != out && aip_overlaps(in, len, out, len);
}

int aip_bitmap_combine(int op, const uint8_t *a, size_t a_len, const uint8_t *b, size_t b_len, uint8_t *out,
                       size_t out_len, uint64_t nbits)
{
    uint64_t need = aip_ceil_div(nbits, 8);
    size_t len = (size_t)need;

    if (op < AIP_AND || op > AIP_ANDNOT)
        return AIP_EINVAL;
    if (!aip_fits(a, a_len, need) || !aip_fits(b, b_len, need))
        return AIP_ERANGE;
    if (!aip_fits(out, out_len, need))
        return AIP_ESPACE;
    if (overlaps_in_part(a, out, len) || overlaps_in_part(b, out, len))
        return AIP_EOVERLAP;
    if (len == 0)
        return AIP_OK;
    combine_all(op, a, b, out, len);
    out[len - 1] &= tail_mask(nbits);
    return AIP_OK;
}

int64_t aip_bitmap_count(const uint8_t *bitmap, size_t bitmap_len, uint64_t nbits)
{
    size_t whole = (size_t)(nbits / 8);
    uint64_t ones;

    if (!aip_fits(bitmap, bitmap_len, aip_ceil_div(nbits, 8)))
        return AIP_ERANGE;
#if AIP_HAVE_AVX2
    if (aip_uses_avx2())
        ones = count_avx2(bitmap, whole);
    else
#endif
        ones = count_plain(bitmap, whole);
    if (nbits % 8)
        ones += aip_popcount64((uint64_t)(bitmap[whole] & tail_mask(nbits)));
    return (int64_t)ones;
}
