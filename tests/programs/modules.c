/* Modules come and go, and their globals with them, while another thread evicts and so reads globals.
 *   modules IMAGE ROUNDS     IMAGE has a variable `cp_demo_shared_row` */
#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

typedef unsigned long long ptr_t;
enum { MODULES = 48, BYTES = 1 << 20 };

static void *driver, *context;
static ptr_t buffer;
static atomic_int stop, evicted;

static void *find(const char *name)
{
    void *f = dlsym(driver, name);
    if (f == NULL) printf("no %s\n", name), exit(2);
    return f;
}

#define MUST(name, types, ...)                                                      \
    do {                                                                            \
        int r_ = ((int(*) types)find(#name))(__VA_ARGS__);                          \
        if (r_ != 0) printf("%s at line %d: %d\n", #name, __LINE__, r_), exit(1);   \
    } while (0)

static void *evict(void *unused)
{
    int (*go)(const void *, const char *, unsigned) = find("coldpress_evict");
    MUST(cuCtxSetCurrent, (void *), context);
    while (!atomic_load(&stop)) {
        MUST(cuMemsetD8_v2, (ptr_t, unsigned char, size_t), buffer, 1, BYTES);
        /* 0: gone; anything else: the device was busy. */
        if (go(NULL, NULL, 0) == 0) atomic_fetch_add(&evicted, 1);
    }
    return unused;
}

int main(int argc, char **argv)
{
    void *modules[MODULES];
    pthread_t thread;
    if (argc < 3 || (driver = dlopen("libcuda.so.1", RTLD_NOW)) == NULL) return 2;
    MUST(cuInit, (unsigned), 0);
    MUST(cuDevicePrimaryCtxRetain, (void **, int), &context, 0);
    MUST(cuCtxSetCurrent, (void *), context);
    MUST(cuMemAlloc_v2, (ptr_t *, size_t), &buffer, BYTES);
    pthread_create(&thread, NULL, evict, NULL);
    for (int round = atoi(argv[2]); round > 0; round--) {
        for (int i = 0; i < MODULES; i++) {
            ptr_t at;
            size_t bytes;
            MUST(cuModuleLoad, (void **, const char *), &modules[i], argv[1]);
            MUST(cuModuleGetGlobal_v2, (ptr_t *, size_t *, void *, const char *), &at, &bytes, modules[i],
                 "cp_demo_shared_row");
        }
        for (int i = 0; i < MODULES; i++) MUST(cuModuleUnload, (void *), modules[i]);
    }
    atomic_store(&stop, 1);
    pthread_join(thread, NULL);
    MUST(cuCtxSynchronize, (void));
    printf("evicted: %s\n", atomic_load(&evicted) > 0 ? "yes" : "no");
    return 0;
}
