/* Records one after the other, of any lengths: where they end, whether they are whole, and what binds them. */
#include "common.h"

static uint64_t number_at(const uint8_t *p, unsigned count)
{
    struct input in = {p, count};
    return take(&in, count);
}

static void digest_of(const uint8_t *p, size_t start, size_t length, uint8_t out[32])
{
    uint64_t range[2] = {0, length};
    uint8_t *copy = exact_copy(p + start, length);
    CHECK(aip_blake3_many(copy, length, range, 1, out, 32) == AIP_OK);
    free(copy);
}

static void check_ends(const uint8_t *data, size_t size, size_t most)
{
    uint64_t *ends = exact(most * 8), stop[2];
    int64_t count = aip_record_ends(data, size, ends, most, stop);
    size_t at = 0;

    CHECK(count >= 0 && (uint64_t)count <= most);
    for (int64_t i = 0; i < count; ++i) {
        uint64_t body = number_at(data + at + 8, 4);
        CHECK(memcmp(data + at, "AIVR", 4) == 0 && body > 0 && body <= AIP_BODY_MAX);
        at += 56 + body;
        CHECK(ends[i] == at && at <= size);
    }
    CHECK(stop[0] == at);
    if ((uint64_t)count < most && size - at >= 40) {
        uint64_t body = number_at(data + at + 8, 4);
        int is_record = memcmp(data + at, "AIVR", 4) == 0 && body > 0 && body <= AIP_BODY_MAX;
        CHECK(stop[1] == !is_record);
        CHECK(!is_record || body + 56 > size - at);
    } else {
        CHECK(stop[1] == 0);
    }
    free(ends);
}

static void check_checks(struct input *in, const uint8_t *data, size_t size)
{
    size_t count = (size_t)take(in, 1) % 12, start = 0;
    uint64_t *ends = exact(count * 8);
    uint8_t *digests = exact(32 * count), *types = exact(count), *bad = exact(bytes_for(count)), wanted[32];
    int inside = 1;

    for (size_t i = 0; i < count; ++i) {
        ends[i] = take(in, 1) % 32 ? start + 57 + take(in, 1) % 80 : take(in, 8);
        inside = inside && ends[i] <= size && ends[i] > start && ends[i] - start > 56;
        start = inside ? (size_t)ends[i] : start;
    }
    int64_t status = aip_check_records(data, size, ends, count, digests, 32 * count, types, count, bad, bytes_for(count));
    CHECK(inside || status == AIP_ERANGE);
    CHECK(tail_clear(bad, count));
    for (size_t i = 0; inside && i < count; ++i) {
        size_t from = i ? (size_t)ends[i - 1] : 0, length = (size_t)ends[i] - from - 16;
        digest_of(data, from, length, wanted);
        CHECK(memcmp(wanted, digests + 32 * i, 32) == 0 && types[i] == data[from + 4]);
        CHECK((int)bit_of(bad, i) == (memcmp(wanted, data + from + length, 16) != 0));
        status -= bit_of(bad, i);
    }
    CHECK(!inside || status == 0);
    free(ends);
    free(digests);
    free(types);
    free(bad);
}

static void check_finish(struct input *in, const uint8_t *data, size_t size)
{
    size_t count = (size_t)take(in, 1) % 6, at = 0;
    uint8_t *entries = exact(48 * count), *copy = exact_copy(data, size), *before = exact_copy(data, size), wanted[32];
    int inside = 1;

    for (size_t i = 0; i < count; ++i) {
        uint64_t length = take(in, 1) % 16 ? 57 + take(in, 1) % 60 : take(in, 4);
        uint64_t offset = take(in, 1) % 16 ? at + take(in, 1) % 4 : take(in, 8);
        for (unsigned k = 0; k < 8; ++k)
            entries[48 * i + k] = (uint8_t)(offset >> 8 * k);
        for (unsigned k = 0; k < 4; ++k)
            entries[48 * i + 8 + k] = (uint8_t)(length >> 8 * k);
        inside = inside && length > 56 && offset <= size && length <= size - offset;
        at = inside ? (size_t)(offset + length) : at;
    }
    int64_t status = aip_finish_records(copy, size, entries, 48 * count);
    CHECK(status == (inside ? (int64_t)count : AIP_ERANGE));
    if (!inside)
        CHECK(memcmp(copy, before, size) == 0);
    /* Where none overlaps another, what was digested is what was there. */
    for (size_t i = 0, end = 0; inside && i < count; ++i) {
        size_t offset = (size_t)number_at(entries + 48 * i, 8), length = (size_t)number_at(entries + 48 * i + 8, 4);
        if (offset < end)
            break;
        digest_of(before, offset, length - 16, wanted);
        if (i + 1 < count && number_at(entries + 48 * (i + 1), 8) < offset + length)
            break;
        CHECK(memcmp(wanted, entries + 48 * i + 16, 32) == 0);
        end = offset + length;
    }
    free(entries);
    free(copy);
    free(before);
}

static void check_chain(struct input *in)
{
    size_t count = (size_t)take(in, 1) % 5;
    uint8_t *digests = exact(32 * count), pair[64], *value = exact(32);

    for (size_t i = 0; i < 32 * count; ++i)
        digests[i] = (uint8_t)(i * 7 + take(in, 1));
    memset(pair, 5, 32);
    memset(value, 5, 32);
    CHECK(aip_blake3_chain(value, 32, digests, 32 * count) == AIP_OK);
    for (size_t i = 0; i < count; ++i) {
        memcpy(pair + 32, digests + 32 * i, 32);
        digest_of(pair, 0, 64, pair);
    }
    CHECK(memcmp(pair, value, 32) == 0);
    free(digests);
    free(value);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t input_size)
{
    struct input in = {input, input_size};
    size_t size = (size_t)take(&in, 2) % 700, most = (size_t)take(&in, 1) % 14;
    uint8_t *data = exact(size);

    aip_force_scalar((int)(take(&in, 1) % 4 == 0));
    for (size_t i = 0; i < size; ++i)
        data[i] = (uint8_t)(i % 5 == 0 ? take(&in, 1) : i);
    /* Records as often as not, with small bodies. */
    for (size_t at = 0; at + 57 < size && take(&in, 1) % 8; at += 56 + data[at + 8]) {
        memcpy(data + at, "AIVR", 4);
        memset(data + at + 8, 0, 4);
        data[at + 8] = (uint8_t)(1 + take(&in, 1) % 60);
    }
    check_ends(data, size, most);
    check_checks(&in, data, size);
    check_finish(&in, data, size);
    check_chain(&in);
    free(data);
    return 0;
}
