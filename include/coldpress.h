/* coldpress.h: what a program may tell coldpress, and ask it.
 *
 * Header-only: nothing to link against but libdl (part of libc since glibc 2.34). The functions
 * are looked up, at the first call, in the libcuda.so.1 that this process has loaded. Under
 * coldpress that library is coldpress. Elsewhere it is NVIDIA's, the functions are not there, and
 * every call does what its description says under "absent": a program that uses this header runs
 * unchanged without coldpress.
 *
 * C11 or C++17, GCC or Clang, Linux. No CUDA header is needed: device addresses are `void *`.
 *
 * Sizes are bytes, times are nanoseconds. Functions that return `int` return COLDPRESS_OK (0) or
 * one of the negative codes below; coldpress_last_error() then says more. All functions may be
 * called from any thread at any time; no caller needs a lock. None of them may be called from a
 * CUDA host function or stream callback, as for the driver's own functions.
 *
 * "Managed" is memory of a live allocation that coldpress tracks: what cuMemAlloc, cudaMalloc,
 * their pitched and stream-ordered forms, coldpress_malloc() and the PyTorch functions returned
 * while coldpress was at work. A pointer to any byte of an allocation stands for all of it.
 *
 * Residency has a granularity: allocations of middle size share blocks with those made next to
 * them on the same stream, and a block moves as a whole. Small ones (below 1 MiB on a card of
 * ordinary size) always stay on the device.
 */
#ifndef COLDPRESS_H
#define COLDPRESS_H

#if !defined(__linux__) || !defined(__GNUC__)
#error "coldpress.h needs Linux and GCC or Clang"
#endif

#include <dlfcn.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Version of this header: major * 10000 + minor * 100 + patch. */
#define COLDPRESS_HEADER_VERSION 100

/* What functions return. New codes may be added: treat every negative number as failure. */
enum {
    COLDPRESS_OK = 0,
    /* An argument is not acceptable. */
    COLDPRESS_E_INVALID = -1,
    /* The pointer is not in managed memory. */
    COLDPRESS_E_NOT_MANAGED = -2,
    /* Not enough device memory, or not enough of it can be made free. */
    COLDPRESS_E_OUT_OF_MEMORY = -3,
    /* The allocation is pinned and was not evicted. */
    COLDPRESS_E_PINNED = -4,
    /* The allocation has to stay on the device: it is small, other memory holds its address, or
     * there is no host memory for it. */
    COLDPRESS_E_KEPT = -5,
    /* The device did not finish in time, or this thread is inside a CUDA call. Try again. */
    COLDPRESS_E_BUSY = -6,
    /* Eviction is off in this process. */
    COLDPRESS_E_OFF = -7,
    /* coldpress is not loaded, or manages nothing. */
    COLDPRESS_E_ABSENT = -8,
    /* CUDA is not initialised, or the calling thread has no current context. */
    COLDPRESS_E_NO_CONTEXT = -9,
    /* Writing to the file descriptor failed. */
    COLDPRESS_E_IO = -10,
    /* The bytes of the allocation are lost: a copy failed its check. */
    COLDPRESS_E_LOST = -11,
    /* The driver failed otherwise, or coldpress itself did. */
    COLDPRESS_E_DRIVER = -12
};

/* For coldpress_advise(). */
enum {
    /* Not needed for long: the next to leave. */
    COLDPRESS_ADVISE_COLD = 1,
    /* Needed soon: as if used just now. */
    COLDPRESS_ADVISE_HOT = 2
};

/* For coldpress_evict(). */
enum {
    /* Fail with COLDPRESS_E_KEPT where anything that was meant stays. */
    COLDPRESS_STRICT = 1
};

/* What coldpress_stats() fills. Newer versions add fields at the end. */
typedef struct coldpress_stats_t {
    uint32_t size;            /* in: sizeof(coldpress_stats_t); out: bytes filled */
    uint32_t version;         /* of this structure: 1 */
    uint32_t devices;         /* cards that are managed; the sums below are over them */
    uint32_t eviction_off;    /* 1 if nothing is evicted, for good or by the user's word */
    uint64_t allocations;     /* made so far */
    uint64_t frees;           /* freed so far */
    uint64_t logical_bytes;   /* live, as the program asked for them */
    uint64_t resident_bytes;  /* device memory behind live blocks */
    uint64_t spilled_bytes;   /* live and away from the device */
    uint64_t pinned_bytes;    /* device memory behind blocks that coldpress_pin() holds */
    uint64_t charged_bytes;   /* device memory held in all */
    uint64_t peak_bytes;      /* the highest charged_bytes of each device, summed */
    uint64_t limit_bytes;     /* what may be held */
    uint64_t host_bytes;      /* host memory held for evicted bytes */
    uint64_t launches;        /* kernel launches seen */
    uint64_t launch_waits;    /* operations that waited for a restore */
    uint64_t launch_wait_ns;  /* how long they waited, summed */
    uint64_t evictions;       /* blocks evicted so far */
    uint64_t evicted_bytes;   /* bytes in them */
    uint64_t restores;        /* blocks restored so far */
    uint64_t restored_bytes;  /* bytes in them */
    uint64_t verified_bytes;  /* bytes whose hash was checked */
    uint64_t verify_failures; /* copies that failed the check */
    uint64_t oom_avoided;     /* allocations that succeeded only because something was evicted */
    uint64_t oom_returned;    /* allocations that failed for lack of memory */
    uint64_t over_limit;      /* operations for which alone `limit_bytes` had to be passed */
} coldpress_stats_t;

