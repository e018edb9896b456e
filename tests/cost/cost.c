/* What is counted: `rounds` launches with sixteen pointers, or `rounds` pairs of alloc and free of
 * a warm buffer, with `live` other allocations around. Only the two `counted_` functions are
 * collected (callgrind --toggle-collect).
 *
 * usage: cost launch|async|plain LIVE ROUNDS */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t ptr;
typedef void *handle;

static int (*init)(unsigned);
static int (*retain)(handle *, int);
static int (*set_current)(handle);
static int (*alloc)(ptr *, size_t);
static int (*release)(ptr);
static int (*alloc_async)(ptr *, size_t, handle);
static int (*free_async)(ptr, handle);
static int (*get_function)(handle *, handle, const char *);
static int (*stream_create)(handle *, unsigned);
static int (*launch)(handle, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned,
                     handle, void **, void **);

__attribute__((noinline)) void counted_launches(handle f, handle s, void **params, long rounds)
{
    for (long i = 0; i < rounds; i++)
        launch(f, 1, 1, 1, 32, 1, 1, 0, s, params, NULL);
}

__attribute__((noinline)) void counted_async(handle s, size_t bytes, long rounds)
{
    for (long i = 0; i < rounds; i++) {
        ptr p;
        alloc_async(&p, bytes, s);
        free_async(p, s);
    }
}

__attribute__((noinline)) void counted_plain(size_t bytes, long rounds)
{
    for (long i = 0; i < rounds; i++) {
        ptr p;
        alloc(&p, bytes);
        release(p);
    }
}

static void check(int result, const char *what)
{
    if (result) {
        fprintf(stderr, "cost: %s: error %d\n", what, result);
        exit(1);
    }
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: cost launch|async|plain LIVE ROUNDS\n");
        return 2;
    }
    long live = atol(argv[2]), rounds = atol(argv[3]);
    void *lib = dlopen("libcuda.so.1", RTLD_NOW);
    if (!lib) {
        fprintf(stderr, "cost: %s\n", dlerror());
        return 1;
    }
#define FIND(var, name) *(void **)&var = dlsym(lib, name)
    FIND(init, "cuInit"); FIND(retain, "cuDevicePrimaryCtxRetain");
    FIND(set_current, "cuCtxSetCurrent"); FIND(alloc, "cuMemAlloc_v2");
    FIND(release, "cuMemFree_v2"); FIND(alloc_async, "cuMemAllocAsync");
    FIND(free_async, "cuMemFreeAsync"); FIND(get_function, "cuModuleGetFunction");
    FIND(stream_create, "cuStreamCreate"); FIND(launch, "cuLaunchKernel");

    handle ctx, f, s;
    check(init(0), "cuInit");
    check(retain(&ctx, 0), "context");
    check(set_current(ctx), "context");
    check(stream_create(&s, 1), "stream");
    check(get_function(&f, NULL, "kernel"), "function");
    for (long i = 0; i < live; i++) {
        ptr p;
        /* Of all sizes: mostly small ones, as in a training run. */
        size_t bytes = i % 100 == 0 ? (size_t)3 << 20 : (size_t)256 << i % 8;
        check(alloc(&p, bytes), "alloc");
    }
    ptr arguments[16];
    void *params[16];
    for (int i = 0; i < 16; i++) {
        check(alloc(&arguments[i], (size_t)1 << (12 + i % 12)), "alloc");
        params[i] = &arguments[i];
    }
    size_t bytes = (size_t)32 << 20;
    /* Once outside the count: caches are filled, the pool is warm. */
    counted_launches(f, s, params, 0);
    launch(f, 1, 1, 1, 32, 1, 1, 0, s, params, NULL);
    ptr p;
    alloc_async(&p, bytes, s);
    free_async(p, s);
    check(alloc(&p, bytes), "alloc");
    check(release(p), "free");

    if (!strcmp(argv[1], "launch")) counted_launches(f, s, params, rounds);
    else if (!strcmp(argv[1], "async")) counted_async(s, bytes, rounds);
    else counted_plain(bytes, rounds);
    return 0;
}
