/* Records that lie one after the other: where they end, whether they are whole, what binds them in their order. */
#include "blake3.h"
#include "records.h"

int64_t aip_record_ends(const void *data, size_t data_len, uint64_t *ends, size_t max_ends, uint64_t *stop)
{
    const uint8_t *p = data;
    size_t at = 0, count = 0;
    int64_t bad = 0;

    if (!aip_fits(data, data_len, data_len) || !aip_valid_numbers(ends, max_ends) || !aip_valid_numbers(stop, 2) ||
        stop == NULL)
        return AIP_EINVAL;
    if (aip_overlaps(data, data_len, ends, max_ends * sizeof *ends) ||
        aip_overlaps(data, data_len, stop, 2 * sizeof *stop) ||
        aip_overlaps(ends, max_ends * sizeof *ends, stop, 2 * sizeof *stop))
        return AIP_EOVERLAP;
    while (count < max_ends && data_len - at >= AIP_RECORD_HEADER) {
        uint32_t body = aip_load_le32(p + at + AT_BODY_LENGTH);
        if (aip_load_le32(p + at) != RECORD_MAGIC || body == 0 || body > AIP_BODY_MAX) {
            bad = 1;
            break;
        }
        if (body + RECORD_EDGES > data_len - at)
            break;
        at += body + (size_t)RECORD_EDGES;
        ends[count++] = at;
    }
    stop[0] = at;
    stop[1] = (uint64_t)bad;
    return (int64_t)count;
}

int64_t aip_check_records(const void *data, size_t data_len, const uint64_t *ends, size_t count, uint8_t *digests,
                          size_t digests_len, uint8_t *types, size_t types_len, uint8_t *bad, size_t bad_len)
{
    const uint8_t *p = data;
    size_t done = 0, start = 0;
    int64_t wrong = 0;

    if (!aip_fits(data, data_len, data_len) || !aip_valid_numbers(ends, count))
        return AIP_EINVAL;
    if (count > SIZE_MAX / DIGEST || !aip_fits(digests, digests_len, count * DIGEST) ||
        !aip_fits(types, types_len, count) || !aip_fits(bad, bad_len, aip_ceil_div(count, 8)))
        return AIP_ESPACE;
    if (aip_overlaps(data, data_len, digests, digests_len) || aip_overlaps(data, data_len, types, types_len) ||
        aip_overlaps(data, data_len, bad, bad_len) || aip_overlaps(digests, digests_len, types, types_len) ||
        aip_overlaps(digests, digests_len, bad, bad_len) || aip_overlaps(types, types_len, bad, bad_len) ||
        aip_overlaps(ends, count * sizeof *ends, digests, digests_len) ||
        aip_overlaps(ends, count * sizeof *ends, types, types_len) ||
        aip_overlaps(ends, count * sizeof *ends, bad, bad_len))
        return AIP_EOVERLAP;
    for (size_t i = 0; i < aip_ceil_div(count, 8); ++i)
        bad[i] = 0;
    while (done < count) {
        uint64_t ranges[2 * AT_ONCE];
        size_t some = count - done < AT_ONCE ? count - done : AT_ONCE;

        for (size_t i = 0; i < some; ++i) {
            uint64_t end = aip_read_once(ends + done + i);
            if (end > data_len || end < start || end - start <= RECORD_EDGES)
                return AIP_ERANGE;
            ranges[2 * i] = start;
            ranges[2 * i + 1] = end - start - AIP_CHECK;
            start = (size_t)end;
        }
        aip_blake3_many(p, data_len, ranges, some, digests + done * DIGEST, some * DIGEST);
        for (size_t i = 0; i < some; ++i) {
            const uint8_t *record = p + ranges[2 * i];
            size_t row = done + i;
            int differs = memcmp(record + ranges[2 * i + 1], digests + row * DIGEST, AIP_CHECK) != 0;
            types[row] = record[AT_TYPE];
            bad[row / 8] |= (uint8_t)((unsigned)differs << row % 8);
            wrong += differs;
        }
        done += some;
    }
    return wrong;
}

int64_t aip_finish_records(void *data, size_t data_len, uint8_t *entries, size_t entries_len)
{
    uint8_t *p = data;
    size_t count = entries_len / AIP_FRAME_ENTRY, done = 0;
    struct entry entry;

    if (!aip_fits(data, data_len, data_len) || !aip_fits(entries, entries_len, entries_len) ||
        entries_len % AIP_FRAME_ENTRY)
        return AIP_EINVAL;
    if (aip_overlaps(data, data_len, entries, entries_len))
        return AIP_EOVERLAP;
    for (size_t i = 0; i < count; ++i)
        if (!aip_entry(entries, i, 0, data_len, &entry))
            return AIP_ERANGE;
    while (done < count) {
        uint64_t ranges[2 * AT_ONCE];
        uint8_t digests[AT_ONCE * 32];
        size_t some = count - done < AT_ONCE ? count - done : AT_ONCE;

        for (size_t i = 0; i < some; ++i) {
            /* Once more: another thread may have changed the entries. */
            if (!aip_entry(entries, done + i, 0, data_len, &entry))
                return AIP_ERANGE;
            ranges[2 * i] = entry.at;
            ranges[2 * i + 1] = entry.length - AIP_CHECK;
        }
        aip_blake3_many(p, data_len, ranges, some, digests, some * DIGEST);
        for (size_t i = 0; i < some; ++i) {
            memcpy(entries + (done + i) * AIP_FRAME_ENTRY + AT_ENTRY_DIGEST, digests + i * DIGEST, DIGEST);
            memcpy(p + ranges[2 * i] + ranges[2 * i + 1], digests + i * DIGEST, AIP_CHECK);
        }
        done += some;
    }
    return (int64_t)count;
}
