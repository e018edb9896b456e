/* What one thread does while another is in the middle of something.
 *   meanwhile free             a free that has begun, and allocations that look for memory to take apart
 *   meanwhile queue SECONDS    restores of more than fits, and operations that queue behind them; such a
 *                              restore is slow if it takes half of SECONDS, how long it may look */
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

typedef unsigned long long ptr_t;

static int (*set_current)(void *), (*allocate)(ptr_t *, size_t), (*release)(ptr_t);
static int (*fill)(ptr_t, unsigned char, size_t), (*synchronize)(void);
static int (*restore)(const void *, const char *, unsigned);
static void *context;
static ptr_t first, second;
static int go, result = -1;

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

int main(int argc, char **argv)
{
    void *driver = dlopen("libcuda.so.1", RTLD_NOW);
    if (driver == NULL || argc < 2) return 2;
    int (*init)(unsigned) = (int (*)(unsigned))dlsym(driver, "cuInit");
    int (*retain)(void **, int) = (int (*)(void **, int))dlsym(driver, "cuDevicePrimaryCtxRetain");
    set_current = (int (*)(void *))dlsym(driver, "cuCtxSetCurrent");
    allocate = (int (*)(ptr_t *, size_t))dlsym(driver, "cuMemAlloc_v2");
    release = (int (*)(ptr_t))dlsym(driver, "cuMemFree_v2");
    fill = (int (*)(ptr_t, unsigned char, size_t))dlsym(driver, "cuMemsetD8_v2");
    restore = (int (*)(const void *, const char *, unsigned))dlsym(driver, "coldpress_restore");
    synchronize = (int (*)(void))dlsym(driver, "cuCtxSynchronize");
    if (init(0) != 0 || retain(&context, 0) != 0 || set_current(context) != 0) return 2;

    pthread_t thread;
    if (strcmp(argv[1], "free") == 0) {
        /* The only allocation of its block. Taken apart too early, block and addresses are soon those of
         * others, to whom the range would then be given back. */
        ptr_t more, small[4];
        if (allocate(&second, 6 << 20) != 0 || allocate(&first, 64 << 10) != 0) return 2;
        pthread_create(&thread, NULL, leave, NULL);
        int gate = open(getenv("TEST_COLDPRESS_GATE"), O_WRONLY), apart = 1;
        int refused = allocate(&more, 6 << 20);
        if (gate < 0 || allocate(&small[0], 64 << 10) != 0) return 2;
        close(gate);
        pthread_join(thread, NULL);
        for (int i = 1; i < 4; i++) {
            if (allocate(&small[i], 64 << 10) != 0) return 2;
            for (int j = 0; j < i; j++) apart &= small[i] != small[j];
        }
        int mine = release(more);
        printf("allocated: %d, freed: %d and %d, %s, synchronized: %d\n", refused, result, mine,
               apart ? "apart" : "shared", synchronize());
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
