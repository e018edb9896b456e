/* What device memory costs and when it is given out again, as a program under a limit sees it.
 * Prints one line per broken expectation and ends with 1.
 *   budget NAME [IMAGE]     IMAGE: the demo's kernels as an image */
#define _GNU_SOURCE
#include "coldpress.h"
#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef unsigned long long ptr_t;
typedef int result_t;
#define MIB ((size_t)1 << 20)

static void *driver;
static int wrong;

static void *find(const char *name)
{
    void *f = dlsym(driver, name);
    if (f == NULL) exit(2);
    return f;
}

#define CALL(name, types, ...) (((result_t(*) types)find(#name))(__VA_ARGS__))
#define DO(name, types, ...)                                              \
    do {                                                                  \
        result_t r_ = CALL(name, types, __VA_ARGS__);                     \
        if (r_ != 0) printf("%s at line %d: %d\n", #name, __LINE__, r_), wrong = 1; \
    } while (0)
#define EXPECT(what)                                                      \
    do {                                                                  \
        if (!(what)) printf("line %d: not so: %s\n", __LINE__, #what), wrong = 1; \
    } while (0)

static result_t allocate(ptr_t *p, size_t n) { return CALL(cuMemAlloc_v2, (ptr_t *, size_t), p, n); }
static void release(ptr_t p) { DO(cuMemFree_v2, (ptr_t), p); }

static ptr_t must(size_t n)
{
    ptr_t p = 0;
    if (allocate(&p, n) != 0) printf("no memory for %zu bytes\n", n), exit(1);
    return p;
}

static void set(ptr_t p, int value, size_t n) { DO(cuMemsetD8_v2, (ptr_t, unsigned char, size_t), p, value, n); }

/* Whether every byte is `value`. */
static int is(ptr_t p, int value, size_t n)
{
    unsigned char *host = malloc(n);
    int good = 1;
    DO(cuMemcpyDtoH_v2, (void *, ptr_t, size_t), host, p, n);
    for (size_t i = 0; i < n; i++) good &= host[i] == value;
    free(host);
    return good;
}

static coldpress_stats_t stats(void)
{
    coldpress_stats_t now = {.size = sizeof now};
    EXPECT(coldpress_stats(&now) == COLDPRESS_OK);
    return now;
}

static size_t unused(void)
{
    size_t bytes = 0, total = 0;
    DO(cuMemGetInfo_v2, (size_t *, size_t *), &bytes, &total);
    EXPECT(total == stats().limit_bytes);
    return bytes;
}

/* The card is as large as the limit, and what is held ready counts as free. */
static void program_info(void)
{
    ptr_t a = must(2 * MIB);
    EXPECT(stats().limit_bytes == 8 * MIB);
    EXPECT(unused() == 6 * MIB);
    ptr_t b = must(2 * MIB);
    EXPECT(unused() == 4 * MIB);
    release(b);
    EXPECT(unused() == 6 * MIB);
    release(a);
    EXPECT(unused() == 8 * MIB);
}

/* Behind every block is a granule that is nobody's: the end of one is not the start of another. */
static void program_guard(void)
{
    ptr_t p[6];
    for (int i = 0; i < 6; i++) p[i] = must(2 * MIB);
    for (int i = 0; i < 6; i++) {
        ptr_t base = 0;
        size_t bytes = 0;
        EXPECT(CALL(cuMemGetAddressRange_v2, (ptr_t *, size_t *, ptr_t), &base, &bytes, p[i] + 2 * MIB) != 0);
        EXPECT(CALL(cuMemGetAddressRange_v2, (ptr_t *, size_t *, ptr_t), &base, &bytes, p[i] + 2 * MIB - 1) == 0);
        EXPECT(base == p[i] && bytes == 2 * MIB);
    }
}

/* Before the first shortage an eighth of the limit is kept ready and no more; after it all is. */
static void program_ready(void)
{
    enum { N = 6 };
    ptr_t p[N], more;
    for (int i = 0; i < N; i++) p[i] = must(4 * MIB);
    EXPECT(stats().charged_bytes == 24 * MIB);
    for (int i = 0; i < N; i++) release(p[i]);
    EXPECT(stats().charged_bytes <= 4 * MIB + 2 * MIB);
    for (int i = 0; i < N; i++) p[i] = must(4 * MIB);
    more = must(12 * MIB);
    EXPECT(stats().evictions > 0);
    release(more);
    for (int i = 0; i < N; i++) release(p[i]);
    EXPECT(stats().charged_bytes > 16 * MIB);
    /* What coding takes stays: room for eight pages under a limit like this. */
    EXPECT(unused() >= 30 * MIB);
}

/* At the limit: what is ready goes first, then what was freed, then what is alive. */
static void program_order(void)
{
    ptr_t p[4], other;
    for (int i = 0; i < 4; i++) set(p[i] = must(2 * MIB), i + 1, 2 * MIB);
    EXPECT(stats().charged_bytes == 8 * MIB && stats().evictions == 0);
    /* Freed memory of another size is taken apart rather than anything evicted. */
    release(p[3]);
    other = must(MIB);
    EXPECT(stats().evictions == 0);
    /* The rest of it is ready. */
    p[3] = must(MIB);
    EXPECT(stats().evictions == 0 && stats().oom_avoided == 0);
    EXPECT(stats().charged_bytes == 8 * MIB);
    /* Now there is nothing but what is alive. */
    ptr_t last = must(2 * MIB);
    EXPECT(stats().evictions > 0 && stats().oom_avoided == 1 && stats().oom_returned == 0);
    EXPECT(stats().peak_bytes <= 8 * MIB);
    for (int i = 0; i < 3; i++) EXPECT(is(p[i], i + 1, 2 * MIB));
    /* And when nothing may go, there is no memory. */
    for (int i = 0; i < 3; i++) release(p[i]);
    release(p[3]);
    release(other);
    release(last);
    for (int i = 0; i < 4; i++) {
        p[i] = must(2 * MIB);
        EXPECT(coldpress_pin((void *)p[i]) == COLDPRESS_OK);
    }
    EXPECT(allocate(&other, 2 * MIB) == 2);
    EXPECT(stats().oom_returned == 1);
    EXPECT(coldpress_unpin((void *)p[2]) == COLDPRESS_OK);
    EXPECT(allocate(&other, 2 * MIB) == 0);
    /* It comes back in the other's place, and then nothing may go again. */
    EXPECT(coldpress_pin((void *)p[2]) == COLDPRESS_OK);
    EXPECT(allocate(&last, 2 * MIB) == 2);
    EXPECT(stats().oom_returned == 2);
}

/* A freed range goes to the stream that used it at once, to others when it has passed. */
static void program_reuse(void)
{
    void *host, *one, *two;
    ptr_t a = 0, b = 0, c = 0;
    DO(cuMemAllocHost_v2, (void **, size_t), &host, 2 * MIB);
    DO(cuStreamCreate, (void **, unsigned), &one, 1);
    DO(cuStreamCreate, (void **, unsigned), &two, 1);
#define ASYNC(p, s) DO(cuMemAllocAsync, (ptr_t *, size_t, void *), p, 2 * MIB, s)
#define FREE_ASYNC(p, s) DO(cuMemFreeAsync, (ptr_t, void *), p, s)
#define USE(p, s) DO(cuMemcpyDtoHAsync_v2, (void *, ptr_t, size_t, void *), host, p, 2 * MIB, s)
    ASYNC(&a, one);
    USE(a, one);
    FREE_ASYNC(a, one);
    ASYNC(&b, one);
    EXPECT(b == a);
    USE(b, one);
    FREE_ASYNC(b, one);
    ASYNC(&c, two);
    EXPECT(c != b);
    /* A call that names no stream may not have it either. */
    ptr_t plain = must(2 * MIB);
    EXPECT(plain != b);
    FREE_ASYNC(c, two);
    /* What a stream used is not its alone because it was freed on another. */
    ASYNC(&a, one);
    USE(a, two);
    FREE_ASYNC(a, one);
    ASYNC(&b, one);
    EXPECT(b != a);
    FREE_ASYNC(b, one);
    release(plain);
    DO(cuCtxSynchronize, (void));
}

/* At the limit what was freed goes before what is alive, even if somebody has to wait for it. */
static void program_freed(void)
{
    void *host, *stream;
    ptr_t p[4], other;
    DO(cuMemAllocHost_v2, (void **, size_t), &host, 2 * MIB);
    DO(cuStreamCreate, (void **, unsigned), &stream, 1);
    for (int i = 0; i < 3; i++) set(p[i] = must(2 * MIB), i + 1, 2 * MIB);
    ASYNC(&p[3], stream);
    USE(p[3], stream);
    FREE_ASYNC(p[3], stream);
    /* Of another size, and without a stream: nobody may have it as it is. */
    other = must(MIB);
    EXPECT(stats().evictions == 0);
    for (int i = 0; i < 3; i++) EXPECT(is(p[i], i + 1, 2 * MIB));
    release(other);
}

/* What a destroyed stream has used is not the next stream's. */
static void program_streams(void)
{
    void *host, *stream;
    ptr_t p = 0, next = 0;
    DO(cuMemAllocHost_v2, (void **, size_t), &host, 2 * MIB);
    DO(cuStreamCreate, (void **, unsigned), &stream, 1);
    for (int round = 0; round < 8; round++) {
        ASYNC(&p, stream);
        for (int i = 0; i < 4; i++) USE(p, stream);
        FREE_ASYNC(p, stream);
        DO(cuStreamDestroy_v2, (void *), stream);
        DO(cuStreamCreate, (void **, unsigned), &stream, 1);
        ASYNC(&next, stream);
        EXPECT(next != p);
        DO(cuCtxSynchronize, (void));
        FREE_ASYNC(next, stream);
    }
}

static atomic_int go_on;

static void blocks(void *nothing)
{
    (void)nothing;
    while (!go_on) usleep(100);
}

/* Internal copies do not wait for what the program has on its default stream. */
static void program_default(void)
{
    ptr_t p = must(4 * MIB);
    set(p, 7, 4 * MIB);
    DO(cuCtxSynchronize, (void));
    EXPECT(coldpress_evict((void *)p, NULL, 0) == COLDPRESS_OK);
    EXPECT(stats().spilled_bytes == 4 * MIB);
    DO(cuLaunchHostFunc, (void *, void (*)(void *), void *), NULL, blocks, NULL);
    EXPECT(coldpress_restore((void *)p, NULL, 0) == COLDPRESS_OK);
    EXPECT(stats().spilled_bytes == 0);
    go_on = 1;
    EXPECT(is(p, 7, 4 * MIB));
}

/* Memory of ever other sizes, freed while its stream still uses it, is not piled up. */
static void program_limbo(int blocked)
{
    void *host, *stream, *other;
    DO(cuMemAllocHost_v2, (void **, size_t), &host, 16 * MIB);
    DO(cuStreamCreate, (void **, unsigned), &stream, 1);
    DO(cuStreamCreate, (void **, unsigned), &other, 1);
    if (blocked) DO(cuLaunchHostFunc, (void *, void (*)(void *), void *), other, blocks, NULL);
    ptr_t kept = must(8 * MIB), p = 0;
    set(kept, 9, 8 * MIB);
    for (int i = 0; i < (blocked ? 30 : 90); i++) {
        size_t n = 5 * MIB + (size_t)i * 65536;
        DO(cuMemAllocAsync, (ptr_t *, size_t, void *), &p, n, stream);
        DO(cuMemsetD8Async, (ptr_t, unsigned char, size_t, void *), p, i, n, stream);
        DO(cuMemcpyDtoHAsync_v2, (void *, ptr_t, size_t, void *), host, p, n, stream);
        FREE_ASYNC(p, stream);
        if (blocked) continue;
        DO(cuStreamSynchronize, (void *), stream);
        for (size_t j = 0; j < n; j += 4096) EXPECT(((unsigned char *)host)[j] == i);
    }
    go_on = 1;
    EXPECT(is(kept, 9, 8 * MIB));
    EXPECT(stats().evictions == 0);
}

/* The same where what is freed lies between what is kept, and the free names no stream and waits for none. */
static void program_holes(void)
{
    void *stream;
    DO(cuStreamCreate, (void **, unsigned), &stream, 1);
    for (int i = 0; i < 150; i++) {
        ptr_t p = must(5 * MIB / 4 + (size_t)(i % 4) * 4096);
        DO(cuMemsetD8Async, (ptr_t, unsigned char, size_t, void *), p, i, MIB, stream);
        if (i % 3) release(p);
    }
    EXPECT(stats().evictions == 0);
}

/* The same sizes again and again go round without anybody waiting. */
static void program_cache(void)
{
    void *host, *stream;
    ptr_t p[3];
    DO(cuMemAllocHost_v2, (void **, size_t), &host, 2 * MIB);
    DO(cuStreamCreate, (void **, unsigned), &stream, 1);
    for (int round = 0; round < 40; round++) {
        for (int i = 0; i < 3; i++) {
            DO(cuMemAllocAsync, (ptr_t *, size_t, void *), &p[i], (5 + i) * MIB, stream);
            USE(p[i], stream);
        }
        for (int i = 0; i < 3; i++) FREE_ASYNC(p[i], stream);
    }
    DO(cuStreamSynchronize, (void *), stream);
}

#define LAUNCH \
    (void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void *, void **, void **)

/* One launch's own memory may pass the limit, as long as the card has it. */
static void program_exceed(const char *image)
{
    enum { WORDS = 5 << 18 };
    void *module, *axpy;
    ptr_t x = must(WORDS * 4), y = 0;
    DO(cuModuleLoad, (void **, const char *), &module, image);
    DO(cuModuleGetFunction, (void **, void *, const char *), &axpy, module, "cp_demo_axpy");
    DO(cuMemsetD32_v2, (ptr_t, unsigned, size_t), x, 3, WORDS);
    y = must(WORDS * 4);
    DO(cuMemsetD32_v2, (ptr_t, unsigned, size_t), y, 4, WORDS);
    EXPECT(stats().evictions > 0 && stats().over_limit == 0);
    EXPECT(stats().peak_bytes <= 8 * MIB);
    unsigned long long words = WORDS;
    unsigned a = 5, got[2];
    void *params[] = {&y, &words, &x, &words, &a};
    EXPECT(CALL(cuLaunchKernel, LAUNCH, axpy, (WORDS + 255) / 256, 1, 1, 256, 1, 1, 0, NULL, params, NULL) == 0);
    EXPECT(stats().over_limit > 0);
    EXPECT(stats().charged_bytes > 8 * MIB);
    DO(cuMemcpyDtoH_v2, (void *, ptr_t, size_t), got, y + WORDS * 4 - 8, sizeof got);
    EXPECT(got[0] != 4 && got[0] == got[1]);
    /* An allocation may not. */
    ptr_t z = 0;
    EXPECT(allocate(&z, 9 * MIB) == 2);
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";
    void *context;
    driver = dlopen("libcuda.so.1", RTLD_NOW);
    if (driver == NULL) return 2;
    DO(cuInit, (unsigned), 0);
    DO(cuDevicePrimaryCtxRetain, (void **, int), &context, 0);
    DO(cuCtxSetCurrent, (void *), context);
    if (!strcmp(name, "info")) program_info();
    else if (!strcmp(name, "guard")) program_guard();
    else if (!strcmp(name, "ready")) program_ready();
    else if (!strcmp(name, "order")) program_order();
    else if (!strcmp(name, "reuse")) program_reuse();
    else if (!strcmp(name, "freed")) program_freed();
    else if (!strcmp(name, "streams")) program_streams();
    else if (!strcmp(name, "default")) program_default();
    else if (!strcmp(name, "limbo")) program_limbo(argc > 2);
    else if (!strcmp(name, "holes")) program_holes();
    else if (!strcmp(name, "cache")) program_cache();
    else if (!strcmp(name, "exceed") && argc > 2) program_exceed(argv[2]);
    else return 2;
    return wrong;
}
