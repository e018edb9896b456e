/* Programs at the edge of their limit: several threads, streams and contexts that come and go,
 * another process on the same card. They check their own bytes.
 *   pressure IMAGE NAME */
#include "deadlocks.h"
#include <sys/wait.h>

enum { THREADS = 2, ROUNDS = 12 };

/* Each thread's launch takes all of its three buffers at once. */
static size_t piece;
static pthread_barrier_t together;

static void *launch_all(void *number)
{
    enter();
    uint32_t seed = (uint32_t)(uintptr_t)number;
    handle_t stream = new_stream();
    struct buffer set[3] = {buffer(piece, seed), buffer(piece, seed + 10), buffer(piece, seed + 20)};
    for (uint32_t i = 0; i < ROUNDS; i++) {
        pthread_barrier_wait(&together);
        CHECK(mix(set, i, stream) == OK);
    }
    finish(stream);
    for (int i = 0; i < 3; i++) verify(&set[i]);
    return NULL;
}

static void two_threads(size_t bytes)
{
    pthread_t threads[THREADS];
    piece = bytes;
    pthread_barrier_init(&together, NULL, THREADS);
    for (uintptr_t i = 0; i < THREADS; i++) threads[i] = start(launch_all, (void *)(i + 1));
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
}

/* Two launches at a time, each of 60 % of the limit. */
static void program_sixty(void) { two_threads(16 * MIB / 5 / 4096 * 4096); }

/* Each alone takes more than the limit, and the card has it. */
static void program_over(void) { two_threads(6 * MIB); }

/* Large blocks leave, small ones come back: handles are never of the right size. */
static void program_sizes(void)
{
    enum { LARGE = 7, SMALL = 40 };
    struct buffer small[SMALL], large[LARGE];
    handle_t stream = new_stream();
    for (int i = 0; i < SMALL; i++) small[i] = buffer(192 << 10, i);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < LARGE; i++) {
            if (round == 0) large[i] = buffer(2 * MIB, 100 + i);
            CHECK(step(&large[i], round, stream) == OK);
        }
        for (int i = 0; i < SMALL; i++) CHECK(step(&small[i], round, stream) == OK);
    }
    finish(stream);
    for (int i = 0; i < LARGE; i++) verify(&large[i]);
    for (int i = 0; i < SMALL; i++) verify(&small[i]);
}

/* What a host function may call: nothing, and it is told so at once. */
struct forbidden {
    struct buffer cold;
    result_t allocated, freed, copied, launched;
    atomic_int done;
};

static void call_cuda(void *argument)
{
    struct forbidden *f = argument;
    ptr_t p = 0;
    uint32_t word, key = 1;
    void *params[] = {&f->cold.at, &f->cold.words, &key};
    f->allocated = allocate(&p, 6 * MIB);
    f->freed = release(f->cold.at);
    f->copied = CALL(cuMemcpyDtoH_v2, (void *, ptr_t, size_t), &word, f->cold.at, 4);
    f->launched = launch(step_kernel, NULL, params);
    atomic_store(&f->done, 1);
}
static void call_cuda_old(handle_t stream, unsigned status, void *argument)
{
    (void)stream, (void)status;
    call_cuda(argument);
}

static void program_callback(void)
{
    struct forbidden f = {.cold = buffer(6 * MIB, 1)};
    struct buffer others[2] = {buffer(6 * MIB, 2), buffer(6 * MIB, 3)};
    handle_t stream = new_stream();
    for (int old = 0; old < 2; old++) {
        f.done = 0;
        if (old)
            MUST(cuStreamAddCallback, (handle_t, void (*)(handle_t, unsigned, void *), void *, unsigned), stream,
                 call_cuda_old, &f, 0);
        else
            MUST(cuLaunchHostFunc, (handle_t, void (*)(void *), void *), stream, call_cuda, &f);
        finish(stream);
        CHECK(atomic_load(&f.done) == 1);
        printf("%d %d %d %d\n", f.allocated, f.freed, f.copied, f.launched);
    }
    /* The thread of the program may, of course. */
    CHECK(step(&f.cold, 3, stream) == OK);
    finish(stream);
    verify(&f.cold);
    verify(&others[0]);
    verify(&others[1]);
}

/* Streams are destroyed with work in them while memory is made room for. */
static atomic_int stop;

static void *streams_come_and_go(void *number)
{
    enter();
    struct buffer own = buffer(MIB, (uint32_t)(uintptr_t)number);
    for (uint32_t i = 0; atomic_load(&stop) == 0; i++) {
        handle_t stream = new_stream();
        CHECK(step(&own, i, stream) == OK);
        MUST(cuStreamDestroy_v2, (handle_t), stream);
        /* The next stream does not wait for the one that has gone. */
        if (i % 4 == 3) usleep(300);
        MUST(cuCtxSynchronize, (void));
    }
    verify(&own);
    return NULL;
}

