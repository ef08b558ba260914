/* Many frames through the compressor of another library with one call. The library is not linked: its function comes
   as an address, and what it returns is believed no further than the buffers reach. */
#include "internal.h"

/* The bytes that all gaps take, or a negative status when the frames and they do not fit `room` together. */
static int64_t checked_gaps(const uint64_t *gaps, size_t count, uint64_t frames, uint64_t room)
{
    uint64_t total = 0;

    if (room > INT64_MAX)
        return AIP_EINVAL;
    if (frames > room)
        return AIP_ESPACE;
    for (size_t i = 0; i < count; ++i) {
        uint64_t gap = aip_read_once(gaps + i);
        if (gap > room - frames - total)
            return AIP_ESPACE;
        total += gap;
    }
    return (int64_t)total;
}

int64_t aip_encode_one(aip_codec_fn codec, void *context, const uint8_t *from, size_t length, uint8_t *to, size_t room)
{
    size_t made = length;

    if (room < length)
        return AIP_ERANGE;
    if (codec != NULL) {
        made = codec(context, to, room, from, length);
        if (made > room)
            return AIP_ECODEC;
    }
    if (made == 0 || made >= length) {
        memcpy(to, from, length);
        made = length;
    }
    return (int64_t)made;
}

int64_t aip_encode_frames(aip_codec_fn codec, void *context, const void *src, size_t src_len, size_t frame,
                          const uint8_t *stored, size_t stored_len, const uint64_t *gaps, size_t gap_count, void *out,
                          size_t out_len, uint64_t *lengths, size_t length_count)
{
    const uint8_t *from = src;
    uint8_t *to = out;
    size_t done = 0, at = 0, left;
    uint64_t count, last;
    int64_t status;

    if (frame == 0 || !aip_fits(src, src_len, src_len) || !aip_fits(out, out_len, out_len))
        return AIP_EINVAL;
    count = aip_ceil_div(src_len, frame);
    if (!aip_valid_numbers(gaps, gap_count) || !aip_valid_numbers(lengths, length_count) ||
        gap_count != count + 1 || length_count != count)
        return AIP_EINVAL;
    if (!aip_fits(stored, stored_len, aip_ceil_div(count, 8)))
        return AIP_ERANGE;
    if (aip_overlaps(src, src_len, out, out_len) || aip_overlaps(stored, stored_len, out, out_len) ||
        aip_overlaps(gaps, gap_count * sizeof *gaps, out, out_len) ||
        aip_overlaps(lengths, length_count * sizeof *lengths, out, out_len))
        return AIP_EOVERLAP;
    status = checked_gaps(gaps, gap_count, src_len, out_len);
    if (status < 0)
        return status;
    /* What of `out` may be compressed into: all but the later gaps, and the later frames as they are. */
    left = out_len - (size_t)status - src_len;
    for (size_t i = 0; i < count; ++i) {
        size_t length = src_len - done < frame ? src_len - done : frame;
        uint64_t gap = aip_read_once(gaps + i);
        size_t room;
        int64_t made;

        /* Checked a second time: another thread may have changed the array since. */
        if (gap > out_len - at || out_len - at - (size_t)gap < length)
            return AIP_ERANGE;
        at += (size_t)gap;
        room = out_len - at < length + left ? out_len - at : length + left;
        made = aip_encode_one(stored[i / 8] >> i % 8 & 1u ? NULL : codec, context, from + done, length, to + at, room);
        if (made < 0)
            return made;
        lengths[i] = (uint64_t)made;
        left += length - (size_t)made;
        at += (size_t)made;
        done += length;
    }
    last = aip_read_once(gaps + count);
    if (last > out_len - at)
        return AIP_ERANGE;
    return (int64_t)(at + (size_t)last);
}

/* Whether a piece (source offset and length, target offset and length) lies inside of both buffers. */
static int piece_in_range(const uint64_t *piece, size_t src_len, size_t dst_len)
{
    return aip_in_range(piece[0], piece[1], src_len) && aip_in_range(piece[2], piece[3], dst_len);
}

int64_t aip_decode_frames(aip_codec_fn codec, aip_measure_fn measure, void *context, const void *src, size_t src_len,
                          const uint64_t *pieces, size_t count, void *dst, size_t dst_len, uint8_t *decoded,
                          size_t decoded_len)
{
    const uint8_t *from = src;
    uint8_t *to = dst;
    int64_t good = 0;

    if (codec == NULL || measure == NULL || !aip_fits(src, src_len, src_len) || !aip_fits(dst, dst_len, dst_len) ||
        count > SIZE_MAX / (4 * sizeof *pieces) || !aip_valid_numbers(pieces, count * 4))
        return AIP_EINVAL;
    if (!aip_fits(decoded, decoded_len, aip_ceil_div(count, 8)))
        return AIP_ESPACE;
    if (aip_overlaps(src, src_len, dst, dst_len) || aip_overlaps(src, src_len, decoded, decoded_len) ||
        aip_overlaps(dst, dst_len, decoded, decoded_len) ||
        aip_overlaps(pieces, count * 4 * sizeof *pieces, dst, dst_len) ||
        aip_overlaps(pieces, count * 4 * sizeof *pieces, decoded, decoded_len))
        return AIP_EOVERLAP;
    for (size_t i = 0; i < count; ++i)
        if (!piece_in_range(pieces + 4 * i, src_len, dst_len))
            return AIP_ERANGE;
    for (size_t i = 0; i < aip_ceil_div(count, 8); ++i)
        decoded[i] = 0;
    for (size_t i = 0; i < count; ++i) {
        /* A copy, because another thread may change the array between a check and its use. */
        uint64_t piece[4];
        for (size_t k = 0; k < 4; ++k)
            piece[k] = aip_read_once(pieces + 4 * i + k);
        if (!piece_in_range(piece, src_len, dst_len))
            return AIP_ERANGE;
        if (measure(from + piece[0], (size_t)piece[1]) != piece[1] ||
            codec(context, to + piece[2], (size_t)piece[3], from + piece[0], (size_t)piece[1]) != piece[3])
            continue;
        decoded[i / 8] |= (uint8_t)(1u << i % 8);
        ++good;
    }
    return good;
}
