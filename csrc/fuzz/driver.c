/* Runs a fuzz target without a fuzzer: on pseudo-random inputs, the same in every run, half of them mostly zero. For
   compilers without libFuzzer, and as the sanitizers' test of the core. */
#include "common.h"

#define MAX_INPUT 1500

static uint64_t state = 0x9e3779b97f4a7c15u;

static uint64_t next_random(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

int main(int argc, char **argv)
{
    long runs = argc > 1 ? atol(argv[1]) : 2000;
    for (long run = 0; run < runs; ++run) {
        size_t size = (size_t)(next_random() % (run % 4 ? 64 : MAX_INPUT));
        uint8_t *data = exact(size);
        for (size_t i = 0; i < size; ++i)
            data[i] = run % 2 && next_random() % 8 ? 0 : (uint8_t)(next_random() >> 24);
        LLVMFuzzerTestOneInput(data, size);
        free(data);
    }
    return 0;
}
