/* Every function of coldpress.h, in C11.
 *
 * usage: interface with SNAPSHOT   coldpress is preloaded; a snapshot is written to that file
 *        interface load SNAPSHOT LIBRARY   the same, loading LIBRARY first
 *        interface without        there is a driver and no coldpress
 *        interface nothing        there is neither
 *        interface disabled       coldpress is preloaded and manages nothing */
#include "coldpress.h"
#include "driver.h"

#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)
#define COUNT 8

static struct driver d;

static coldpress_stats_t stats(void)
{
    coldpress_stats_t s;
    memset(&s, 0, sizeof s);
    s.size = sizeof s;
    SAME(coldpress_stats(&s), COLDPRESS_OK);
    SAME(s.size, sizeof s);
    SAME(s.version, 1);
    return s;
}

static char *snapshot(void)
{
    static char text[1 << 16];
    int pipe_ends[2];
    ssize_t n, all = 0;
    CHECK(pipe(pipe_ends) == 0);
    SAME(coldpress_snapshot(pipe_ends[1]), COLDPRESS_OK);
    close(pipe_ends[1]);
    while ((n = read(pipe_ends[0], text + all, sizeof text - 1 - (size_t)all)) > 0)
        all += n;
    text[all] = 0;
    close(pipe_ends[0]);
    return text;
}

/* True if the snapshot says so of the allocation at `ptr`. */
static int is(const void *ptr, const char *state)
{
    char address[64], wanted[64];
    const char *at, *end;
    snprintf(address, sizeof address, "\"address\":%llu,", address_of(ptr));
    snprintf(wanted, sizeof wanted, "\"state\":\"%s\"", state);
    at = strstr(snapshot(), address);
    CHECK(at != NULL);
    end = strchr(at, '}');
    at = strstr(at, wanted);
    return at != NULL && at < end;
}

static int wait_until(const void *ptr, const char *state)
{
    int i;
    for (i = 0; i < 1000 && !is(ptr, state); i++) {
        struct timespec pause = {0, 10000000};
        nanosleep(&pause, NULL);
    }
    return is(ptr, state);
}

static void *allocate(size_t bytes, unsigned char byte)
{
    void *ptr = NULL;
    SAME(coldpress_malloc(&ptr, bytes), COLDPRESS_OK);
    CHECK(ptr != NULL);
    SAME(d.fill(address_of(ptr), byte, bytes), 0);
    return ptr;
}

static void start_cuda(void)
{
    void *context = NULL;
    d = driver_open();
    SAME(d.init(0), 0);
    SAME(d.retain(&context, 0), 0);
    SAME(d.set_current(context), 0);
}

static void refuses_what_is_not_managed(const void *ptr)
{
    SAME(coldpress_pin(ptr), COLDPRESS_E_NOT_MANAGED);
    SAME(coldpress_unpin(ptr), COLDPRESS_E_NOT_MANAGED);
    SAME(coldpress_prefetch(ptr), COLDPRESS_E_NOT_MANAGED);
    SAME(coldpress_advise(ptr, COLDPRESS_ADVISE_COLD), COLDPRESS_E_NOT_MANAGED);
    SAME(coldpress_evict(ptr, NULL, 0), COLDPRESS_E_NOT_MANAGED);
    SAME(coldpress_restore(ptr, NULL, 0), COLDPRESS_E_NOT_MANAGED);
    CHECK(strstr(coldpress_last_error(), "not in a live allocation") != NULL);
}

static void tags_nest(void)
{
    char longest[257];
    memset(longest, 'x', 256);
    longest[256] = 0;
    SAME(coldpress_tag_push(longest), COLDPRESS_E_INVALID);
    SAME(coldpress_tag_push(longest + 1), COLDPRESS_OK);
    SAME(coldpress_tag_pop(), COLDPRESS_OK);
    SAME(coldpress_tag_pop(), COLDPRESS_E_INVALID);
    SAME(coldpress_tag_push(NULL), COLDPRESS_E_INVALID);
    SAME(coldpress_tag_push(""), COLDPRESS_E_INVALID);
    SAME(coldpress_tag_push("\xff"), COLDPRESS_E_INVALID);
}

