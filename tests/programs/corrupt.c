/* Buffers are evicted and come back while bytes change on their way or where they are kept. Every
 * buffer is then read in some way: it has to be right, or an error that leaves what it was to be
 * copied to as it was.
 *   corrupt IMAGE SEED ROUNDS PLACE
 * PLACE: down  a copy out of the device      up    a copy to the device
 *        back  the check of a copy to it     host  the host memory where bytes are kept
 *        store a copy into the device's store, where coded pages are kept
 *        once  as up or back, once for each buffer
 *        none  nothing
 * Prints a line for each buffer that is lost (`lost ADDRESS`) and one at the end. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef unsigned long long ptr_t;
typedef int result_t;

enum { LOST = 214, BUFFERS = 5, MOST = 700 << 10 };

static void *driver, *simulator, *stream, *context, *axpy;

static void *find(const char *name)
{
    void *f = dlsym(!strncmp(name, "simcuda", 7) ? simulator : driver, name);
    if (f == NULL) {
        fprintf(stderr, "no %s\n", name);
        exit(2);
    }
    return f;
}

#define CALL(name, types, ...) (((result_t(*) types)find(#name))(__VA_ARGS__))
#define DO(name, types, ...)                                                  \
    do {                                                                      \
        result_t r_ = CALL(name, types, __VA_ARGS__);                         \
        if (r_ != 0) fail(#name, __LINE__, r_);                               \
    } while (0)

static void fail(const char *what, int line, int result)
{
    printf("%s at line %d: %d\n", what, line, result);
    exit(1);
}

static uint64_t state;

static uint64_t any(uint64_t below)
{
    uint64_t x = state += 0x9E3779B97F4A7C15ull;
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9ull;
    x = (x ^ x >> 27) * 0x94D049BB133111EBull;
    return (x ^ x >> 31) % below;
}

struct buffer {
    ptr_t at;
    size_t bytes;
    unsigned char *want;
    int lost;
};

/* Pages of zeros, of one word, of anything, and mixtures of them. */
static void make(unsigned char *to, size_t bytes)
{
    unsigned kind = any(4);
    for (size_t at = 0; at < bytes; at += 65536) {
        size_t n = bytes - at < 65536 ? bytes - at : 65536;
        unsigned page = kind == 3 ? any(3) : kind;
        if (page == 0) memset(to + at, 0, n);
        else if (page == 1) memset(to + at, 1 + (int)any(255), n);
        else for (size_t i = 0; i + 8 <= n; i += 8) {
            /* No address by chance: those of the heap begin with two zero bytes. */
            uint64_t word = any(~0ull) | 1ull << 63;
            memcpy(to + at + i, &word, 8);
        }
    }
}

static void allocate(struct buffer *b, size_t bytes)
{
    b->bytes = bytes;
    b->want = malloc(bytes);
    b->lost = 0;
    make(b->want, bytes);
    DO(cuMemAlloc_v2, (ptr_t *, size_t), &b->at, bytes);
    DO(cuMemcpyHtoD_v2, (ptr_t, const void *, size_t), b->at, b->want, bytes);
}

__attribute__((format(printf, 1, 2))) static void rule(const char *format, ...)
{
    char text[100];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (CALL(simcuda_flip, (const char *), text) != 1) fail(text, __LINE__, 0);
}

static void no_rules(void) { CALL(simcuda_flip, (const char *), NULL); }

static int same(const void *a, const void *b, size_t n, const char *road)
{
    if (memcmp(a, b, n) == 0) return 1;
    printf("WRONG bytes by %s\n", road);
    return 0;
}

static int untouched(const unsigned char *bytes, size_t n, const char *road)
{
    for (size_t i = 0; i < n; i++)
        if (bytes[i] != 0x5A) {
            printf("WRONG: bytes of a lost buffer by %s\n", road);
            return 0;
        }
    return 1;
}

static const char *const ROADS[] = {"a copy", "an asynchronous copy", "a copy on the device",
                                    "a peer copy", "a kernel", "a memset of a part"};

