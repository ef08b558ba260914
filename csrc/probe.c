/* Telling data that a compressor would only waste time on. A guess: it decides how bytes are stored, never which. */
#include "internal.h"

/* Below this the samples would be most of the data, and compressing costs little. */
#define MIN_FRAME ((size_t)4096)
#define PIECES 16
#define PIECE 64
#define SAMPLES (PIECES * PIECE)
/* Pearson's chi-square of evenly spread bytes is 255 with a deviation of 23; text, code and tables give thousands,
   streams of deflate, LZMA and zstd 250 to 380. chi2 = 256 / n * (sum of squares) - n, so 400 is this sum: */
#define MOST_SQUARES ((400 + SAMPLES) * (SAMPLES / 256))
#define SEEN_BITS 10
#define WORD_STEP 16

/* Whether the values of sampled bytes are spread as evenly as chance would. */
static int is_even(const uint8_t *p, size_t len)
{
    uint16_t counts[256] = {0};
    size_t step = (len - PIECE) / (PIECES - 1);

    for (size_t piece = 0; piece < PIECES; ++piece) {
        uint32_t squares = 0;

        for (size_t i = 0; i < PIECE; ++i)
            ++counts[p[piece * step + i]];
        /* The sum only grows: of most data a part of the samples tells. */
        if (piece % 4 != 3)
            continue;
        for (size_t value = 0; value < 256; ++value)
            squares += (uint32_t)counts[value] * counts[value];
        if (squares > MOST_SQUARES)
            return 0;
    }
    return 1;
}

/* Whether one word in sixteen was seen shortly before: evenly spread bytes that repeat compress very well. */
static int repeats(const uint8_t *p, size_t len)
{
    uint64_t seen[1 << SEEN_BITS] = {0};
    size_t again = 0, words = len / WORD_STEP;

    for (size_t i = 0; i < words; ++i) {
        uint64_t word = aip_load64(p + i * WORD_STEP);
        uint64_t *place = &seen[(word * 0x9e3779b97f4a7c15u) >> (64 - SEEN_BITS)];
        again += *place == word;
        *place = word;
    }
    return again > words / 16;
}

int aip_random_bitmap(const void *buf, size_t len, size_t frame, uint8_t *bitmap, size_t bitmap_len)
{
    const uint8_t *p = buf;
    uint64_t need;

    if (frame == 0 || !aip_fits(buf, len, len))
        return AIP_EINVAL;
    need = aip_ceil_div(aip_ceil_div(len, frame), 8);
    if (!aip_fits(bitmap, bitmap_len, need))
        return AIP_ESPACE;
    if (aip_overlaps(buf, len, bitmap, (size_t)need))
        return AIP_EOVERLAP;
    for (size_t byte = 0; byte < need; ++byte) {
        unsigned bits = 0;
        for (unsigned bit = 0; bit < 8 && len; ++bit) {
            size_t part = len < frame ? len : frame;
            bits |= (unsigned)(part >= MIN_FRAME && is_even(p, part) && !repeats(p, part)) << bit;
            p += part;
            len -= part;
        }
        bitmap[byte] = (uint8_t)bits;
    }
    return AIP_OK;
}
