/* Set operations, counting, and the way from a bitmap to extents and back, against loops over single bits. */
#include "common.h"

static unsigned naive_op(int op, unsigned a, unsigned b)
{
    return op == AIP_AND ? a & b : op == AIP_OR ? a | b : a & ~b & 1u;
}

static void check_combine(const uint8_t *a, const uint8_t *b, size_t len, uint64_t nbits)
{
    uint8_t *out = exact(len);
    for (int op = AIP_AND; op <= AIP_ANDNOT; ++op) {
        memset(out, 0xff, len);
        CHECK(aip_bitmap_combine(op, a, len, b, len, out, len, nbits) == AIP_OK);
        for (uint64_t i = 0; i < nbits; ++i)
            CHECK(bit_of(out, i) == naive_op(op, bit_of(a, i), bit_of(b, i)));
        CHECK(tail_clear(out, nbits));
        for (int which = 0; which < 2; ++which) {
            uint8_t *alias = exact_copy(which ? b : a, len);
            CHECK(aip_bitmap_combine(op, which ? a : alias, len, which ? alias : b, len, alias, len, nbits) == AIP_OK);
            CHECK(len == 0 || memcmp(alias, out, len) == 0);
            free(alias);
        }
    }
    free(out);
}

static void check_runs(const uint8_t *bitmap, size_t len, uint64_t nbits, size_t room)
{
    uint64_t *extents = exact(room * 16), position = 0, bit = 0;
    uint8_t *back = exact(len);

    while (position < nbits) {
        uint64_t before = position;
        int64_t count = aip_bitmap_to_extents(bitmap, len, nbits, &position, extents, room);
        CHECK(count >= 0 && (uint64_t)count <= room && position > before && position <= nbits);
        CHECK(position == nbits || (uint64_t)count == room);
        for (int64_t i = 0; i < count; ++i) {
            uint64_t start = extents[2 * i], end = start + extents[2 * i + 1];
            CHECK(start < end && end <= nbits);
            for (; bit < start; ++bit)
                CHECK(!bit_of(bitmap, bit));
            for (; bit < end; ++bit)
                CHECK(bit_of(bitmap, bit));
            CHECK(end == nbits || !bit_of(bitmap, end));
        }
        CHECK(aip_extents_to_bitmap(extents, (size_t)count, back, len, nbits) == AIP_OK);
    }
    for (uint64_t i = 0; i < nbits; ++i)
        CHECK(bit_of(back, i) == bit_of(bitmap, i));
    CHECK(tail_clear(back, nbits));
    free(back);
    free(extents);
}

/* Extents straight from the fuzzer: refused as a whole, or every bit as a loop sets it. */
static void check_any_extents(struct input *in, uint64_t nbits)
{
    size_t count = (size_t)(take(in, 1) % 5), len = bytes_for(nbits);
    uint64_t *extents = exact(count * 16);
    uint8_t *got = exact(len), *want = exact(len);
    int valid = 1;

    for (size_t i = 0; i < 2 * count; ++i)
        extents[i] = take(in, 1) % 4 ? take(in, 2) % (nbits + 2) : take(in, 8);
    for (size_t i = 0; i < count; ++i)
        valid &= extents[2 * i] <= nbits && extents[2 * i + 1] <= nbits - extents[2 * i];
    for (size_t i = 0; valid && i < count; ++i)
        for (uint64_t bit = 0; bit < extents[2 * i + 1]; ++bit)
            want[(extents[2 * i] + bit) / 8] |= (uint8_t)(1u << (extents[2 * i] + bit) % 8);
    CHECK(aip_extents_to_bitmap(extents, count, got, len, nbits) == (valid ? AIP_OK : AIP_ERANGE));
    CHECK(len == 0 || memcmp(got, want, len) == 0);
    free(want);
    free(got);
    free(extents);
}

/* Extents cut, against a loop that goes on by one unit at a time. */
static void check_cut(struct input *in)
{
    size_t count = (size_t)(take(in, 1) % 5), made = 0;
    uint64_t size = 1 + take(in, 1) % 20, total = 0, parts, unit = 0;
    uint64_t *extents = exact(count * 16);

    for (size_t i = 0; i < count; ++i) {
        extents[2 * i] = take(in, 2);
        extents[2 * i + 1] = take(in, 1) % 50;
        total += extents[2 * i + 1];
    }
    parts = total / size + (total % size != 0);
    size_t room = count + (size_t)parts;
    uint64_t *pieces = exact(room * 16), *counts = exact((size_t)parts * 8), *naive = exact((size_t)parts * 8);
    int64_t found = aip_cut_extents(extents, count, size, pieces, room, counts, (size_t)parts);
    for (size_t i = 0; i < count; ++i) {
        for (uint64_t at = 0; at < extents[2 * i + 1]; ++at, ++unit) {
            if (at == 0 || unit % size == 0) {
                CHECK((int64_t)made < found && pieces[2 * made] == extents[2 * i] + at);
                CHECK(made == 0 || pieces[2 * made - 1] == 0);
                ++made;
                ++naive[unit / size];
            }
            CHECK(pieces[2 * made - 1]-- != 0);
        }
    }
    CHECK(found == (int64_t)made && (made == 0 || pieces[2 * made - 1] == 0));
    CHECK(parts == 0 || memcmp(counts, naive, (size_t)parts * 8) == 0);
    free(naive);
    free(counts);
    free(pieces);
    free(extents);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    size_t room = 1 + (size_t)take(&in, 1) % 8, cut = (size_t)take(&in, 1) % 8;
    check_any_extents(&in, take(&in, 1) * 5);
    check_cut(&in);
    size_t len = in.size / 2;
    uint64_t nbits = len ? len * 8 - cut : 0, ones = 0;
    uint8_t *a = exact_copy(in.data, len), *b = exact_copy(in.data + len, len);

    for (uint64_t i = 0; i < nbits; ++i)
        ones += bit_of(a, i);
    for (int scalar = 0; scalar < 2; ++scalar) {
        aip_force_scalar(scalar);
        CHECK(aip_bitmap_count(a, len, nbits) == (int64_t)ones);
    }
    check_combine(a, b, len, nbits);
    check_runs(a, len, nbits, room);
    free(b);
    free(a);
    return 0;
}