static void one_allocation_goes_and_comes(void *ptr, unsigned char byte)
{
    coldpress_stats_t before = stats(), after;
    SAME(coldpress_evict((char *)ptr + 12345, NULL, COLDPRESS_STRICT), COLDPRESS_OK);
    CHECK(is(ptr, "spilled"));
    after = stats();
    SAME(after.evictions, before.evictions + 1);
    CHECK(after.evicted_bytes >= before.evicted_bytes + MIB);
    CHECK(after.spilled_bytes >= before.spilled_bytes + MIB);
    CHECK(after.resident_bytes + MIB <= before.resident_bytes);
    CHECK(holds(&d, ptr, byte, MIB));
    CHECK(is(ptr, "resident"));
    after = stats();
    SAME(after.restores, before.restores + 1);
    CHECK(after.launch_waits > before.launch_waits);
    CHECK(after.verified_bytes >= before.verified_bytes + 2 * MIB);

    SAME(coldpress_evict(ptr, NULL, 0), COLDPRESS_OK);
    SAME(coldpress_evict(ptr, NULL, 0), COLDPRESS_OK);
    SAME(coldpress_restore(ptr, NULL, 0), COLDPRESS_OK);
    CHECK(is(ptr, "resident"));
    SAME(coldpress_restore(ptr, NULL, 1), COLDPRESS_E_INVALID);
}

static void a_pin_holds(void *ptr)
{
    SAME(coldpress_evict(ptr, NULL, 0), COLDPRESS_OK);
    SAME(coldpress_pin(ptr), COLDPRESS_OK);
    CHECK(is(ptr, "resident"));
    SAME(coldpress_pin((char *)ptr + 1), COLDPRESS_OK);
    CHECK(stats().pinned_bytes >= MIB);
    SAME(coldpress_evict(ptr, NULL, 0), COLDPRESS_E_PINNED);
    CHECK(strstr(coldpress_last_error(), "pinned") != NULL);
    SAME(coldpress_unpin(ptr), COLDPRESS_OK);
    SAME(coldpress_evict(ptr, NULL, 0), COLDPRESS_E_PINNED);
    SAME(coldpress_evict(NULL, NULL, 0), COLDPRESS_OK);
    CHECK(is(ptr, "resident"));
    SAME(coldpress_unpin(ptr), COLDPRESS_OK);
    SAME(coldpress_unpin(ptr), COLDPRESS_E_INVALID);
    SAME(coldpress_evict(ptr, NULL, 0), COLDPRESS_OK);
    SAME(stats().pinned_bytes, 0);
}

static void tags_choose(void *const *ptrs, void *small)
{
    int i;
    SAME(coldpress_restore(NULL, NULL, 0), COLDPRESS_OK);
    for (i = 0; i < COUNT; i++)
        CHECK(is(ptrs[i], "resident"));
    /* 0 to 3 are of "model", 4 and 5 of "layer" in it, 6 and 7 of nothing. */
    SAME(coldpress_evict(NULL, "layer", COLDPRESS_STRICT), COLDPRESS_OK);
    for (i = 0; i < COUNT; i++)
        CHECK(is(ptrs[i], i == 4 || i == 5 ? "spilled" : "resident"));
    SAME(coldpress_evict(NULL, "model", COLDPRESS_STRICT), COLDPRESS_OK);
    for (i = 0; i < COUNT; i++)
        CHECK(is(ptrs[i], i < 6 ? "spilled" : "resident"));
    SAME(coldpress_restore(NULL, "layer", 0), COLDPRESS_OK);
    for (i = 0; i < COUNT; i++)
        CHECK(is(ptrs[i], i < 4 ? "spilled" : "resident"));
    SAME(coldpress_evict(NULL, "nobody's", COLDPRESS_STRICT), COLDPRESS_OK);
    SAME(coldpress_restore(NULL, "nobody's", 0), COLDPRESS_OK);

    SAME(coldpress_evict(NULL, NULL, 0), COLDPRESS_OK);
    for (i = 0; i < COUNT; i++)
        CHECK(is(ptrs[i], "spilled"));
    CHECK(is(small, "resident"));
    SAME(coldpress_evict(NULL, NULL, COLDPRESS_STRICT), COLDPRESS_E_KEPT);
    SAME(coldpress_evict(small, NULL, 0), COLDPRESS_E_KEPT);
    CHECK(strstr(coldpress_last_error(), "small") != NULL);

    SAME(coldpress_evict(ptrs[0], "model", 0), COLDPRESS_E_INVALID);
    SAME(coldpress_restore(ptrs[0], "model", 0), COLDPRESS_E_INVALID);
    SAME(coldpress_evict(ptrs[0], NULL, 6), COLDPRESS_E_INVALID);
    SAME(coldpress_evict(NULL, "", 0), COLDPRESS_E_INVALID);
}

