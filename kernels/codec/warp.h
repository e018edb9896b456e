// Instructions of a warp that the fast paths are written with, and what they keep in its shared memory.
#pragma once

#include "bits.h"

// A warp's shared memory: tables, and the symbols of the second tier on their way.
enum : uint32_t { CP_SECONDS = 1024 };

struct CpShared {
    alignas(16) uint32_t by_codes[256];
    alignas(16) uint32_t seconds[CP_SECONDS + 256];
};

struct alignas(8) CpWords2 {
    uint32_t x[2];
};
struct alignas(16) CpWords4 {
    uint32_t x[4];
};

// `add` and the bytes of a, each times that of b: with one byte in b a single instruction takes a byte out, scales
// it and adds it.
CP_FN uint32_t cp_dot(uint32_t a, uint32_t b, uint32_t add) {
#ifdef __CUDACC__
    return __dp4a(a, b, add);
#else
    for (uint32_t i = 0; i < 32; i += 8) add += (a >> i & 255) * (b >> i & 255);
    return add;
#endif
}

// Bits from `shift` (below 32) on of two words.
CP_FN uint32_t cp_funnel(uint32_t low, uint32_t high, uint32_t shift) {
#ifdef __CUDACC__
    return __funnelshift_r(low, high, shift);
#else
    return (uint32_t)(((uint64_t)high << 32 | low) >> (shift & 31));
#endif
}

// Shifted by any number; by 32 and more there is nothing left.
CP_FN uint32_t cp_shift_left(uint32_t x, uint32_t by) {
#ifdef __CUDACC__
    return __funnelshift_lc(0, x, by);
#else
    return by < 32 ? x << by : 0;
#endif
}

template <class T>
CP_FN const T &cp_at(const void *base, uint32_t offset) {
    return *(const T *)((const uint8_t *)base + offset);
}
template <class T>
CP_FN T &cp_at(void *base, uint32_t offset) {
    return *(T *)((uint8_t *)base + offset);
}

// As cp_copy, for places that are aligned to 16.
CP_FN void cp_copy_page(uint8_t *to, const uint8_t *from, uint32_t n) {
    const uint32_t whole = n / 16 * 16;
    CP_EACH(i, n / 16) ((CpWords4 *)to)[i] = ((const CpWords4 *)from)[i];
    cp_copy(to + whole, from + whole, n - whole);
}
