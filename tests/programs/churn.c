/* Very many small steps in one thread, every byte known.
 *   churn steps N SEED     N random allocations, frees, fills, looks, evictions and restores
 *   churn sleep N          the whole process is evicted and restored N times; what it and the simulated
 *                          driver hold must not grow */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef unsigned long long ptr_t;

enum { LIVE = 256, MOST = 3 << 20, LOOK = 4096, ASLEEP = 32 };

static int (*allocate)(ptr_t *, size_t), (*allocate_in)(ptr_t *, size_t, void *);
static int (*release)(ptr_t), (*release_in)(ptr_t, void *);
static int (*fill)(ptr_t, unsigned char, size_t), (*down)(void *, ptr_t, size_t), (*up)(ptr_t, const void *, size_t);
static int (*evict)(const void *, const char *, unsigned), (*restore)(const void *, const char *, unsigned);
static uint64_t (*used)(int);
static void *stream;

static struct { ptr_t at; size_t bytes; unsigned char value; int ordered; } live[LIVE];

static void fail(const char *what, int code)
{
    printf("%s: %d\n", what, code);
    exit(1);
}

static void must(const char *what, int code)
{
    if (code != 0) fail(what, code);
}

static uint64_t state;
static uint64_t below(uint64_t n)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state % n;
}

/* Small, middle-sized and large ones, most of them small, sizes come back often. */
static size_t size(void)
{
    size_t most = below(10) < 6 ? 8 << 10 : below(10) < 8 ? 200 << 10 : MOST;
    return 1 + (size_t)below(16) * (most / 16) + (below(4) == 0 ? (size_t)below(most / 16) : 0);
}

static void look(int n)
{
    static unsigned char host[LOOK];
    size_t bytes = live[n].bytes < LOOK ? live[n].bytes : LOOK;
    size_t from = (size_t)below(live[n].bytes - bytes + 1);
    must("read", down(host, live[n].at + from, bytes));
    for (size_t i = 0; i < bytes; i++)
        if (host[i] != live[n].value) fail("wrong byte in buffer", n);
}

static void drop(int n)
{
    must("free", live[n].ordered ? release_in(live[n].at, stream) : release(live[n].at));
    live[n].at = 0;
}

static int steps(long count, uint64_t seed)
{
    long counts[6] = { 0 };
    state = seed * 0x9E3779B97F4A7C15ull + 1;
    for (long step = 0; step < count; step++) {
        int n = (int)below(LIVE);
        uint64_t what = below(1000);
        if (live[n].at == 0) {
            live[n].bytes = size();
            live[n].ordered = below(2) == 0;
            ptr_t p = 0;
            int code = live[n].ordered ? allocate_in(&p, live[n].bytes, stream) : allocate(&p, live[n].bytes);
            counts[0]++;
            if (code == 2) continue;
            must("allocate", code);
            live[n].at = p;
            live[n].value = (unsigned char)step;
            must("fill", fill(p, live[n].value, live[n].bytes));
        } else if (what < 900) {
            drop(n);
            counts[1]++;
        } else if (what < 960) {
            look(n);
            counts[2]++;
        } else if (what < 990) {
            live[n].value = (unsigned char)step;
            must("fill", fill(live[n].at, live[n].value, live[n].bytes));
            counts[3]++;
        } else if (what < 995 && evict != NULL) {
            evict((const void *)live[n].at, NULL, 0);
            counts[4]++;
        } else if (restore != NULL) {
            restore((const void *)live[n].at, NULL, 0);
            counts[5]++;
        }
    }
    for (int n = 0; n < LIVE; n++)
        if (live[n].at != 0) {
            look(n);
            drop(n);
        }
    printf("allocations %ld frees %ld looks %ld fills %ld evictions %ld restores %ld\n", counts[0], counts[1],
           counts[2], counts[3], counts[4], counts[5]);
    return 0;
}

static uint64_t hash_all(unsigned char *host)
{
    uint64_t hash = 14695981039346656037ull;
    for (int n = 0; n < ASLEEP; n++) {
        must("read", down(host, live[n].at, live[n].bytes));
        for (size_t i = 0; i < live[n].bytes; i += 8) {
            uint64_t word = 0;
            memcpy(&word, host + i, live[n].bytes - i < 8 ? live[n].bytes - i : 8);
            hash = (hash ^ word) * 1099511628211ull;
        }
    }
    return hash;
}