static void a_prefetch_comes_by_itself(void *ptr)
{
    SAME(coldpress_evict(ptr, NULL, 0), COLDPRESS_OK);
    SAME(coldpress_prefetch(ptr), COLDPRESS_OK);
    CHECK(wait_until(ptr, "resident"));
    SAME(coldpress_prefetch(ptr), COLDPRESS_OK);
}

/* Under a limit of 32 MiB. */
static void advice_decides_who_leaves(void)
{
    void *ptrs[64];
    int i, n = 0, cold = 3;
    uint64_t evictions;
    SAME(coldpress_restore(NULL, NULL, 0), COLDPRESS_OK);
    evictions = stats().evictions;
    while (stats().charged_bytes + MIB <= stats().limit_bytes) {
        CHECK(n < 60);
        ptrs[n] = allocate(MIB, (unsigned char)(n + 1)), n++;
    }
    SAME(stats().evictions, evictions);
    for (i = 0; i < n; i++)
        SAME(coldpress_advise(ptrs[i], COLDPRESS_ADVISE_HOT), COLDPRESS_OK);
    SAME(coldpress_advise(ptrs[cold], COLDPRESS_ADVISE_COLD), COLDPRESS_OK);
    SAME(coldpress_advise(ptrs[cold], 3), COLDPRESS_E_INVALID);
    ptrs[n] = allocate(MIB, (unsigned char)(n + 1)), n++;
    CHECK(stats().evictions > evictions);
    CHECK(stats().oom_avoided > 0);
    CHECK(is(ptrs[cold], "spilled"));
    CHECK(is(ptrs[n - 2], "resident"));

    /* More than fits at once: some of it comes, and the limit holds. */
    for (i = 0; i < 4; i++)
        ptrs[n] = allocate(MIB, (unsigned char)(n + 1)), n++;
    SAME(coldpress_restore(NULL, NULL, 0), COLDPRESS_E_OUT_OF_MEMORY);
    CHECK(stats().peak_bytes <= stats().limit_bytes);
    for (i = 0; i < n; i++)
        CHECK(holds(&d, ptrs[i], (unsigned char)(i + 1), MIB));
    for (i = 0; i < n; i++)
        SAME(coldpress_free(ptrs[i]), COLDPRESS_OK);
}

/* A holds the address of B: both leave, and A does not come back alone. */
static void what_belongs_together_stays_together(void)
{
    void *a = allocate(MIB, 0), *b = allocate(20 * MIB, 1), *c;
    SAME(d.to_device(address_of(a), &b, sizeof b), 0);
    SAME(coldpress_evict(NULL, NULL, 0), COLDPRESS_OK);
    CHECK(is(a, "spilled") && is(b, "spilled"));
    c = allocate(20 * MIB, 2);
    SAME(coldpress_pin(c), COLDPRESS_OK);
    SAME(coldpress_restore(a, NULL, 0), COLDPRESS_E_OUT_OF_MEMORY);
    CHECK(is(a, "spilled") && is(b, "spilled"));
    SAME(coldpress_pin(b), COLDPRESS_E_OUT_OF_MEMORY);
    SAME(coldpress_evict(c, NULL, 0), COLDPRESS_E_PINNED);
    SAME(coldpress_unpin(c), COLDPRESS_OK);
    SAME(coldpress_restore(a, NULL, 0), COLDPRESS_OK);
    CHECK(is(a, "resident") && is(b, "resident") && is(c, "spilled"));
    SAME(coldpress_evict(b, NULL, 0), COLDPRESS_E_KEPT);
    CHECK(holds(&d, b, 1, 20 * MIB));
    SAME(coldpress_free(a), COLDPRESS_OK);
    SAME(coldpress_free(b), COLDPRESS_OK);
    SAME(coldpress_free(c), COLDPRESS_OK);
}

