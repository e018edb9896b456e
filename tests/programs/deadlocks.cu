// Kernels of the deadlock programs: one that waits for the host, and some whose result tells whether
// every byte was there. Sizes are in 32-bit words.
#include "../../kernels/cuda_on_cpu.h"

#ifdef CUDA_ON_CPU
#include <unistd.h>
#define NAP() usleep(200)
#else
#define NAP() __nanosleep(1000)
#endif

// Runs until somebody sets the flag in pinned host memory.
CP_KERNEL(dl_wait, const volatile uint32_t *flag) {
    while (*flag == 0) NAP();
}

// data[i] = 3 data[i] + key
CP_KERNEL(dl_step, uint32_t *data, uint64_t words, uint32_t key) {
    for (uint64_t i = 0; i < words; i++) data[i] = 3 * data[i] + key;
}

// The same, with the address of the data in memory.
CP_KERNEL(dl_follow, uint32_t *const *list, uint64_t words, uint32_t key) {
    uint32_t *data = *list;
    for (uint64_t i = 0; i < words; i++) data[i] = 3 * data[i] + key;
}

// All three at once: each must be there.
CP_KERNEL(dl_mix, uint32_t *a, uint32_t *b, uint32_t *c, uint64_t words, uint32_t key) {
    for (uint64_t i = 0; i < words; i++) {
        a[i] = 3 * a[i] + b[i] + key;
        b[i] ^= c[i];
        c[i] += a[i];
    }
}

CP_IMAGE;
