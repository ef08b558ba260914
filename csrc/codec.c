/* A frame through the compressor of another library. The library is not linked: its function comes as an address, and
   what it returns is believed no further than the buffer reaches. */
#include "internal.h"

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
