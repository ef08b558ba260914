/* Gathering and scattering bytes with every bound checked. The copies are the C library's memcpy, which has
   its own variants for the processor. */
#include "internal.h"

/* The bytes of all extents, or a negative status when one leaves [0, limit) or the sum leaves [0, capacity]. */
static int64_t checked_total(const uint64_t *extents, size_t count, uint64_t limit, uint64_t capacity)
{
    uint64_t total = 0;

    /* So that the total fits the signed result; no real buffer is larger. */
    if (capacity > INT64_MAX)
        return AIP_EINVAL;
    for (size_t i = 0; i < count; ++i) {
        uint64_t length = aip_read_once(extents + 2 * i + 1);
        if (!aip_in_range(aip_read_once(extents + 2 * i), length, limit))
            return AIP_ERANGE;
        if (length > capacity - total)
            return AIP_ESPACE;
        total += length;
    }
    return (int64_t)total;
}

static int64_t check_arguments(const void *src, size_t src_len, const uint64_t *extents, size_t count, const void *dst,
                               size_t dst_len)
{
    if (!aip_fits(src, src_len, src_len) || !aip_fits(dst, dst_len, dst_len) || !aip_valid_extents(extents, count))
        return AIP_EINVAL;
    if (aip_overlaps(src, src_len, dst, dst_len) ||
        aip_overlaps(extents, count * 2 * sizeof *extents, dst, dst_len))
        return AIP_EOVERLAP;
    return AIP_OK;
}

int64_t aip_pack(const void *src, size_t src_len, const uint64_t *extents, size_t count, void *dst, size_t dst_len)
{
    const uint8_t *from = src;
    uint8_t *to = dst;
    int64_t status = check_arguments(src, src_len, extents, count, dst, dst_len);
    uint64_t done = 0;

    if (status == AIP_OK)
        status = checked_total(extents, count, src_len, dst_len);
    if (status <= 0)
        return status;
    for (size_t i = 0; i < count; ++i) {
        uint64_t offset = aip_read_once(extents + 2 * i), length = aip_read_once(extents + 2 * i + 1);
        /* Checked a second time: another thread may have changed the array since, and a wrong extent must never
           become an access outside the buffers. */
        if (!aip_in_range(offset, length, src_len) || length > dst_len - done)
            return AIP_ERANGE;
        memcpy(to + done, from + offset, (size_t)length);
        done += length;
    }
    return (int64_t)done;
}

int64_t aip_unpack(const void *src, size_t src_len, const uint64_t *extents, size_t count, void *dst, size_t dst_len)
{
    const uint8_t *from = src;
    uint8_t *to = dst;
    int64_t status = check_arguments(src, src_len, extents, count, dst, dst_len);
    uint64_t done = 0;

    if (status == AIP_OK)
        status = checked_total(extents, count, dst_len, src_len);
    if (status <= 0)
        return status;
    for (size_t i = 0; i < count; ++i) {
        uint64_t offset = aip_read_once(extents + 2 * i), length = aip_read_once(extents + 2 * i + 1);
        /* As in aip_pack: the array may have changed since it was checked. */
        if (!aip_in_range(offset, length, dst_len) || length > src_len - done)
            return AIP_ERANGE;
        memcpy(to + offset, from + done, (size_t)length);
        done += length;
    }
    return (int64_t)done;
}
