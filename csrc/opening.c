/* Checking and opening the frames of a run, whose records lie one after the other (docs/format.md, sections 5 and 6).
   Whatever is not plainly right is left to the caller, who looks at one frame at a time and says what is wrong. */
#include "records.h"

/* RFC 8878, 3.1.1: what a decoder would allocate by. */
#define ZSTD_MAGIC ((uint32_t)0xfd2fb528)
#define ZSTD_WINDOW_MAX ((uint64_t)8 << 20)

/* Whether a header is that of the frame which the table names, and its lengths fit each other. */
static int is_header(const uint8_t *p, const struct entry *entry, const uint8_t *origin, uint64_t number, size_t tag)
{
    uint64_t body = aip_load_le32(p + AT_BODY_LENGTH);
    uint64_t beside = (uint64_t)aip_load_le16(p + AT_EXTENT_COUNT) * AIP_FRAME_EXTENT + tag;

    return aip_load_le32(p) == RECORD_MAGIC && p[AT_TYPE] == TYPE_FRAME && body + RECORD_EDGES == entry->length &&
           aip_load_le32(p + AT_PLAIN_LENGTH) == entry->plain && memcmp(p + AT_ORIGIN, origin, ORIGIN) == 0 &&
           aip_load_le64(p + AT_NUMBER) == number && body > beside &&
           (p[AT_CODEC] != CODEC_NONE || body - beside == entry->plain);
}

static int valid_run(const void *data, size_t data_len, const uint8_t *entries, size_t entries_len, size_t tag)
{
    return aip_fits(data, data_len, data_len) && aip_fits(entries, entries_len, entries_len) &&
           entries_len % AIP_FRAME_ENTRY == 0 && tag <= AIP_TAG;
}

/* Compare the digests of some frames with those of their entries; `ranges` are those of the frames in `rows`. */
static void compare_digests(const uint8_t *data, size_t data_len, const uint8_t *entries, const uint64_t *ranges,
                            const size_t *rows, size_t count, uint8_t *kinds)
{
    uint8_t digests[AT_ONCE * 32];

    aip_blake3_many(data, data_len, ranges, count, digests, count * DIGEST);
    for (size_t i = 0; i < count; ++i) {
        const uint8_t *wanted = entries + rows[i] * AIP_FRAME_ENTRY + AT_ENTRY_DIGEST;
        const uint8_t *check = data + ranges[2 * i] + ranges[2 * i + 1];
        if (memcmp(digests + i * DIGEST, wanted, DIGEST) != 0 || memcmp(digests + i * DIGEST, check, AIP_CHECK) != 0)
            kinds[rows[i]] = AIP_FRAME_DIGEST;
    }
}

int64_t aip_check_frames(const void *data, size_t data_len, const uint8_t *entries, size_t entries_len,
                         const uint8_t *origin, size_t origin_len, uint64_t first, size_t tag, uint8_t *kinds,
                         size_t kinds_len)
{
    const uint8_t *p = data;
    size_t count = entries_len / AIP_FRAME_ENTRY, rows[AT_ONCE], some = 0;
    uint64_t ranges[2 * AT_ONCE], base;
    struct entry entry;
    int64_t good = 0;

    if (!valid_run(data, data_len, entries, entries_len, tag) || origin == NULL || origin_len != ORIGIN)
        return AIP_EINVAL;
    if (!aip_fits(kinds, kinds_len, count))
        return AIP_ESPACE;
    if (aip_overlaps(data, data_len, kinds, kinds_len) || aip_overlaps(entries, entries_len, kinds, kinds_len) ||
        aip_overlaps(origin, ORIGIN, kinds, kinds_len))
        return AIP_EOVERLAP;
    base = count ? aip_load_le64(entries) : 0;
    for (size_t i = 0; i < count; ++i)
        if (!aip_entry(entries, i, base, data_len, &entry))
            return AIP_ERANGE;
    for (size_t i = 0; i < count; ++i) {
        if (!aip_entry(entries, i, base, data_len, &entry))
            return AIP_ERANGE;
        kinds[i] = is_header(p + entry.at, &entry, origin, first + i, tag) ? AIP_FRAME_GOOD : AIP_FRAME_HEADER;
        if (kinds[i] == AIP_FRAME_GOOD) {
            rows[some] = i;
            ranges[2 * some] = entry.at;
            ranges[2 * some++ + 1] = entry.length - AIP_CHECK;
        }
        if (some == AT_ONCE || i + 1 == count) {
            compare_digests(p, data_len, entries, ranges, rows, some, kinds);
            some = 0;
        }
    }
    for (size_t i = 0; i < count; ++i)
        good += kinds[i] == AIP_FRAME_GOOD;
    return good;
}

