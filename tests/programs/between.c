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

int main(int argc, char **argv)
{
    CHECK(argc > 2);
    begin(argv[1]);
    if (!strcmp(argv[2], "prepared")) program_prepared();
    else if (!strcmp(argv[2], "stays")) program_stays();
    else program_launch();
    CHECK(follow(list, &hidden, 7, NULL) == OK);
    finish(NULL);
    verify(&hidden);
    return 0;
}