static void program_streams(void)
{
    pthread_t threads[3];
    for (uintptr_t i = 0; i < 3; i++) threads[i] = start(streams_come_and_go, (void *)(i + 1));
    struct buffer kept[4];
    handle_t stream = new_stream();
    for (int i = 0; i < 4; i++) kept[i] = buffer(4 * MIB, 7 + i);
    for (uint32_t i = 0; i < 24; i++) CHECK(step(&kept[i % 4], i, stream) == OK);
    finish(stream);
    for (int i = 0; i < 4; i++) verify(&kept[i]);
    atomic_store(&stop, 1);
    for (int i = 0; i < 3; i++) pthread_join(threads[i], NULL);
}

/* A stream of pending work is destroyed, and what it must still write is evicted and read. */
static void program_destroyed(void)
{
    struct buffer used = buffer(6 * MIB, 1), idle = buffer(6 * MIB, 2);
    handle_t stream = new_stream();
    block(stream, KERNEL);
    CHECK(step(&used, 9, stream) == OK);
    MUST(cuStreamDestroy_v2, (handle_t), stream);
    ptr_t p = 0;
    result_t result = allocate(&p, 6 * MIB);
    printf("blocked: %d\n", result);
    *flag = 1;
    MUST(cuCtxSynchronize, (void));
    if (result == OK) CHECK(release(p) == OK);
    struct buffer more = buffer(6 * MIB, 3);
    verify(&used);
    verify(&idle);
    verify(&more);
}

/* Other contexts come and go, with memory, while the manager evicts. */
static void program_contexts(void)
{
    struct buffer kept[3] = {buffer(5 * MIB, 1), buffer(5 * MIB, 2), buffer(5 * MIB, 3)};
    handle_t stream = new_stream();
    for (uint32_t i = 0; i < 12; i++) {
        handle_t other;
        MUST(cuCtxCreate_v2, (handle_t *, unsigned, int), &other, 0, 0);
        struct buffer theirs = buffer(3 * MIB, i);
        MUST(cuMemsetD8Async, (ptr_t, unsigned char, size_t, handle_t), theirs.at, 1, 3 * MIB, NULL);
        if (i % 2) usleep(30000);
        MUST(cuCtxDestroy_v2, (handle_t), other);
        enter();
        CHECK(step(&kept[i % 3], i, stream) == OK);
    }
    finish(stream);
    for (int i = 0; i < 3; i++) verify(&kept[i]);
    MUST(cuDevicePrimaryCtxReset_v2, (int), 0);
    MUST(cuDevicePrimaryCtxRetain, (handle_t *, int), &context, 0);
    enter();
    struct buffer after = buffer(6 * MIB, 9);
    verify(&after);
}

static void *wait_for_all(void *unused)
{
    enter();
    while (atomic_load(&stop) == 0) MUST(cuCtxSynchronize, (void));
    return unused;
}

/* Many threads wait for the context all the time; each ends in the middle of the others' work. */
static void program_waiters(void)
{
    pthread_t threads[6];
    for (int i = 0; i < 6; i++) threads[i] = start(wait_for_all, NULL);
    struct buffer kept[4];
    handle_t stream = new_stream();
    for (int i = 0; i < 4; i++) kept[i] = buffer(5 * MIB, i);
    for (uint32_t i = 0; i < 16; i++) CHECK(step(&kept[i % 4], i, stream) == OK);
    atomic_store(&stop, 1);
    for (int i = 0; i < 6; i++) pthread_join(threads[i], NULL);
    finish(stream);
    for (int i = 0; i < 4; i++) verify(&kept[i]);
}

/* A stream is at work: on a driver without fences for contexts that is known by its own event. */
static void at_work(handle_t stream)
{
    struct buffer used = buffer(6 * MIB, 1), idle = buffer(6 * MIB, 2);
    block(stream, KERNEL);
    CHECK(step(&used, 9, stream) == OK);
    ptr_t p = 0;
    result_t result = allocate(&p, 6 * MIB);
    printf("blocked: %d\n", result);
    *flag = 1;
    MUST(cuCtxSynchronize, (void));
    if (result == OK) CHECK(release(p) == OK);
    verify(&used);
    verify(&idle);
}
static void program_own(void) { at_work(new_stream()); }
static void program_default(void) { at_work(NULL); }

/* A launch on the thread's own default stream: an old driver has no fence behind those. */
static void program_per_thread(void)
{
    struct buffer used = buffer(6 * MIB, 1), idle = buffer(6 * MIB, 2);
    uint32_t key = 3;
    void *params[] = {&used.at, &used.words, &key};
    MUST(cuLaunchKernel_ptsz,
         (handle_t, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, handle_t, void **, void **),
         step_kernel, 1, 1, 1, 1, 1, 1, 0, NULL, params, NULL);
    for (uint64_t i = 0; i < used.words; i++) used.want[i] = 3 * used.want[i] + key;
    ptr_t p = 0;
    printf("allocated: %d\n", allocate(&p, 6 * MIB));
    MUST(cuCtxSynchronize, (void));
    verify(&used);
    verify(&idle);
}

