// One kernel source, two compilers.
//
//   nvcc                                   -> PTX or machine code for a GPU
//   g++ -std=c++17 -x c++ -fPIC -shared    -> an image that the simulated driver loads
//
// A kernel is written once, as ordinary CUDA inside CP_KERNEL:
//
//   CP_KERNEL(cp_demo_fill, uint32_t *out, uint64_t words, uint32_t seed) { .. threadIdx.x .. }
//   CP_IMAGE;    // once, at the end of the file
//
// Functions that kernels call are `CP_DEVICE_FN`; `__device__` is for variables.
//
// With nvcc that is `extern "C" __global__ void cp_demo_fill(..)`. With g++ the symbol
// `cp_demo_fill` is a trampoline that takes a `simcuda_launch`, reads the parameters at the
// offsets CUDA gives them and walks the grid; CP_IMAGE emits the ELF note that names every kernel
// with these offsets and sizes. Trampoline and note come from the same list of types, so neither
// can disagree with the kernel.
//
// On the CPU the threads of a launch run one after another (see `cp_walk_threads`). That is right
// for kernels without __syncthreads, warp operations or __shared__. Kernels that work on whole
// warps as values bring a walk of their own and are defined by CP_KERNEL_WALKED(walk, name, ..);
// parameters and note are the same.
#pragma once

#include <stddef.h>
#include <stdint.h>

#ifdef __CUDACC__

#define CP_DEVICE_FN static __device__ __forceinline__
#define CP_KERNEL(name, ...) extern "C" __global__ void name(__VA_ARGS__)
#define CP_KERNEL_WALKED(walk, name, ...) CP_KERNEL(name, __VA_ARGS__)
#define CP_IMAGE static_assert(true, "")

#else  // the CPU build

#include <tuple>
#include <utility>

#define CUDA_ON_CPU 1
// For variables only: cuModuleGetGlobal finds them by their exported name.
#define __device__ __attribute__((visibility("default")))
#define CP_DEVICE_FN static inline __attribute__((always_inline))

struct uint3 {
    uint32_t x, y, z;
};

// Coordinates of the running thread. Per OS thread: each stream of the simulated driver has a
// worker of its own.
static thread_local uint3 threadIdx, blockIdx, blockDim, gridDim;

static inline unsigned long long atomicAdd(unsigned long long *at, unsigned long long value) {
    return __atomic_fetch_add(at, value, __ATOMIC_RELAXED);
}

// What the simulated driver hands to a kernel's symbol. `params` is packed as CUDA packs it.
struct simcuda_launch {
    uint32_t grid[3], block[3], shared_bytes;
    const void *params;
};

// One thread after another, x fastest.
template <class Thread>
static inline void cp_walk_threads(const simcuda_launch *launch, Thread thread) {
    const uint3 grid = gridDim = {launch->grid[0], launch->grid[1], launch->grid[2]};
    const uint3 block = blockDim = {launch->block[0], launch->block[1], launch->block[2]};
    for (uint32_t bz = 0; bz < grid.z; bz++)
        for (uint32_t by = 0; by < grid.y; by++)
            for (uint32_t bx = 0; bx < grid.x; bx++) {
                blockIdx = {bx, by, bz};
                for (uint32_t z = 0; z < block.z; z++)
                    for (uint32_t y = 0; y < block.y; y++)
                        for (uint32_t x = 0; x < block.x; x++) {
                            threadIdx = {x, y, z};
                            thread();
                        }
            }
}

// Where CUDA packs the parameters of a kernel: in order, each at its natural alignment.
template <class Kernel>
struct cp_params;

template <class... T>
struct cp_params<void (*)(T...)> {
    static constexpr uint32_t count = sizeof...(T);

    struct layout {
        uint32_t offset[count + 1], size[count + 1];
    };

    static constexpr layout pack() {
        constexpr uint32_t sizes[] = {uint32_t(sizeof(T))..., 0};
        constexpr uint32_t aligns[] = {uint32_t(alignof(T))..., 1};
        layout at = {};
        uint32_t end = 0;
        for (uint32_t i = 0; i < count; i++) {
            at.offset[i] = (end + aligns[i] - 1) / aligns[i] * aligns[i];
            at.size[i] = sizes[i];
            end = at.offset[i] + sizes[i];
        }
        return at;
    }
    static constexpr layout at = pack();