/* Whether a Zstandard frame says itself that it has this content size, no dictionary, and no larger window than the
   format allows; a decoder may then be asked. */
static int has_parameters(const uint8_t *p, uint64_t length, uint64_t plain)
{
    static const uint8_t sizes[4] = {0, 2, 4, 8};
    uint64_t size, window = 0;
    unsigned descriptor, is_single, size_bytes;

    if (length < 6 || aip_load_le32(p) != ZSTD_MAGIC)
        return 0;
    descriptor = p[4];
    is_single = descriptor >> 5 & 1u;
    size_bytes = sizes[descriptor >> 6];
    if (size_bytes == 0 && is_single)
        size_bytes = 1;
    /* No content size, a reserved bit, or the place of a dictionary: others may look at that. */
    if (size_bytes == 0 || descriptor & 8u || descriptor & 3u || length < 5u + !is_single + size_bytes)
        return 0;
    p += 5;
    if (!is_single) {
        unsigned exponent = *p >> 3;
        if (exponent > 20)
            return 0;
        window = (uint64_t)1 << (10 + exponent);
        window += window / 8 * (*p++ & 7u);
    }
    size = size_bytes == 1   ? p[0]
           : size_bytes == 2 ? aip_load_le16(p) + 256u
           : size_bytes == 4 ? aip_load_le32(p)
                             : aip_load_le64(p);
    return size == plain && (is_single ? size : window) <= ZSTD_WINDOW_MAX;
}

struct opening {
    aip_codec_fn codec;
    aip_measure_fn measure;
    void *context;
    uint8_t *dst, *scratch;
    size_t dst_len, scratch_len;
};

/* Where a copy's row says; 0 where that leaves the frame or the target. */
static int copy_row(const uint64_t *copies, size_t i, uint64_t plain, size_t dst_len, uint64_t copy[4])
{
    for (size_t k = 0; k < 4; ++k)
        copy[k] = aip_read_once(copies + 4 * i + k);
    return aip_in_range(copy[1], copy[2], plain) && aip_in_range(copy[3], copy[2], dst_len);
}

/* Decode a payload and copy what is wanted of it; a status where the rows have changed, else whether it is right. */
static int open_one(const struct opening *to, const uint8_t *payload, uint64_t length, int codec, uint32_t plain,
                    const uint64_t *copies, size_t first, size_t end)
{
    const uint8_t *from = payload;
    uint64_t copy[4];
    int in_place = 0;

    if (codec == CODEC_NONE) {
        if (length != plain)
            return 0;
    } else {
        uint8_t *target = to->scratch;
        if (codec != CODEC_ZSTD || !has_parameters(payload, length, plain) ||
            to->measure(payload, (size_t)length) != length)
            return 0;
        if (end - first == 1) {
            if (!copy_row(copies, first, plain, to->dst_len, copy))
                return AIP_ERANGE;
            in_place = copy[2] == plain;
            if (in_place)
                target = to->dst + copy[3];
        }
        if (!in_place && plain > to->scratch_len)
            return AIP_ESPACE;
        if (to->codec(to->context, target, plain, payload, (size_t)length) != plain)
            return 0;
        from = target;
    }
    for (size_t i = first; i < end && !in_place; ++i) {
        if (!copy_row(copies, i, plain, to->dst_len, copy))
            return AIP_ERANGE;
        if (copy[2])
            memcpy(to->dst + copy[3], from + copy[1], (size_t)copy[2]);
    }
    return 1;
}

/* Every row must be of a frame that is there, in ascending order, and inside of it and of the target. */
static int64_t check_copies(const uint64_t *copies, size_t copy_count, const uint8_t *entries, size_t count,
                            size_t dst_len)
{
    uint64_t before = 0, copy[4];

    for (size_t i = 0; i < copy_count; ++i) {
        uint64_t row = aip_read_once(copies + 4 * i);
        if (row >= count || row < before)
            return AIP_ERANGE;
        if (!copy_row(copies, i, aip_load_le32(entries + row * AIP_FRAME_ENTRY + AT_ENTRY_PLAIN), dst_len, copy))
            return AIP_ERANGE;
        before = row;
    }
    return AIP_OK;
}