/* Reads a buffer on one road; the result of the operation that names it. Wrong bytes are said. */
static result_t travel(struct buffer *b, unsigned road)
{
    static unsigned char *host;
    if (host == NULL) host = malloc(MOST);
    memset(host, 0x5A, b->bytes);
    result_t r;
    ptr_t other = 0;
    unsigned a = 1;
    unsigned long long words = b->bytes / 4;
    if (road >= 2 && road <= 4) {
        DO(cuMemAlloc_v2, (ptr_t *, size_t), &other, b->bytes);
        DO(cuMemsetD8_v2, (ptr_t, unsigned char, size_t), other, road == 4 ? 0 : 0x5A, b->bytes);
    }
    switch (road) {
    case 0:
        r = CALL(cuMemcpyDtoH_v2, (void *, ptr_t, size_t), host, b->at, b->bytes);
        break;
    case 1:
        /* Of the two forms the one that the library does not use itself. */
        r = CALL(cuMemcpyDtoHAsync_v2_ptsz, (void *, ptr_t, size_t, void *), host, b->at, b->bytes, stream);
        break;
    case 2:
        r = CALL(cuMemcpyDtoD_v2, (ptr_t, ptr_t, size_t), other, b->at, b->bytes);
        break;
    case 3:
        r = CALL(cuMemcpyPeerAsync, (ptr_t, void *, ptr_t, void *, size_t, void *), other, context, b->at, context,
                 b->bytes, stream);
        break;
    case 4: {
        /* other = 3 other + 1 buffer, and other is zero. */
        void *params[] = {&other, &words, &b->at, &words, &a};
        r = CALL(cuLaunchKernel,
                 (void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void *, void **, void **),
                 axpy, (unsigned)((words + 255) / 256), 1, 1, 256, 1, 1, 0, stream, params, NULL);
        break;
    }
    default: {
        size_t from = any(b->bytes), n = any(b->bytes - from) + 1;
        r = CALL(cuMemsetD8_v2, (ptr_t, unsigned char, size_t), b->at + from, 0x77, n);
        if (r == 0) {
            memset(b->want + from, 0x77, n);
            no_rules();
            r = CALL(cuMemcpyDtoH_v2, (void *, ptr_t, size_t), host, b->at, b->bytes);
        }
    }
    }
    no_rules();
    DO(cuCtxSynchronize, (void));
    if (other != 0) {
        if (r == LOST && road == 4) memset(host, 0, b->bytes);
        DO(cuMemcpyDtoH_v2, (void *, ptr_t, size_t), host, other, b->bytes);
        DO(cuMemFree_v2, (ptr_t), other);
        if (r == LOST && road == 4) {
            for (size_t i = 0; i < b->bytes; i++)
                if (host[i] != 0) {
                    printf("WRONG: a kernel ran on a lost buffer\n");
                    break;
                }
            return r;
        }
    }
    if (r == 0) same(host, b->want, b->bytes & ~(size_t)3, ROADS[road]);
    else if (r == LOST) untouched(host, b->bytes, ROADS[road]);
    else printf("WRONG error %d by %s\n", r, ROADS[road]);
    return r;
}

