/* Building many frame records with one call (docs/format.md, sections 5 and 6). */
#include "records.h"

/* Goes through runs of sectors, which are laid end to end, a frame at a time. */
struct cursor {
    const uint64_t *runs;
    size_t count, next;
    uint64_t start, left;
};

/* The next part of at most `wanted` sectors: where it starts, and its sectors, 0 at the end of the runs. */
static uint64_t next_part(struct cursor *cursor, uint64_t wanted, uint64_t *start)
{
    uint64_t taken;

    while (cursor->left == 0) {
        if (cursor->next == cursor->count)
            return 0;
        cursor->start = aip_read_once(cursor->runs + 2 * cursor->next);
        cursor->left = aip_read_once(cursor->runs + 2 * cursor->next + 1);
        ++cursor->next;
    }
    taken = cursor->left < wanted ? cursor->left : wanted;
    *start = cursor->start;
    cursor->start += taken;
    cursor->left -= taken;
    return taken;
}

/* How many extents all frames have, or a negative status where the runs are not exactly `sectors` long. */
static int64_t count_extents(const uint64_t *runs, size_t run_count, uint64_t sectors, uint64_t frame)
{
    struct cursor cursor = {runs, run_count, 0, 0, 0};
    uint64_t start, done = 0;
    int64_t extents = 0;

    while (done < sectors) {
        uint64_t end = sectors - done < frame ? sectors : done + frame;
        for (; done < end; ++extents) {
            uint64_t taken = next_part(&cursor, end - done, &start);
            if (taken == 0)
                return AIP_ERANGE;
            done += taken;
        }
    }
    return next_part(&cursor, 1, &start) ? AIP_ERANGE : extents;
}

/* Lay the extents of a frame; `out` has room for `most` of them. Returns how many, or a negative status where the
   runs are not what they were when they were counted. */
static int64_t lay_extents(struct cursor *cursor, uint64_t sectors, uint64_t where, uint8_t *out, uint64_t most)
{
    uint64_t start, count = 0;

    for (; sectors; ++count) {
        uint64_t taken = next_part(cursor, sectors, &start);
        if (taken == 0 || count == most)
            return AIP_ERANGE;
        aip_store_le64(out + count * AIP_FRAME_EXTENT, where + start);
        aip_store_le32(out + count * AIP_FRAME_EXTENT + 8, (uint32_t)taken);
        sectors -= taken;
    }
    return (int64_t)count;
}

static void lay_header(uint8_t *out, int codec, uint64_t extents, uint64_t body, size_t plain, const uint8_t *origin,
                       uint64_t number)
{
    aip_store_le32(out, RECORD_MAGIC);
    out[AT_TYPE] = TYPE_FRAME;
    out[AT_CODEC] = (uint8_t)codec;
    aip_store_le16(out + AT_EXTENT_COUNT, (uint32_t)extents);
    aip_store_le32(out + AT_BODY_LENGTH, (uint32_t)body);
    aip_store_le32(out + AT_PLAIN_LENGTH, (uint32_t)plain);
    memcpy(out + AT_ORIGIN, origin, ORIGIN);
    aip_store_le64(out + AT_NUMBER, number);
}

static void lay_entry(uint8_t *row, uint64_t offset, uint64_t length, size_t plain)
{
    memset(row, 0, AIP_FRAME_ENTRY);
    aip_store_le64(row, offset);
    aip_store_le32(row + AT_ENTRY_LENGTH, (uint32_t)length);
    aip_store_le32(row + AT_ENTRY_PLAIN, (uint32_t)plain);
}

static int looks_random(const uint8_t *p, size_t length)
{
    uint8_t bit = 0;

    aip_random_bitmap(p, length, length, &bit, 1);
    return bit;
}

int64_t aip_build_frames(aip_codec_fn codec, void *context, const void *src, size_t src_len, size_t frame, int probe,
                         const uint64_t *runs, size_t run_count, uint64_t where, const uint8_t *origin,
                         size_t origin_len, uint64_t first, size_t tag, void *out, size_t out_len, uint8_t *entries,
                         size_t entries_len)
{
    const uint8_t *from = src;
    uint8_t *to = out;
    struct cursor cursor = {runs, run_count, 0, 0, 0};
    uint64_t count, need;
    size_t done = 0, at = 0, left;
    int64_t extents, status;

    if (frame == 0 || frame % AIP_SECTOR || frame > AIP_PLAIN_MAX || src_len % AIP_SECTOR || tag > AIP_TAG ||
        origin == NULL || origin_len != ORIGIN || !aip_fits(src, src_len, src_len) ||
        !aip_fits(out, out_len, out_len) || !aip_valid_extents(runs, run_count))
        return AIP_EINVAL;
    count = aip_ceil_div(src_len, frame);
    if (entries_len != count * AIP_FRAME_ENTRY || !aip_fits(entries, entries_len, entries_len))
        return AIP_EINVAL;
    if (aip_overlaps(src, src_len, out, out_len) || aip_overlaps(src, src_len, entries, entries_len) ||
        aip_overlaps(out, out_len, entries, entries_len) || aip_overlaps(origin, ORIGIN, out, out_len) ||
        aip_overlaps(origin, ORIGIN, entries, entries_len) ||
        aip_overlaps(runs, run_count * 2 * sizeof *runs, out, out_len) ||
        aip_overlaps(runs, run_count * 2 * sizeof *runs, entries, entries_len))
        return AIP_EOVERLAP;
    extents = count_extents(runs, run_count, src_len / AIP_SECTOR, frame / AIP_SECTOR);
    if (extents < 0)
        return extents;
    /* No sum wraps: there are at most as many frames and extents as sectors in memory. */
    need = src_len + count * (RECORD_EDGES + tag) + (uint64_t)extents * AIP_FRAME_EXTENT;
    if (need > out_len)
        return AIP_ESPACE;
    /* What of `out` may be compressed into: all but what the later records take at most. */
    left = out_len - (size_t)need;
    for (size_t i = 0; i < count; ++i) {
        size_t length = src_len - done < frame ? src_len - done : frame;
        size_t payload = at + AIP_RECORD_HEADER, end;
        size_t room = out_len - payload < length + left ? out_len - payload : length + left;
        int skip = codec == NULL || (probe && looks_random(from + done, length));
        int64_t made = aip_encode_one(skip ? NULL : codec, context, from + done, length, to + payload, room), laid;

        if (made < 0)
            return made;
        end = payload + (size_t)made;
        if (out_len - end < tag + AIP_CHECK)
            return AIP_ERANGE;
        laid = lay_extents(&cursor, length / AIP_SECTOR, where, to + end,
                           (out_len - end - tag - AIP_CHECK) / AIP_FRAME_EXTENT);
        if (laid < 0)
            return laid;
        lay_header(to + at, (size_t)made < length ? CODEC_ZSTD : CODEC_NONE, (uint64_t)laid,
                   (uint64_t)made + (uint64_t)laid * AIP_FRAME_EXTENT + tag, length, origin, first + i);
        end += (size_t)laid * AIP_FRAME_EXTENT + tag + AIP_CHECK;
        lay_entry(entries + i * AIP_FRAME_ENTRY, at, end - at, length);
        left += length - (size_t)made;
        at = end;
        done += length;
        /* The runs changed since they were counted: the next header would not fit. */
        if (done < src_len && out_len - at < AIP_RECORD_HEADER + (src_len - done < frame ? src_len - done : frame))
            return AIP_ERANGE;
    }
    if (tag == 0) {
        status = aip_finish_records(out, at, entries, entries_len);
        if (status < 0)
            return status;
    }
    return (int64_t)at;
}
