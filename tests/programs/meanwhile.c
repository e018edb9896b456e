/* What one thread does while another waits for the device, which stands still until both are at it.
 *   meanwhile free             a free that waits, and an allocation that looks for memory to take apart
 *   meanwhile queue SECONDS    restores of more than fits, and operations that queue behind them; such a
 *                              restore is slow if it takes half of SECONDS, how long it may look */
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

typedef unsigned long long ptr_t;

static int (*set_current)(void *), (*allocate)(ptr_t *, size_t), (*release)(ptr_t);
static int (*fill)(ptr_t, unsigned char, size_t), (*fill_async)(ptr_t, unsigned char, size_t, void *);
static int (*restore)(const void *, const char *, unsigned);
static int (*synchronize)(void), (*callback)(void *, void (*)(void *), void *);
static void *context, *stream;
static ptr_t first, second;
static int go, result = -1;

static void wait_for_go(void *unused)
{
    (void)unused;
    while (!__atomic_load_n(&go, __ATOMIC_SEQ_CST)) usleep(1000);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static void *leave(void *unused)
{
    set_current(context);
    result = release(first);
    return unused;
}

/* Either buffer has to go for the other. */
static void *use_both(void *failed)
{
    set_current(context);
    while (!__atomic_load_n(&go, __ATOMIC_SEQ_CST))
        if (fill(first, 2, 6 << 20) != 0 || fill(second, 2, 6 << 20) != 0) return failed;
    return NULL;
}

/* The other thread is where it should be after this; if not, the test shows less, never something wrong. */
static void after_a_while(void) { usleep(100000); }

int main(int argc, char **argv)
{
    void *driver = dlopen("libcuda.so.1", RTLD_NOW);
    if (driver == NULL || argc < 2) return 2;
    int (*init)(unsigned) = (int (*)(unsigned))dlsym(driver, "cuInit");
    int (*retain)(void **, int) = (int (*)(void **, int))dlsym(driver, "cuDevicePrimaryCtxRetain");
    int (*create)(void **, unsigned) = (int (*)(void **, unsigned))dlsym(driver, "cuStreamCreate");
    set_current = (int (*)(void *))dlsym(driver, "cuCtxSetCurrent");
    allocate = (int (*)(ptr_t *, size_t))dlsym(driver, "cuMemAlloc_v2");
    release = (int (*)(ptr_t))dlsym(driver, "cuMemFree_v2");
    fill = (int (*)(ptr_t, unsigned char, size_t))dlsym(driver, "cuMemsetD8_v2");
    fill_async = (int (*)(ptr_t, unsigned char, size_t, void *))dlsym(driver, "cuMemsetD8Async");
    restore = (int (*)(const void *, const char *, unsigned))dlsym(driver, "coldpress_restore");
    synchronize = (int (*)(void))dlsym(driver, "cuCtxSynchronize");
    callback = (int (*)(void *, void (*)(void *), void *))dlsym(driver, "cuLaunchHostFunc");
    if (init(0) != 0 || retain(&context, 0) != 0 || set_current(context) != 0 || create(&stream, 1) != 0) return 2;

    pthread_t thread;
    if (strcmp(argv[1], "free") == 0) {
        ptr_t more;
        if (allocate(&second, 6 << 20) != 0 || allocate(&first, 16 << 10) != 0) return 2;
        if (callback(stream, wait_for_go, NULL) != 0 || fill_async(first, 1, 16 << 10, stream) != 0) return 2;
        pthread_create(&thread, NULL, leave, NULL);
        after_a_while();
        int refused = allocate(&more, 6 << 20);
        after_a_while();
        __atomic_store_n(&go, 1, __ATOMIC_SEQ_CST);
        pthread_join(thread, NULL);
        printf("allocated: %d, freed: %d, synchronized: %d\n", refused, result, synchronize());
    } else {
        double limit = argc > 2 ? atof(argv[2]) : 1;
        int slow = 0, failed = 0;
        pthread_t threads[3];
        if (allocate(&first, 6 << 20) != 0 || fill(first, 1, 6 << 20) != 0) return 2;
        if (allocate(&second, 6 << 20) != 0 || restore == NULL) return 2;
        for (int i = 0; i < 3; i++) pthread_create(&threads[i], NULL, use_both, &failed);
        for (int i = 0; i < 10 && !slow; i++) {
            double began = now();
            result = restore(NULL, NULL, 0);
            slow = now() - began >= limit / 2;
        }
        __atomic_store_n(&go, 1, __ATOMIC_SEQ_CST);
        for (int i = 0; i < 3; i++) {
            void *status;
            pthread_join(threads[i], &status);
            failed += status != NULL;
        }
        printf("restored: %s, %s, failed: %d\n", result < 0 ? "no" : "yes", slow ? "slow" : "quick", failed);
    }
    return 0;
}
