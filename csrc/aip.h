/* The public header of the C core: the standard types, then the declarations shared with cffi. */
#ifndef AIP_H
#define AIP_H

#include <stddef.h>
#include <stdint.h>

#include "aip_api.h"

#endif
