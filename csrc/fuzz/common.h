/* What the fuzz targets share: a reader of the fuzzer's bytes, exact-size buffers, and a check that stops the run.

   Every buffer given to the core is allocated at its exact size, so that the address sanitizer sees the first byte read
   or written outside. Each target compares the core with the most naive loop that says the same. */
#ifndef FUZZ_COMMON_H
#define FUZZ_COMMON_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../aip.h"

#define CHECK(condition)                                                                                              \
    do {                                                                                                              \
        if (!(condition)) {                                                                                           \
            fprintf(stderr, "%s:%d: wrong: %s\n", __FILE__, __LINE__, #condition);                                    \
            abort();                                                                                                  \
        }                                                                                                             \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
    const uint8_t *data;
    size_t size;
};

/* The next `count` bytes as a number; zero bits stand in for those that are missing. */
static inline uint64_t take(struct input *in, unsigned count)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < count && in->size; ++i, ++in->data, --in->size)
        value |= (uint64_t)*in->data << 8 * i;
    return value;
}

static inline void *exact(size_t len)
{
    void *buf = calloc(len ? len : 1, 1);
    CHECK(buf != NULL);
    return buf;
}

static inline void *exact_copy(const void *from, size_t len)
{
    void *buf = exact(len);
    if (len)
        memcpy(buf, from, len);
    return buf;
}

static inline unsigned bit_of(const uint8_t *bitmap, uint64_t i)
{
    return bitmap[i / 8] >> i % 8 & 1u;
}

static inline size_t bytes_for(uint64_t nbits)
{
    return (size_t)((nbits + 7) / 8);
}

/* The bits of the last byte beyond nbits must never be set. */
static inline int tail_clear(const uint8_t *bitmap, uint64_t nbits)
{
    return nbits % 8 == 0 || bitmap[nbits / 8] >> nbits % 8 == 0;
}

#endif
