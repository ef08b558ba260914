/* Where the fields of a record lie (docs/format.md, sections 5 to 8); aip_api.h has the sizes. Bytes are little-endian
   in a file, whatever the machine has. */
#ifndef AIP_RECORDS_H
#define AIP_RECORDS_H

#include "internal.h"

/* Record header. */
#define AT_TYPE 4
#define AT_CODEC 5
#define AT_EXTENT_COUNT 6
#define AT_BODY_LENGTH 8
#define AT_PLAIN_LENGTH 12
#define AT_ORIGIN 16
#define AT_NUMBER 32

/* Entry of a frame table. */
#define AT_ENTRY_LENGTH 8
#define AT_ENTRY_PLAIN 12
#define AT_ENTRY_DIGEST 16

#define DIGEST ((size_t)32)
#define ORIGIN ((size_t)16)
#define TYPE_FRAME 1
enum { CODEC_NONE = 0, CODEC_ZSTD = 1 };

/* "AIVR" */
#define RECORD_MAGIC ((uint32_t)0x52564941)
/* Bytes of a record beside its body. */
#define RECORD_EDGES ((uint64_t)AIP_RECORD_HEADER + AIP_CHECK)
/* Digests that are made together: so many places and digests lie on the stack. */
#define AT_ONCE ((size_t)256)

AIP_INLINE void aip_store_le16(uint8_t *p, uint32_t word)
{
    p[0] = (uint8_t)word;
    p[1] = (uint8_t)(word >> 8);
}

AIP_INLINE uint32_t aip_load_le16(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8;
}

AIP_INLINE void aip_store_le64(uint8_t *p, uint64_t word)
{
    aip_store_le32(p, (uint32_t)word);
    aip_store_le32(p + 4, (uint32_t)(word >> 32));
}

/* A record of a run, as its entry says: where it lies in the run's bytes, counted from the first record. */
struct entry {
    uint64_t at, length;
    uint32_t plain;
};

/* Entry `i`, or 0 where its record does not lie in `data_len` bytes or cannot be one. */
AIP_INLINE int aip_entry(const uint8_t *entries, size_t i, uint64_t base, size_t data_len, struct entry *entry)
{
    const uint8_t *row = entries + i * AIP_FRAME_ENTRY;
    uint64_t offset = aip_load_le64(row);

    entry->at = offset - base;
    entry->length = aip_load_le32(row + AT_ENTRY_LENGTH);
    entry->plain = aip_load_le32(row + AT_ENTRY_PLAIN);
    return offset >= base && entry->length > RECORD_EDGES && aip_in_range(entry->at, entry->length, data_len);
}

#endif
