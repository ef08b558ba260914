/* Between bitmaps and extents, and extents cut. */
#include "internal.h"

/* The first bit at `pos` or after that is set in bitmap ^ flip, or nbits: flip 0 looks for a one, ~0 for a zero. */
static uint64_t find_bit(const uint8_t *bitmap, uint64_t nbits, uint64_t pos, uint64_t flip)
{
    uint64_t index = pos / 64, words = nbits / 64, word = 0;
    uint64_t mask = UINT64_MAX << pos % 64;
    unsigned tail = (unsigned)(nbits % 64);

    for (; index < words; ++index) {
        word = (aip_load_le64(bitmap + (size_t)index * 8) ^ flip) & mask;
        if (word)
            return index * 64 + aip_lowest_bit(word);
        mask = UINT64_MAX;
    }
    if (!tail)
        return nbits;
    /* Only the bytes that exist are read: the bitmap may end right after them. */
    word = 0;
    for (unsigned i = 0; i * 8 < tail; ++i)
        word |= (uint64_t)bitmap[(size_t)words * 8 + i] << i * 8;
    word = (word ^ flip) & mask & ((UINT64_C(1) << tail) - 1);
    return word ? words * 64 + aip_lowest_bit(word) : nbits;
}

int64_t aip_bitmap_to_extents(const uint8_t *bitmap, size_t bitmap_len, uint64_t nbits, uint64_t *position,
                              uint64_t *extents, size_t max_extents)
{
    uint64_t pos;
    size_t count = 0;

    if (position == NULL || !aip_valid_extents(extents, max_extents))
        return AIP_EINVAL;
    pos = *position;
    if (pos > nbits || !aip_fits(bitmap, bitmap_len, aip_ceil_div(nbits, 8)))
        return AIP_ERANGE;
    if (aip_overlaps(bitmap, bitmap_len, extents, max_extents * 2 * sizeof *extents))
        return AIP_EOVERLAP;
    while (count < max_extents && pos < nbits) {
        uint64_t start = find_bit(bitmap, nbits, pos, 0);
        if (start == nbits) {
            pos = nbits;
            break;
        }
        pos = find_bit(bitmap, nbits, start, UINT64_MAX);
        extents[2 * count] = start;
        extents[2 * count + 1] = pos - start;
        ++count;
    }
    *position = pos;
    return (int64_t)count;
}

/* Set bits [start, end) with start < end. */
static void set_bits(uint8_t *bitmap, uint64_t start, uint64_t end)
{
    size_t first = (size_t)(start / 8), last = (size_t)((end - 1) / 8);
    unsigned head = 0xffu << start % 8 & 0xffu;
    unsigned tail = 0xffu >> (7 - (end - 1) % 8);

    if (first == last) {
        bitmap[first] |= (uint8_t)(head & tail);
        return;
    }
    bitmap[first] |= (uint8_t)head;
    memset(bitmap + first + 1, 0xff, last - first - 1);
    bitmap[last] |= (uint8_t)tail;
}

int aip_extents_to_bitmap(const uint64_t *extents, size_t count, uint8_t *bitmap, size_t bitmap_len, uint64_t nbits)
{
    uint64_t need = aip_ceil_div(nbits, 8);

    if (!aip_valid_extents(extents, count))
        return AIP_EINVAL;
    if (!aip_fits(bitmap, bitmap_len, need))
        return AIP_ESPACE;
    if (aip_overlaps(extents, count * 2 * sizeof *extents, bitmap, (size_t)need))
        return AIP_EOVERLAP;
    for (size_t i = 0; i < count; ++i)
        if (!aip_in_range(extents[2 * i], extents[2 * i + 1], nbits))
            return AIP_ERANGE;
    for (size_t i = 0; i < count; ++i) {
        uint64_t start = aip_read_once(extents + 2 * i), length = aip_read_once(extents + 2 * i + 1);
        /* Checked a second time: another thread may have changed the array since, and a wrong extent must never
           become a write outside the bitmap. */
        if (!aip_in_range(start, length, nbits))
            return AIP_ERANGE;
        if (length)
            set_bits(bitmap, start, start + length);
    }
    return AIP_OK;
}

/* The sum of all lengths in *total, or a negative status when it overflows. */
static int summed(const uint64_t *extents, size_t count, uint64_t *total)
{
    *total = 0;
    for (size_t i = 0; i < count; ++i) {
        uint64_t length = aip_read_once(extents + 2 * i + 1);
        if (length > UINT64_MAX - *total)
            return AIP_ERANGE;
        *total += length;
    }
    return AIP_OK;
}

int64_t aip_cut_extents(const uint64_t *extents, size_t count, uint64_t size, uint64_t *pieces, size_t max_pieces,
                        uint64_t *counts, size_t parts)
{
    uint64_t total, filled = 0;
    size_t made = 0, part = 0;

    if (size == 0 || !aip_valid_extents(extents, count) || !aip_valid_extents(pieces, max_pieces) ||
        !aip_valid_numbers(counts, parts))
        return AIP_EINVAL;
    if (summed(extents, count, &total) != AIP_OK)
        return AIP_ERANGE;
    if (aip_ceil_div(total, size) != parts)
        return AIP_EINVAL;
    if (max_pieces < count || max_pieces - count < parts)
        return AIP_ESPACE;
    if (aip_overlaps(extents, count * 2 * sizeof *extents, pieces, max_pieces * 2 * sizeof *pieces) ||
        aip_overlaps(extents, count * 2 * sizeof *extents, counts, parts * sizeof *counts) ||
        aip_overlaps(pieces, max_pieces * 2 * sizeof *pieces, counts, parts * sizeof *counts))
        return AIP_EOVERLAP;
    for (size_t i = 0; i < parts; ++i)
        counts[i] = 0;
    for (size_t i = 0; i < count; ++i) {
        uint64_t start = aip_read_once(extents + 2 * i), left = aip_read_once(extents + 2 * i + 1);
        while (left) {
            uint64_t length = left < size - filled ? left : size - filled;
            /* Checked a second time: another thread may have changed the array since it was summed. */
            if (part == parts || made == max_pieces)
                return AIP_ERANGE;
            pieces[2 * made] = start;
            pieces[2 * made + 1] = length;
            ++made;
            ++counts[part];
            start += length;
            left -= length;
            filled += length;
            if (filled == size) {
                filled = 0;
                ++part;
            }
        }
    }
    return (int64_t)made;
}
