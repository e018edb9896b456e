// How the work of one warp is written once, for a GPU and for a CPU.
//
// A warp's code is a row of steps. What each lane does by itself stands in CP_LANES(l) { .. } (the
// lane's number is l) or CP_EACH(i, n) { .. } (i from 0 to n - 1, dealt out to the lanes); what a
// lane keeps from one step to the next stands in a Lane<T>. Between steps are the operations of the
// whole warp: sums, and cp_sync where one lane reads what another has written. Everything outside
// of a step is the same for all lanes.
//
// On a GPU a step runs in all lanes at once; on a CPU it is a loop, which the compiler may turn into
// vector instructions.
#pragma once

#include <stdint.h>
#include <string.h>

// Whether a device's ways are taken: the fast paths of full tiles, and little memory for each warp, so that what a
// tile's symbols are is found out again where it is needed. On a processor both are slower; they are compiled there
// all the same, for tests: a third build, which codes and decodes as a device does.
#if defined(__CUDACC__) || defined(CP_AS_DEVICE)
#define CP_DEVICE true
#else
#define CP_DEVICE false
#endif

#ifdef __CUDACC__

#define CP_FN static __device__ __forceinline__
// What is done once a page or by pages that are not the usual: not worth a copy at each place.
#define CP_SLOW __device__ __noinline__
// Before a loop: whether its body stands there once or as often as it runs.
#define CP_ROLLED _Pragma("unroll 1")
#define CP_UNROLLED _Pragma("unroll")
#define CP_LANES(l) for (uint32_t l = cp_lane(), cp_once = 1; cp_once; cp_once = 0)
#define CP_EACH(i, n) _Pragma("unroll 1") for (uint32_t i = cp_lane(); i < (n); i += 32)

// From its register: there is nothing to mask.
CP_FN uint32_t cp_lane() {
    uint32_t lane;
    asm("mov.u32 %0, %%laneid;" : "=r"(lane));
    return lane;
}

template <class T>
struct Lane {
    T value;
    __device__ __forceinline__ T &operator[](uint32_t) { return value; }
};

CP_FN void cp_sync() { __syncwarp(); }
// Bytes from one place to another, which do not overlap.
CP_FN void cp_copy(uint8_t *to, const uint8_t *from, uint32_t n) { CP_EACH(i, n) to[i] = from[i]; }
CP_FN uint32_t cp_popcount(uint64_t x) { return __popcll(x); }
CP_FN uint32_t cp_popcount4(uint32_t x) { return __popc(x); }

// Each lane gets the sum of the lanes before it; returns the sum of all.
template <class T>
CP_FN T cp_scan(Lane<T> &x) {
    const uint32_t lane = cp_lane();
    const T own = x.value;
    T sum = own;
    for (uint32_t step = 1; step < 32; step *= 2) {
        const T other = __shfl_up_sync(0xFFFFFFFFu, sum, step);
        if (lane >= step) sum += other;
    }
    x.value = sum - own;
    return __shfl_sync(0xFFFFFFFFu, sum, 31);
}
// The shuffle itself knows which lanes have one that far before them; nothing is compared.
CP_FN uint32_t cp_scan(Lane<uint32_t> &x) {
    const uint32_t own = x.value;
    uint32_t sum = own;
    for (uint32_t step = 1; step < 32; step *= 2)
        asm volatile("{ .reg .u32 other; .reg .pred has;\n"
                     "shfl.sync.up.b32 other|has, %0, %1, 0, 0xFFFFFFFF;\n"
                     "@has add.u32 %0, %0, other; }"
                     : "+r"(sum)
                     : "r"(step));
    x.value = sum - own;
    return __shfl_sync(0xFFFFFFFFu, sum, 31);
}

// The bits of all lanes together.
CP_FN uint32_t cp_or(Lane<uint32_t> &x) {
    uint32_t all = x.value;
    for (uint32_t step = 16; step > 0; step /= 2) all |= __shfl_xor_sync(0xFFFFFFFFu, all, step);
    return all;
}

