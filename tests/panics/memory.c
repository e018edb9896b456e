/* Calls that give, take, copy, fill or ask about memory. */
#include "victim.h"

struct copy_2d {
    size_t sx, sy; unsigned st; const void *sh; ptr_t sd; void *sa; size_t sp;
    size_t dx, dy; unsigned dt; void *dh; ptr_t dd; void *da; size_t dp;
    size_t width, height;
};
struct copy_3d {
    size_t sx, sy, sz, sl; unsigned st; const void *sh; ptr_t sd; void *sa, *sc; size_t sp, shh;
    size_t dx, dy, dz, dl; unsigned dt; void *dh; ptr_t dd; void *da, *dc; size_t dp, dhh;
    size_t width, height, depth;
};


static result_t landed(result_t result, struct buffer *to, const uint32_t *from)
{
    MUST("cuCtxSynchronize", (void));
    if (result == 0) memcpy(to->want, from, BYTES);
    return result;
}

static result_t copies(void)
{
    if (starts("cuMemcpyHtoD")) {
        for (int i = 0; i < WORDS; i++) host[i] = (uint32_t)i ^ 0x5A5A5A5A;
        result_t r = has("Async") ? TESTED((ptr_t, const void *, size_t, void *), a.at, host, BYTES, stream)
                                  : TESTED((ptr_t, const void *, size_t), a.at, host, BYTES);
        return landed(r, &a, host);
    }
    if (starts("cuMemcpyDtoH")) {
        memset(host, 0, BYTES);
        result_t r = has("Async") ? TESTED((void *, ptr_t, size_t, void *), host, a.at, BYTES, stream)
                                  : TESTED((void *, ptr_t, size_t), host, a.at, BYTES);
        MUST("cuCtxSynchronize", (void));
        if (r == 0 && memcmp(host, a.want, BYTES)) wrong("what was copied down");
        return r;
    }
    if (starts("cuMemcpyPeer")) {
        result_t r = has("Async") ? TESTED((ptr_t, void *, ptr_t, void *, size_t, void *), a.at, context, b.at,
                                           context, BYTES, stream)
                                  : TESTED((ptr_t, void *, ptr_t, void *, size_t), a.at, context, b.at, context, BYTES);
        return landed(r, &a, b.want);
    }
    if (starts("cuMemcpy2D") || starts("cuMemcpy3D")) {
        struct copy_2d two = {.st = 2, .sd = b.at, .sp = 1024, .dt = 2, .dd = a.at, .dp = 1024, .width = 1024,
                              .height = BYTES / 1024};
        struct copy_3d three = {.st = 2, .sd = b.at, .sc = has("Peer") ? context : NULL, .sp = 1024, .shh = 16,
                                .dt = 2, .dd = a.at, .dc = has("Peer") ? context : NULL, .dp = 1024, .dhh = 16,
                                .width = 1024, .height = 16, .depth = BYTES / 1024 / 16};
        const void *copy = has("2D") ? (void *)&two : (void *)&three;
        result_t r = has("Async") ? TESTED((const void *, void *), copy, stream) : TESTED((const void *), copy);
        return landed(r, &a, b.want);
    }
    if (starts("cuMemcpy")) {
        result_t r = has("Async") ? TESTED((ptr_t, ptr_t, size_t, void *), a.at, b.at, BYTES, stream)
                                  : TESTED((ptr_t, ptr_t, size_t), a.at, b.at, BYTES);
        return landed(r, &a, b.want);
    }
    return NOT_HERE;
}

static result_t memsets(void)
{
    if (!starts("cuMemset")) return NOT_HERE;
    int bytes = has("D16") ? 2 : has("D32") ? 4 : 1;
    unsigned value = bytes == 1 ? 0xAB : bytes == 2 ? 0xABCD : 0xABCDEF01;
    size_t n = BYTES / (size_t)bytes, width = 1024 / (size_t)bytes;
    for (int i = 0; i < WORDS; i++) host[i] = bytes == 1 ? 0xABABABAB : bytes == 2 ? 0xABCDABCD : value;
    result_t r;
    if (has("D2D"))
        r = has("Async") ? TESTED((ptr_t, size_t, unsigned, size_t, size_t, void *), a.at, 1024, value, width,
                                  BYTES / 1024, stream)
                         : TESTED((ptr_t, size_t, unsigned, size_t, size_t), a.at, 1024, value, width, BYTES / 1024);
    else
        r = has("Async") ? TESTED((ptr_t, unsigned, size_t, void *), a.at, value, n, stream)
                         : TESTED((ptr_t, unsigned, size_t), a.at, value, n);
    return landed(r, &a, host);
}