    template <class U>
    static U read(const void *params, uint32_t offset) {
        U value;
        __builtin_memcpy(&value, static_cast<const char *>(params) + offset, sizeof value);
        return value;
    }

    template <void (*kernel)(T...), class Walk, size_t... I>
    static void run(const simcuda_launch *launch, Walk walk, std::index_sequence<I...>) {
        const std::tuple<T...> values{read<T>(launch->params, at.offset[I])...};
        walk(launch, [&values] { kernel(std::get<I>(values)...); });
    }

    template <void (*kernel)(T...), class Walk>
    static void run(const simcuda_launch *launch, Walk walk) {
        run<kernel>(launch, walk, std::index_sequence_for<T...>{});
    }
};

// The note: header, count, then name and parameters of every kernel of this file.
//   u32 name size, u32 payload size, u32 type, "coldpress\0\0\0"
//   u32 kernels; each: u32 name length, name, u32 parameters, (u32 offset, u32 size) each
// `cp_kernel_at<i>` describes the i-th kernel; the last of them is CP_IMAGE's end mark.
template <int index>
struct cp_kernel_at;

template <int first, int end>
struct cp_note {
    static constexpr size_t header = 24;

    template <int i>
    static constexpr size_t entry_bytes() {
        if constexpr (i == end) {
            return 0;
        } else {
            using kernel = cp_kernel_at<i>;
            return 8 + sizeof(kernel::name) - 1 + 8 * kernel::params::count + entry_bytes<i + 1>();
        }
    }
    static constexpr size_t payload = 4 + entry_bytes<first>();
    static constexpr size_t total = header + (payload + 3) / 4 * 4;

    struct image {
        unsigned char bytes[total];
    };

    struct writer {
        image out = {};
        size_t used = 0;
        constexpr void word(uint32_t value) {
            for (int shift = 0; shift < 32; shift += 8)
                out.bytes[used++] = (unsigned char)(value >> shift);
        }
        constexpr void text(const char *from, size_t length) {
            for (size_t i = 0; i < length; i++) out.bytes[used++] = (unsigned char)from[i];
        }
    };

    template <int i>
    static constexpr void entries(writer &to) {
        if constexpr (i != end) {
            using kernel = cp_kernel_at<i>;
            to.word(sizeof(kernel::name) - 1);
            to.text(kernel::name, sizeof(kernel::name) - 1);
            to.word(kernel::params::count);
            for (uint32_t p = 0; p < kernel::params::count; p++) {
                to.word(kernel::params::at.offset[p]);
                to.word(kernel::params::at.size[p]);
            }
            entries<i + 1>(to);
        }
    }

    static constexpr image make() {
        writer to;
        to.word(sizeof "coldpress");
        to.word(payload);
        to.word(1);
        to.text("coldpress\0\0", 12);
        to.word(end - first);
        entries<first>(to);
        return to.out;
    }
};

static constexpr int cp_first_kernel = __COUNTER__ + 1;

#define CP_KERNEL(name, ...) CP_KERNEL_WALKED(cp_walk_threads, name, __VA_ARGS__)
#define CP_KERNEL_WALKED(walk, name, ...) CP_KERNEL_(__COUNTER__, walk, name, __VA_ARGS__)
// The kernel itself is static under its own name; the exported symbol of that name is the
// trampoline, which C++ knows as `name##_launch`.
#define CP_KERNEL_(index, walk, kernel, ...)                                             \
    static void kernel(__VA_ARGS__);                                                     \
    template <>                                                                          \
    struct cp_kernel_at<index> {                                                         \
        static constexpr char name[] = #kernel;                                          \
        using params = cp_params<decltype(&kernel)>;                                     \
    };                                                                                   \
    extern "C" __attribute__((visibility("default"))) void kernel##_launch(              \
        const simcuda_launch *) __asm__(#kernel);                                        \
    extern "C" void kernel##_launch(const simcuda_launch *launch) {                      \
        cp_params<decltype(&kernel)>::run<&kernel>(launch, [](auto... a) { walk(a...); }); \
    }                                                                                    \
    static void kernel(__VA_ARGS__)

#define CP_IMAGE                                                                         \
    __attribute__((used, section(".note.coldpress.kernels"), aligned(4)))                \
    static const auto cp_kernels_note = cp_note<cp_first_kernel, __COUNTER__>::make()

#endif
