/* A program that was linked against the driver. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>

extern int cuInit(unsigned flags);
extern int cuMemAlloc_v2(unsigned long long *ptr, size_t bytes);
extern int cuGetProcAddress_v2(const char *, void **, int, unsigned long long, unsigned *);

int main(void) {
    void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL), *found = NULL;
    unsigned status = 0;
    int result = cuGetProcAddress_v2("cuMemAlloc", &found, 12080, 0, &status);
    printf("init %d\n", cuInit(0));
    printf("symbol %d\n", (void *)cuMemAlloc_v2 == dlsym(library, "cuMemAlloc_v2"));
    printf("resolver %d %d\n", result, (void *)cuMemAlloc_v2 == found);
    Dl_info info;
    dladdr((void *)cuInit, &info);
    printf("file %s\n", info.dli_fname);
    return 0;
}
