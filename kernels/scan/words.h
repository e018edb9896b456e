// Which words of memory are addresses: of the heap, or of host memory that the program has pinned.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "../codec/lanes.h"

// One range of device memory. Chunks of CP_SCAN_CHUNK words are counted through all ranges of a launch.
struct CpScanRange {
    const uint64_t *at;
    uint64_t words;
    // Comes back with every address that is found here; less than 2^24.
    uint32_t source;
    uint32_t first_chunk;
};
#define CP_SCAN_CHUNK 8192u

// What is looked for. An address of the heap is told by its granule, one of host memory by its page of 4 KiB.
struct CpScanTargets {
    uint64_t heap_base, heap_span;
    uint64_t host_base, host_span;
    uint64_t heap_shift;
};
#define CP_SCAN_HOST (1ull << 39)

// What `word` points to; false if to neither.
CP_FN bool cp_scan_target(uint64_t word, const CpScanTargets &targets, uint64_t *target) {
    const uint64_t offset = word - targets.heap_base;
    if (offset < targets.heap_span) {
        *target = offset >> targets.heap_shift;
        return true;
    }
    *target = word >> 12 | CP_SCAN_HOST;
    return word - targets.host_base < targets.host_span;
}

CP_FN uint64_t cp_scan_entry(uint32_t source, uint64_t target) { return (uint64_t)source << 40 | target; }
