/* A stream-ordered free of a buffer that is away, while another thread's allocation makes room, and stands
 * still in the middle of it until that free has returned: prints what came first.
 *   busy SECONDS     a free that takes half of SECONDS, how long the allocation may wait, is slow */
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

typedef unsigned long long ptr_t;

static int (*set_current)(void *), (*allocate)(ptr_t *, size_t), (*fill)(ptr_t, unsigned char, size_t);
static void *context;
static int allocated;

static void *hungry(void *result)
{
    ptr_t p;
    set_current(context);
    *(int *)result = allocate(&p, 6 << 20);
    __atomic_store_n(&allocated, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

int main(int argc, char **argv)
{
    void *driver = dlopen("libcuda.so.1", RTLD_NOW), *stream;
    if (driver == NULL) return 2;
    int (*init)(unsigned) = (int (*)(unsigned))dlsym(driver, "cuInit");
    int (*retain)(void **, int) = (int (*)(void **, int))dlsym(driver, "cuDevicePrimaryCtxRetain");
    int (*create)(void **, unsigned) = (int (*)(void **, unsigned))dlsym(driver, "cuStreamCreate");
    int (*release)(ptr_t, void *) = (int (*)(ptr_t, void *))dlsym(driver, "cuMemFreeAsync");
    int (*evict)(const void *, const char *, unsigned) =
        (int (*)(const void *, const char *, unsigned))dlsym(driver, "coldpress_evict");
    set_current = (int (*)(void *))dlsym(driver, "cuCtxSetCurrent");
    allocate = (int (*)(ptr_t *, size_t))dlsym(driver, "cuMemAlloc_v2");
    fill = (int (*)(ptr_t, unsigned char, size_t))dlsym(driver, "cuMemsetD8_v2");
    ptr_t away, here;
    if (init(0) != 0 || retain(&context, 0) != 0 || set_current(context) != 0 || create(&stream, 1) != 0) return 2;
    if (allocate(&away, 6 << 20) != 0 || fill(away, 1, 6 << 20) != 0) return 2;
    if (evict == NULL || evict((const void *)away, NULL, 0) != 0) return 2;
    if (allocate(&here, 6 << 20) != 0) return 2;

    pthread_t thread;
    int result = -1;
    pthread_create(&thread, NULL, hungry, &result);
    /* Open as soon as the allocation has begun to make room, and alone may do so. */
    int gate = open(getenv("TEST_COLDPRESS_GATE"), O_WRONLY);
    if (gate < 0) return 2;
    struct timespec before, after;
    clock_gettime(CLOCK_MONOTONIC, &before);
    int freed = release(away, stream);
    clock_gettime(CLOCK_MONOTONIC, &after);
    int slow = argc < 2 || after.tv_sec - before.tv_sec >= atoi(argv[1]) / 2;
    int late = __atomic_load_n(&allocated, __ATOMIC_SEQ_CST);
    printf("freed: %d, %s\n", freed, late ? "late" : slow ? "slow" : "first");
    close(gate);
    pthread_join(thread, NULL);
    printf("allocated: %d\n", result);
    return 0;
}