/* ---- how the functions are found; nothing here is for programs ---------------------------- */

enum {
    COLDPRESS_DETAIL_MALLOC,
    COLDPRESS_DETAIL_FREE,
    COLDPRESS_DETAIL_PIN,
    COLDPRESS_DETAIL_UNPIN,
    COLDPRESS_DETAIL_PREFETCH,
    COLDPRESS_DETAIL_ADVISE,
    COLDPRESS_DETAIL_EVICT,
    COLDPRESS_DETAIL_RESTORE,
    COLDPRESS_DETAIL_TAG_PUSH,
    COLDPRESS_DETAIL_TAG_POP,
    COLDPRESS_DETAIL_STATS,
    COLDPRESS_DETAIL_SNAPSHOT,
    COLDPRESS_DETAIL_LAST_ERROR,
    COLDPRESS_DETAIL_VERSION,
    COLDPRESS_DETAIL_CU_MEM_ALLOC,
    COLDPRESS_DETAIL_CU_MEM_FREE,
    COLDPRESS_DETAIL_COUNT
};

struct coldpress_detail_table {
    void *functions[COLDPRESS_DETAIL_COUNT];
    int found;
};

/* One table for all files of a program or library that include this header. */
__attribute__((weak, visibility("hidden"))) struct coldpress_detail_table coldpress_detail_table_v1;

/* Copies the function's address to `function` (a pointer to a function pointer); 0 if there is
 * none. The answer is final once the process has a libcuda.so.1, since the loader gives that one
 * to everybody from then on; before that the next call looks again. Two threads that look at the
 * same time store the same addresses. The library is never let go, so the addresses stay valid. */
static inline int coldpress_detail_find(int index, void *function)
{
    struct coldpress_detail_table *table = &coldpress_detail_table_v1;
    void *address;
    if (!__atomic_load_n(&table->found, __ATOMIC_ACQUIRE)) {
        static const char *const names[COLDPRESS_DETAIL_COUNT] = {
            "coldpress_malloc", "coldpress_free", "coldpress_pin", "coldpress_unpin",
            "coldpress_prefetch", "coldpress_advise", "coldpress_evict", "coldpress_restore",
            "coldpress_tag_push", "coldpress_tag_pop", "coldpress_stats", "coldpress_snapshot",
            "coldpress_last_error", "coldpress_version", "cuMemAlloc_v2", "cuMemFree_v2",
        };
        int i;
        void *library = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_NOLOAD);
        if (library == NULL) {
            (void)dlerror();
            return 0;
        }
        for (i = 0; i < COLDPRESS_DETAIL_COUNT; i++)
            __atomic_store_n(&table->functions[i], dlsym(library, names[i]), __ATOMIC_RELAXED);
        (void)dlerror();
        __atomic_store_n(&table->found, 1, __ATOMIC_RELEASE);
    }
    address = __atomic_load_n(&table->functions[index], __ATOMIC_RELAXED);
    memcpy(function, &address, sizeof address);
    return address != NULL;
}

/* A status of the driver as one of the codes above. */
static inline int coldpress_detail_code(int status)
{
    switch (status) {
    case 0: return COLDPRESS_OK;
    case 1: return COLDPRESS_E_INVALID;
    case 2: return COLDPRESS_E_OUT_OF_MEMORY;
    case 3: case 4: case 201: return COLDPRESS_E_NO_CONTEXT;
    default: return COLDPRESS_E_DRIVER;
    }
}

/* ---- memory ------------------------------------------------------------------------------- */

/* Allocates `bytes` of device memory in the current context, as cuMemAlloc does; `*ptr` is its
 * address, aligned to 512 bytes. CUDA must be initialised and a context current: after any call
 * of the CUDA runtime that is so.
 * Errors: E_INVALID (`ptr` null, `bytes` 0), E_OUT_OF_MEMORY, E_NO_CONTEXT, E_DRIVER; `*ptr` is
 * null then.
 * Absent: the driver's cuMemAlloc_v2; E_ABSENT if no driver is loaded. */
