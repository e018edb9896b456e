/* Launches, modules, contexts, streams, the resolver; and the C interface. */
#include "victim.h"
#include <unistd.h>

static uint32_t mix(uint32_t x)
{
    x = (x ^ x >> 16) * 0x7FEB352Du;
    x = (x ^ x >> 15) * 0x846CA68Bu;
    return x ^ x >> 16;
}

struct config {
    unsigned gx, gy, gz, bx, by, bz, shared;
    void *stream, *attrs;
    unsigned n;
};

static result_t launches(void)
{
    if (!starts("cuLaunch")) return NOT_HERE;
    unsigned seed = 99, blocks = WORDS / 128;
    unsigned long long words = WORDS;
    void *params[] = {&a.at, &words, &seed};
    struct config config = {blocks, 1, 1, 128, 1, 1, 0, stream, NULL, 0};
    result_t r;
    if (starts("cuLaunchKernelEx"))
        r = TESTED((const void *, void *, void **, void **), &config, fill, params, NULL);
    else if (starts("cuLaunchCooperative"))
        r = TESTED((void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void *, void **),
                   fill, blocks, 1, 1, 128, 1, 1, 0, stream, params);
    else
        r = TESTED((void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void *, void **,
                    void **),
                   fill, blocks, 1, 1, 128, 1, 1, 0, stream, params, NULL);
    MUST("cuCtxSynchronize", (void));
    if (r == 0)
        for (uint32_t i = 0; i < WORDS; i++) a.want[i] = mix(seed + i);
    return r;
}

static result_t modules(void)
{
    ptr_t at = 0;
    size_t bytes = 0;
    void *kernel = NULL, *all[64] = {NULL};
    unsigned n = 0;
    result_t r;
    if (is("cuModuleGetGlobal_v2") || is("cuLibraryGetGlobal")) {
        r = TESTED((ptr_t *, size_t *, void *, const char *), &at, &bytes, is("cuLibraryGetGlobal") ? library : module,
                   "cp_demo_shared_row");
        if (r == 0 && (at == 0 || bytes != 16)) wrong("global");
        return r;
    }
    if (is("cuModuleUnload")) {
        void *another;
        MUST("cuModuleLoadData", (void **, const void *), &another, image);
        r = TESTED((void *), another);
        if (r != 0) MUST("cuModuleUnload", (void *), another);
        return r;
    }
    if (is("cuLibraryUnload")) {
        r = TESTED((void *), library);
        if (r != 0) MUST("cuLibraryUnload", (void *), library);
        return r;
    }
    if (is("cuLibraryGetKernel")) {
        r = TESTED((void **, void *, const char *), &kernel, library, "cp_demo_fill");
        if (r == 0 && kernel == NULL) wrong("kernel");
        return r;
    }
    if (is("cuLibraryEnumerateKernels")) {
        MUST("cuLibraryGetKernelCount", (unsigned *, void *), &n, library);
        r = TESTED((void **, unsigned, void *), all, n < 64 ? n : 64, library);
        if (r == 0 && all[0] == NULL) wrong("kernels");
        return r;
    }
    return NOT_HERE;
}

/* The new context is current then: back to the first one. */
static result_t created(result_t result, void **made)
{
    if (result != 0) return result;
    MUST("cuCtxDestroy_v2", (void *), *made);
    MUST("cuCtxSetCurrent", (void *), context);
    return result;
}

static result_t contexts(void)
{
    void *made = NULL;
    result_t r;
    if (is("cuCtxCreate") || is("cuCtxCreate_v2"))
        return created(TESTED((void **, unsigned, int), &made, 0, 0), &made);
    if (is("cuCtxCreate_v3"))
        return created(TESTED((void **, void *, int, unsigned, int), &made, NULL, 0, 0, 0), &made);
    if (is("cuCtxCreate_v4"))
        return created(TESTED((void **, void *, unsigned, int), &made, NULL, 0, 0), &made);
    if (is("cuCtxDestroy") || is("cuCtxDestroy_v2") || is("cuCtxDetach")) {
        MUST("cuCtxCreate_v2", (void **, unsigned, int), &made, 0, 0);
        r = TESTED((void *), made);
        MUST("cuCtxSetCurrent", (void *), context);
        return r;
    }
    if (is("cuCtxAttach")) return TESTED((void **, unsigned), &made, 0);
    if (has("PeerAccess")) {
        void *peer;
        MUST("cuDevicePrimaryCtxRetain", (void **, int), &peer, 1);
        if (is("cuCtxDisablePeerAccess")) MUST("cuCtxEnablePeerAccess", (void *, unsigned), peer, 0);
        r = is("cuCtxDisablePeerAccess") ? TESTED((void *), peer) : TESTED((void *, unsigned), peer, 0);
        MUST("cuDevicePrimaryCtxRelease_v2", (int), 1);
        return r;
    }
    if (is("cuDevicePrimaryCtxRetain")) {
        r = TESTED((void **, int), &made, 0);
        if (r == 0 && made != context) wrong("primary context");
        if (r == 0) MUST("cuDevicePrimaryCtxRelease_v2", (int), 0);
        return r;
    }
    if (starts("cuDevicePrimaryCtxRe")) {
        context_ended = 1;
        return TESTED((int), 0);
    }
    return NOT_HERE;
}

