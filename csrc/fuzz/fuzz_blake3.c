/* aip_blake3_many against the specification read literally: one block at a time, the tree by recursion. */
#include "common.h"

static const uint32_t IV[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                               0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
static const unsigned PERMUTATION[16] = {2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8};

static uint32_t right(uint32_t x, unsigned n)
{
    return x >> n | x << (32 - n);
}

static void quarter(uint32_t v[16], unsigned a, unsigned b, unsigned c, unsigned d, uint32_t x, uint32_t y)
{
    v[a] = v[a] + v[b] + x;
    v[d] = right(v[d] ^ v[a], 16);
    v[c] = v[c] + v[d];
    v[b] = right(v[b] ^ v[c], 12);
    v[a] = v[a] + v[b] + y;
    v[d] = right(v[d] ^ v[a], 8);
    v[c] = v[c] + v[d];
    v[b] = right(v[b] ^ v[c], 7);
}

static void naive_block(uint32_t cv[8], const uint8_t *p, unsigned length, uint64_t counter, unsigned flags)
{
    uint32_t v[16], m[16], next[16];
    for (unsigned i = 0; i < 16; ++i) {
        v[i] = i < 8 ? cv[i] : IV[i % 4];
        m[i] = 0;
        for (unsigned byte = 0; byte < 4; ++byte)
            if (4 * i + byte < length)
                m[i] |= (uint32_t)p[4 * i + byte] << 8 * byte;
    }
    v[12] = (uint32_t)counter;
    v[13] = (uint32_t)(counter >> 32);
    v[14] = length;
    v[15] = flags;
    for (unsigned round = 0; round < 7; ++round) {
        for (unsigned i = 0; i < 4; ++i)
            quarter(v, i, 4 + i, 8 + i, 12 + i, m[2 * i], m[2 * i + 1]);
        for (unsigned i = 0; i < 4; ++i)
            quarter(v, i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4, m[8 + 2 * i], m[9 + 2 * i]);
        for (unsigned i = 0; i < 16; ++i)
            next[i] = m[PERMUTATION[i]];
        memcpy(m, next, sizeof m);
    }
    for (unsigned i = 0; i < 8; ++i)
        cv[i] = v[i] ^ v[i + 8];
}

static void naive(const uint8_t *p, size_t length, uint64_t counter, unsigned root, uint8_t out[32])
{
    uint32_t cv[8];
    memcpy(cv, IV, sizeof cv);
    if (length <= 1024) {
        size_t at = 0;
        do {
            unsigned part = length - at < 64 ? (unsigned)(length - at) : 64;
            unsigned flags = (at == 0 ? 1u : 0u) | (at + part == length ? 2u | root : 0u);
            naive_block(cv, p + at, part, counter, flags);
            at += part;
        } while (at < length);
    } else {
        uint8_t pair[64];
        size_t left = 1024;
        while (2 * left < length)
            left *= 2;
        naive(p, left, counter, 0, pair);
        naive(p + left, length - left, counter + left / 1024, 0, pair + 32);
        naive_block(cv, pair, 64, 0, 4 | root);
    }
    for (unsigned i = 0; i < 32; ++i)
        out[i] = (uint8_t)(cv[i / 4] >> i % 4 * 8);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    size_t len = (size_t)take(&in, 2) * 3, count = 1 + (size_t)take(&in, 1) % 40;
    uint64_t state = take(&in, 8) | 1;
    uint8_t *buf = exact(len), *digests = exact(32 * count), wanted[32];
    uint64_t *ranges = exact(16 * count);

    aip_force_scalar((int)(take(&in, 1) % 4 == 0));
    for (size_t i = 0; i < len; ++i) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        buf[i] = (uint8_t)(state >> 24);
    }
    for (size_t i = 0; i < count; ++i) {
        ranges[2 * i] = take(&in, 3) % (len + 1);
        /* Whole chunks as often as not: they take another way than what ends within one. */
        uint64_t wish = take(&in, 3) % (len - ranges[2 * i] + 1);
        ranges[2 * i + 1] = state >> i & 1 ? wish / 1024 * 1024 : wish;
    }
    CHECK(aip_blake3_many(buf, len, ranges, count, digests, 32 * count) == AIP_OK);
    for (size_t i = 0; i < count; ++i) {
        naive(buf + ranges[2 * i], (size_t)ranges[2 * i + 1], 0, 8, wanted);
        CHECK(memcmp(wanted, digests + 32 * i, 32) == 0);
    }
    free(ranges);
    free(digests);
    free(buf);
    return 0;
}
