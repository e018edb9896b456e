/* An operation stands still between two of its steps while another thread evicts what it leads to.
 *   between IMAGE NAME */
#include "deadlocks.h"

static struct buffer hidden;
/* Where the address of `hidden` stands. */
static ptr_t list;

static void *bring_address(void *unused)
{
    enter();
    MUST(cuMemcpyHtoD_v2, (ptr_t, const void *, size_t), list, &hidden.at, sizeof hidden.at);
    return unused;
}

/* A copy brings the address of a buffer that is away, which is restored for it and must still be there
 * when the address is: nothing that leads to it is looked at once more. */
static void program_prepared(void)
{
    hidden = buffer(2 * MIB, 1);
    CHECK(allocate(&list, 2 * MIB) == OK);
    CHECK(evict(hidden.at) == OK);
    pthread_t thread = start(bring_address, NULL);
    int there = gate();
    printf("evicted: %s\n", evict(hidden.at) == OK ? "yes" : "no");
    close(there);
    pthread_join(thread, NULL);
}

static void *launch_it(void *unused)
{
    enter();
    CHECK(follow(list, &hidden, 5, NULL) == OK);
    return unused;
}

/* A launch has seen that nothing is away. Then a buffer leaves that only pinned memory names, by an
 * address that was written after the eviction looked there. */
static void program_launch(void)
{
    ptr_t *host;
    hidden = buffer(2 * MIB, 1);
    MUST(cuMemHostAlloc, (void **, size_t, unsigned), (void **)&host, 4096, 2);
    MUST(cuMemHostGetDevicePointer_v2, (ptr_t *, void *, unsigned), &list, host, 0);
    pthread_t thread = start(launch_it, NULL);
    int there = gate();
    printf("evicted: %s\n", evict(hidden.at) == OK ? "yes" : "no");
    *host = hidden.at;
    close(there);
    pthread_join(thread, NULL);
}

static void *evict_all(void *unused)
{
    enter();
    CHECK(evict(0) == OK);
    return unused;
}

/* Two buffers leave together, since one names the other. When the copy of the one that is named has been
 * made, that of the other fails: it stays, and what it names with it. */
static void program_stays(void)
{
    hidden = buffer(2 * MIB, 1);
    CHECK(allocate(&list, 2 * MIB) == OK);
    bring_address(NULL);
    void *simulator = dlopen(getenv("SIMCUDA_LIBRARY"), RTLD_NOW);
    CHECK(simulator != NULL);
    int (*fail)(const char *) = (int (*)(const char *))dlsym(simulator, "simcuda_fail");
    pthread_t thread = start(evict_all, NULL);
    int there = gate();
    fail("cuMemcpyDtoHAsync_v2:*=999");
    close(there);
    pthread_join(thread, NULL);
    fail(NULL);
}

static struct buffer first, second;

static void *launch_first(void *unused)
{
    enter();
    CHECK(step(&first, 5, NULL) == OK);
    return unused;
}

static void *launch_second(void *unused)
{
    enter();
    CHECK(step(&second, 5, NULL) == OK);
    return unused;
}

/* A launch needs what is away while another thread's restore takes longer than the launch may wait (2 s). */
static void program_late(void)
{
    hidden = buffer(2 * MIB, 1);
    second = buffer(2 * MIB, 2);
    first = buffer(2 * MIB, 3);
    CHECK(evict(first.at) == OK);
    CHECK(evict(second.at) == OK);
    pthread_t restoring = start(launch_second, NULL);
    int there = gate();
    pthread_t launching = start(launch_first, NULL);
    usleep(2500000);
    close(there);
    pthread_join(restoring, NULL);
    pthread_join(launching, NULL);
    finish(NULL);
    verify(&first);
    verify(&second);
    CHECK(allocate(&list, 2 * MIB) == OK);
    bring_address(NULL);
}

static size_t memory_left(void)
{
    size_t left, all;
    MUST(cuMemGetInfo_v2, (size_t *, size_t *), &left, &all);
    return left;
}

/* A launch brings two buffers back since memory leads to them. While it looks for room for one, the program frees
 * the other, which nobody can do just then: its memory must not be lost. */
static void program_freed(void)
{
    /* What coding takes of a card of this size, and keeps, is less than what must not be lost. */
    enum { MOST = 16, CODING = 3 << 19 };
    ptr_t filler[MOST];
    int fillers = 0;
    hidden = buffer(2 * MIB, 1);
    second = buffer(2 * MIB, 2);
    first = buffer(2 * MIB, 3);
    const size_t before = memory_left();
    ptr_t leads[2] = {hidden.at, second.at};
    MUST(cuMemcpyHtoD_v2, (ptr_t, const void *, size_t), first.at, leads, sizeof leads);
    memcpy(first.want, leads, sizeof leads);
    CHECK(evict(0) == OK);
    while (memory_left() >= 6 * MIB) CHECK(fillers < MOST && allocate(&filler[fillers++], 1 * MIB) == OK);
    pthread_t thread = start(launch_first, NULL);
    int there = gate();
    CHECK(release(second.at) == OK);
    close(there);
    pthread_join(thread, NULL);
    while (fillers > 0) CHECK(release(filler[--fillers]) == OK);
    size_t left = 0;
    for (int i = 0; i < 250 && left < before + 2 * MIB - CODING; i++) {
        usleep(20000);
        left = memory_left();
    }
    CHECK(left >= before + 2 * MIB - CODING);
    finish(NULL);
    verify(&first);
    CHECK(release(first.at) == OK);
    CHECK(allocate(&list, 2 * MIB) == OK);
    bring_address(NULL);
}

int main(int argc, char **argv)
{
    CHECK(argc > 2);
    begin(argv[1]);
    if (!strcmp(argv[2], "prepared")) program_prepared();
    else if (!strcmp(argv[2], "stays")) program_stays();
    else if (!strcmp(argv[2], "freed")) program_freed();
    else if (!strcmp(argv[2], "late")) program_late();
    else program_launch();
    CHECK(follow(list, &hidden, 7, NULL) == OK);
    finish(NULL);
    verify(&hidden);
    return 0;
}
