/* What the parts of BLAKE3 share: constants of its specification, and the kernels that blake3.c chooses
   from. Names are the specification's. */
#ifndef AIP_BLAKE3_H
#define AIP_BLAKE3_H

#include "internal.h"

#define BLAKE3_CHUNK ((size_t)1024)
#define BLAKE3_BLOCK ((size_t)64)
#define BLAKE3_CV ((size_t)32)

enum { CHUNK_START = 1, CHUNK_END = 2, PARENT = 4, ROOT = 8 };

/* The most jobs that any kernel takes with one call. */
#define BLAKE3_LANES_MAX 16

/* Jobs of one call: each lane hashes `blocks` whole blocks from its own place, to a chaining value. `first` and `last`
   are what the flags of the first and last block have beside `flags`; those of the last differ by lane, because one
   input may end where another goes on. */
struct blake3_jobs {
    const uint8_t *input[BLAKE3_LANES_MAX];
    uint64_t counter[BLAKE3_LANES_MAX];
    uint32_t last[BLAKE3_LANES_MAX];
    uint8_t *cv[BLAKE3_LANES_MAX];
    size_t blocks;
    uint32_t flags, first;
};

/* Hashes lanes 0 to `lanes` of the kernel; every lane must have a job. */
typedef void (*blake3_kernel)(const struct blake3_jobs *jobs);

struct blake3_way {
    blake3_kernel kernel;
    size_t lanes;
};

static const uint32_t blake3_iv[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                      0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

/* The quarter round and the rounds of 2.2, for whatever the including file calls ADD, XOR and ROT16 to ROT7 (rotations
   to the right): of words, or of vectors of them. */
#define BLAKE3_G(v, a, b, c, d, x, y)                                                                                 \
    do {                                                                                                              \
        v[a] = ADD(ADD(v[a], v[b]), x);                                                                               \
        v[d] = ROT16(XOR(v[d], v[a]));                                                                                \
        v[c] = ADD(v[c], v[d]);                                                                                       \
        v[b] = ROT12(XOR(v[b], v[c]));                                                                                \
        v[a] = ADD(ADD(v[a], v[b]), y);                                                                               \
        v[d] = ROT8(XOR(v[d], v[a]));                                                                                 \
        v[c] = ADD(v[c], v[d]);                                                                                       \
        v[b] = ROT7(XOR(v[b], v[c]));                                                                                 \
    } while (0)

/* Words of the block in the order in which a round takes them: the permutation of its 2.2, once more each round. */
#define BLAKE3_ROUND(v, m, a, b, c, d, e, f, g, h, i, j, k, l, n, o, p, q)                                            \
    do {                                                                                                              \
        BLAKE3_G(v, 0, 4, 8, 12, m[a], m[b]);                                                                         \
        BLAKE3_G(v, 1, 5, 9, 13, m[c], m[d]);                                                                         \
        BLAKE3_G(v, 2, 6, 10, 14, m[e], m[f]);                                                                        \
        BLAKE3_G(v, 3, 7, 11, 15, m[g], m[h]);                                                                        \
        BLAKE3_G(v, 0, 5, 10, 15, m[i], m[j]);                                                                        \
        BLAKE3_G(v, 1, 6, 11, 12, m[k], m[l]);                                                                        \
        BLAKE3_G(v, 2, 7, 8, 13, m[n], m[o]);                                                                         \
        BLAKE3_G(v, 3, 4, 9, 14, m[p], m[q]);                                                                         \
    } while (0)

#define BLAKE3_ROUNDS(v, m)                                                                                           \
    do {                                                                                                              \
        BLAKE3_ROUND(v, m, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);                                     \
        BLAKE3_ROUND(v, m, 2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8);                                     \
        BLAKE3_ROUND(v, m, 3, 4, 10, 12, 13, 2, 7, 14, 6, 5, 9, 0, 11, 15, 8, 1);                                     \
        BLAKE3_ROUND(v, m, 10, 7, 12, 9, 14, 3, 13, 15, 4, 0, 11, 2, 5, 8, 1, 6);                                     \
        BLAKE3_ROUND(v, m, 12, 13, 9, 11, 15, 10, 14, 8, 7, 2, 5, 3, 0, 1, 6, 4);                                     \
        BLAKE3_ROUND(v, m, 9, 14, 11, 5, 8, 12, 15, 1, 13, 3, 0, 10, 2, 6, 4, 7);                                     \
        BLAKE3_ROUND(v, m, 11, 15, 5, 0, 1, 9, 8, 6, 14, 10, 2, 12, 3, 4, 7, 13);                                     \
    } while (0)

/* The widest ways of this processor, from the widest to the narrowest, in blake3_x86.c and blake3_neon.c; returns how
   many. The plain one, a lane wide, is blake3.c's own and not among them. */
size_t aip_blake3_ways(struct blake3_way ways[2]);

#endif