static long resident_pages(void)
{
    long all = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (f == NULL || fscanf(f, "%ld %ld", &all, &resident) != 2) fail("statm", 1);
    fclose(f);
    return resident;
}

static int sleeps(long count)
{
    unsigned char *host = malloc(MOST);
    for (int n = 0; n < ASLEEP; n++) {
        live[n].bytes = (300 << 10) + (size_t)n * 5000;
        must("allocate", allocate(&live[n].at, live[n].bytes));
        for (size_t i = 0; i < live[n].bytes; i++) host[i] = (unsigned char)(i * 31 + i / 7 + (size_t)n * 101);
        must("fill", up(live[n].at, host, live[n].bytes));
    }
    uint64_t hash = hash_all(host), awake = 0, asleep = 0;
    long first = 0, most = 0;
    for (long cycle = 0; cycle < count; cycle++) {
        must("sleep", evict(NULL, NULL, 0));
        uint64_t slept = used(0);
        must("wake", restore(NULL, NULL, 0));
        uint64_t woken = used(0);
        long pages = resident_pages();
        if (cycle < 10) {
            awake = woken > awake ? woken : awake;
            asleep = slept > asleep ? slept : asleep;
            first = pages > first ? pages : first;
        }
        if (woken > awake || slept > asleep) fail("the card holds more in cycle", (int)cycle);
        if (pages > most) most = pages;
        if (cycle % 20 == 0 && hash_all(host) != hash) fail("other bytes after cycle", (int)cycle);
    }
    if (hash_all(host) != hash) fail("other bytes at the end", 0);
    /* Stacks and buffers of the C library come late: a mebibyte for those. */
    if (most > first + 256) fail("pages more than in the first cycles", (int)(most - first));
    printf("cycles %ld card %s\n", count, asleep < awake ? "emptied" : "not emptied");
    for (int n = 0; n < ASLEEP; n++) must("free", release(live[n].at));
    return 0;
}

int main(int argc, char **argv)
{
    void *driver = dlopen("libcuda.so.1", RTLD_NOW), *context;
    void *simulator = dlopen(getenv("SIMCUDA_LIBRARY"), RTLD_NOW);
    if (driver == NULL || simulator == NULL || argc < 3) return 2;
    int (*init)(unsigned) = (int (*)(unsigned))dlsym(driver, "cuInit");
    int (*retain)(void **, int) = (int (*)(void **, int))dlsym(driver, "cuDevicePrimaryCtxRetain");
    int (*set_current)(void *) = (int (*)(void *))dlsym(driver, "cuCtxSetCurrent");
    int (*create)(void **, unsigned) = (int (*)(void **, unsigned))dlsym(driver, "cuStreamCreate");
    allocate = (int (*)(ptr_t *, size_t))dlsym(driver, "cuMemAlloc_v2");
    allocate_in = (int (*)(ptr_t *, size_t, void *))dlsym(driver, "cuMemAllocAsync");
    release = (int (*)(ptr_t))dlsym(driver, "cuMemFree_v2");
    release_in = (int (*)(ptr_t, void *))dlsym(driver, "cuMemFreeAsync");
    fill = (int (*)(ptr_t, unsigned char, size_t))dlsym(driver, "cuMemsetD8_v2");
    down = (int (*)(void *, ptr_t, size_t))dlsym(driver, "cuMemcpyDtoH_v2");
    up = (int (*)(ptr_t, const void *, size_t))dlsym(driver, "cuMemcpyHtoD_v2");
    evict = (int (*)(const void *, const char *, unsigned))dlsym(driver, "coldpress_evict");
    restore = (int (*)(const void *, const char *, unsigned))dlsym(driver, "coldpress_restore");
    used = (uint64_t(*)(int))dlsym(simulator, "simcuda_used");
    if (init(0) != 0 || retain(&context, 0) != 0 || set_current(context) != 0 || create(&stream, 0) != 0) return 2;
    if (strcmp(argv[1], "steps") == 0) return steps(atol(argv[2]), argc > 3 ? strtoull(argv[3], NULL, 10) : 1);
    return sleeps(atol(argv[2]));
}
