/* aip_pack and aip_unpack with any numbers: refused with nothing written, or right byte by byte. */
#include "common.h"

struct pairs {
    uint64_t *values;
    size_t count;
};

/* The status that the arguments deserve, found one extent after the other as the specification says. */
static int64_t expected(struct pairs extents, uint64_t limit, uint64_t capacity)
{
    uint64_t total = 0;
    for (size_t i = 0; i < extents.count; ++i) {
        uint64_t offset = extents.values[2 * i], length = extents.values[2 * i + 1];
        if (offset > limit || length > limit - offset)
            return AIP_ERANGE;
        if (length > capacity - total)
            return AIP_ESPACE;
        total += length;
    }
    return (int64_t)total;
}

static void check_gather(struct pairs extents, const uint8_t *src, size_t src_len, size_t dst_len)
{
    uint8_t *got = exact(dst_len), *want = exact(dst_len);
    int64_t status = expected(extents, src_len, dst_len);
    size_t done = 0;

    for (size_t i = 0; status >= 0 && i < extents.count; ++i)
        for (uint64_t k = 0; k < extents.values[2 * i + 1]; ++k)
            want[done++] = src[extents.values[2 * i] + k];
    CHECK(aip_pack(src, src_len, extents.values, extents.count, got, dst_len) == status);
    CHECK(memcmp(got, want, dst_len ? dst_len : 1) == 0);
    free(want);
    free(got);
}

static void check_scatter(struct pairs extents, const uint8_t *src, size_t src_len, size_t dst_len)
{
    uint8_t *got = exact(dst_len), *want = exact(dst_len);
    int64_t status = expected(extents, dst_len, src_len);
    size_t done = 0;

    for (size_t i = 0; status >= 0 && i < extents.count; ++i)
        for (uint64_t k = 0; k < extents.values[2 * i + 1]; ++k)
            want[extents.values[2 * i] + k] = src[done++];
    CHECK(aip_unpack(src, src_len, extents.values, extents.count, got, dst_len) == status);
    CHECK(memcmp(got, want, dst_len ? dst_len : 1) == 0);
    free(want);
    free(got);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    size_t dst_len = (size_t)take(&in, 1), src_len = (size_t)take(&in, 1);
    struct pairs extents = {NULL, (size_t)take(&in, 1) % 6};
    uint8_t *src = exact(src_len);

    extents.values = exact(extents.count * 16);
    for (size_t i = 0; i < 2 * extents.count; ++i)
        extents.values[i] = take(&in, 1) % 8 ? take(&in, 1) % 64 : take(&in, 8);
    for (size_t i = 0; i < src_len; ++i)
        src[i] = (uint8_t)(i * 37 + 1);
    check_gather(extents, src, src_len, dst_len);
    check_scatter(extents, src, src_len, dst_len);
    free(extents.values);
    free(src);
    return 0;
}
