/* aip_check_frames, aip_open_frames and aip_read_frame on runs that are right, wrong, and anything: compared with frames looked at one
   by one, with a codec that obeys the payload. */
#include "common.h"

static const uint8_t origin[16] = {9, 8, 7};

/* Writes as many bytes as the length that it is to make, where the last byte of the payload is even. */
static size_t toy(void *context, void *dst, size_t dst_len, const void *src, size_t src_len)
{
    const uint8_t *from = src;

    (void)context;
    if (from[src_len - 1] % 2)
        return from[src_len - 1] % 3 ? SIZE_MAX : dst_len / 2;
    for (size_t i = 0; i < dst_len; ++i)
        ((uint8_t *)dst)[i] = (uint8_t)(from[src_len - 1] + i);
    return dst_len;
}

static size_t toy_measure(const void *src, size_t src_len)
{
    return ((const uint8_t *)src)[src_len - 1] % 16 == 6 ? src_len + 1 : src_len;
}

static uint8_t *lay(uint8_t *p, uint64_t value, unsigned count)
{
    for (unsigned i = 0; i < count; ++i)
        *p++ = (uint8_t)(value >> 8 * i);
    return p;
}

static uint64_t number_at(const uint8_t *p, unsigned count)
{
    struct input in = {p, count};
    return take(&in, count);
}

/* A record of `plain` bytes, its length; a payload of codec 1 has the header of a Zstandard frame. */
static size_t make(struct input *in, uint8_t *record, uint64_t number, size_t plain, size_t tag)
{
    unsigned codec = take(in, 1) % 4 != 0, extents = (unsigned)take(in, 1) % 3;
    size_t payload = codec ? 7 + (size_t)take(in, 1) % 20 : plain;
    uint64_t range[2];
    uint8_t digest[32], *p = record;

    p = lay(p, 0x52564941, 4);
    p = lay(p, 1, 1);
    p = lay(p, codec, 1);
    p = lay(p, extents, 2);
    p = lay(p, payload + extents * 12 + tag, 4);
    p = lay(p, plain, 4);
    memcpy(p, origin, 16);
    p = lay(p + 16, number, 8);
    for (size_t i = 0; i < payload; ++i)
        p[i] = (uint8_t)take(in, 1);
    if (codec) {
        /* One segment with a content size of one byte. */
        lay(p, 0xfd2fb528, 4);
        p[4] = 0x20;
        p[5] = (uint8_t)plain;
        if (take(in, 1) % 8 == 0)
            p[take(in, 1) % 6] ^= (uint8_t)take(in, 1);
    }
    p += payload + extents * 12 + tag;
    range[0] = 0;
    range[1] = (uint64_t)(p - record);
    CHECK(aip_blake3_many(record, (size_t)range[1], range, 1, digest, 32) == AIP_OK);
    memcpy(p, digest, 16);
    return (size_t)range[1] + 16;
}

/* Whether the header of a payload is one that the toy makes; what the core parses more of is tested with zstd. */
static int is_simple(const uint8_t *payload, size_t length, size_t plain)
{
    return length >= 6 && number_at(payload, 4) == 0xfd2fb528 && payload[4] == 0x20 && payload[5] == plain;
}

static int wanted_kind(const uint8_t *record, const uint8_t *entry, uint64_t number, size_t tag)
{
    size_t length = (size_t)number_at(entry + 8, 4), plain = (size_t)number_at(entry + 12, 4);
    uint64_t body = number_at(record + 8, 4), beside = number_at(record + 6, 2) * 12 + tag, range[2] = {0, length - 16};
    uint8_t digest[32];

    if (number_at(record, 4) != 0x52564941 || record[4] != 1 || body + 56 != length ||
        number_at(record + 12, 4) != plain || memcmp(record + 16, origin, 16) != 0 ||
        number_at(record + 32, 8) != number || body <= beside || (record[5] == 0 && body - beside != plain))
        return AIP_FRAME_HEADER;
    CHECK(aip_blake3_many(record, length, range, 1, digest, 32) == AIP_OK);
    if (memcmp(digest, entry + 16, 32) != 0 || memcmp(digest, record + length - 16, 16) != 0)
        return AIP_FRAME_DIGEST;
    return AIP_FRAME_GOOD;
}