/* More streams than have a place of their own: what one of the others freed is not the next one's. */
static void program_many_streams(void)
{
    handle_t streams[72];
    for (int i = 0; i < 72; i++) streams[i] = new_stream();
    handle_t first = streams[70], second = streams[71];
    struct buffer old = {0, MIB / 4, NULL}, new = {0, MIB / 4, NULL};
    MUST(cuMemAllocAsync, (ptr_t *, size_t, handle_t), &old.at, MIB, first);
    block(first, KERNEL);
    MUST(cuMemsetD8Async, (ptr_t, unsigned char, size_t, handle_t), old.at, 0x11, MIB, first);
    MUST(cuMemFreeAsync, (ptr_t, handle_t), old.at, first);
    MUST(cuMemAllocAsync, (ptr_t *, size_t, handle_t), &new.at, MIB, second);
    MUST(cuMemsetD8Async, (ptr_t, unsigned char, size_t, handle_t), new.at, 0x22, MIB, second);
    finish(second);
    *flag = 1;
    finish(first);
    new.want = malloc(MIB);
    memset(new.want, 0x22, MIB);
    verify(&new);
}

/* The first capture turns eviction off. */
static void program_capture(void)
{
    struct buffer all[3] = {buffer(6 * MIB, 1), buffer(6 * MIB, 2), buffer(1 * MIB, 3)};
    ptr_t p = 0;
    CHECK(allocate(&p, 6 * MIB) == OK);
    CHECK(release(p) == OK);
    CALL(cuStreamBeginCapture_v2, (handle_t, int), new_stream(), 0);
    printf("allocated: %d\n", allocate(&p, 9 * MIB));
    for (int i = 0; i < 3; i++) verify(&all[i]);
}

/* Another process takes the card while buffers are away, and gives it back later. A launch needs
 * all three at once, which is more than the limit: it needs the card. */
static void program_neighbour(char **argv)
{
    int go[2], said[2];
    CHECK(pipe(go) == 0 && pipe(said) == 0);
    struct buffer set[3] = {buffer(6 * MIB, 1), buffer(6 * MIB, 2), buffer(6 * MIB, 3)};
    handle_t stream = new_stream();
    pid_t child = fork();
    if (child == 0) {
        char from[16], to[16];
        snprintf(from, sizeof from, "%d", go[0]);
        snprintf(to, sizeof to, "%d", said[1]);
        unsetenv("LD_PRELOAD");
        unsetenv("SIMCUDA_REPORT");
        close(go[1]);
        execl("/proc/self/exe", argv[0], argv[1], "other", from, to, NULL);
        _exit(3);
    }
    close(go[0]);
    close(said[1]);
    char byte;
    CHECK(read(said[0], &byte, 1) == 1);
    /* Nothing is left on the card: an error, or the buffer is there all the same. */
    for (int i = 0; i < 2; i++) {
        result_t result = mix(set, 7, stream);
        CHECK(result == OK || result == OUT_OF_MEMORY);
        printf("without room: %d\n", result);
        if (result == OK) finish(stream);
    }
    for (int i = 0; i < 3; i++) verify(&set[i]);
    close(go[1]);
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    CHECK(mix(set, 11, stream) == OK);
    finish(stream);
    for (int i = 0; i < 3; i++) verify(&set[i]);
}

/* The other process: all of the card until it is told to end. */
static void program_other(char **argv)
{
    ptr_t p;
    char byte = 0;
    size_t bytes = 0;
    for (size_t n = 8 * MIB; n >= 64 << 10; n /= 2)
        while (allocate(&p, n) == OK) bytes += n;
    CHECK(bytes > 0);
    CHECK(write(atoi(argv[4]), &byte, 1) == 1);
    CHECK(read(atoi(argv[3]), &byte, 1) == 0);
}

int main(int argc, char **argv)
{
    static const struct { const char *name; void (*run)(void); } all[] = {
        {"sixty", program_sixty}, {"over", program_over}, {"sizes", program_sizes}, {"callback", program_callback},
        {"streams", program_streams}, {"destroyed", program_destroyed}, {"contexts", program_contexts},
        {"waiters", program_waiters}, {"per-thread", program_per_thread}, {"many-streams", program_many_streams},
        {"capture", program_capture}, {"own", program_own}, {"default", program_default}};
    CHECK(argc > 2);
    begin(argv[1]);
    if (!strcmp(argv[2], "neighbour")) program_neighbour(argv);
    else if (!strcmp(argv[2], "other")) program_other(argv);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (!strcmp(all[i].name, argv[2])) all[i].run();
    return 0;
}
