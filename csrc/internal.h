/* Small helpers shared by the C files; nothing here is visible to Python. */
#ifndef AIP_INTERNAL_H
#define AIP_INTERNAL_H

#include <string.h>

#include "aip.h"

/* A variant for AVX2 is the same inline body compiled a second time with wider registers allowed: no second source
   to keep in step. MSVC has neither the attribute nor the builtin, other processors have no AVX2: there, the plain
   variant is the only one. */
#if (defined(__x86_64__) || defined(__i386__)) && (defined(__GNUC__) || defined(__clang__)) && !defined(_MSC_VER)
#define AIP_HAVE_AVX2 1
#define AIP_TARGET_AVX2 __attribute__((target("avx2,popcnt")))
#else
#define AIP_HAVE_AVX2 0
#endif

#if defined(__GNUC__) || defined(__clang__)
#define AIP_INLINE static inline __attribute__((always_inline))
#else
#define AIP_INLINE static inline
#endif

/* Eight bytes in the machine's order, from any alignment. */
AIP_INLINE uint64_t aip_load64(const uint8_t *p)
{
    uint64_t word;
    memcpy(&word, p, sizeof word);
    return word;
}

/* Up to eight bytes, the first the least significant: bit i of the word is bit i of the bitmap. Compilers turn the
   whole word into one load on little-endian machines. */
AIP_INLINE uint64_t aip_load_le64(const uint8_t *p)
{
    return (uint64_t)p[0] | (uint64_t)p[1] << 8 | (uint64_t)p[2] << 16 | (uint64_t)p[3] << 24 | (uint64_t)p[4] << 32 |
           (uint64_t)p[5] << 40 | (uint64_t)p[6] << 48 | (uint64_t)p[7] << 56;
}

/* A number of an array that another thread may change: read once, so that what is used is what was checked. Without
   `volatile` a compiler may read it again. */
AIP_INLINE uint64_t aip_read_once(const uint64_t *p)
{
    return *(const volatile uint64_t *)p;
}

AIP_INLINE uint32_t aip_load_le32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

AIP_INLINE void aip_store_le32(uint8_t *p, uint32_t word)
{
    p[0] = (uint8_t)word;
    p[1] = (uint8_t)(word >> 8);
    p[2] = (uint8_t)(word >> 16);
    p[3] = (uint8_t)(word >> 24);
}

AIP_INLINE uint32_t aip_rotated32(uint32_t word, unsigned bits)
{
    return word >> bits | word << (32 - bits);
}

AIP_INLINE unsigned aip_popcount64(uint64_t word)
{
#if defined(__GNUC__) || defined(__clang__)
    return (unsigned)__builtin_popcountll(word);
#else
    word -= (word >> 1) & 0x5555555555555555u;
    word = (word & 0x3333333333333333u) + ((word >> 2) & 0x3333333333333333u);
    word = (word + (word >> 4)) & 0x0f0f0f0f0f0f0f0fu;
    return (unsigned)((word * 0x0101010101010101u) >> 56);
#endif
}

/* The number of the lowest set bit; word must not be 0. */
AIP_INLINE unsigned aip_lowest_bit(uint64_t word)
{
#if defined(__GNUC__) || defined(__clang__)
    return (unsigned)__builtin_ctzll(word);
#else
    return aip_popcount64((word & (0u - word)) - 1u);
#endif
}

/* Divide rounding up; unlike (n + d - 1) / d this cannot overflow. */
AIP_INLINE uint64_t aip_ceil_div(uint64_t n, uint64_t d)
{
    return n / d + (n % d != 0);
}

/* Whether `need` bytes fit a buffer; NULL passes only when nothing is needed of it. */
AIP_INLINE int aip_fits(const void *buf, size_t len, uint64_t need)
{
    return need == 0 || (buf != NULL && need <= len);
}

/* Whether [start, start + length) lies inside [0, limit), without forming a sum that could wrap. */
AIP_INLINE int aip_in_range(uint64_t start, uint64_t length, uint64_t limit)
{
    return start <= limit && length <= limit - start;
}

/* Whether two buffers share a byte. */
AIP_INLINE int aip_overlaps(const void *a, size_t a_len, const void *b, size_t b_len)
{
    uintptr_t x = (uintptr_t)a, y = (uintptr_t)b;
    if (a_len == 0 || b_len == 0)
        return 0;
    return x >= y ? x - y < b_len : y - x < a_len;
}

/* Whether `count` numbers can exist at that address: aligned, and their size in bytes does not overflow. */
AIP_INLINE int aip_valid_numbers(const uint64_t *numbers, size_t count)
{
    if (count == 0)
        return 1;
    return numbers != NULL && (uintptr_t)numbers % sizeof *numbers == 0 && count <= SIZE_MAX / sizeof *numbers;
}

/* Whether `count` extents can exist at that address: aligned, and their size in bytes does not overflow. */
AIP_INLINE int aip_valid_extents(const uint64_t *extents, size_t count)
{
    if (count == 0)
        return 1;
    return extents != NULL && (uintptr_t)extents % sizeof *extents == 0 && count <= SIZE_MAX / (2 * sizeof *extents);
}

/* Compress a frame to `to`, or copy it where there is no codec or that makes it no shorter (codec.c). Returns the bytes
   that it takes, AIP_ERANGE where `room` is less than its length, or AIP_ECODEC. */
int64_t aip_encode_one(aip_codec_fn codec, void *context, const uint8_t *from, size_t length, uint8_t *to, size_t room);

/* The digest of `length` bytes padded with zeros to `total` (blake3.c), at most 64 chunks of 1024 bytes. */
void aip_blake3_padded(const uint8_t *p, size_t length, size_t total, uint8_t *digest);

/* Whether all bytes are zero, with the best variant. */
int aip_all_zero(const uint8_t *p, size_t length);

/* Whether the plain C variants were asked for (dispatch.c). */
int aip_scalar_forced(void);

#endif
