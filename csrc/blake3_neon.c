/* BLAKE3 with NEON, four chunks at a time; and the answer of processors that have none of these ways. */
#include "blake3.h"

#if defined(__aarch64__) && (defined(__GNUC__) || defined(__clang__)) && defined(__ORDER_LITTLE_ENDIAN__) &&            \
    __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__

#include <arm_neon.h>

AIP_INLINE void transpose4(uint32x4_t r[4])
{
    uint32x4x2_t top = vtrnq_u32(r[0], r[1]), bottom = vtrnq_u32(r[2], r[3]);
    r[0] = vcombine_u32(vget_low_u32(top.val[0]), vget_low_u32(bottom.val[0]));
    r[1] = vcombine_u32(vget_low_u32(top.val[1]), vget_low_u32(bottom.val[1]));
    r[2] = vcombine_u32(vget_high_u32(top.val[0]), vget_high_u32(bottom.val[0]));
    r[3] = vcombine_u32(vget_high_u32(top.val[1]), vget_high_u32(bottom.val[1]));
}

AIP_INLINE void transposed_neon(uint32x4_t m[16], const uint8_t *const *input, size_t at)
{
    for (size_t part = 0; part < 4; ++part) {
        for (size_t lane = 0; lane < 4; ++lane)
            m[4 * part + lane] = vreinterpretq_u32_u8(vld1q_u8(input[lane] + at + 16 * part));
        transpose4(m + 4 * part);
    }
}

#define SHIFTED4(v, n) vsriq_n_u32(vshlq_n_u32(v, 32 - (n)), v, n)

#define LANES 4
#define VEC uint32x4_t
#define TARGET
#define KERNEL kernel_neon
#define SPREAD(x) vdupq_n_u32(x)
#define LOAD(p) vld1q_u32(p)
#define STORE(p, v) vst1q_u32(p, v)
#define ADD(a, b) vaddq_u32(a, b)
#define XOR(a, b) veorq_u32(a, b)
#define ROT16(v) vreinterpretq_u32_u16(vrev32q_u16(vreinterpretq_u16_u32(v)))
#define ROT12(v) SHIFTED4(v, 12)
#define ROT8(v) SHIFTED4(v, 8)
#define ROT7(v) SHIFTED4(v, 7)
#define TRANSPOSED(words, input, at) transposed_neon(words, input, at)
#include "blake3_lanes.h"

size_t aip_blake3_ways(struct blake3_way ways[2])
{
    if (aip_scalar_forced())
        return 0;
    ways[0] = (struct blake3_way){kernel_neon, 4};
    return 1;
}

#elif !AIP_HAVE_AVX2

size_t aip_blake3_ways(struct blake3_way ways[2])
{
    (void)ways;
    return 0;
}

#endif
