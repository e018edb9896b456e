/* One word of a table in device memory is the address of a buffer, which may not leave then.
 *   pointers
 * Prints a line for each expectation that does not hold and ends with 1. */
#define _GNU_SOURCE
#include "coldpress.h"
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef unsigned long long ptr_t;
typedef int result_t;
enum { MIB = 1 << 20, WORDS = 3 * MIB / 8 };

static void *driver;
static int wrong;

static void *find(const char *name)
{
    void *f = dlsym(driver, name);
    if (f == NULL) exit(2);
    return f;
}

#define DO(name, types, ...)                                                        \
    do {                                                                            \
        result_t r_ = ((result_t(*) types)find(#name))(__VA_ARGS__);                \
        if (r_ != 0) printf("%s at line %d: %d\n", #name, __LINE__, r_), wrong = 1; \
    } while (0)

static ptr_t buffer(size_t bytes)
{
    ptr_t p = 0;
    DO(cuMemAlloc_v2, (ptr_t *, size_t), &p, bytes);
    DO(cuMemsetD8_v2, (ptr_t, unsigned char, size_t), p, 0x11, bytes);
    return p;
}

/* Whether a buffer leaves when it is asked to. */
static int leaves(ptr_t p)
{
    int left = coldpress_evict((void *)p, NULL, 0) == COLDPRESS_OK;
    if (left && coldpress_restore((void *)p, NULL, 0) != COLDPRESS_OK) printf("did not come back\n"), wrong = 1;
    return left;
}

static uint64_t words[WORDS];

int main(void)
{
    void *context;
    driver = dlopen("libcuda.so.1", RTLD_NOW);
    if (driver == NULL) return 2;
    DO(cuInit, (unsigned), 0);
    DO(cuDevicePrimaryCtxRetain, (void **, int), &context, 0);
    DO(cuCtxSetCurrent, (void *), context);
    ptr_t named = buffer(2 * MIB), others = buffer(2 * MIB), table = buffer(sizeof words);
    if (coldpress_pin((void *)table) != COLDPRESS_OK) return 2;
#define TABLE() DO(cuMemcpyHtoD_v2, (ptr_t, const void *, size_t), table, words, sizeof words)
    TABLE();
    if (!leaves(named)) printf("a buffer that nothing names stayed\n"), wrong = 1;
    static const int AT[] = {0, 1, 31, 32, 255, 256, 257, 2047, 2048, 8191, 8192, 8193, 8447, 8448, 16383, 16384,
                             100003, WORDS - 257, WORDS - 256, WORDS - 2, WORDS - 1};
    for (size_t i = 0; i < sizeof AT / sizeof *AT; i++) {
        words[AT[i]] = named + 8 * i;
        TABLE();
        if (leaves(named)) printf("word %d was not seen\n", AT[i]), wrong = 1;
        words[AT[i]] = 0;
    }
    /* So many addresses that they cannot all be told: no two in a row are the same, however memory is dealt out. */
    uint64_t x = 1;
    for (int i = 0; i < WORDS; i++) {
        x = x * 6364136223846793005ull + 1442695040888963407ull;
        words[i] = others + (x >> 33) % 32 * 65536;
    }
    TABLE();
    if (!leaves(named)) printf("a buffer was taken for another\n"), wrong = 1;
    for (int last = 0; last < 2; last++) {
        const int at = last ? WORDS - 1 : 0;
        const uint64_t before = words[at];
        words[at] = named;
        TABLE();
        if (leaves(named)) printf("one address among many was not seen at word %d\n", at), wrong = 1;
        words[at] = before;
    }
    return wrong;
}
