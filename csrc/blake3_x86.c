/* BLAKE3 with AVX2, eight chunks at a time, and with AVX-512, sixteen. */
#include "blake3.h"

#if AIP_HAVE_AVX2

#include <immintrin.h>

#define TARGET_AVX2 __attribute__((target("avx2")))
#define TARGET_AVX512 __attribute__((target("avx512f,avx512vl")))

/* Rows of eight words become columns: within pairs, within fours, then the halves. */
TARGET_AVX2 AIP_INLINE void transpose8(__m256i r[8])
{
    __m256i p[8], q[8];
    for (size_t i = 0; i < 4; ++i) {
        p[2 * i] = _mm256_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
        p[2 * i + 1] = _mm256_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
    }
    for (size_t i = 0; i < 2; ++i) {
        q[4 * i] = _mm256_unpacklo_epi64(p[4 * i], p[4 * i + 2]);
        q[4 * i + 1] = _mm256_unpackhi_epi64(p[4 * i], p[4 * i + 2]);
        q[4 * i + 2] = _mm256_unpacklo_epi64(p[4 * i + 1], p[4 * i + 3]);
        q[4 * i + 3] = _mm256_unpackhi_epi64(p[4 * i + 1], p[4 * i + 3]);
    }
    for (size_t i = 0; i < 4; ++i) {
        r[i] = _mm256_permute2x128_si256(q[i], q[i + 4], 0x20);
        r[i + 4] = _mm256_permute2x128_si256(q[i], q[i + 4], 0x31);
    }
}

TARGET_AVX2 AIP_INLINE void transposed_avx2(__m256i m[16], const uint8_t *const *input, size_t at)
{
    for (size_t half = 0; half < 2; ++half) {
        for (size_t lane = 0; lane < 8; ++lane)
            m[8 * half + lane] = _mm256_loadu_si256((const __m256i *)(const void *)(input[lane] + at + 32 * half));
        transpose8(m + 8 * half);
    }
}

#define SHIFTED8(v, n) _mm256_or_si256(_mm256_srli_epi32(v, n), _mm256_slli_epi32(v, 32 - n))
/* Whole bytes move with one shuffle. */
#define BYTES8(v, a, b, c, d)                                                                                         \
    _mm256_shuffle_epi8(v, _mm256_setr_epi8(a, b, c, d, 4 + a, 4 + b, 4 + c, 4 + d, 8 + a, 8 + b, 8 + c, 8 + d,        \
                                            12 + a, 12 + b, 12 + c, 12 + d, a, b, c, d, 4 + a, 4 + b, 4 + c, 4 + d,   \
                                            8 + a, 8 + b, 8 + c, 8 + d, 12 + a, 12 + b, 12 + c, 12 + d))

#define LANES 8
#define VEC __m256i
#define TARGET TARGET_AVX2
#define KERNEL kernel_avx2
#define SPREAD(x) _mm256_set1_epi32((int)(x))
#define LOAD(p) _mm256_loadu_si256((const __m256i *)(const void *)(p))
#define STORE(p, v) _mm256_storeu_si256((__m256i *)(void *)(p), v)
#define ADD(a, b) _mm256_add_epi32(a, b)
#define XOR(a, b) _mm256_xor_si256(a, b)
#define ROT16(v) BYTES8(v, 2, 3, 0, 1)
#define ROT12(v) SHIFTED8(v, 12)
#define ROT8(v) BYTES8(v, 1, 2, 3, 0)
#define ROT7(v) SHIFTED8(v, 7)
#define TRANSPOSED(words, input, at) transposed_avx2(words, input, at)
#include "blake3_lanes.h"

/* Rows of sixteen words become columns: pairs, fours, then quarters of rows twice. */
TARGET_AVX512 AIP_INLINE void transposed_avx512(__m512i m[16], const uint8_t *const *input, size_t at)
{
    __m512i p[16], q[16];
    for (size_t lane = 0; lane < 16; ++lane)
        m[lane] = _mm512_loadu_si512((const void *)(input[lane] + at));
    for (size_t i = 0; i < 8; ++i) {
        p[2 * i] = _mm512_unpacklo_epi32(m[2 * i], m[2 * i + 1]);
        p[2 * i + 1] = _mm512_unpackhi_epi32(m[2 * i], m[2 * i + 1]);
    }
    for (size_t i = 0; i < 4; ++i) {
        q[4 * i] = _mm512_unpacklo_epi64(p[4 * i], p[4 * i + 2]);
        q[4 * i + 1] = _mm512_unpackhi_epi64(p[4 * i], p[4 * i + 2]);
        q[4 * i + 2] = _mm512_unpacklo_epi64(p[4 * i + 1], p[4 * i + 3]);
        q[4 * i + 3] = _mm512_unpackhi_epi64(p[4 * i + 1], p[4 * i + 3]);
    }
    /* q[4i + c] has in its k-th quarter word 4k + c of rows 4i to 4i + 3. */
    for (size_t c = 0; c < 4; ++c) {
        __m512i even01 = _mm512_shuffle_i32x4(q[c], q[4 + c], 0x88), odd01 = _mm512_shuffle_i32x4(q[c], q[4 + c], 0xdd);
        __m512i even23 = _mm512_shuffle_i32x4(q[8 + c], q[12 + c], 0x88);
        __m512i odd23 = _mm512_shuffle_i32x4(q[8 + c], q[12 + c], 0xdd);
        m[c] = _mm512_shuffle_i32x4(even01, even23, 0x88);
        m[8 + c] = _mm512_shuffle_i32x4(even01, even23, 0xdd);
        m[4 + c] = _mm512_shuffle_i32x4(odd01, odd23, 0x88);
        m[12 + c] = _mm512_shuffle_i32x4(odd01, odd23, 0xdd);
    }
}

#define LANES 16
#define VEC __m512i
#define TARGET TARGET_AVX512
#define KERNEL kernel_avx512
#define SPREAD(x) _mm512_set1_epi32((int)(x))
#define LOAD(p) _mm512_loadu_si512((const void *)(p))
#define STORE(p, v) _mm512_storeu_si512((void *)(p), v)
#define ADD(a, b) _mm512_add_epi32(a, b)
#define XOR(a, b) _mm512_xor_si512(a, b)
#define ROT16(v) _mm512_ror_epi32(v, 16)
#define ROT12(v) _mm512_ror_epi32(v, 12)
#define ROT8(v) _mm512_ror_epi32(v, 8)
#define ROT7(v) _mm512_ror_epi32(v, 7)
#define TRANSPOSED(words, input, at) transposed_avx512(words, input, at)
#include "blake3_lanes.h"

size_t aip_blake3_ways(struct blake3_way ways[2])
{
    size_t count = 0;
    if (!aip_uses_avx2())
        return 0;
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl"))
        ways[count++] = (struct blake3_way){kernel_avx512, 16};
    ways[count++] = (struct blake3_way){kernel_avx2, 8};
    return count;
}

#endif
