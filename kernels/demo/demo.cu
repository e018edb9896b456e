// Kernels of the demo program: integer arithmetic only, so that a GPU and a CPU agree bit by bit.
//
// Together they reach memory in every way a driver-API program does: plain pointer parameters,
// many of them, pointers inside a struct, pointers stored in device memory, and a pointer in a
// module global. One thread a word; sizes are in 32-bit words.
#include "../cuda_on_cpu.h"

CP_DEVICE_FN uint64_t cp_thread() {
    return (uint64_t)blockIdx.x * blockDim.x + threadIdx.x;
}

CP_DEVICE_FN uint32_t cp_rotate_left(uint32_t value, uint32_t by) {
    by &= 31;
    return value << by | value >> ((32 - by) & 31);
}

// A bijection of 32-bit words with good avalanche.
CP_DEVICE_FN uint32_t cp_mix(uint32_t x) {
    x = (x ^ x >> 16) * 0x7FEB352Du;
    x = (x ^ x >> 15) * 0x846CA68Bu;
    return x ^ x >> 16;
}

// out[i] = mix(seed + i)
CP_KERNEL(cp_demo_fill, uint32_t *out, uint64_t words, uint32_t seed) {
    uint64_t i = cp_thread();
    if (i < words) out[i] = cp_mix(seed + (uint32_t)i);
}

// y[i] = 3 y[i] + a x[i mod x_words]
CP_KERNEL(cp_demo_axpy, uint32_t *y, uint64_t words, const uint32_t *x, uint64_t x_words,
          uint32_t a) {
    uint64_t i = cp_thread();
    if (i < words) y[i] = 3 * y[i] + a * x[i % x_words];
}

// data[i] = rotate_left(data[i], by) ^ key
CP_KERNEL(cp_demo_rotate, uint32_t *data, uint64_t words, uint32_t by, uint32_t key) {
    uint64_t i = cp_thread();
    if (i < words) data[i] = cp_rotate_left(data[i], by) ^ key;
}

// *result += the sum of a hash of every (position, word); the order of additions does not matter.
CP_KERNEL(cp_demo_digest, const uint32_t *data, uint64_t words, unsigned long long *result) {
    uint64_t i = cp_thread();
    if (i < words) {
        uint64_t h = (i + 1) * 0x9E3779B97F4A7C15ull ^ data[i] * 0xD6E8FEB86659FD93ull;
        h = (h ^ h >> 32) * 0xD6E8FEB86659FD93ull;
        atomicAdd(result, (unsigned long long)(h ^ h >> 29));
    }
}

// A bfloat16 number made of all bits of `h`: any sign and mantissa, and each smaller magnitude half as
// likely as the one above it.
CP_DEVICE_FN uint32_t cp_number(uint32_t h) {
    uint32_t exponent = 121;
    for (uint32_t rest = h >> 8; exponent > 100 && !(rest & 1); rest >>= 1) exponent--;
    return (h & 1) << 15 | exponent << 7 | (h >> 1 & 127);
}

// data[i] becomes two numbers such as tensors hold, made of what it was.
CP_KERNEL(cp_demo_numbers, uint32_t *data, uint64_t words) {
    uint64_t i = cp_thread();
    if (i >= words) return;
    uint32_t h = cp_mix(data[i]);
    data[i] = cp_number(h) << 16 | cp_number(cp_mix(h + 0x9E3779B9u));
}

struct cp_demo_row {
    const uint32_t *data;
    uint64_t words;
};

// out[i] += the sum over rows of row[i mod its words]; the rows are listed in device memory.
CP_KERNEL(cp_demo_gather, uint32_t *out, uint64_t words, const cp_demo_row *rows, uint32_t count) {
    uint64_t i = cp_thread();
    if (i >= words) return;
    uint32_t sum = out[i];
    for (uint32_t r = 0; r < count; r++)
        sum = cp_rotate_left(sum, 5) + rows[r].data[i % rows[r].words];
    out[i] = sum;
}

// out[i] ^= a mix of fifteen inputs, each at least `words` long.
CP_KERNEL(cp_demo_fan_in, uint32_t *out, uint64_t words, const uint32_t *a, const uint32_t *b,
          const uint32_t *c, const uint32_t *d, const uint32_t *e, const uint32_t *f,
          const uint32_t *g, const uint32_t *h, const uint32_t *j, const uint32_t *k,
          const uint32_t *l, const uint32_t *m, const uint32_t *n, const uint32_t *o,
          const uint32_t *p) {
    uint64_t i = cp_thread();
    if (i >= words) return;
    uint32_t left = a[i] + 3 * b[i] + 5 * c[i] + 7 * d[i] + 9 * e[i] + 11 * f[i] + 13 * g[i];
    uint32_t right = h[i] ^ cp_rotate_left(j[i], 3) ^ cp_rotate_left(k[i], 7) ^
                     cp_rotate_left(l[i], 11) ^ cp_rotate_left(m[i], 17) ^
                     cp_rotate_left(n[i], 23) ^ cp_rotate_left(o[i], 29) ^ p[i];
    out[i] ^= cp_mix(left ^ right);
}

struct cp_demo_blend_args {
    uint32_t key;
    const uint32_t *a;
    const uint32_t *b;
    uint64_t b_words;
    uint32_t *out;
    uint64_t words;
    uint8_t shift;
};

// out[i] = mix(a[i] ^ key) + rotate_left(b[i mod b_words], shift); everything inside one struct.
CP_KERNEL(cp_demo_blend, cp_demo_blend_args args) {
    uint64_t i = cp_thread();
    if (i < args.words)
        args.out[i] = cp_mix(args.a[i] ^ args.key) +
                      cp_rotate_left(args.b[i % args.b_words], args.shift);
}

// A buffer that kernels reach only through this module global.
__device__ cp_demo_row cp_demo_shared_row;

// out[i] += mix(shared[i mod its words])
CP_KERNEL(cp_demo_from_global, uint32_t *out, uint64_t words) {
    uint64_t i = cp_thread();
    if (i < words) out[i] += cp_mix(cp_demo_shared_row.data[i % cp_demo_shared_row.words]);
}

CP_IMAGE;