static void with(const char *path)
{
    void *ptrs[COUNT], *ptr, *small;
    address_t plain = 0;
    coldpress_stats_t s;
    int i, fd, host = 0;

    SAME(coldpress_version(), COLDPRESS_HEADER_VERSION);
    CHECK(strcmp(coldpress_last_error(), "") == 0);
    SAME(coldpress_malloc(&ptr, MIB), COLDPRESS_E_NO_CONTEXT);
    CHECK(ptr == NULL);
    CHECK(strcmp(coldpress_last_error(), "") != 0);
    refuses_what_is_not_managed(&host);
    SAME(stats().allocations, 0);
    tags_nest();

    start_cuda();
    SAME(coldpress_malloc(NULL, 1), COLDPRESS_E_INVALID);
    SAME(coldpress_malloc(&ptr, 0), COLDPRESS_E_INVALID);
    SAME(coldpress_malloc(&ptr, (size_t)1 << 50), COLDPRESS_E_OUT_OF_MEMORY);
    SAME(coldpress_free(NULL), COLDPRESS_OK);

    small = allocate(4096, 77);
    SAME(coldpress_tag_push("model"), COLDPRESS_OK);
    for (i = 0; i < COUNT; i++) {
        if (i == 4)
            SAME(coldpress_tag_push("layer"), COLDPRESS_OK);
        if (i == 6) {
            SAME(coldpress_tag_pop(), COLDPRESS_OK);
            SAME(coldpress_tag_pop(), COLDPRESS_OK);
        }
        ptrs[i] = allocate(MIB, (unsigned char)(100 + i));
    }
    /* The driver's own allocations are managed like ours. */
    SAME(d.allocate(&plain, MIB), 0);
    SAME(coldpress_evict((void *)(uintptr_t)plain, NULL, 0), COLDPRESS_OK);
    SAME(coldpress_free((void *)(uintptr_t)plain), COLDPRESS_OK);

    refuses_what_is_not_managed(&host);
    refuses_what_is_not_managed((void *)(uintptr_t)plain);
    one_allocation_goes_and_comes(ptrs[0], 100);
    a_pin_holds(ptrs[1]);
    tags_choose(ptrs, small);
    a_prefetch_comes_by_itself(ptrs[2]);
    advice_decides_who_leaves();
    what_belongs_together_stays_together();

    SAME(coldpress_pin(ptrs[7]), COLDPRESS_OK);
    SAME(coldpress_evict(ptrs[0], NULL, 0), COLDPRESS_OK);
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    CHECK(fd >= 0);
    SAME(coldpress_snapshot(fd), COLDPRESS_OK);
    close(fd);
    SAME(coldpress_snapshot(fd), COLDPRESS_E_IO);

    for (i = 0; i < COUNT; i++)
        CHECK(holds(&d, ptrs[i], (unsigned char)(100 + i), MIB));
    CHECK(holds(&d, small, 77, 4096));

    SAME(coldpress_free((char *)ptrs[0] + 512), COLDPRESS_E_INVALID);
    for (i = 0; i < COUNT; i++)
        SAME(coldpress_free(ptrs[i]), COLDPRESS_OK);
    SAME(coldpress_free(ptrs[0]), COLDPRESS_E_INVALID);
    SAME(coldpress_free(small), COLDPRESS_OK);
    s = stats();
    SAME(s.logical_bytes, 0);
    SAME(s.spilled_bytes, 0);
    SAME(s.allocations, s.frees);
    SAME(s.devices, 1);
    SAME(s.eviction_off, 0);
    SAME(s.verify_failures, 0);
    s.size = 8;
    SAME(coldpress_stats(&s), COLDPRESS_E_INVALID);
    SAME(coldpress_stats(NULL), COLDPRESS_E_INVALID);
}

