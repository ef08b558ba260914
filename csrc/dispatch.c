/* Which variant of a function runs. */
#include "internal.h"

/* Written only by tests and benchmarks, while nothing else runs; read by every call. A stale value picks the other
   variant, whose result is the same, so no synchronisation is needed; volatile keeps each access one whole load. */
static volatile int scalar_forced = 0;

int aip_uses_avx2(void)
{
#if AIP_HAVE_AVX2
    /* The builtin reads a word that the run-time library filled at start-up, with the operating system's support for
       the wide registers taken into account: asking every time is as cheap as a cache of our own. */
    return !scalar_forced && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("popcnt");
#else
    return 0;
#endif
}

int aip_scalar_forced(void)
{
    return scalar_forced;
}

void aip_force_scalar(int force)
{
    scalar_forced = force != 0;
}