/* New memory works like any other, whoever made it. */
static result_t made(result_t result, const ptr_t *made)
{
    ptr_t at = *made;
    if (result != 0) return result;
    MUST("cuCtxSynchronize", (void));
    MUST("cuMemcpyDtoD_v2", (ptr_t, ptr_t, size_t), at, b.at, BYTES);
    memset(host, 0, BYTES);
    MUST("cuMemcpyDtoH_v2", (void *, ptr_t, size_t), host, at, BYTES);
    if (memcmp(host, b.want, BYTES)) wrong("new memory");
    MUST("cuMemFree_v2", (ptr_t), at);
    return result;
}

/* What could not be freed is still there; what was is not. */
static result_t freed(result_t result)
{
    if (result == 0) a.at = 0;
    return result;
}

static result_t allocations(void)
{
    ptr_t at = 0;
    size_t pitch = 0;
    void *pool;
    if (is("cuMemAlloc_v2")) return made(TESTED((ptr_t *, size_t), &at, BYTES), &at);
    if (is("cuMemAllocPitch_v2"))
        return made(TESTED((ptr_t *, size_t *, size_t, size_t, unsigned), &at, &pitch, 1024, BYTES / 1024, 4), &at);
    if (starts("cuMemAllocAsync")) return made(TESTED((ptr_t *, size_t, void *), &at, BYTES, stream), &at);
    if (starts("cuMemAllocFromPoolAsync")) {
        MUST("cuDeviceGetDefaultMemPool", (void **, int), &pool, 0);
        return made(TESTED((ptr_t *, size_t, void *, void *), &at, BYTES, pool, stream), &at);
    }
    if (is("cuMemFree_v2")) return freed(TESTED((ptr_t), a.at));
    if (starts("cuMemFreeAsync")) return freed(TESTED((ptr_t, void *), a.at, stream));
    return NOT_HERE;
}

static result_t hosts(void)
{
    void *at = NULL;
    result_t r;
    if (is("cuMemAllocHost_v2") || is("cuMemHostAlloc")) {
        r = is("cuMemHostAlloc") ? TESTED((void **, size_t, unsigned), &at, BYTES, 0)
                                 : TESTED((void **, size_t), &at, BYTES);
        if (r != 0) return r;
        memset(at, 0, BYTES);
        MUST("cuMemFreeHost", (void *), at);
        return r;
    }
    if (is("cuMemFreeHost")) {
        MUST("cuMemHostAlloc", (void **, size_t, unsigned), &at, BYTES, 0);
        r = TESTED((void *), at);
        if (r != 0) MUST("cuMemFreeHost", (void *), at);
        return r;
    }
    if (starts("cuMemHostRegister")) {
        at = aligned_alloc(4096, BYTES);
        r = TESTED((void *, size_t, unsigned), at, BYTES, 0);
        if (r == 0) MUST("cuMemHostUnregister", (void *), at);
        return r;
    }
    if (is("cuMemHostUnregister")) {
        at = aligned_alloc(4096, BYTES);
        MUST("cuMemHostRegister_v2", (void *, size_t, unsigned), at, BYTES, 0);
        r = TESTED((void *), at);
        if (r != 0) MUST("cuMemHostUnregister", (void *), at);
        return r;
    }
    return NOT_HERE;
}

static result_t questions(void)
{
    size_t free_bytes = 0, total = 0;
    ptr_t base = 0;
    result_t r;
    if (is("cuMemGetInfo_v2")) {
        r = TESTED((size_t *, size_t *), &free_bytes, &total);
        if (r == 0 && (total == 0 || free_bytes > total)) wrong("memory information");
        return r;
    }
    if (is("cuMemGetAddressRange_v2")) {
        r = TESTED((ptr_t *, size_t *, ptr_t), &base, &total, a.at + 4096);
        if (r == 0 && (base != a.at || total != BYTES)) wrong("range");
        return r;
    }
    if (is("cuMemGetAccess")) {
        unsigned long long flags = 0;
        int place[2] = {1, 0};
        r = TESTED((unsigned long long *, const int *, ptr_t), &flags, place, a.at);
        if (r == 0 && flags != 3) wrong("access");
        return r;
    }
    if (is("cuPointerGetAttribute")) {
        r = TESTED((void *, int, ptr_t), &total, 12, a.at + 4096);
        if (r == 0 && total != BYTES) wrong("attribute");
        return r;
    }
    if (is("cuPointerGetAttributes")) {
        int which[] = {12, 11};
        void *to[] = {&total, &base};
        r = TESTED((unsigned, int *, void **, ptr_t), 2, which, to, a.at + 4096);
        if (r == 0 && (total != BYTES || base != a.at)) wrong("attributes");
        return r;
    }
    if (is("cuPointerSetAttribute")) {
        int on = 1;
        return TESTED((const void *, int, ptr_t), &on, 6, a.at);
    }
    return NOT_HERE;
}

result_t memory(void)
{
    result_t (*all[])(void) = {copies, memsets, allocations, hosts, questions};
    for (int i = 0; i < 5; i++) {
        result_t r = all[i]();
        if (r != NOT_HERE) return r;
    }
    return NOT_HERE;
}