int64_t aip_open_frames(aip_codec_fn codec, aip_measure_fn measure, void *context, const void *data, size_t data_len,
                        const uint8_t *entries, size_t entries_len, size_t tag, const uint64_t *copies,
                        size_t copy_count, void *dst, size_t dst_len, void *scratch, size_t scratch_len,
                        uint8_t *kinds, size_t kinds_len)
{
    const uint8_t *p = data;
    const struct opening to = {codec, measure, context, dst, scratch, dst_len, scratch_len};
    size_t count = entries_len / AIP_FRAME_ENTRY, next = 0, copies_bytes;
    uint64_t base;
    int64_t good = 0, status;
    struct entry entry;

    if (codec == NULL || measure == NULL || !valid_run(data, data_len, entries, entries_len, tag) ||
        !aip_fits(dst, dst_len, dst_len) || !aip_fits(scratch, scratch_len, scratch_len) ||
        copy_count > SIZE_MAX / (4 * sizeof *copies) || !aip_valid_numbers(copies, copy_count * 4))
        return AIP_EINVAL;
    if (!aip_fits(kinds, kinds_len, count))
        return AIP_ESPACE;
    copies_bytes = copy_count * 4 * sizeof *copies;
    const struct {
        const void *at;
        size_t length;
    } read[] = {{data, data_len}, {entries, entries_len}, {copies, copies_bytes}},
      written[] = {{dst, dst_len}, {scratch, scratch_len}, {kinds, kinds_len}};
    for (size_t i = 0; i < 3; ++i)
        for (size_t k = 0; k < 3; ++k)
            if (aip_overlaps(read[i].at, read[i].length, written[k].at, written[k].length) ||
                (i < k && aip_overlaps(written[i].at, written[i].length, written[k].at, written[k].length)))
                return AIP_EOVERLAP;
    base = count ? aip_load_le64(entries) : 0;
    for (size_t i = 0; i < count; ++i) {
        if (!aip_entry(entries, i, base, data_len, &entry))
            return AIP_ERANGE;
        if (entry.plain > scratch_len)
            return AIP_ESPACE;
    }
    status = check_copies(copies, copy_count, entries, count, dst_len);
    if (status < 0)
        return status;
    for (size_t i = 0; i < count; ++i) {
        size_t first = next;
        const uint8_t *record;
        uint64_t beside, body;

        while (next < copy_count && aip_read_once(copies + 4 * next) == i)
            ++next;
        if (kinds[i] != AIP_FRAME_GOOD)
            continue;
        /* All that was checked is checked again: another thread may have changed it since. */
        if (!aip_entry(entries, i, base, data_len, &entry))
            return AIP_ERANGE;
        record = p + entry.at;
        beside = (uint64_t)aip_load_le16(record + AT_EXTENT_COUNT) * AIP_FRAME_EXTENT + tag;
        body = entry.length - RECORD_EDGES;
        if (body < beside) {
            kinds[i] = AIP_FRAME_HEADER;
            continue;
        }
        int opened = open_one(&to, record + AIP_RECORD_HEADER, body - beside, record[AT_CODEC], entry.plain, copies,
                              first, next);
        if (opened < 0)
            return opened;
        kinds[i] = opened ? AIP_FRAME_GOOD : AIP_FRAME_PAYLOAD;
        good += opened;
    }
    return good;
}

int aip_read_frame(aip_codec_fn codec, aip_measure_fn measure, void *context, const void *data, size_t data_len,
                   const uint8_t *entry, size_t entry_len, const uint8_t *origin, size_t origin_len, uint64_t number,
                   void *dst, size_t dst_len)
{
    const struct opening to = {codec, measure, context, dst, NULL, dst_len, 0};
    const uint8_t *record = data;
    uint64_t copy[4] = {0, 0, 0, 0}, beside, body;
    uint8_t kind = AIP_FRAME_HEADER;
    struct entry found;
    int64_t status;
    int opened;

    if (codec == NULL || measure == NULL || entry_len != AIP_FRAME_ENTRY || !aip_fits(dst, dst_len, dst_len))
        return AIP_EINVAL;
    status = aip_check_frames(data, data_len, entry, entry_len, origin, origin_len, number, 0, &kind, 1);
    if (status < 0)
        return (int)status;
    if (aip_overlaps(data, data_len, dst, dst_len) || aip_overlaps(entry, entry_len, dst, dst_len))
        return AIP_EOVERLAP;
    /* All that was checked is checked again: another thread may have changed it since. */
    if (!aip_entry(entry, 0, aip_load_le64(entry), data_len, &found))
        return AIP_ERANGE;
    copy[2] = found.plain;
    if (copy[2] > dst_len)
        return AIP_ESPACE;
    if (kind != AIP_FRAME_GOOD)
        return kind;
    beside = (uint64_t)aip_load_le16(record + AT_EXTENT_COUNT) * AIP_FRAME_EXTENT;
    body = found.length - RECORD_EDGES;
    if (body < beside)
        return AIP_FRAME_HEADER;
    opened = open_one(&to, record + AIP_RECORD_HEADER, body - beside, record[AT_CODEC], found.plain, copy, 0, 1);
    if (opened < 0)
        return opened;
    return opened ? AIP_FRAME_GOOD : AIP_FRAME_PAYLOAD;
}