static inline int coldpress_malloc(void **ptr, size_t bytes)
{
    int (*call)(void **, size_t);
    int (*plain)(unsigned long long *, size_t);
    unsigned long long address = 0;
    int status;
    if (coldpress_detail_find(COLDPRESS_DETAIL_MALLOC, &call))
        return call(ptr, bytes);
    if (ptr == NULL)
        return COLDPRESS_E_INVALID;
    *ptr = NULL;
    if (!coldpress_detail_find(COLDPRESS_DETAIL_CU_MEM_ALLOC, &plain))
        return COLDPRESS_E_ABSENT;
    status = plain(&address, bytes);
    if (status == 0)
        *ptr = (void *)(uintptr_t)address;
    return coldpress_detail_code(status);
}

/* Frees what coldpress_malloc() or cuMemAlloc returned, as cuMemFree does: it waits for the device
 * where cuMemFree waits (option `free_sync`). Null is nothing.
 * Errors: E_INVALID (not the first byte of a live allocation), E_NO_CONTEXT, E_DRIVER.
 * Absent: the driver's cuMemFree_v2; E_ABSENT if no driver is loaded. */
static inline int coldpress_free(void *ptr)
{
    int (*call)(void *);
    int (*plain)(unsigned long long);
    if (coldpress_detail_find(COLDPRESS_DETAIL_FREE, &call))
        return call(ptr);
    if (ptr == NULL)
        return COLDPRESS_OK;
    if (!coldpress_detail_find(COLDPRESS_DETAIL_CU_MEM_FREE, &plain))
        return COLDPRESS_E_ABSENT;
    return coldpress_detail_code(plain((unsigned long long)(uintptr_t)ptr));
}

/* ---- residency ---------------------------------------------------------------------------- */

/* Brings the allocation at `ptr` back if it is away and keeps it on the device until as many
 * calls of coldpress_unpin(). Freeing it ends its pins.
 * Errors: E_NOT_MANAGED, E_OUT_OF_MEMORY (it is away and does not fit under the limit),
 * E_BUSY, E_LOST, E_DRIVER; it is not pinned then.
 * Absent, or where coldpress manages nothing: 0. Memory never moves there. */
static inline int coldpress_pin(const void *ptr)
{
    int (*call)(const void *);
    return coldpress_detail_find(COLDPRESS_DETAIL_PIN, &call) ? call(ptr) : COLDPRESS_OK;
}

/* Takes one coldpress_pin() back.
 * Errors: E_NOT_MANAGED, E_INVALID (it was not pinned).
 * Absent, or where coldpress manages nothing: 0. */
static inline int coldpress_unpin(const void *ptr)
{
    int (*call)(const void *);
    return coldpress_detail_find(COLDPRESS_DETAIL_UNPIN, &call) ? call(ptr) : COLDPRESS_OK;
}

/* Starts to bring the allocation at `ptr` back in the background, if it is away and there is room
 * for it without evicting anything else. Returns at once; nothing has to be called to use the
 * memory, an operation that comes too early waits.
 * Errors: E_NOT_MANAGED.
 * Absent, or where coldpress manages nothing: 0. */
static inline int coldpress_prefetch(const void *ptr)
{
    int (*call)(const void *);
    return coldpress_detail_find(COLDPRESS_DETAIL_PREFETCH, &call) ? call(ptr) : COLDPRESS_OK;
}

/* Says what is to come for the allocation at `ptr`: COLDPRESS_ADVISE_COLD makes it the next to
 * leave when memory is short, COLDPRESS_ADVISE_HOT counts as a use now. Each holds until the next
 * use. Nothing moves by itself, and nothing becomes unsafe by a wrong advice.
 * Errors: E_NOT_MANAGED, E_INVALID (unknown advice).
 * Absent, or where coldpress manages nothing: 0. */
static inline int coldpress_advise(const void *ptr, int advice)
{
    int (*call)(const void *, int);
    return coldpress_detail_find(COLDPRESS_DETAIL_ADVISE, &call) ? call(ptr, advice) : COLDPRESS_OK;
}

/* Moves memory out of the device now and gives the device memory to whoever needs it: the
 * allocation at `ptr`, or all allocations made under `tag`, or with two nulls all there are. One of
 * the two has to be null. Every byte is back before the next operation that can reach it; nothing
 * has to be called. Work that is already submitted is waited for, so this call may take as long as
 * that (each wait at most a quarter of a second), and other threads' launches wait meanwhile.
 * For a pointer: 0 when it is away. For a tag or all: 0 when what can leave has left; with
 * COLDPRESS_STRICT in `flags`, E_KEPT if anything stays. A tag nobody has used means nothing: 0.
 * Errors: E_INVALID (both given, unknown flags, an impossible tag), E_NOT_MANAGED, E_PINNED and
 * E_KEPT (see above), E_OFF, E_BUSY, E_DRIVER.
 * Absent, or where coldpress manages nothing: E_ABSENT. */
