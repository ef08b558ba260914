/* aip_random_bitmap against the same samples taken one by one. */
#include "common.h"

static int naive_even(const uint8_t *p, size_t len)
{
    unsigned long counts[256] = {0}, squares = 0;
    size_t step = (len - 64) / 15;
    for (size_t i = 0; i < 1024; ++i)
        ++counts[p[i / 64 * step + i % 64]];
    for (size_t value = 0; value < 256; ++value)
        squares += counts[value] * counts[value];
    return squares <= (400 + 1024) * 4;
}

/* A generator whose bytes pass the samples, so that both answers are met. */
static void stretch(uint8_t *buf, size_t len, uint64_t state, size_t period)
{
    for (size_t i = 0; i < len; ++i) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        buf[i] = period && i >= period ? buf[i - period] : (uint8_t)(state >> 24);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    size_t frame = 1 + (size_t)take(&in, 2), len = (size_t)take(&in, 2), period = (size_t)take(&in, 2);
    uint64_t seed = take(&in, 8) | 1;
    uint8_t *buf = exact(len);
    stretch(buf, len, seed, period);
    for (size_t i = 0; i < in.size && i < len; ++i)
        buf[i * 7919 % len] = in.data[i];
    size_t frames = len / frame + (len % frame != 0);
    uint8_t *bitmap = exact(bytes_for(frames));

    memset(bitmap, 0xff, bytes_for(frames));
    CHECK(aip_random_bitmap(buf, len, frame, bitmap, bytes_for(frames)) == AIP_OK);
    CHECK(tail_clear(bitmap, frames));
    for (size_t i = 0; i < frames; ++i) {
        size_t part = len - i * frame < frame ? len - i * frame : frame;
        if (part < 4096 || !naive_even(buf + i * frame, part))
            CHECK(bit_of(bitmap, i) == 0);
    }
    free(bitmap);
    free(buf);
    return 0;
}