static result_t streams(void)
{
    void *made = NULL;
    result_t r;
    if (starts("cuStreamCreate")) {
        r = has("Priority") ? TESTED((void **, unsigned, int), &made, 1, 0) : TESTED((void **, unsigned), &made, 1);
        if (r == 0) MUST("cuStreamDestroy_v2", (void *), made);
        return r;
    }
    if (starts("cuStreamDestroy")) {
        MUST("cuStreamCreate", (void **, unsigned), &made, 1);
        r = TESTED((void *), made);
        if (r != 0) MUST("cuStreamDestroy_v2", (void *), made);
        return r;
    }
    return NOT_HERE;
}

static volatile int called;
static void from_stream(void *argument) { called += argument == (void *)&called; }
static void from_stream_old(void *in, int status, void *argument)
{
    called += in == stream && status == 0 && argument == (void *)&called;
}

/* What runs in the stream is called once, or not at all if it was refused. */
static result_t host_functions(void)
{
    result_t r;
    if (starts("cuStreamAddCallback"))
        r = TESTED((void *, void (*)(void *, int, void *), void *, unsigned), stream, from_stream_old,
                   (void *)&called, 0);
    else if (starts("cuLaunchHostFunc_v2"))
        r = TESTED((void *, void (*)(void *), void *, unsigned), stream, from_stream, (void *)&called, 0);
    else if (starts("cuLaunchHostFunc"))
        r = TESTED((void *, void (*)(void *), void *), stream, from_stream, (void *)&called);
    else
        return NOT_HERE;
    MUST("cuStreamSynchronize", (void *), stream);
    if (called != (r == 0)) wrong("host function");
    return r;
}

static result_t resolver(void)
{
    void *f = NULL;
    unsigned status = 0;
    if (!starts("cuGetProcAddress")) return NOT_HERE;
    result_t r = is("cuGetProcAddress_v2")
                     ? TESTED((const char *, void **, int, unsigned long long, unsigned *), "cuMemAlloc", &f, 12000,
                              0ull, &status)
                     : TESTED((const char *, void **, int, unsigned long long), "cuMemAlloc", &f, 12000, 0ull);
    if (r == 0 && f == NULL) wrong("address");
    return r;
}

result_t other(void)
{
    result_t (*all[])(void) = {launches, modules, contexts, streams, host_functions, resolver};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        result_t r = all[i]();
        if (r != NOT_HERE) return r;
    }
    return NOT_HERE;
}

/* The functions of coldpress.h and of PyTorch's pluggable allocator: a panic in them is an error of
 * theirs, or nothing at all. */
result_t interface(void)
{
    typedef struct { unsigned long long low, high; } pool_t;
    pool_t pool = {1, 2};
    if (is("coldpress_malloc")) {
        void *at = NULL;
        result_t r = TESTED((void **, size_t), &at, BYTES);
        if (r == 0) MUST("coldpress_free", (void *), at);
        return r;
    }
    if (is("coldpress_free")) {
        result_t r = TESTED((void *), (void *)a.at);
        if (r == 0) a.at = 0;
        return r;
    }
    if (is("coldpress_pin") || is("coldpress_unpin") || is("coldpress_prefetch"))
        return TESTED((const void *), (void *)a.at);
    if (is("coldpress_advise")) return TESTED((const void *, int), (void *)a.at, 1);
    if (is("coldpress_evict") || is("coldpress_restore"))
        return TESTED((const void *, const char *, unsigned), NULL, NULL, 0);
    if (is("coldpress_tag_push")) return TESTED((const char *), "tag");
    if (is("coldpress_tag_pop")) return TESTED((void));
    if (is("coldpress_stats")) {
        struct { unsigned size; char rest[508]; } stats = {512, {0}};
        return TESTED((void *), &stats);
    }
    if (is("coldpress_snapshot")) return TESTED((int), STDERR_FILENO);
    if (is("coldpress_last_error") || is("coldpress_version")) {
        begin();
        CALL(hook, (void));
        end();
        return 0;
    }
    if (!starts("coldpress_torch_")) return NOT_HERE;
    begin();
    if (is("coldpress_torch_malloc") || is("coldpress_torch_free")) {
        void *(*give)(size_t, int, void *) = (void *(*)(size_t, int, void *))find("coldpress_torch_malloc");
        void (*take)(void *, size_t, int, void *) = (void (*)(void *, size_t, int, void *))find("coldpress_torch_free");
        void *at = give(BYTES, 0, stream);
        if (at != NULL) {
            MUST("cuMemcpyDtoD_v2", (ptr_t, ptr_t, size_t), (ptr_t)at, b.at, BYTES);
            take(at, BYTES, 0, stream);
        }
    } else if (is("coldpress_torch_init"))
        ((void (*)(int))find(hook))(1);
    else if (is("coldpress_torch_reset"))
        ((void (*)(void))find(hook))();
    else if (is("coldpress_torch_memory_fraction"))
        ((void (*)(double, int))find(hook))(0.9, 0);
    else if (is("coldpress_torch_base_alloc")) {
        size_t bytes;
        void *(*base)(void *, size_t *) = (void *(*)(void *, size_t *))find(hook);
        if (base((void *)a.at, &bytes) == NULL) wrong("base");
    } else if (is("coldpress_torch_record_stream"))
        ((void (*)(void *, void *))find(hook))((void *)a.at, stream);
    else if (is("coldpress_torch_begin_pool"))
        ((void (*)(int, pool_t, void *))find(hook))(0, pool, NULL);
    else if (is("coldpress_torch_end_pool") || is("coldpress_torch_release_pool"))
        ((void (*)(int, pool_t))find(hook))(0, pool);
    else
        return NOT_HERE;
    end();
    return 0;
}
