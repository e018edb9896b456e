/* Writes different bytes into several allocations, reads them back, frees them; every status
 * must be success. Memory made later lies between memory made earlier. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t ptr;
enum { COUNT = 4, BYTES = 1 << 20 };

static void *library;
static void *symbol(const char *name) { return dlsym(library, name); }

static void must(const char *what, int result) {
    if (result == 0) return;
    printf("%s: %d\n", what, result);
    exit(3);
}

static unsigned char *pattern(int i, unsigned char *bytes) {
    for (int at = 0; at < BYTES; at++) bytes[at] = (unsigned char)(at * (2 * i + 1) + (at >> 12) + i);
    return bytes;
}

int main(void) {
    library = dlopen("libcuda.so.1", RTLD_NOW);
    int (*init)(unsigned) = symbol("cuInit");
    int (*create)(void **, unsigned, int) = symbol("cuCtxCreate_v2");
    int (*alloc)(ptr *, size_t) = symbol("cuMemAlloc_v2");
    int (*up)(ptr, const void *, size_t) = symbol("cuMemcpyHtoD_v2");
    int (*down)(void *, ptr, size_t) = symbol("cuMemcpyDtoH_v2");
    int (*release)(ptr) = symbol("cuMemFree_v2");
    unsigned char *bytes = malloc(BYTES), *wanted = malloc(BYTES);
    void *context;
    ptr ptrs[COUNT];
    int equal = 0, freed = 0;
    must("cuInit", init(0));
    must("cuCtxCreate", create(&context, 0, 0));
    for (int i = 0; i < COUNT; i++) {
        must("cuMemAlloc", alloc(&ptrs[i], BYTES));
        must("cuMemcpyHtoD", up(ptrs[i], pattern(i, bytes), BYTES));
    }
    for (int i = COUNT - 1; i >= 0; i--) {
        must("cuMemcpyDtoH", down(bytes, ptrs[i], BYTES));
        equal += memcmp(bytes, pattern(i, wanted), BYTES) == 0;
    }
    for (int i = 0; i < COUNT; i++) {
        must("cuMemFree", release(ptrs[i]));
        freed++;
    }
    printf("equal %d freed %d\n", equal, freed);
    return 0;
}
