/* What the deadlock programs share: the driver's functions by name, buffers whose right bytes the
 * host knows, and something a stream can be blocked with. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef unsigned long long ptr_t;
typedef int result_t;
typedef void *handle_t;

enum { OK = 0, OUT_OF_MEMORY = 2, NOT_PERMITTED = 800, MIB = 1 << 20 };

static void *driver;
static handle_t context, step_kernel, wait_kernel, mix_kernel, follow_kernel;

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

/* What must hold, or the program has failed. */
#define CHECK(what)                                                     \
    do {                                                                \
        if (!(what)) {                                                  \
            fprintf(stderr, "line %d: not so: %s\n", __LINE__, #what);  \
            _exit(1);                                                   \
        }                                                               \
    } while (0)
#define MUST(name, types, ...)                                          \
    do {                                                                \
        result_t r_ = CALL(name, types, __VA_ARGS__);                   \
        if (r_ != OK) {                                                 \
            fprintf(stderr, "line %d: %s: %d\n", __LINE__, #name, r_);  \
            _exit(1);                                                   \
        }                                                               \
    } while (0)

static inline result_t allocate(ptr_t *p, size_t n) { return CALL(cuMemAlloc_v2, (ptr_t *, size_t), p, n); }
static inline result_t release(ptr_t p) { return CALL(cuMemFree_v2, (ptr_t), p); }
static inline handle_t new_stream(void)
{
    handle_t stream;
    MUST(cuStreamCreate, (handle_t *, unsigned), &stream, 1);
    return stream;
}
static inline void finish(handle_t stream) { MUST(cuStreamSynchronize, (handle_t), stream); }

static inline result_t launch(handle_t kernel, handle_t stream, void **params)
{
    return CALL(cuLaunchKernel,
                (handle_t, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, handle_t,
                 void **, void **),
                kernel, 1, 1, 1, 1, 1, 1, 0, stream, params, NULL);
}

/* A buffer and what must be in it. */
struct buffer {
    ptr_t at;
    uint64_t words;
    uint32_t *want;
};

static inline struct buffer buffer(size_t bytes, uint32_t seed)
{
    struct buffer b = {0, bytes / 4, malloc(bytes)};
    CHECK(allocate(&b.at, bytes) == OK);
    for (uint64_t i = 0; i < b.words; i++) b.want[i] = (uint32_t)(i + 1) * 2654435761u ^ seed;
    MUST(cuMemcpyHtoD_v2, (ptr_t, const void *, size_t), b.at, b.want, bytes);
    return b;
}

static inline result_t step(struct buffer *b, uint32_t key, handle_t stream)
{
    void *params[] = {&b->at, &b->words, &key};
    result_t result = launch(step_kernel, stream, params);
    if (result == OK)
        for (uint64_t i = 0; i < b->words; i++) b->want[i] = 3 * b->want[i] + key;
    return result;
}

/* As `step`, but the kernel gets only the place where the buffer's address stands. */
static inline result_t follow(ptr_t list, struct buffer *b, uint32_t key, handle_t stream)
{
    void *params[] = {&list, &b->words, &key};
    result_t result = launch(follow_kernel, stream, params);
    if (result == OK)
        for (uint64_t i = 0; i < b->words; i++) b->want[i] = 3 * b->want[i] + key;
    return result;
}

static inline result_t mix(struct buffer *b, uint32_t key, handle_t stream)
{
    void *params[] = {&b[0].at, &b[1].at, &b[2].at, &b[0].words, &key};
    result_t result = launch(mix_kernel, stream, params);
    if (result == OK)
        for (uint64_t i = 0; i < b[0].words; i++) {
            b[0].want[i] = 3 * b[0].want[i] + b[1].want[i] + key;
            b[1].want[i] ^= b[2].want[i];
            b[2].want[i] += b[0].want[i];
        }
    return result;
}

/* Every byte is what it must be; whatever has used the buffer has finished. */
static inline void verify(const struct buffer *b)
{
    uint32_t *have = malloc(b->words * 4);
    MUST(cuMemcpyDtoH_v2, (void *, ptr_t, size_t), have, b->at, b->words * 4);
    CHECK(memcmp(have, b->want, b->words * 4) == 0);
    free(have);
}

/* A stream is blocked until the flag is set: by a kernel, or by a host function of either kind. */
enum blocker { KERNEL, HOST_FUNCTION, CALLBACK };

static volatile uint32_t *flag;

static inline void until_set(void *unused)
{
    (void)unused;
    while (*flag == 0) usleep(200);
}
static inline void until_set_old(handle_t stream, unsigned status, void *unused)
{
    (void)stream, (void)status;
    until_set(unused);
}

static inline enum blocker blocker(const char *name)
{
    if (!strcmp(name, "kernel")) return KERNEL;
    if (!strcmp(name, "host")) return HOST_FUNCTION;
    CHECK(!strcmp(name, "callback"));
    return CALLBACK;
}

static inline void block(handle_t stream, enum blocker how)
{
    ptr_t at;
    MUST(cuMemHostGetDevicePointer_v2, (ptr_t *, void *, unsigned), &at, (void *)flag, 0);
    void *params[] = {&at};
    switch (how) {
    case KERNEL: CHECK(launch(wait_kernel, stream, params) == OK); break;
    case HOST_FUNCTION: MUST(cuLaunchHostFunc, (handle_t, void (*)(void *), void *), stream, until_set, NULL); break;
    case CALLBACK:
        MUST(cuStreamAddCallback, (handle_t, void (*)(handle_t, unsigned, void *), void *, unsigned), stream,
             until_set_old, NULL, 0);
    }
}

static inline pthread_t start(void *(*run)(void *), void *argument)
{
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, run, argument) == 0);
    return thread;
}

/* Waits until a thread stands still where the test wants it; it goes on when the gate is closed. */
static inline int gate(void)
{
    const char *pipe = getenv("TEST_COLDPRESS_GATE");
    CHECK(pipe != NULL);
    int there = open(pipe, O_WRONLY);
    CHECK(there >= 0);
    return there;
}

static inline int evict(ptr_t p) { return CALL(coldpress_evict, (const void *, const char *, unsigned), (const void *)p, NULL, 0); }

/* The primary context, current here. */
static inline void enter(void) { MUST(cuCtxSetCurrent, (handle_t), context); }

static inline void begin(const char *image)
{
    handle_t module;
    driver = dlopen("libcuda.so.1", RTLD_NOW);
    CHECK(driver != NULL);
    MUST(cuInit, (unsigned), 0);
    MUST(cuDevicePrimaryCtxRetain, (handle_t *, int), &context, 0);
    enter();
    MUST(cuModuleLoad, (handle_t *, const char *), &module, image);
    MUST(cuModuleGetFunction, (handle_t *, handle_t, const char *), &step_kernel, module, "dl_step");
    MUST(cuModuleGetFunction, (handle_t *, handle_t, const char *), &wait_kernel, module, "dl_wait");
    MUST(cuModuleGetFunction, (handle_t *, handle_t, const char *), &mix_kernel, module, "dl_mix");
    MUST(cuModuleGetFunction, (handle_t *, handle_t, const char *), &follow_kernel, module, "dl_follow");
    MUST(cuMemHostAlloc, (void **, size_t, unsigned), (void **)&flag, 4096, 2);
    *flag = 0;
}