/* What all functions answer that have nothing to do. */
static void nothing_happens(const void *ptr)
{
    SAME(coldpress_pin(ptr), COLDPRESS_OK);
    SAME(coldpress_unpin(ptr), COLDPRESS_OK);
    SAME(coldpress_prefetch(ptr), COLDPRESS_OK);
    SAME(coldpress_advise(ptr, COLDPRESS_ADVISE_HOT), COLDPRESS_OK);
    SAME(coldpress_restore(ptr, NULL, 0), COLDPRESS_OK);
    SAME(coldpress_evict(ptr, NULL, 0), COLDPRESS_E_ABSENT);
    SAME(coldpress_evict(NULL, NULL, 0), COLDPRESS_E_ABSENT);
    SAME(coldpress_tag_push("tag"), COLDPRESS_OK);
    SAME(coldpress_tag_pop(), COLDPRESS_OK);
}

static void nobody_is_there(const void *ptr)
{
    coldpress_stats_t s;
    memset(&s, 0, sizeof s);
    s.size = sizeof s;
    nothing_happens(ptr);
    SAME(coldpress_stats(&s), COLDPRESS_E_ABSENT);
    SAME(s.version, 0);
    SAME(coldpress_snapshot(1), COLDPRESS_E_ABSENT);
    CHECK(strcmp(coldpress_last_error(), "coldpress is not loaded") == 0);
    SAME(coldpress_version(), 0);
}

/* A program's ordinary use, which has to work whoever is there. */
static void memory_works(void)
{
    void *ptr = NULL;
    start_cuda();
    SAME(coldpress_malloc(&ptr, 0), COLDPRESS_E_INVALID);
    SAME(coldpress_malloc(NULL, 1), COLDPRESS_E_INVALID);
    SAME(coldpress_malloc(&ptr, (size_t)1 << 50), COLDPRESS_E_OUT_OF_MEMORY);
    CHECK(ptr == NULL);
    ptr = allocate(MIB, 5);
    nothing_happens(ptr);
    CHECK(holds(&d, ptr, 5, MIB));
    SAME(coldpress_free(ptr), COLDPRESS_OK);
    SAME(coldpress_free(ptr), COLDPRESS_E_INVALID);
    SAME(coldpress_free(NULL), COLDPRESS_OK);
}

int main(int argc, char **argv)
{
    const char *how = argc > 1 ? argv[1] : "";
    void *ptr = &how;
    if (strcmp(how, "load") == 0 && argc > 3) {
        /* First nobody is there, and that is not the last word. */
        SAME(coldpress_version(), 0);
        CHECK(dlopen(argv[3], RTLD_NOW) != NULL);
        with(argv[2]);
    } else if (strcmp(how, "with") == 0 && argc > 2) {
        with(argv[2]);
    } else if (strcmp(how, "without") == 0) {
        nobody_is_there(ptr);
        SAME(coldpress_malloc(&ptr, MIB), COLDPRESS_E_ABSENT);
        memory_works();
        nobody_is_there(ptr);
    } else if (strcmp(how, "nothing") == 0) {
        nobody_is_there(ptr);
        SAME(coldpress_malloc(&ptr, MIB), COLDPRESS_E_ABSENT);
        SAME(coldpress_free(ptr), COLDPRESS_OK);
        SAME(coldpress_free(&how), COLDPRESS_E_ABSENT);
    } else if (strcmp(how, "disabled") == 0) {
        SAME(coldpress_version(), COLDPRESS_HEADER_VERSION);
        memory_works();
        SAME(stats().devices, 0);
        SAME(stats().charged_bytes, 0);
        CHECK(strstr(snapshot(), "\"allocations\":[]") != NULL);
    } else {
        return 2;
    }
    return 0;
}
