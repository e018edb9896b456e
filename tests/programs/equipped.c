/* Allocates in two contexts, one after the other, with all the memory it wants: nothing has to leave.
 *   equipped */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

typedef unsigned long long ptr_t;
typedef int result_t;

static void *driver;

#define DO(name, types, ...)                                                            \
    do {                                                                                \
        void *f_ = dlsym(driver, #name);                                                \
        if (f_ == NULL) exit(2);                                                        \
        result_t r_ = ((result_t(*) types)f_)(__VA_ARGS__);                             \
        if (r_ != 0) printf("%s at line %d: %d\n", #name, __LINE__, r_), exit(1);       \
    } while (0)

int main(void)
{
    driver = dlopen("libcuda.so.1", RTLD_NOW);
    if (driver == NULL) return 2;
    DO(cuInit, (unsigned), 0);
    for (int i = 0; i < 2; i++) {
        void *context;
        DO(cuDevicePrimaryCtxRetain, (void **, int), &context, 0);
        DO(cuCtxSetCurrent, (void *), context);
        ptr_t p[3] = {0};
        for (int k = 0; k < 3; k++) DO(cuMemAlloc_v2, (ptr_t *, size_t), &p[k], 1 << 20);
        for (int k = 0; k < 3; k++) DO(cuMemFree_v2, (ptr_t), p[k]);
        DO(cuDevicePrimaryCtxRelease_v2, (int), 0);
    }
    return 0;
}