int main(int argc, char **argv)
{
    void *module;
    if (argc < 5) return 2;
    const char *place = argv[4];
    state = strtoull(argv[2], NULL, 10);
    driver = dlopen("libcuda.so.1", RTLD_NOW);
    if (driver == NULL) return 2;
    DO(cuInit, (unsigned), 0);
    simulator = dlopen(getenv("COLDPRESS_REAL_LIBCUDA"), RTLD_NOW | RTLD_NOLOAD);
    if (simulator == NULL) return 2;
    DO(cuDevicePrimaryCtxRetain, (void **, int), &context, 0);
    DO(cuCtxSetCurrent, (void *), context);
    DO(cuStreamCreate, (void **, unsigned), &stream, 1);
    DO(cuModuleLoad, (void **, const char *), &module, argv[1]);
    DO(cuModuleGetFunction, (void **, void *, const char *), &axpy, module, "cp_demo_axpy");
    struct buffer stays, b[BUFFERS];
    allocate(&stays, 300000);
    unsigned right = 0, lost = 0, kept = 0, flipped = 0;
    for (int round = 0; round < atoi(argv[3]); round++) {
        static const size_t LENGTHS[] = {1, 2, 16, 65536};
        size_t k = LENGTHS[any(4)];
        /* Two of their own, three that share. */
        for (int i = 0; i < BUFFERS; i++)
            allocate(&b[i], i < 2 ? (200 << 10) + any(500) * 1024 : (16 << 10) + any(80) * 1024 + any(2) * 4);
        for (int i = 0; i < BUFFERS; i++) {
            /* What is read back of the buffer is among others: which copies are its own differs. */
            for (int n = 1; !strcmp(place, "down") && n <= 20; n++)
                if (any(9) == 0) rule("cuMemcpyDtoHAsync_v2:%d=%zu@%d", n, k, (int)any(MOST));
            for (int n = 1; !strcmp(place, "store") && n <= 4; n++)
                if (any(4) == 0) rule("cuMemcpyDtoDAsync_v2:%d=%zu@%d", n, k, (int)any(MOST));
            kept += CALL(coldpress_evict, (const void *, const char *, unsigned), (void *)b[i].at, NULL, 0) != 0;
            no_rules();
        }
        if (!strcmp(place, "host")) flipped += CALL(simcuda_flip_host, (uint64_t, uint64_t), any(any(2) ? 1 << 20 : 4 << 20), k);
        for (int i = 0; i < BUFFERS; i++) {
            int once = !strcmp(place, "once");
            const char *copy = !strcmp(place, "up") || (once && any(2)) ? "HtoD" : "DtoH";
            if (!strcmp(place, "up") || !strcmp(place, "back") || once) {
                if (!once && any(3) == 0) rule("cuMemcpy%sAsync_v2:*=%zu@%d", copy, k, (int)any(MOST));
                else rule("cuMemcpy%sAsync_v2:1=%zu@%d", copy, k, (int)any(MOST));
            }
            unsigned road = any(7);
            if (road == 6) {
                /* Freed without having been read. */
                no_rules();
                DO(cuMemFree_v2, (ptr_t), b[i].at);
                free(b[i].want);
                allocate(&b[i], b[i].bytes);
                road = any(6);
            }
            b[i].lost = travel(&b[i], road) == LOST;
            if (b[i].lost) printf("lost %#llx\n", b[i].at);
            if (b[i].lost) lost++;
            else right++;
        }
        /* What is lost stays lost on every road, and is nobody else's trouble. */
        for (int i = 0; i < BUFFERS; i++)
            for (unsigned road = 0; road < 6 && b[i].lost; road++)
                if (travel(&b[i], road) != LOST) printf("WRONG: a lost buffer came back by %s\n", ROADS[road]);
        for (int i = 0; i < BUFFERS; i++)
            if (b[i].lost && CALL(cuMemcpyHtoD_v2, (ptr_t, const void *, size_t), stays.at, &b[i].at, 8) != LOST)
                printf("WRONG: the address of a lost buffer reached the device\n");
        for (unsigned road = 0; road < 6; road++)
            if (travel(&stays, road) != 0) printf("WRONG: another buffer by %s\n", ROADS[road]);
        for (int i = 0; i < BUFFERS; i++) {
            size_t bytes = b[i].bytes;
            DO(cuMemFree_v2, (ptr_t), b[i].at);
            free(b[i].want);
            allocate(&b[i], bytes);
            if (travel(&b[i], any(6)) != 0) printf("WRONG: a new buffer\n");
        }
        for (int i = 0; i < BUFFERS; i++) {
            DO(cuMemFree_v2, (ptr_t), b[i].at);
            free(b[i].want);
        }
    }
    printf("right %u lost %u kept %u flipped %u\n", right, lost, kept, flipped);
    return 0;
}
