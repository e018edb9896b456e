/* Small programs around memory, each printing what it saw: no addresses, so that two runs can be
 * compared line by line.
 *   memory NAME [IMAGE]     IMAGE: the demo's kernels as an image, for the launches */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef unsigned long long ptr_t;
typedef int result_t;

static void *driver;

/* A function of the driver by its exported name; absent ones end the program. */
static void *find(const char *name)
{
    void *f = dlsym(driver, name);
    if (f == NULL) {
        fprintf(stderr, "no %s\n", name);
        exit(2);
    }
    return f;
}

#define CALL(name, types, ...) (((result_t(*) types)find(#name))(__VA_ARGS__))
#define DO(name, types, ...)                                              \
    do {                                                                  \
        result_t r_ = CALL(name, types, __VA_ARGS__);                     \
        if (r_ != 0) printf("%s at line %d: %d\n", #name, __LINE__, r_);  \
    } while (0)
#define SHOW(what, value) printf("%s: %lld\n", what, (long long)(value))

static result_t allocate(ptr_t *p, size_t n) { return CALL(cuMemAlloc_v2, (ptr_t *, size_t), p, n); }
static result_t release(ptr_t p) { return CALL(cuMemFree_v2, (ptr_t), p); }
static result_t up(ptr_t to, const void *from, size_t n)
{
    return CALL(cuMemcpyHtoD_v2, (ptr_t, const void *, size_t), to, from, n);
}
static result_t down(void *to, ptr_t from, size_t n)
{
    return CALL(cuMemcpyDtoH_v2, (void *, ptr_t, size_t), to, from, n);
}

static ptr_t must(size_t n)
{
    ptr_t p = 0;
    if (allocate(&p, n) != 0 || p == 0) {
        fprintf(stderr, "no memory for %zu bytes\n", n);
        exit(2);
    }
    return p;
}

static unsigned long long digest(const void *bytes, size_t n)
{
    unsigned long long h = 14695981039346656037ull;
    for (size_t i = 0; i < n; i++) h = (h ^ ((const unsigned char *)bytes)[i]) * 1099511628211ull;
    return h;
}

static void fill(unsigned char *bytes, size_t n, unsigned seed)
{
    for (size_t i = 0; i < n; i++) bytes[i] = (unsigned char)((i * 2654435761u + seed) >> 7);
}

/* The copy is still under way when the free is asked for, and read right after it. */
static void program_free(void)
{
    enum { N = 3 << 20 };
    unsigned char *host, *want = malloc(N);
    void *stream;
    /* Pinned: into other memory the copy itself would wait. */
    DO(cuMemAllocHost_v2, (void **, size_t), (void **)&host, N);
    DO(cuStreamCreate, (void **, unsigned), &stream, 1);
    for (int round = 0; round < 4; round++) {
        ptr_t p = must(N);
        fill(want, N, round);
        DO(cuMemcpyHtoD_v2, (ptr_t, const void *, size_t), p, want, N);
        DO(cuMemcpyDtoHAsync_v2, (void *, ptr_t, size_t, void *), host, p, N, stream);
        SHOW("free", release(p));
        SHOW("same", memcmp(host, want, N) == 0);
    }
    DO(cuStreamDestroy_v2, (void *), stream);
}

static void program_errors(void)
{
    ptr_t p = must(1 << 20), small = must(300), other = 0;
    SHOW("interior", release(p + 4096));
    SHOW("interior of a small one", release(small + 256));
    SHOW("one past", release(p + (1 << 20)));
    SHOW("free", release(p));
    SHOW("again", release(p));
    SHOW("free a small one", release(small));
    SHOW("a small one again", release(small));
    SHOW("null", release(0));
    SHOW("nobody's", release(0x123456789000ull));
    SHOW("zero bytes", allocate(&other, 0));
    SHOW("left alone", other);
    SHOW("more than the card", allocate(&other, (size_t)1 << 50));
    SHOW("all there can be", allocate(&other, ~(size_t)0));
    SHOW("nowhere to put it", allocate(NULL, 4096));
    size_t pitch = 0;
    SHOW("pitch", CALL(cuMemAllocPitch_v2, (ptr_t *, size_t *, size_t, size_t, unsigned), &p, &pitch, 700, 9, 4));
    SHOW("bytes of a row", pitch);
    SHOW("aligned", p % 512 == 0);
    SHOW("free", release(p));
    SHOW("element of 3", CALL(cuMemAllocPitch_v2, (ptr_t *, size_t *, size_t, size_t, unsigned), &p, &pitch, 700, 9, 3));
    SHOW("no rows", CALL(cuMemAllocPitch_v2, (ptr_t *, size_t *, size_t, size_t, unsigned), &p, &pitch, 700, 0, 4));
    SHOW("without a pitch", CALL(cuMemAllocPitch_v2, (ptr_t *, size_t *, size_t, size_t, unsigned), &p, NULL, 700, 9, 4));
    DO(cuCtxSetCurrent, (void *), NULL);
    SHOW("without a context", allocate(&other, 4096));
    size_t free_bytes, total;
    SHOW("information without one", CALL(cuMemGetInfo_v2, (size_t *, size_t *), &free_bytes, &total));
}

static void range_of(const char *what, ptr_t base, ptr_t at)
{
    ptr_t start = 0;
    size_t bytes = 0;
    result_t r = CALL(cuMemGetAddressRange_v2, (ptr_t *, size_t *, ptr_t), &start, &bytes, at);
    if (r == 0)
        printf("%s: %d, offset %lld, %zu bytes\n", what, r, (long long)(start - base), bytes);
    else
        printf("%s: %d\n", what, r);
}

static void program_range(void)
{
    size_t sizes[] = {100, 4096, 70000, 1 << 20, (3 << 20) + 17, 20 << 20};
    ptr_t all[6];
    for (int i = 0; i < 6; i++) all[i] = must(sizes[i]);
    for (int i = 0; i < 6; i++) {
        range_of("start", all[i], all[i]);
        range_of("middle", all[i], all[i] + sizes[i] / 2);
        range_of("last", all[i], all[i] + sizes[i] - 1);
        size_t bytes = 0;
        SHOW("only the size", CALL(cuMemGetAddressRange_v2, (ptr_t *, size_t *, ptr_t), NULL, &bytes, all[i]));
        SHOW("bytes", bytes);
        SHOW("only the start", CALL(cuMemGetAddressRange_v2, (ptr_t *, size_t *, ptr_t), &all[i], NULL, all[i] + 1));
        SHOW("free", release(all[i]));
        range_of("freed", all[i], all[i]);
    }
    range_of("nobody's", 0, 0x123456789000ull);
}

static void attribute(ptr_t base, ptr_t at, int which, const char *what, long long self)
{
    /* Filled, so that what is not written shows, and so does what is written beyond. */
    unsigned char room[16];
    memset(room, 0xA5, sizeof room);
    result_t r = CALL(cuPointerGetAttribute, (void *, int, ptr_t), room, which, at);
    long long value;
    memcpy(&value, room, 8);
    if (which == 3 || which == 11) value -= (long long)base; /* addresses */
    if (which == 1) value = value == self;                   /* the context */
    if (which == 7) value = 0;                               /* a number of the driver's choice */
    if (r == 0)
        printf("%s: %d, %llx %llx\n", what, r, value, (unsigned long long)digest(room + 8, 8));
    else
        printf("%s: %d, %d\n", what, r, room[0]);
}

static void program_attributes(void)
{
    /* Not asked for: legacy IPC (10), which mapped memory cannot do; README says so. */
    static const struct { int which; const char *what; } all[] = {
        {1, "context"}, {2, "memory type"}, {3, "device pointer"}, {4, "host pointer"}, {6, "sync"},
        {7, "buffer id"}, {8, "managed"}, {9, "ordinal"}, {11, "start"}, {12, "size"}, {13, "mapped"},
        {14, "handle types"}, {15, "rdma"}, {16, "access"}, {17, "pool"}, {99, "no such"}};
    enum { ALL = sizeof all / sizeof *all };
    void *self, *stream;
    DO(cuCtxGetCurrent, (void **), &self);
    DO(cuStreamCreate, (void **, unsigned), &stream, 1);
    ptr_t big = must(5 << 20), small = must(100);
    unsigned long long ids[2];
    for (int i = 0; i < ALL; i++) attribute(big, big + 12345, all[i].which, all[i].what, (long long)self);
    for (int i = 0; i < ALL; i++) attribute(small, small, all[i].which, all[i].what, (long long)self);
    DO(cuPointerGetAttribute, (void *, int, ptr_t), &ids[0], 7, big);
    DO(cuPointerGetAttribute, (void *, int, ptr_t), &ids[1], 7, small);
    SHOW("different", ids[0] != ids[1]);
    /* All at once: what is not there is zero, not an error. */
    int which[] = {2, 4, 9, 12, 8};
    unsigned type = 77;
    int ordinal = 77;
    size_t size = 77;
    char managed[4] = {77, 0, 0, 0};
    void *host = (void *)77;
    void *to[] = {&type, &host, &ordinal, &size, managed};
    SHOW("at once", CALL(cuPointerGetAttributes, (unsigned, int *, void **, ptr_t), 5, which, to, big + 1));
    printf("%u %d %d %zu %d\n", type, host == NULL, ordinal, size, managed[0]);
    SHOW("free", release(big));
    SHOW("freed", CALL(cuPointerGetAttribute, (void *, int, ptr_t), &type, 2, big));
    SHOW("freed, at once", CALL(cuPointerGetAttributes, (unsigned, int *, void **, ptr_t), 5, which, to, big));
    printf("%u %d %d %zu %d\n", type, host == (void *)big, ordinal, size, managed[0]);
    SHOW("nobody's", CALL(cuPointerGetAttribute, (void *, int, ptr_t), &type, 2, 0x123456789000ull));
    SHOW("of the stack", CALL(cuPointerGetAttribute, (void *, int, ptr_t), &type, 2, (ptr_t)&type));
    void *pinned;
    DO(cuMemAllocHost_v2, (void **, size_t), &pinned, 4096);
    SHOW("pinned", CALL(cuPointerGetAttribute, (void *, int, ptr_t), &type, 2, (ptr_t)pinned));
    SHOW("type", type);
    DO(cuMemFreeHost, (void *), pinned);
    DO(cuStreamDestroy_v2, (void *), stream);
}

struct copy2d {
    size_t src_x, src_y;
    unsigned src_type;
    const void *src_host;
    ptr_t src_device;
    void *src_array;
    size_t src_pitch;
    size_t dst_x, dst_y;
    unsigned dst_type;
    void *dst_host;
    ptr_t dst_device;
    void *dst_array;
    size_t dst_pitch;
    size_t width, height;
};

struct copy3d {
    size_t src_x, src_y, src_z, src_lod;
    unsigned src_type;
    const void *src_host;
    ptr_t src_device;
    void *src_array, *src_context;
    size_t src_pitch, src_height;
    size_t dst_x, dst_y, dst_z, dst_lod;
    unsigned dst_type;
    void *dst_host;
    ptr_t dst_device;
    void *dst_array, *dst_context;
    size_t dst_pitch, dst_height;
    size_t width, height, depth;
};

static void program_copies(void)
{
    enum { N = 4 << 20, HOST = 1, DEVICE = 2, UNIFIED = 4 };
    unsigned char *host = malloc(N), *back = calloc(N, 1);
    void *stream;
    ptr_t a = must(N), b = must(N);
    DO(cuStreamCreate, (void **, unsigned), &stream, 1);
    fill(host, N, 7);
    DO(cuMemsetD8_v2, (ptr_t, unsigned char, size_t), a, 0x11, N);
    DO(cuMemsetD32_v2, (ptr_t, unsigned, size_t), b, 0x22334455, N / 4);

    struct copy2d c = {.src_x = 12, .src_y = 3, .src_type = HOST, .src_host = host, .src_pitch = 1000,
                       .dst_x = 100, .dst_y = 5, .dst_type = DEVICE, .dst_device = a, .dst_pitch = 2048,
                       .width = 700, .height = 300};
    SHOW("2d up", CALL(cuMemcpy2D_v2, (const void *), &c));
    struct copy2d d = {.src_x = 100, .src_y = 5, .src_type = UNIFIED, .src_device = a, .src_pitch = 2048,
                       .dst_type = DEVICE, .dst_device = b + 64, .dst_pitch = 900, .width = 700, .height = 300};
    SHOW("2d across", CALL(cuMemcpy2DAsync_v2, (const void *, void *), &d, stream));
    DO(cuStreamSynchronize, (void *), stream);
    struct copy2d e = {.src_type = DEVICE, .src_device = b + 64, .src_pitch = 900, .dst_type = HOST,
                       .dst_host = back, .dst_pitch = 777, .width = 700, .height = 300};
    SHOW("2d down", CALL(cuMemcpy2DUnaligned_v2, (const void *), &e));
    printf("%llx\n", digest(back, N));

    struct copy3d u = {.src_x = 4, .src_y = 1, .src_z = 1, .src_type = HOST, .src_host = host,
                       .src_pitch = 400, .src_height = 50, .dst_x = 8, .dst_z = 2, .dst_type = DEVICE,
                       .dst_device = a, .dst_pitch = 512, .dst_height = 60, .width = 333, .height = 40, .depth = 9};
    SHOW("3d up", CALL(cuMemcpy3D_v2, (const void *), &u));
    struct copy3d v = {.src_x = 8, .src_z = 2, .src_type = DEVICE, .src_device = a, .src_pitch = 512,
                       .src_height = 60, .dst_type = DEVICE, .dst_device = b, .dst_pitch = 340, .dst_height = 41,
                       .width = 333, .height = 40, .depth = 9};
    SHOW("3d across", CALL(cuMemcpy3DAsync_v2, (const void *, void *), &v, stream));
    DO(cuStreamSynchronize, (void *), stream);
    SHOW("nothing", CALL(cuMemcpy3D_v2, (const void *), NULL));

    DO(cuMemsetD2D32_v2, (ptr_t, size_t, unsigned, size_t, size_t), a + 1024, 2048, 0xDEADBEEF, 100, 20);
    DO(cuMemsetD2D16_v2, (ptr_t, size_t, unsigned short, size_t, size_t), a + 512, 2048, 0xBEEF, 100, 20);
    DO(cuMemsetD2D8Async, (ptr_t, size_t, unsigned char, size_t, size_t, void *), b, 4096, 0x5C, 99, 30, stream);
    DO(cuMemsetD16Async, (ptr_t, unsigned short, size_t, void *), b + N / 2, 0x1234, 5000, stream);
    DO(cuMemcpyDtoDAsync_v2, (ptr_t, ptr_t, size_t, void *), b + N / 4, a, N / 8, stream);
    DO(cuMemcpyAsync, (ptr_t, ptr_t, size_t, void *), a + N / 2, b, N / 4, stream);
    DO(cuStreamSynchronize, (void *), stream);
    DO(cuMemcpy, (ptr_t, ptr_t, size_t), b + 7, (ptr_t)host, 100000);
    DO(cuMemcpyDtoD_v2, (ptr_t, ptr_t, size_t), a + 13, b + 7, 50000);
    SHOW("down", down(back, a, N));
    printf("%llx\n", digest(back, N));
    SHOW("down", down(back, b, N));
    printf("%llx\n", digest(back, N));

    /* A device address where a host address is declared; the driver knows addresses. */
    DO(cuMemcpy, (ptr_t, ptr_t, size_t), (ptr_t)back, a + 99, 10000);
    printf("%llx\n", digest(back, N));
    SHOW("free", release(a));
    SHOW("free", release(b));
    DO(cuStreamDestroy_v2, (void *), stream);
}

#define LAUNCH \
    (void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void *, void **, void **)

static void program_launches(const char *image)
{
    enum { WORDS = 300000 };
    void *module, *fill_kernel, *axpy;
    unsigned *host = malloc(WORDS * 4);
    ptr_t x = must(WORDS * 4), y = must(WORDS * 4);
    DO(cuModuleLoad, (void **, const char *), &module, image);
    DO(cuModuleGetFunction, (void **, void *, const char *), &fill_kernel, module, "cp_demo_fill");
    DO(cuModuleGetFunction, (void **, void *, const char *), &axpy, module, "cp_demo_axpy");
    unsigned blocks = (WORDS + 255) / 256;

    struct {
        ptr_t out, words;
        unsigned seed, pad;
    } packed = {x, WORDS, 42, 0};
    size_t bytes = sizeof packed;
    void *extra[] = {(void *)1, &packed, (void *)2, &bytes, NULL};
    SHOW("extra", CALL(cuLaunchKernel, LAUNCH, fill_kernel, blocks, 1, 1, 256, 1, 1, 0, NULL, NULL, extra));
    packed.out = y;
    packed.seed = 9;
    void *other_order[] = {(void *)2, &bytes, (void *)1, &packed, NULL};
    SHOW("the other order", CALL(cuLaunchKernel, LAUNCH, fill_kernel, blocks, 1, 1, 256, 1, 1, 0, NULL, NULL, other_order));

    unsigned long long words = WORDS;
    unsigned a = 5;
    void *params[] = {&y, &words, &x, &words, &a};
    SHOW("params", CALL(cuLaunchKernel, LAUNCH, axpy, blocks, 1, 1, 256, 1, 1, 0, NULL, params, NULL));
    struct {
        unsigned grid[3], block[3], shared;
        void *stream, *attributes;
        unsigned count;
    } config = {{blocks, 1, 1}, {256, 1, 1}, 0, NULL, NULL, 0};
    struct {
        unsigned id, pad;
        unsigned long long value[8];
    } window = {1, 0, {x, WORDS * 4}};
    SHOW("ex", CALL(cuLaunchKernelEx, (void *, void *, void **, void **), &config, axpy, params, NULL));
    config.attributes = &window;
    config.count = 1;
    SHOW("with a window", CALL(cuLaunchKernelEx, (void *, void *, void **, void **), &config, axpy, params, NULL));
    SHOW("extra, ex", CALL(cuLaunchKernelEx, (void *, void *, void **, void **), &config, fill_kernel, NULL, extra));
    SHOW("no configuration", CALL(cuLaunchKernelEx, (void *, void *, void **, void **), NULL, axpy, params, NULL));
    SHOW("cooperative", CALL(cuLaunchCooperativeKernel,
                             (void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void *, void **),
                             axpy, blocks, 1, 1, 256, 1, 1, 0, NULL, params));
    SHOW("no parameters", CALL(cuLaunchKernel, LAUNCH, axpy, blocks, 1, 1, 256, 1, 1, 0, NULL, NULL, NULL));
    void *empty[] = {NULL};
    SHOW("an empty list", CALL(cuLaunchKernel, LAUNCH, fill_kernel, blocks, 1, 1, 256, 1, 1, 0, NULL, NULL, empty));
    void *no_buffer[] = {(void *)2, &bytes, NULL};
    SHOW("no buffer", CALL(cuLaunchKernel, LAUNCH, fill_kernel, blocks, 1, 1, 256, 1, 1, 0, NULL, NULL, no_buffer));
    SHOW("no blocks", CALL(cuLaunchKernel, LAUNCH, axpy, 0, 1, 1, 256, 1, 1, 0, NULL, params, NULL));
    SHOW("wait", CALL(cuCtxSynchronize, (void)));
    SHOW("down", down(host, y, WORDS * 4));
    printf("%llx\n", digest(host, WORDS * 4));
    SHOW("down", down(host, x, WORDS * 4));
    printf("%llx\n", digest(host, WORDS * 4));

    /* The same handle values may come again for other kernels. */
    for (int i = 0; i < 3; i++) {
        DO(cuModuleUnload, (void *), module);
        DO(cuModuleLoad, (void **, const char *), &module, image);
        DO(cuModuleGetFunction, (void **, void *, const char *), &axpy, module, i % 2 ? "cp_demo_axpy" : "cp_demo_fill");
        packed.out = x;
        packed.seed = 77 + i;
        void *filling[] = {&packed.out, &packed.words, &packed.seed};
        SHOW("loaded again", CALL(cuLaunchKernel, LAUNCH, axpy, blocks, 1, 1, 256, 1, 1, 0, NULL,
                                  i % 2 ? params : filling, NULL));
    }
    SHOW("down", down(host, y, WORDS * 4));
    printf("%llx\n", digest(host, WORDS * 4));
    SHOW("free", release(x));
    SHOW("free", release(y));
}

static void program_ordered(void)
{
    enum { N = 2 << 20 };
    unsigned char *host = malloc(N);
    void *stream, *pool;
    DO(cuStreamCreate, (void **, unsigned), &stream, 1);
    DO(cuDeviceGetDefaultMemPool, (void **, int), &pool, 0);
    for (int i = 0; i < 5; i++) {
        ptr_t p = 0, q = 0;
        SHOW("allocate", CALL(cuMemAllocAsync, (ptr_t *, size_t, void *), &p, N, stream));
        SHOW("from the pool", CALL(cuMemAllocFromPoolAsync, (ptr_t *, size_t, void *, void *), &q, N, pool, stream));
        DO(cuMemsetD8Async, (ptr_t, unsigned char, size_t, void *), p, 0x40 + i, N, stream);
        DO(cuMemcpyDtoDAsync_v2, (ptr_t, ptr_t, size_t, void *), q, p, N, stream);
        SHOW("free", CALL(cuMemFreeAsync, (ptr_t, void *), p, stream));
        DO(cuMemcpyDtoHAsync_v2, (void *, ptr_t, size_t, void *), host, q, N, stream);
        SHOW("free", CALL(cuMemFreeAsync, (ptr_t, void *), q, stream));
        DO(cuStreamSynchronize, (void *), stream);
        printf("%llx\n", digest(host, N));
    }
    ptr_t p = 0;
    SHOW("zero bytes", CALL(cuMemAllocAsync, (ptr_t *, size_t, void *), &p, 0, stream));
    SHOW("nowhere", CALL(cuMemAllocAsync, (ptr_t *, size_t, void *), NULL, N, stream));
    SHOW("more than the card", CALL(cuMemAllocAsync, (ptr_t *, size_t, void *), &p, (size_t)1 << 50, stream));
    SHOW("allocate", CALL(cuMemAllocAsync_ptsz, (ptr_t *, size_t, void *), &p, N, NULL));
    SHOW("a plain free", release(p));
    SHOW("again", CALL(cuMemFreeAsync, (ptr_t, void *), p, stream));
    DO(cuStreamDestroy_v2, (void *), stream);
}

/* Memory ends with its context, and a context's handle may come again. */
static void program_contexts(void)
{
    void *first;
    size_t before, after, total;
    DO(cuCtxGetCurrent, (void **), &first);
    ptr_t kept = must(1 << 20);
    unsigned char host[4096], back[4096];
    fill(host, sizeof host, 3);
    DO(cuMemcpyHtoD_v2, (ptr_t, const void *, size_t), kept, host, sizeof host);
    for (int i = 0; i < 4; i++) {
        void *ctx, *stream;
        /* The first round may leave room for the next ones mapped. */
        if (i == 1) DO(cuMemGetInfo_v2, (size_t *, size_t *), &before, &total);
        DO(cuCtxCreate_v2, (void **, unsigned, int), &ctx, 0, 0);
        ptr_t p = must(6 << 20);
        must(100);
        DO(cuStreamCreate, (void **, unsigned), &stream, 0);
        DO(cuMemsetD8Async, (ptr_t, unsigned char, size_t, void *), p, i, 6 << 20, stream);
        SHOW("destroy", CALL(cuCtxDestroy_v2, (void *), ctx));
        DO(cuCtxSetCurrent, (void *), first);
        SHOW("its memory", release(p));
        memset(back, 0, sizeof back);
        SHOW("down", down(back, kept, sizeof back));
        SHOW("same", memcmp(host, back, sizeof back) == 0);
    }
    SHOW("no context", CALL(cuCtxDestroy_v2, (void *), NULL) != 0);
    DO(cuMemGetInfo_v2, (size_t *, size_t *), &after, &total);
    SHOW("nothing lost", after >= before);
    SHOW("free", release(kept));
    SHOW("release", CALL(cuDevicePrimaryCtxRelease_v2, (int), 0));
    DO(cuDevicePrimaryCtxRetain, (void **, int), &first, 0);
    DO(cuCtxSetCurrent, (void *), first);
    kept = must(1 << 20);
    SHOW("up", up(kept, host, sizeof host));
    SHOW("reset", CALL(cuDevicePrimaryCtxReset_v2, (int), 0));
    DO(cuDevicePrimaryCtxRetain, (void **, int), &first, 0);
    DO(cuCtxSetCurrent, (void *), first);
    SHOW("its memory", release(kept));
    SHOW("free", release(must(1 << 20)));
}

/* Two cards: copies between them, and a kernel on one that reads and writes the other's memory. */
static void program_peers(const char *image)
{
    enum { WORDS = 200000, BYTES = WORDS * 4 };
    void *ctx[2], *module, *axpy, *stream;
    unsigned *host = malloc(BYTES);
    ptr_t p[2];
    for (int i = 0; i < 2; i++) {
        DO(cuDevicePrimaryCtxRetain, (void **, int), &ctx[i], i);
        DO(cuCtxSetCurrent, (void *), ctx[i]);
        p[i] = must(BYTES);
        DO(cuMemsetD32_v2, (ptr_t, unsigned, size_t), p[i], 0x01020304 * (i + 1), WORDS);
    }
    DO(cuStreamCreate, (void **, unsigned), &stream, 1);
    SHOW("across", CALL(cuMemcpyDtoD_v2, (ptr_t, ptr_t, size_t), p[0], p[1], BYTES / 2));
    SHOW("across, async", CALL(cuMemcpyAsync, (ptr_t, ptr_t, size_t, void *), p[0] + BYTES / 2, p[1], BYTES / 4, stream));
    SHOW("peer", CALL(cuMemcpyPeerAsync, (ptr_t, void *, ptr_t, void *, size_t, void *), p[1] + 4096, ctx[1], p[0],
                      ctx[0], 4096, stream));
    SHOW("wait", CALL(cuStreamSynchronize, (void *), stream));
    SHOW("down", down(host, p[1], BYTES));
    printf("%llx\n", digest(host, BYTES));
    int ordinal;
    DO(cuPointerGetAttribute, (void *, int, ptr_t), &ordinal, 9, p[0]);
    SHOW("ordinal", ordinal);

    SHOW("enable", CALL(cuCtxEnablePeerAccess, (void *, unsigned), ctx[0], 0));
    SHOW("again", CALL(cuCtxEnablePeerAccess, (void *, unsigned), ctx[0], 0));
    DO(cuModuleLoad, (void **, const char *), &module, image);
    DO(cuModuleGetFunction, (void **, void *, const char *), &axpy, module, "cp_demo_axpy");
    unsigned long long words = WORDS;
    unsigned a = 3;
    DO(cuCtxSetCurrent, (void *), ctx[0]);
    ptr_t later = must(BYTES); /* made after the permission */
    DO(cuMemsetD32_v2, (ptr_t, unsigned, size_t), later, 5, WORDS);
    DO(cuCtxSetCurrent, (void *), ctx[1]);
    void *params[] = {&later, &words, &p[1], &words, &a};
    void *back[] = {&p[1], &words, &p[0], &words, &a};
    unsigned blocks = (WORDS + 255) / 256;
    SHOW("to the peer", CALL(cuLaunchKernel, LAUNCH, axpy, blocks, 1, 1, 256, 1, 1, 0, stream, params, NULL));
    SHOW("from the peer", CALL(cuLaunchKernel, LAUNCH, axpy, blocks, 1, 1, 256, 1, 1, 0, stream, back, NULL));
    SHOW("wait", CALL(cuCtxSynchronize, (void)));
    SHOW("down", down(host, p[1], BYTES));
    printf("%llx\n", digest(host, BYTES));
    SHOW("disable", CALL(cuCtxDisablePeerAccess, (void *), ctx[0]));
    SHOW("again", CALL(cuCtxDisablePeerAccess, (void *), ctx[0]) != 0);
    SHOW("free the other's", release(later));
    DO(cuCtxSetCurrent, (void *), ctx[0]);
    SHOW("release", CALL(cuDevicePrimaryCtxRelease_v2, (int), 1));
    SHOW("gone with its context", release(p[1]));
    SHOW("still there", down(host, p[0], BYTES));
    printf("%llx\n", digest(host, BYTES));
}

int main(int argc, char **argv)
{
    void *ctx;
    const char *name = argc > 1 ? argv[1] : "";
    driver = dlopen("libcuda.so.1", RTLD_NOW);
    if (driver == NULL) return 2;
    DO(cuInit, (unsigned), 0);
    DO(cuDevicePrimaryCtxRetain, (void **, int), &ctx, 0);
    DO(cuCtxSetCurrent, (void *), ctx);
    if (!strcmp(name, "free")) program_free();
    else if (!strcmp(name, "errors")) program_errors();
    else if (!strcmp(name, "range")) program_range();
    else if (!strcmp(name, "attributes")) program_attributes();
    else if (!strcmp(name, "copies")) program_copies();
    else if (!strcmp(name, "launches") && argc > 2) program_launches(argv[2]);
    else if (!strcmp(name, "ordered")) program_ordered();
    else if (!strcmp(name, "contexts")) program_contexts();
    else if (!strcmp(name, "peers") && argc > 2) program_peers(argv[2]);
    else return 2;
    return 0;
}