// Each lane but the last gets what the next one has.
CP_FN void cp_next_lane(Lane<uint32_t> &x, Lane<uint32_t> &out) {
    const uint32_t next = __shfl_down_sync(0xFFFFFFFFu, x.value, 1);
    if (cp_lane() < 31) out.value = next;
}

CP_FN void cp_add(uint32_t *at, uint32_t n) { atomicAdd(at, n); }

// The lanes whose x is not zero.
CP_FN uint32_t cp_ballot(Lane<uint32_t> &x) { return __ballot_sync(0xFFFFFFFFu, x.value != 0); }
// Each lane but the first gets what the one before it has, that one 0.
CP_FN void cp_lane_before(Lane<uint32_t> &x, Lane<uint32_t> &out) {
    out.value = __shfl_up_sync(0xFFFFFFFFu, x.value, 1);
}
// Each lane gets its sum with the lane whose number differs in one bit.
CP_FN void cp_add_lanes(Lane<uint32_t> &x, uint32_t bit) { x.value += __shfl_xor_sync(0xFFFFFFFFu, x.value, bit); }
CP_FN uint32_t cp_of_lane(Lane<uint32_t> &x, uint32_t lane) { return __shfl_sync(0xFFFFFFFFu, x.value, lane); }
// Lane l gets what lane l * up / down + more has, where there is one.
CP_FN void cp_from_lane(Lane<uint32_t> &x, uint32_t up, uint32_t down, uint32_t more, Lane<uint32_t> &out) {
    out.value = __shfl_sync(0xFFFFFFFFu, x.value, cp_lane() * up / down + more);
}

#else

#define CP_FN static inline __attribute__((always_inline))
#define CP_SLOW CP_FN
#define CP_ROLLED
#define CP_UNROLLED
#define CP_LANES(l) for (uint32_t l = 0; l < 32; l++)
#define CP_EACH(i, n) for (uint32_t i = 0; i < (n); i++)

template <class T>
struct Lane {
    T value[32];
    T &operator[](uint32_t lane) { return value[lane]; }
};

CP_FN void cp_sync() {}
CP_FN void cp_copy(uint8_t *to, const uint8_t *from, uint32_t n) { memcpy(to, from, n); }
CP_FN uint32_t cp_popcount(uint64_t x) { return (uint32_t)__builtin_popcountll(x); }
CP_FN uint32_t cp_popcount4(uint32_t x) { return (uint32_t)__builtin_popcount(x); }

template <class T>
CP_FN T cp_scan(Lane<T> &x) {
    T sum = 0;
    CP_LANES(l) {
        const T own = x[l];
        x[l] = sum;
        sum += own;
    }
    return sum;
}

CP_FN uint32_t cp_or(Lane<uint32_t> &x) {
    uint32_t all = 0;
    CP_LANES(l) all |= x[l];
    return all;
}

CP_FN void cp_next_lane(Lane<uint32_t> &x, Lane<uint32_t> &out) {
    for (uint32_t l = 0; l < 31; l++) out[l] = x[l + 1];
}

CP_FN void cp_add(uint32_t *at, uint32_t n) { *at += n; }

CP_FN uint32_t cp_ballot(Lane<uint32_t> &x) {
    uint32_t out = 0;
    CP_LANES(l) out |= (uint32_t)(x[l] != 0) << l;
    return out;
}
CP_FN void cp_lane_before(Lane<uint32_t> &x, Lane<uint32_t> &out) {
    for (uint32_t l = 31; l > 0; l--) out[l] = x[l - 1];
    out[0] = 0;
}
CP_FN void cp_add_lanes(Lane<uint32_t> &x, uint32_t bit) {
    CP_LANES(l) {
        if (l & bit) continue;
        x[l] = x[l + bit] = x[l] + x[l + bit];
    }
}
CP_FN uint32_t cp_of_lane(Lane<uint32_t> &x, uint32_t lane) { return x[lane]; }
CP_FN void cp_from_lane(Lane<uint32_t> &x, uint32_t up, uint32_t down, uint32_t more, Lane<uint32_t> &out) {
    CP_LANES(l) out[l] = x[(l * up / down + more) % 32];
}

#endif
