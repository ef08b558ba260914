/* aip_encode_frames and aip_decode_frames with a codec that obeys the input: any lengths, errors, and lies within what
   a codec may return; compared with frames laid out one by one. */
#include "common.h"

/* What the toy codec does with its next call. */
struct orders {
    struct input input;
    int failed;
};

/* Writes no more than it may, and returns a length, or an error above all lengths. */
static size_t toy(void *context, void *dst, size_t dst_len, const void *src, size_t src_len)
{
    struct orders *orders = context;
    uint64_t order = take(&orders->input, 1);
    size_t length = order % 64;

    CHECK(src_len == 0 || src != NULL);
    if (order >= 250) {
        orders->failed = 1;
        return SIZE_MAX - (size_t)order;
    }
    if (length > dst_len) {
        orders->failed = 1;
        return SIZE_MAX;
    }
    for (size_t i = 0; i < length; ++i)
        ((uint8_t *)dst)[i] = (uint8_t)(order + i);
    return length;
}

/* Every frame is said to be as long as its first byte. */
static size_t toy_measure(const void *src, size_t src_len)
{
    return src_len ? *(const uint8_t *)src : SIZE_MAX;
}

static void check_encode(struct input *in, const uint8_t *src, size_t src_len)
{
    size_t frame = (size_t)take(in, 1), count = frame ? (src_len + frame - 1) / frame : 0;
    size_t gap_count = take(in, 1) % 16 ? count + 1 : (size_t)take(in, 1);
    size_t out_len = (size_t)take(in, 2) % 2048, stored_len = take(in, 1) % 16 ? bytes_for(count) : 0;
    uint64_t *gaps = exact(gap_count * 8), *lengths = exact(count * 8), total = 0;
    uint8_t *stored = exact(stored_len), *out = exact(out_len), *want = exact(out_len);
    int fits = src_len <= out_len;

    for (size_t i = 0; i < gap_count; ++i) {
        gaps[i] = take(in, 1) % 32 ? take(in, 1) % 16 : take(in, 8);
        fits = fits && gaps[i] <= out_len - src_len - total;
        total += fits ? gaps[i] : 0;
    }
    for (size_t i = 0; i < stored_len; ++i)
        stored[i] = (uint8_t)take(in, 1);
    struct orders first = {*in, 0}, second = first;
    int64_t status = aip_encode_frames(toy, &first, src, src_len, frame, stored, stored_len, gaps, gap_count, out,
                                       out_len, lengths, count);
    if (frame == 0 || gap_count != count + 1)
        CHECK(status == AIP_EINVAL);
    else if (stored_len < bytes_for(count))
        CHECK(status == AIP_ERANGE);
    else if (!fits)
        CHECK(status == AIP_ESPACE);
    else if (first.failed)
        CHECK(status == AIP_ECODEC);
    else {
        size_t at = 0, left = out_len - (size_t)total - src_len;
        for (size_t i = 0; i < count; ++i) {
            size_t length = src_len - i * frame < frame ? src_len - i * frame : frame, made = length;
            at += (size_t)gaps[i];
            if (!bit_of(stored, i))
                made = toy(&second, want + at, length + left, src + i * frame, length);
            if (made == 0 || made >= length) {
                made = length;
                memcpy(want + at, src + i * frame, length);
            }
            CHECK(lengths[i] == made);
            CHECK(memcmp(want + at, out + at, made) == 0);
            at += made;
            left += length - made;
        }
        CHECK(status == (int64_t)(at + gaps[count]));
    }
    free(gaps);
    free(lengths);
    free(stored);
    free(out);
    free(want);
}

static void check_decode(struct input *in, const uint8_t *src, size_t src_len)
{
    size_t count = (size_t)take(in, 1) % 12, dst_len = (size_t)take(in, 1);
    uint64_t *pieces = exact(count * 32);
    uint8_t *dst = exact(dst_len), *decoded = exact(bytes_for(count));
    int inside = 1;
    int64_t good = 0;

    for (size_t i = 0; i < 4 * count; ++i)
        pieces[i] = take(in, 1) % 64 ? take(in, 1) % 64 : take(in, 8);
    for (size_t i = 0; i < count; ++i) {
        const uint64_t *piece = pieces + 4 * i;
        inside = inside && piece[0] <= src_len && piece[1] <= src_len - piece[0] && piece[2] <= dst_len &&
                 piece[3] <= dst_len - piece[2];
    }
    struct orders first = {*in, 0}, second = first;
    int64_t status = aip_decode_frames(toy, toy_measure, &first, src, src_len, pieces, count, dst, dst_len, decoded,
                                       bytes_for(count));
    CHECK(tail_clear(decoded, count));
    if (!inside)
        CHECK(status == AIP_ERANGE);
    for (size_t i = 0; inside && i < count; ++i) {
        const uint64_t *piece = pieces + 4 * i;
        uint8_t *place = exact((size_t)piece[3]);
        int is_whole = toy_measure(src + piece[0], (size_t)piece[1]) == piece[1];
        int want = is_whole && toy(&second, place, (size_t)piece[3], src + piece[0], (size_t)piece[1]) == piece[3];
        CHECK((int)bit_of(decoded, i) == want);
        good += want;
        free(place);
    }
    CHECK(!inside || status == good);
    free(pieces);
    free(dst);
    free(decoded);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    size_t src_len = (size_t)take(&in, 1);
    uint8_t *src = exact(src_len);

    for (size_t i = 0; i < src_len; ++i)
        src[i] = (uint8_t)(i % 7 == 0 ? take(&in, 1) : i);
    check_encode(&in, src, src_len);
    check_decode(&in, src, src_len);
    free(src);
    return 0;
}
