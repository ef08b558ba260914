/* aip_is_zero, aip_nonzero_bitmap, aip_nonzero_extents against a look at every byte. */
#include "common.h"

static int naive_nonzero(const uint8_t *p, size_t len)
{
    for (size_t i = 0; i < len; ++i)
        if (p[i])
            return 1;
    return 0;
}

/* Each byte of input stands for a stretch of 128 bytes: zero, or zero but for one byte whose place it decides. */
static size_t spread(struct input *in, uint8_t *buf, size_t room)
{
    size_t len = 0;
    for (; in->size && len + 128 <= room; len += 128) {
        uint8_t seed = (uint8_t)take(in, 1);
        if (seed >= 64)
            buf[len + seed % 128] = seed;
    }
    return len;
}

static void check_extents(const uint8_t *buf, size_t len, size_t cluster, const uint8_t *bitmap, size_t clusters)
{
    size_t room = clusters / 2 + 1, seen = 0;
    uint64_t *extents = exact(room * 16);
    uint64_t *fewer = exact(16);
    int64_t count = aip_nonzero_extents(buf, len, cluster, extents, room);

    CHECK(count >= 0 && (uint64_t)count <= room);
    for (size_t i = 0; i < clusters; ++i) {
        if (!bit_of(bitmap, i) || (i && bit_of(bitmap, i - 1)))
            continue;
        size_t end = i;
        while (end < clusters && bit_of(bitmap, end))
            ++end;
        CHECK(seen < (uint64_t)count && extents[2 * seen] == i && extents[2 * seen + 1] == end - i);
        ++seen;
    }
    CHECK(seen == (uint64_t)count);
    CHECK(aip_nonzero_extents(buf, len, cluster, fewer, 1) == count);
    CHECK(count == 0 || (fewer[0] == extents[0] && fewer[1] == extents[1]));
    CHECK(aip_nonzero_extents(buf, len, cluster, NULL, 0) == count);
    free(fewer);
    free(extents);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    size_t cluster = (size_t)512 << take(&in, 1) % 13, skip = (size_t)(take(&in, 1) % 16), cut = (size_t)take(&in, 1);
    size_t room = (in.size + 1) * 128;
    uint8_t *stretched = exact(room);
    size_t len = spread(&in, stretched, room);
    len = len > cut ? len - cut : 0;
    skip = skip < len ? skip : len;
    uint8_t *owned = exact_copy(stretched, len);
    const uint8_t *buf = owned + skip;
    len -= skip;
    size_t clusters = len / cluster + (len % cluster != 0);
    uint8_t *bitmap = exact(bytes_for(clusters));

    for (int scalar = 0; scalar < 2; ++scalar) {
        aip_force_scalar(scalar);
        CHECK(aip_is_zero(buf, len) == !naive_nonzero(buf, len));
        memset(bitmap, 0xff, bytes_for(clusters));
        CHECK(aip_nonzero_bitmap(buf, len, cluster, bitmap, bytes_for(clusters)) == AIP_OK);
        for (size_t i = 0; i < clusters; ++i) {
            size_t part = len - i * cluster < cluster ? len - i * cluster : cluster;
            CHECK(bit_of(bitmap, i) == (unsigned)naive_nonzero(buf + i * cluster, part));
        }
        CHECK(tail_clear(bitmap, clusters));
        check_extents(buf, len, cluster, bitmap, clusters);
    }
    free(bitmap);
    free(owned);
    free(stretched);
    return 0;
}
