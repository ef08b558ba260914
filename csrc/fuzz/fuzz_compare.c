/* aip_compare_blocks against a comparison byte by byte. */
#include "common.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    size_t block = 1 + (size_t)take(&in, 1) % 80;
    size_t flips = (size_t)take(&in, 1) % 8;
    uint64_t places[8];
    for (size_t i = 0; i < flips; ++i)
        places[i] = take(&in, 2);
    size_t len = in.size, blocks = len / block + (len % block != 0);
    uint8_t *a = exact_copy(in.data, len), *b = exact_copy(in.data, len), *bitmap = exact(bytes_for(blocks));

    for (size_t i = 0; i < flips && len; ++i)
        b[places[i] % len] ^= (uint8_t)(1u << places[i] % 8);
    memset(bitmap, 0xff, bytes_for(blocks));
    CHECK(aip_compare_blocks(a, len, b, len, block, bitmap, bytes_for(blocks)) == AIP_OK);
    for (size_t i = 0; i < blocks; ++i) {
        unsigned differs = 0;
        for (size_t at = i * block; at < len && at < (i + 1) * block; ++at)
            differs |= a[at] != b[at];
        CHECK(bit_of(bitmap, i) == differs);
    }
    CHECK(tail_clear(bitmap, blocks));
    free(bitmap);
    free(b);
    free(a);
    return 0;
}
