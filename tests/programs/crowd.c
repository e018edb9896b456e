/* Eight threads allocate middle-sized buffers at the same moment and use them at once: prints how many
 * were not there or did not hold what was put in. */
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

typedef unsigned long long ptr_t;

enum { THREADS = 8, EACH = 6, ROUNDS = 40 };

static int (*set_current)(void *), (*allocate)(ptr_t *, size_t), (*release)(ptr_t);
static int (*fill)(ptr_t, unsigned char, size_t), (*down)(void *, ptr_t, size_t);
static void *context;
static pthread_barrier_t together;
static int bad;

static void wrong(void) { __atomic_add_fetch(&bad, 1, __ATOMIC_RELAXED); }

static void *work(void *arg)
{
    int me = (int)(long)arg;
    unsigned char *host = malloc(1 << 20);
    set_current(context);
    for (int round = 0; round < ROUNDS; round++) {
        ptr_t p[EACH];
        /* Not whole granules: neighbours meet in one. */
        size_t n = 140000 + (size_t)me * 3000;
        pthread_barrier_wait(&together);
        for (int i = 0; i < EACH; i++)
            if (allocate(&p[i], n + 7777 * (size_t)i) != 0 || fill(p[i], (unsigned char)(me * 16 + i), n) != 0)
                wrong();
        for (int i = 0; i < EACH; i++) {
            if (down(host, p[i], n) != 0) wrong();
            for (size_t j = 0; j < n; j++)
                if (host[j] != (unsigned char)(me * 16 + i)) {
                    wrong();
                    break;
                }
        }
        pthread_barrier_wait(&together);
        for (int i = 0; i < EACH; i++) release(p[i]);
    }
    free(host);
    return NULL;
}

int main(void)
{
    void *driver = dlopen("libcuda.so.1", RTLD_NOW);
    if (driver == NULL) return 2;
    int (*init)(unsigned) = (int (*)(unsigned))dlsym(driver, "cuInit");
    int (*retain)(void **, int) = (int (*)(void **, int))dlsym(driver, "cuDevicePrimaryCtxRetain");
    set_current = (int (*)(void *))dlsym(driver, "cuCtxSetCurrent");
    allocate = (int (*)(ptr_t *, size_t))dlsym(driver, "cuMemAlloc_v2");
    release = (int (*)(ptr_t))dlsym(driver, "cuMemFree_v2");
    fill = (int (*)(ptr_t, unsigned char, size_t))dlsym(driver, "cuMemsetD8_v2");
    down = (int (*)(void *, ptr_t, size_t))dlsym(driver, "cuMemcpyDtoH_v2");
    if (init(0) != 0 || retain(&context, 0) != 0) return 2;
    pthread_barrier_init(&together, NULL, THREADS);
    pthread_t threads[THREADS];
    for (long i = 0; i < THREADS; i++) pthread_create(&threads[i], NULL, work, (void *)i);
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    printf("wrong: %d\n", bad);
    return bad != 0;
}
