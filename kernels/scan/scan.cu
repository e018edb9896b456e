// Searches memory for addresses, at the speed of reading it: almost none of it is one.
#include "words.h"

#define CP_SCAN_THREADS 256u
#ifdef __CUDACC__
#define CP_SCAN_KERNEL extern "C" __global__ void __launch_bounds__(CP_SCAN_THREADS)
#else
#define CP_SCAN_KERNEL static void
#endif
// Words that a thread has on their way at once.
#define CP_SCAN_AHEAD 8u

// Writes an entry (`cp_scan_entry`) for addresses in `count` ranges to `found`, no more than `room`, and adds how many there were to
// *taken: more than `room` means that some are missing. A thread writes the same one once in a row. Ranges start at whole words; `ranges`,
// `found` and `taken` may be host memory that the device can reach. `chunks` is the number of chunks of all ranges.
CP_SCAN_KERNEL cp_scan_v1(const CpScanRange *ranges, uint32_t count, uint32_t chunks, CpScanTargets targets, uint64_t *found,
                          uint64_t room, unsigned long long *taken) {
    for (uint32_t chunk = blockIdx.x; chunk < chunks; chunk += gridDim.x) {
        // The last range that begins here or before.
        uint32_t low = 0, high = count;
        while (high - low > 1) {
            const uint32_t middle = (low + high) / 2;
            if (ranges[middle].first_chunk <= chunk)
                low = middle;
            else
                high = middle;
        }
        const CpScanRange range = ranges[low];
        const uint64_t begin = (uint64_t)(chunk - range.first_chunk) * CP_SCAN_CHUNK;
        const uint64_t left = range.words - begin;
        const uint32_t words = left < CP_SCAN_CHUNK ? (uint32_t)left : CP_SCAN_CHUNK;
        const uint64_t *at = range.at + begin;
        uint64_t last = ~0ull;
        for (uint32_t i = threadIdx.x; i < words; i += CP_SCAN_THREADS * CP_SCAN_AHEAD) {
            uint64_t word[CP_SCAN_AHEAD];
            CP_UNROLLED
            for (uint32_t k = 0; k < CP_SCAN_AHEAD; k++) {
                const uint32_t own = i + k * CP_SCAN_THREADS;
                // Behind the end the first word once more: it says nothing new.
                word[k] = __ldcs((const unsigned long long *)at + (own < words ? own : threadIdx.x));
            }
            CP_UNROLLED
            for (uint32_t k = 0; k < CP_SCAN_AHEAD; k++) {
                uint64_t target;
                if (!cp_scan_target(word[k], targets, &target) || target == last) continue;
                last = target;
                const unsigned long long slot = atomicAdd(taken, 1ull);
                if (slot < room) found[slot] = cp_scan_entry(range.source, target);
            }
        }
    }
}
