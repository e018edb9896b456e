// The library's own kernels for a CPU: what the simulated driver runs when it is given the fatbin.
//
// A kernel has one function here, which takes CUDA's kernelParams (a pointer to each parameter) and
// does the whole grid's work, and one line in the table at the end. Compiled once for every x86-64
// and once for those with AVX2; CP_ISA is the end of the table's name.
#include <stddef.h>
#include <stdlib.h>
#include <pthread.h>

#include "codec/decode.h"
#include "codec/encode.h"
#include "scan/words.h"

#define CP_JOINED(name, isa) name##_##isa
#define CP_JOIN(name, isa) CP_JOINED(name, isa)

// One kernel as the driver needs to know it: `offset[i]` and `size[i]` for each parameter.
struct CpCpuKernel {
    const char *name;
    void (*run)(void **params);
    uint32_t params;
    const uint32_t *offset, *size;
};

namespace {

struct Scratch {
    CpEncodeScratch encode;
    CpDecodeScratch decode;
    CpShared shared;
    CpPacking packing;
};

// The work space of a thread. Not on its stack, which may be small, and found again by the next
// launch: a launch that faults never gives back what it has taken.
Scratch *scratch() {
    static pthread_key_t key;
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, [] { pthread_key_create(&key, free); });
    void *own = pthread_getspecific(key);
    if (!own) {
        own = aligned_alloc(64, (sizeof(Scratch) + 63) / 64 * 64);
        pthread_setspecific(key, own);
    }
    return (Scratch *)own;
}

// Where CUDA packs parameters: in order, each at its natural alignment.
template <class... T>
struct Layout {
    uint32_t offset[sizeof...(T)], size[sizeof...(T)];

    constexpr Layout() : offset(), size() {
        constexpr uint32_t sizes[] = {sizeof(T)...}, aligns[] = {alignof(T)...};
        uint32_t end = 0;
        for (uint32_t i = 0; i < sizeof...(T); i++) {
            offset[i] = (end + aligns[i] - 1) / aligns[i] * aligns[i];
            size[i] = sizes[i];
            end = offset[i] + size[i];
        }
    }
};

template <class Kernel>
struct Unpacked;

// Calls `kernel` with the parameters of its own types; what the table says of them is the same list.
template <class... T>
struct Unpacked<void (*)(T...)> {
    static constexpr Layout<T...> at{};

    template <int... I>
    struct Each {};
    template <int n, int... I>
    struct Up : Up<n - 1, n - 1, I...> {};
    template <int... I>
    struct Up<0, I...> {
        using type = Each<I...>;
    };

    template <int... I>
    static void call(void (*kernel)(T...), void **params, Each<I...>) {
        kernel(*(T *)params[I]...);
    }
    static void call(void (*kernel)(T...), void **params) {
        call(kernel, params, typename Up<sizeof...(T)>::type{});
    }
    static constexpr CpCpuKernel row(const char *name, void (*run)(void **)) {
        return {name, run, sizeof...(T), at.offset, at.size};
    }
};
template <class... T>
constexpr Layout<T...> Unpacked<void (*)(T...)>::at;

// The parameters are those of the kernel of this name in a .cu file.
#define CP_CPU_KERNEL(name, ...)                                                           \
    void name(__VA_ARGS__);                                                                \
    void name##_cpu(void **params) { Unpacked<decltype(&name)>::call(&name, params); }     \
    void name(__VA_ARGS__)
#define CP_ROW(name) Unpacked<decltype(&name)>::row(#name, &name##_cpu)

CP_CPU_KERNEL(cp_pages_decode_v1, const CpDescriptor *d, const uint8_t *blobs, uint8_t *const *pages, uint32_t count,
              uint32_t *verdicts, CpDecodeScratch *) {
    Scratch *own = scratch();
    for (uint32_t i = 0; i < count; i++) {
        const CpBlob blob = {blobs + 16ull * d[i].place, 16u * d[i].size};
        verdicts[i] = cp_decode_page(d[i], blob, pages[i], &own->decode, &own->shared);
    }
}

CP_CPU_KERNEL(cp_pages_encode_v1, const uint8_t *const *pages, const uint32_t *lens, CpHint hint, uint32_t count,
              CpDescriptor *d, uint8_t *blobs, CpEncodeScratch *) {
    Scratch *own = scratch();
    for (uint32_t i = 0; i < count; i++)
        cp_encode_page(pages[i], lens[i], hint, &d[i], blobs + 65536ull * i, &own->encode, &own->packing);
}

// This one has no steps of a warp: each thread works alone, here one after another.
struct Index {
    uint32_t x;
};
thread_local Index threadIdx, blockIdx, gridDim;
inline uint64_t __ldcs(const unsigned long long *at) { return *at; }
inline unsigned long long atomicAdd(unsigned long long *at, unsigned long long more) {
    const unsigned long long before = *at;
    *at = before + more;
    return before;
}

#include "scan/scan.cu"

void cp_scan_v1_cpu(void **params) {
    // A thread goes on from chunk to chunk whatever the grid is.
    gridDim.x = 3;
    for (blockIdx.x = 0; blockIdx.x < gridDim.x; blockIdx.x++)
        for (threadIdx.x = 0; threadIdx.x < CP_SCAN_THREADS; threadIdx.x++)
            Unpacked<decltype(&cp_scan_v1)>::call(&cp_scan_v1, params);
}

}  // namespace

// All kernels of the fatbin; `*count` says how many.
extern "C" __attribute__((visibility("hidden"))) const CpCpuKernel *CP_JOIN(cp_cpu_kernels, CP_ISA)(uint32_t *count) {
    static constexpr CpCpuKernel table[] = {
        CP_ROW(cp_pages_decode_v1),
        CP_ROW(cp_pages_encode_v1),
        CP_ROW(cp_scan_v1),
    };
    *count = sizeof table / sizeof table[0];
    return table;
}
