/* aip_build_frames with a codec that obeys the input, compared with records laid field by field. */
#include "common.h"

struct orders {
    struct input input;
    int failed;
};

static size_t toy(void *context, void *dst, size_t dst_len, const void *src, size_t src_len)
{
    struct orders *orders = context;
    uint64_t order = take(&orders->input, 1);
    size_t length = (size_t)order * 5;

    CHECK(src_len && src != NULL);
    if (order >= 250 || length > dst_len) {
        orders->failed = 1;
        return SIZE_MAX - (size_t)order;
    }
    for (size_t i = 0; i < length; ++i)
        ((uint8_t *)dst)[i] = (uint8_t)(order + i);
    return length;
}

static uint8_t *lay(uint8_t *p, uint64_t value, unsigned count)
{
    for (unsigned i = 0; i < count; ++i)
        *p++ = (uint8_t)(value >> 8 * i);
    return p;
}

/* The extents of the sectors `from` to `to` of the runs, laid end to end, to p; returns their end. */
static uint8_t *lay_extents(uint8_t *p, const uint64_t *runs, size_t run_count, uint64_t where, uint64_t from, uint64_t to)
{
    uint64_t at = 0;
    for (size_t i = 0; i < run_count; at += runs[2 * i + 1], ++i) {
        uint64_t low = from > at ? from : at, high = at + runs[2 * i + 1] < to ? at + runs[2 * i + 1] : to;
        if (low < high) {
            p = lay(p, where + runs[2 * i] + (low - at), 8);
            p = lay(p, high - low, 4);
        }
    }
    return p;
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t input_size)
{
    static const uint8_t origin[16] = {1, 2, 3};
    struct input in = {input, input_size};
    size_t run_count = (size_t)take(&in, 1) % 8, sectors = 0, frame = 1 + (size_t)take(&in, 1) % 9;
    size_t tag = take(&in, 1) % 2 * 16, wrong = take(&in, 1) % 16 == 0;
    uint64_t *runs = exact(16 * run_count), where = take(&in, 8), first = take(&in, 8);

    aip_force_scalar((int)(take(&in, 1) % 4 == 0));
    for (size_t i = 0; i < run_count; ++i) {
        runs[2 * i] = take(&in, 3);
        runs[2 * i + 1] = take(&in, 1) % 6;
        sectors += (size_t)runs[2 * i + 1];
    }
    size_t length = sectors * 512, count = (sectors + frame - 1) / frame, given = wrong ? length + 512 : length;
    size_t entries_len = 48 * ((given / 512 + frame - 1) / frame), out_len = (size_t)take(&in, 1) * 60, need = length;
    uint8_t *src = exact(given), *entries = exact(entries_len), *extents = exact(12 * (run_count + count + 1));

    for (size_t i = 0; i < given; ++i)
        src[i] = (uint8_t)(i * i >> 3);
    for (size_t i = 0; i < count; ++i) {
        uint64_t end = (i + 1) * frame < sectors ? (i + 1) * frame : sectors;
        need += 56 + tag + (size_t)(lay_extents(extents, runs, run_count, where, i * frame, end) - extents);
    }
    out_len = take(&in, 1) % 4 ? need + out_len % 1024 : out_len;
    uint8_t *out = exact(out_len), *want = exact(out_len);
    struct orders orders = {in, 0}, again = orders;
    int64_t status = aip_build_frames(toy, &orders, src, given, frame * 512, 0, runs, run_count, where, origin, 16,
                                      first, tag, out, out_len, entries, entries_len);
    if (wrong)
        CHECK(status == AIP_ERANGE);
    else if (need > out_len)
        CHECK(status == AIP_ESPACE);
    else if (orders.failed)
        CHECK(status == AIP_ECODEC);
    else {
        size_t at = 0, left = out_len - need;
        CHECK(status >= 0);
        for (size_t i = 0; i < count; ++i) {
            uint64_t low = i * frame, high = low + frame < sectors ? low + frame : sectors;
            size_t plain = (size_t)(high - low) * 512;
            size_t room = out_len - at - 40 < plain + left ? out_len - at - 40 : plain + left;
            size_t made = toy(&again, want + at + 40, room, src + low * 512, plain);
            size_t tail = (size_t)(lay_extents(extents, runs, run_count, where, low, high) - extents);
            uint8_t header[40], digest[32], *p = header;

            if (made == 0 || made >= plain) {
                memcpy(want + at + 40, src + low * 512, plain);
                made = plain;
            }
            p = lay(p, 0x52564941, 4);
            p = lay(p, 1, 1);
            p = lay(p, made < plain, 1);
            p = lay(p, tail / 12, 2);
            p = lay(p, made + tail + tag, 4);
            p = lay(p, plain, 4);
            memcpy(p, origin, 16);
            lay(p + 16, first + i, 8);
            memcpy(want + at, header, 40);
            memcpy(want + at + 40 + made, extents, tail);
            CHECK(memcmp(want + at, out + at, 40 + made + tail) == 0);
            uint64_t range[2] = {at, 40 + made + tail}, length_of = 56 + made + tail + tag;
            CHECK(aip_blake3_many(out, out_len, range, 1, digest, 32) == AIP_OK);
            if (tag)
                memset(digest, 0, 32);
            else
                CHECK(memcmp(out + at + 40 + made + tail, digest, 16) == 0);
            uint8_t entry[48];
            p = lay(entry, at, 8);
            p = lay(p, length_of, 4);
            lay(p, plain, 4);
            memcpy(entry + 16, digest, 32);
            CHECK(memcmp(entry, entries + 48 * i, 48) == 0);
            left += plain - made;
            at += (size_t)length_of;
        }
        CHECK((uint64_t)status == at);
    }
    free(runs);
    free(src);
    free(entries);
    free(extents);
    free(out);
    free(want);
    return 0;
}
