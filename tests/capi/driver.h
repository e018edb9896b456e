/* The few driver functions the test programs need, found the way a CUDA runtime finds them, and
 * how a check fails. Included by C11 and C++17 programs. */
#ifndef TEST_DRIVER_H
#define TEST_DRIVER_H

#include <dlfcn.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                                   \
    do {                                                                                   \
        if (!(condition)) {                                                                \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);        \
            exit(1);                                                                       \
        }                                                                                  \
    } while (0)

#define SAME(got, wanted)                                                                  \
    do {                                                                                   \
        long long got_ = (long long)(got), wanted_ = (long long)(wanted);                  \
        if (got_ != wanted_) {                                                             \
            fprintf(stderr, "%s:%d: %s is %lld, not %s (%lld)\n", __FILE__, __LINE__, #got, \
                    got_, #wanted, wanted_);                                               \
            exit(1);                                                                       \
        }                                                                                  \
    } while (0)

typedef unsigned long long address_t;

struct driver {
    int (*init)(unsigned);
    int (*retain)(void **, int);
    int (*set_current)(void *);
    int (*get_current)(void **);
    int (*current_device)(int *);
    int (*synchronize)(void);
    int (*allocate)(address_t *, size_t);
    int (*release)(address_t);
    int (*memory_info)(size_t *, size_t *);
    int (*to_host)(void *, address_t, size_t);
    int (*to_device)(address_t, const void *, size_t);
    int (*fill)(address_t, unsigned char, size_t);
    int (*fill_async)(address_t, unsigned char, size_t, void *);
    int (*copy_async)(address_t, address_t, size_t, void *);
    int (*stream_create)(void **, unsigned);
    int (*stream_destroy)(void *);
    int (*stream_synchronize)(void *);
    int (*event_create)(void **, unsigned);
    int (*event_record)(void *, void *);
    int (*event_destroy)(void *);
    int (*stream_wait)(void *, void *, unsigned);
};

static inline void driver_find(void *library, const char *name, void *function)
{
    void *address = dlsym(library, name);
    if (address == NULL) {
        fprintf(stderr, "the driver has no %s\n", name);
        exit(1);
    }
    memcpy(function, &address, sizeof address);
}

static inline struct driver driver_open(void)
{
    struct driver d;
    void *library = dlopen("libcuda.so.1", RTLD_NOW);
    if (library == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        exit(1);
    }
    driver_find(library, "cuInit", &d.init);
    driver_find(library, "cuDevicePrimaryCtxRetain", &d.retain);
    driver_find(library, "cuCtxSetCurrent", &d.set_current);
    driver_find(library, "cuCtxGetCurrent", &d.get_current);
    driver_find(library, "cuCtxGetDevice", &d.current_device);
    driver_find(library, "cuCtxSynchronize", &d.synchronize);
    driver_find(library, "cuMemAlloc_v2", &d.allocate);
    driver_find(library, "cuMemFree_v2", &d.release);
    driver_find(library, "cuMemGetInfo_v2", &d.memory_info);
    driver_find(library, "cuMemcpyDtoH_v2", &d.to_host);
    driver_find(library, "cuMemcpyHtoD_v2", &d.to_device);
    driver_find(library, "cuMemsetD8_v2", &d.fill);
    driver_find(library, "cuMemsetD8Async", &d.fill_async);
    driver_find(library, "cuMemcpyDtoDAsync_v2", &d.copy_async);
    driver_find(library, "cuStreamCreate", &d.stream_create);
    driver_find(library, "cuStreamDestroy_v2", &d.stream_destroy);
    driver_find(library, "cuStreamSynchronize", &d.stream_synchronize);
    driver_find(library, "cuEventCreate", &d.event_create);
    driver_find(library, "cuEventRecord", &d.event_record);
    driver_find(library, "cuEventDestroy_v2", &d.event_destroy);
    driver_find(library, "cuStreamWaitEvent", &d.stream_wait);
    return d;
}

static inline address_t address_of(const void *ptr)
{
    return (address_t)(uintptr_t)ptr;
}

/* Reads the memory back and compares every byte. */
static inline int holds(const struct driver *d, const void *ptr, unsigned char byte, size_t bytes)
{
    unsigned char *copy = (unsigned char *)malloc(bytes);
    size_t i, same = 0;
    CHECK(copy != NULL);
    SAME(d->to_host(copy, address_of(ptr), bytes), 0);
    for (i = 0; i < bytes; i++)
        same += copy[i] == byte;
    free(copy);
    return same == bytes;
}

#endif