/* One frame with one call, compared with the two calls for many. */
static void read_alone(const uint8_t *record, size_t left, const uint8_t *entry, uint64_t number)
{
    uint64_t length = number_at(entry + 8, 4), plain = number_at(entry + 12, 4), copy[4] = {0, 0, plain, 0};
    uint8_t kind = 0, *data = exact_copy(record, left), *own = exact_copy(entry, 48);

    if (length <= 56 || length > left) {
        CHECK(aip_read_frame(toy, toy_measure, NULL, data, left, own, 48, origin, 16, number, NULL, 0) == AIP_ERANGE);
    } else if (plain < 4096) {
        uint8_t *dst = exact((size_t)plain), *want = exact((size_t)plain), *scratch = exact((size_t)plain);
        int found = aip_read_frame(toy, toy_measure, NULL, data, left, own, 48, origin, 16, number, dst, (size_t)plain);
        CHECK(aip_check_frames(data, left, own, 48, origin, 16, number, 0, &kind, 1) >= 0);
        CHECK(aip_open_frames(toy, toy_measure, NULL, data, left, own, 48, 0, copy, 1, want, (size_t)plain, scratch,
                              (size_t)plain, &kind, 1) >= 0);
        CHECK(found == kind);
        CHECK(kind != AIP_FRAME_GOOD || memcmp(dst, want, (size_t)plain) == 0);
        if (plain)
            CHECK(aip_read_frame(toy, toy_measure, NULL, data, left, own, 48, origin, 16, number, dst,
                                 (size_t)plain - 1) == AIP_ESPACE);
        free(dst);
        free(want);
        free(scratch);
    }
    free(data);
    free(own);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t input_size)
{
    struct input in = {input, input_size};
    size_t count = 1 + (size_t)take(&in, 1) % 6, tag = take(&in, 1) % 2 * 16, size = 0, plains[6], starts[6];
    uint8_t room[6 * 400], *entries = exact(48 * count), *kinds = exact(count), wanted[6];
    uint64_t first = take(&in, 8), base = take(&in, 4);

    memset(room, 0, sizeof room);
    for (size_t i = 0; i < count; ++i) {
        plains[i] = 1 + (size_t)take(&in, 1) % 200;
        starts[i] = size;
        size_t length = make(&in, room + size, first + i, plains[i], tag);
        uint64_t range[2] = {size, length - 16};
        uint8_t *p = lay(entries + 48 * i, base + size, 8);
        lay(lay(p, length, 4), plains[i], 4);
        CHECK(aip_blake3_many(room, sizeof room, range, 1, entries + 48 * i + 16, 32) == AIP_OK);
        size += length;
    }
    /* Some bytes are flipped, of the records or of the entries. */
    for (size_t flips = (size_t)take(&in, 1) % 3; flips; --flips) {
        size_t place = (size_t)take(&in, 2), entry = 48 * (place % count) + 8 + place % 40;
        if (take(&in, 1) % 2)
            room[place % size] ^= (uint8_t)take(&in, 1);
        else
            entries[entry] ^= (uint8_t)take(&in, 1);
    }
    uint8_t *data = exact_copy(room, size);
    for (size_t i = 0; tag == 0 && i < count; ++i)
        read_alone(room + starts[i], size - starts[i], entries + 48 * i, first + i);
    int inside = 1;
    size_t longest = 0;
    for (size_t i = 0; i < count; ++i) {
        uint64_t length = number_at(entries + 48 * i + 8, 4), plain = number_at(entries + 48 * i + 12, 4);
        inside = inside && length > 56 && length <= size - starts[i];
        longest = plain > longest ? (size_t)plain : longest;
    }
    int64_t status = aip_check_frames(data, size, entries, 48 * count, origin, 16, first, tag, kinds, count);
    if (!inside) {
        CHECK(status == AIP_ERANGE);
    } else {
        int64_t good = 0;
        for (size_t i = 0; i < count; ++i) {
            wanted[i] = (uint8_t)wanted_kind(data + starts[i], entries + 48 * i, first + i, tag);
            CHECK(kinds[i] == wanted[i]);
            good += wanted[i] == AIP_FRAME_GOOD;
        }
        CHECK(status == good);
    }
    if (inside && longest < 4096) {
        size_t copy_count = (size_t)take(&in, 1) % 10, dst_len = (size_t)take(&in, 2) % 1024, row = 0;
        uint64_t *copies = exact(32 * copy_count);
        uint8_t *dst = exact(dst_len), *want = exact(dst_len), *scratch = exact(longest);
        int fits = 1;

        for (size_t i = 0; i < copy_count; ++i) {
            row += (size_t)take(&in, 1) % 4 == 0;
            copies[4 * i] = take(&in, 1) % 64 ? row : take(&in, 8);
            uint64_t plain = copies[4 * i] < count ? number_at(entries + 48 * copies[4 * i] + 12, 4) : 0;
            copies[4 * i + 1] = take(&in, 1) % 4 ? 0 : take(&in, 1);
            copies[4 * i + 2] = take(&in, 1) % 4 ? plain : take(&in, 1);
            copies[4 * i + 3] = take(&in, 1) % 32 ? take(&in, 2) % 800 : take(&in, 8);
            fits = fits && copies[4 * i] < count && (i == 0 || copies[4 * i] >= copies[4 * i - 4]) &&
                   copies[4 * i + 1] <= plain && copies[4 * i + 2] <= plain - copies[4 * i + 1] &&
                   copies[4 * i + 3] <= dst_len && copies[4 * i + 2] <= dst_len - copies[4 * i + 3];
        }
        status = aip_open_frames(toy, toy_measure, NULL, data, size, entries, 48 * count, tag, copies, copy_count, dst,
                                 dst_len, scratch, longest, kinds, count);
        CHECK(fits || status == AIP_ERANGE);
        for (size_t i = 0; fits && i < count; ++i) {
            const uint8_t *record = data + starts[i], *payload = record + 40;
            size_t plain = (size_t)number_at(entries + 48 * i + 12, 4), at = 0;
            size_t length = (size_t)(number_at(record + 8, 4) - number_at(record + 6, 2) * 12 - tag);
            uint8_t *opened = exact(plain);

            if (wanted[i] != AIP_FRAME_GOOD) {
                CHECK(kinds[i] == wanted[i]);
                free(opened);
                /* What is undefined is not compared. */
                for (; at < copy_count; ++at)
                    if (copies[4 * at] == i)
                        memcpy(want + copies[4 * at + 3], dst + copies[4 * at + 3], (size_t)copies[4 * at + 2]);
                continue;
            }
            int is_open = record[5] == 0 || (record[5] == 1 && is_simple(payload, length, plain) &&
                                             toy_measure(payload, length) == length &&
                                             toy(NULL, opened, plain, payload, length) == plain);
            if (record[5] == 0)
                memcpy(opened, payload, plain);
            /* The core knows more forms of the header than this. */
            if (!is_open && record[5] == 1 && !is_simple(payload, length, plain))
                is_open = kinds[i] == AIP_FRAME_GOOD && toy(NULL, opened, plain, payload, length) == plain;
            CHECK((kinds[i] == AIP_FRAME_GOOD) == is_open);
            CHECK(is_open || kinds[i] == AIP_FRAME_PAYLOAD);
            for (; at < copy_count; ++at)
                if (copies[4 * at] == i)
                    memcpy(want + copies[4 * at + 3], is_open ? opened + copies[4 * at + 1] : dst + copies[4 * at + 3],
                           (size_t)copies[4 * at + 2]);
            status -= is_open;
            free(opened);
        }
        if (fits) {
            int overlap = 0, failed = 0;
            for (size_t i = 0; i < copy_count; ++i)
                for (size_t k = 0; k < i; ++k)
                    overlap |= copies[4 * i + 2] && copies[4 * k + 2] &&
                               copies[4 * i + 3] < copies[4 * k + 3] + copies[4 * k + 2] &&
                               copies[4 * k + 3] < copies[4 * i + 3] + copies[4 * i + 2];
            for (size_t i = 0; i < count; ++i)
                failed |= kinds[i] == AIP_FRAME_PAYLOAD;
            CHECK(status == 0);
            /* Where a failed frame and another share a place, its bytes are undefined. */
            CHECK((overlap && failed) || memcmp(dst, want, dst_len) == 0);
        }
        free(copies);
        free(dst);
        free(want);
        free(scratch);
    }
    free(data);
    free(entries);
    free(kinds);
    return 0;
}
