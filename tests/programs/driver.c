/* A very small driver, made in several kinds by macros:
 *   VERSION         what it says its version is
 *   LEADS_AWAY      its resolver looks names up globally, as a library without -Bsymbolic would
 *   OTHER_POINTERS  its resolver hands out other addresses than its symbols'
 *   CALLS_BACK      one function calls itself by its exported name, as others may in its place
 * It has few names; everything else is missing. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#ifndef VERSION
#define VERSION 12000
#endif

int cuInit(unsigned flags) { return flags == 0 ? 0 : 1; }

int cuDriverGetVersion(int *version) {
    *version = VERSION;
    return 0;
}

/* Integers in registers and on the stack, and floats: what a jump has to keep. */
int cuLaunchKernel(void *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                   unsigned shared, void *stream, void **params, void **extra) {
    printf("launch %ld %u %u %u %u %u %u %u %ld %ld %ld\n", (long)f, gx, gy, gz, bx, by, bz, shared,
           (long)stream, (long)params, (long)extra);
    return 42;
}

int cuTexRefSetMipmapLevelClamp(void *ref, float low, float high) {
    printf("clamp %ld %g %g\n", (long)ref, low, high);
    return 43;
}

int cuGraphAddKernelNode(void *node, void *graph, void *deps, unsigned long count, void *params, void *sixth,
                         void *seventh) {
    printf("node %ld %ld %ld %lu %ld %ld %ld\n", (long)node, (long)graph, (long)deps, count, (long)params,
           (long)sixth, (long)seventh);
    return 44;
}

int cuMemGetInfo_v2(unsigned long *free, unsigned long *total) {
#ifdef CALLS_BACK
    static __thread int depth;
    int (*again)(unsigned long *, unsigned long *) = dlsym(RTLD_DEFAULT, "cuMemGetInfo_v2");
    printf("depth %d\n", depth);
    if (depth++ == 0) return again(free, total);
#endif
    if (free) *free = 1;
    if (total) *total = 2;
    return 0;
}

static int other_init(unsigned flags) { return cuInit(flags); }
static int other_node(void *a, void *b, void *c, unsigned long d, void *e, void *f, void *g) {
    return cuGraphAddKernelNode(a, b, c, d, e, f, g);
}

/* 600 functions that nobody knows. */
extern char many[];
__asm__(".text\n.balign 16\nmany:\n.rept 600\n.balign 16\nmovl $45, %eax\nret\n.endr\n.previous\n");

int cuGetProcAddress(const char *name, void **found, int version, unsigned long long flags) {
    (void)flags;
    *found = NULL;
    if (version < 2000) return 1;
#if defined(LEADS_AWAY)
    *found = dlsym(RTLD_DEFAULT, name);
#elif defined(OTHER_POINTERS)
    if (!strcmp(name, "cuInit")) *found = (void *)other_init;
    if (!strcmp(name, "cuGraphAddKernelNode")) *found = (void *)other_node;
#else
    if (!strcmp(name, "cuInit")) *found = (void *)cuInit;
    if (!strcmp(name, "cuNotInAnyList")) *found = (void *)other_node;
    unsigned number;
    if (sscanf(name, "cuUnknown%u", &number) == 1 && number < 600) *found = many + 16 * number;
#endif
    (void)other_init, (void)other_node;
    return *found ? 0 : 500;
}

int cuGetProcAddress_v2(const char *name, void **found, int version, unsigned long long flags, unsigned *status) {
    int result = cuGetProcAddress(name, found, version, flags);
    if (status) *status = *found ? 0 : 1;
    return result;
}
