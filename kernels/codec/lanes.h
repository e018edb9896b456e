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

#ifdef __CUDACC__

#define CP_FN static __device__ __forceinline__
#define CP_LANES(l) for (uint32_t l = threadIdx.x & 31, cp_once = 1; cp_once; cp_once = 0)
#define CP_EACH(i, n) for (uint32_t i = threadIdx.x & 31; i < (n); i += 32)

template <class T>
struct Lane {
    T value;
    __device__ __forceinline__ T &operator[](uint32_t) { return value; }
};

CP_FN void cp_sync() { __syncwarp(); }
// Bytes from one place to another, which do not overlap.
CP_FN void cp_copy(uint8_t *to, const uint8_t *from, uint32_t n) { CP_EACH(i, n) to[i] = from[i]; }
CP_FN uint32_t cp_popcount(uint64_t x) { return __popcll(x); }

// Each lane gets the sum of the lanes before it; returns the sum of all.
template <class T>
CP_FN T cp_scan(Lane<T> &x) {
    const uint32_t lane = threadIdx.x & 31;
    const T own = x.value;
    T sum = own;
    for (uint32_t step = 1; step < 32; step *= 2) {
        const T other = __shfl_up_sync(0xFFFFFFFFu, sum, step);
        if (lane >= step) sum += other;
    }
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
    if ((threadIdx.x & 31) < 31) out.value = next;
}

CP_FN void cp_add(uint32_t *at, uint32_t n) { atomicAdd(at, n); }

#else

#define CP_FN static inline __attribute__((always_inline))
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

#endif
