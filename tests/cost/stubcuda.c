/* A driver that does almost nothing, so that an instruction count shows what coldpress adds.
 *
 * Every call answers at once; memory is numbers only. Nothing may touch a device address here:
 * this driver is for counting, the simulator (tests/sim/driver) is for everything else. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define OK 0
#define API __attribute__((visibility("default")))
typedef uint64_t ptr;
typedef void *handle;

static uint64_t next_address = 0x500000000000ull, next_handle = 1;

API int cuInit(unsigned flags) { (void)flags; return OK; }
API int cuDriverGetVersion(int *v) { *v = 13000; return OK; }
API int cuDeviceGetCount(int *n) { *n = 1; return OK; }
API int cuDeviceGet(int *d, int i) { *d = i; return OK; }
API int cuDeviceGetName(char *s, int n, int d) { (void)d; strncpy(s, "Stub", (size_t)n); return OK; }
API int cuDeviceGetAttribute(int *v, int which, int d) { (void)d; *v = which == 102; return OK; }
API int cuDeviceTotalMem_v2(size_t *n, int d) { (void)d; *n = (size_t)80 << 30; return OK; }
API int cuDevicePrimaryCtxRetain(handle *c, int d) { (void)d; *c = (handle)0x1000; return OK; }
API int cuDevicePrimaryCtxRelease_v2(int d) { (void)d; return OK; }
API int cuCtxGetCurrent(handle *c) { *c = (handle)0x1000; return OK; }
API int cuCtxSetCurrent(handle c) { (void)c; return OK; }
API int cuCtxPushCurrent_v2(handle c) { (void)c; return OK; }
API int cuCtxPopCurrent_v2(handle *c) { *c = (handle)0x1000; return OK; }
API int cuCtxGetDevice(int *d) { *d = 0; return OK; }
API int cuCtxSynchronize(void) { return OK; }
API int cuCtxRecordEvent(handle c, handle e) { (void)c; (void)e; return OK; }
API int cuMemGetInfo_v2(size_t *f, size_t *t) { *f = *t = (size_t)80 << 30; return OK; }

API int cuMemAlloc_v2(ptr *p, size_t n) { *p = next_address; next_address += n; return OK; }
API int cuMemFree_v2(ptr p) { (void)p; return OK; }
API int cuMemAllocAsync(ptr *p, size_t n, handle s) { (void)s; return cuMemAlloc_v2(p, n); }
API int cuMemFreeAsync(ptr p, handle s) { (void)p; (void)s; return OK; }
API int cuDeviceGetDefaultMemPool(handle *p, int d) { (void)d; *p = (handle)0x2000; return OK; }
API int cuDeviceGetMemPool(handle *p, int d) { (void)d; *p = (handle)0x2000; return OK; }
API int cuMemGetAllocationGranularity(size_t *n, const void *p, unsigned o)
{ (void)p; (void)o; *n = 2 << 20; return OK; }
API int cuMemAddressReserve(ptr *p, size_t n, size_t a, ptr hint, unsigned long long f)
{ (void)n; (void)a; (void)f; *p = hint ? hint : 0x7e0000000000ull; return OK; }
API int cuMemAddressFree(ptr p, size_t n) { (void)p; (void)n; return OK; }
API int cuMemCreate(uint64_t *h, size_t n, const void *p, unsigned long long f)
{ (void)n; (void)p; (void)f; *h = next_handle++; return OK; }
API int cuMemRelease(uint64_t h) { (void)h; return OK; }
API int cuMemMap(ptr p, size_t n, size_t o, uint64_t h, unsigned long long f)
{ (void)p; (void)n; (void)o; (void)h; (void)f; return OK; }
API int cuMemUnmap(ptr p, size_t n) { (void)p; (void)n; return OK; }
API int cuMemSetAccess(ptr p, size_t n, const void *d, size_t c)
{ (void)p; (void)n; (void)d; (void)c; return OK; }
API int cuMemHostRegister_v2(void *p, size_t n, unsigned f) { (void)p; (void)n; (void)f; return OK; }
API int cuMemHostUnregister(void *p) { (void)p; return OK; }

API int cuStreamCreate(handle *s, unsigned f) { (void)f; *s = (handle)(uintptr_t)(next_handle++ << 6); return OK; }
API int cuStreamDestroy_v2(handle s) { (void)s; return OK; }
API int cuStreamSynchronize(handle s) { (void)s; return OK; }
API int cuEventCreate(handle *e, unsigned f) { return cuStreamCreate(e, f); }
API int cuEventDestroy_v2(handle e) { (void)e; return OK; }
API int cuEventRecord(handle e, handle s) { (void)e; (void)s; return OK; }
API int cuEventQuery(handle e) { (void)e; return OK; }

API int cuModuleGetFunction(handle *f, handle m, const char *n)
{ (void)m; (void)n; *f = (handle)0x3000; return OK; }
/* Sixteen pointers. */
API int cuFuncGetParamInfo(handle f, size_t i, size_t *at, size_t *n)
{ (void)f; if (i >= 16) return 1; *at = i * 8; *n = 8; return OK; }
API int cuLaunchKernel(handle f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                       unsigned bz, unsigned shared, handle s, void **params, void **extra)
{
    (void)f; (void)gx; (void)gy; (void)gz; (void)bx; (void)by; (void)bz;
    (void)shared; (void)s; (void)params; (void)extra;
    return OK;
}

API int cuGetProcAddress_v2(const char *name, void **p, int version, uint64_t flags, int *status)
{
    static const char *const suffixes[] = {"_v2", "", NULL};
    (void)version; (void)flags;
    *p = NULL;
    for (int i = 0; suffixes[i] && !*p; i++) {
        Dl_info me;
        char full[128] = "";
        strncat(full, name, 100);
        strcat(full, suffixes[i]);
        dladdr((void *)cuInit, &me);
        *p = dlsym(dlopen(me.dli_fname, RTLD_NOW | RTLD_NOLOAD), full);
    }
    if (status) *status = *p ? 0 : 1;
    return *p ? OK : 500;
}