static inline int coldpress_evict(const void *ptr_or_null, const char *tag_or_null, uint32_t flags)
{
    int (*call)(const void *, const char *, uint32_t);
    return coldpress_detail_find(COLDPRESS_DETAIL_EVICT, &call)
               ? call(ptr_or_null, tag_or_null, flags)
               : COLDPRESS_E_ABSENT;
}

/* Brings back what coldpress_evict() with the same arguments would mean, and waits for it. `flags`
 * is 0. Others may leave for it; where not all of it fits at once, what was brought back stays and
 * the call fails.
 * Errors: E_INVALID (both given, flags not 0, an impossible tag), E_NOT_MANAGED, E_OUT_OF_MEMORY,
 * E_BUSY, E_LOST, E_DRIVER.
 * Absent, or where coldpress manages nothing: 0. Everything is on the device there. */
static inline int coldpress_restore(const void *ptr_or_null, const char *tag_or_null,
                                    uint32_t flags)
{
    int (*call)(const void *, const char *, uint32_t);
    return coldpress_detail_find(COLDPRESS_DETAIL_RESTORE, &call)
               ? call(ptr_or_null, tag_or_null, flags)
               : COLDPRESS_OK;
}

/* ---- tags --------------------------------------------------------------------------------- */

/* Puts `tag` on top of the calling thread's tags. Every allocation belongs to all tags its thread
 * has at that time, for as long as it lives. A tag is 1 to 255 bytes of UTF-8; the string is
 * copied. Threads do not inherit tags.
 * Errors: E_INVALID (null, empty, too long, not UTF-8), E_OUT_OF_MEMORY (more than 65,536
 * different stacks of tags).
 * Absent: 0. */
static inline int coldpress_tag_push(const char *tag)
{
    int (*call)(const char *);
    return coldpress_detail_find(COLDPRESS_DETAIL_TAG_PUSH, &call) ? call(tag) : COLDPRESS_OK;
}

/* Takes the calling thread's topmost tag away.
 * Errors: E_INVALID (it has none).
 * Absent: 0. */
static inline int coldpress_tag_pop(void)
{
    int (*call)(void);
    return coldpress_detail_find(COLDPRESS_DETAIL_TAG_POP, &call) ? call() : COLDPRESS_OK;
}

/* ---- what is going on --------------------------------------------------------------------- */

/* Fills `*stats`, whose `size` the caller has set to sizeof(coldpress_stats_t). A library that is
 * older than this header fills less and says so in `size`; the rest is left as it was.
 * Errors: E_INVALID (null, or `size` below 16).
 * Absent: E_ABSENT, nothing is written. */
static inline int coldpress_stats(coldpress_stats_t *stats)
{
    int (*call)(coldpress_stats_t *);
    return coldpress_detail_find(COLDPRESS_DETAIL_STATS, &call) ? call(stats) : COLDPRESS_E_ABSENT;
}

/* Writes the list of live allocations to the file descriptor `fd` as one line of JSON:
 *   {"schema":"coldpress.snapshot","version":1,"pid":..,"time_ns":..,"allocations":[
 *     {"address":..,"bytes":..,"device":..,"id":..,"block":..,"state":"resident","pins":0,
 *      "tags":["outer","inner"]},..]}
 * in order of address within a block. States: "resident", "spilled", "compressed", "moving" (on
 * its way either way), "lost". Allocations that share a block have its number and its state. The
 * list is not one moment: other threads go on allocating.
 * Errors: E_IO (what was written may be incomplete).
 * Absent: E_ABSENT, nothing is written. */
static inline int coldpress_snapshot(int fd)
{
    int (*call)(int);
    return coldpress_detail_find(COLDPRESS_DETAIL_SNAPSHOT, &call) ? call(fd) : COLDPRESS_E_ABSENT;
}

/* What went wrong in the calling thread's last coldpress function that failed, in English, one
 * line; "" if none did. The text stays until the next one fails.
 * Absent: "coldpress is not loaded". */
static inline const char *coldpress_last_error(void)
{
    const char *(*call)(void);
    return coldpress_detail_find(COLDPRESS_DETAIL_LAST_ERROR, &call) ? call()
                                                                    : "coldpress is not loaded";
}

/* The library's version, in the form of COLDPRESS_HEADER_VERSION.
 * Absent: 0. */
static inline int coldpress_version(void)
{
    int (*call)(void);
    return coldpress_detail_find(COLDPRESS_DETAIL_VERSION, &call) ? call() : 0;
}

#ifdef __cplusplus
}
#endif

#endif
