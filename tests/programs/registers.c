/* The first calls of a process, with arguments in every kind of place. `latched` takes the
 * entry point that turns eviction off. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    int (*clamp)(void *, float, float) = dlsym(library, "cuTexRefSetMipmapLevelClamp");
    int (*node)(long, long, long, unsigned long, long, long, long) = dlsym(library, "cuGraphAddKernelNode");
    int (*launch)(long, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, long, long, long) =
        dlsym(library, "cuLaunchKernel");
    if (argc > 1 && !strcmp(argv[1], "clamp")) printf("%d\n", clamp((void *)7, 1.5f, -2.25f));
    if (argc > 1 && !strcmp(argv[1], "node")) printf("%d\n", node(1, 2, 3, 4, 5, 6, 7));
    if (argc > 1 && !strcmp(argv[1], "launch")) printf("%d\n", launch(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11));
    return 0;
}
