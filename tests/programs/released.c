/* A primary context ends at a release that nobody takes for the last one: a reset makes the driver forget who had
 * retained it. Nothing of the library's may be called there afterwards, and the next context works.
 *   released */
#define _GNU_SOURCE
#include "coldpress.h"
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef unsigned long long ptr_t;
typedef int result_t;
enum { BYTES = 4 << 20 };

static void *driver;

#define DO(name, types, ...)                                                            \
    do {                                                                                \
        void *f_ = dlsym(driver, #name);                                                \
        if (f_ == NULL) exit(2);                                                        \
        result_t r_ = ((result_t(*) types)f_)(__VA_ARGS__);                             \
        if (r_ != 0) printf("%s at line %d: %d\n", #name, __LINE__, r_), exit(1);       \
    } while (0)

static void enter(void)
{
    void *context;
    DO(cuDevicePrimaryCtxRetain, (void **, int), &context, 0);
    DO(cuCtxSetCurrent, (void *), context);
}

/* Something leaves and comes back, so that the library has its own things in the context. */
static void use(int value)
{
    static unsigned char back[BYTES];
    ptr_t p = 0;
    DO(cuMemAlloc_v2, (ptr_t *, size_t), &p, BYTES);
    DO(cuMemsetD8_v2, (ptr_t, unsigned char, size_t), p, value, BYTES);
    if (coldpress_evict((void *)p, NULL, 0) != COLDPRESS_OK) printf("nothing left\n"), exit(1);
    DO(cuMemcpyDtoH_v2, (void *, ptr_t, size_t), back, p, BYTES);
    for (int i = 0; i < BYTES; i++)
        if (back[i] != value) printf("other bytes\n"), exit(1);
    DO(cuMemFree_v2, (ptr_t), p);
}

int main(void)
{
    driver = dlopen("libcuda.so.1", RTLD_NOW);
    if (driver == NULL) return 2;
    DO(cuInit, (unsigned), 0);
    enter();
    enter();
    use(1);
    DO(cuDevicePrimaryCtxReset_v2, (int), 0);
    enter();
    use(2);
    DO(cuDevicePrimaryCtxRelease_v2, (int), 0);
    int active = 1;
    unsigned flags = 0;
    DO(cuDevicePrimaryCtxGetState, (int, unsigned *, int *), 0, &flags, &active);
    printf("active %d\n", active);
    enter();
    use(3);
    return 0;
}
