/* Programs in which something waits for the thread that waits for memory. Each must end, with
 * every byte right; what it prints tells which way it went.
 *   deadlocks IMAGE NAME [ARGUMENT] */
#include "deadlocks.h"

enum { PIECE = 6 * MIB, WORK = 64 };

/* Two buffers fill most of the limit; the first one's stream is blocked in the middle of its work. */
struct scene {
    struct buffer used, idle;
    handle_t stream;
};

static struct scene scene(enum blocker how)
{
    struct scene s = {buffer(PIECE, 1), buffer(PIECE, 2), new_stream()};
    CHECK(step(&s.used, 5, s.stream) == OK);
    block(s.stream, how);
    CHECK(step(&s.used, 7, s.stream) == OK);
    return s;
}

/* The flag is set: everything finishes, and what did not fit before does now. */
static void go_on(struct scene *s)
{
    *flag = 1;
    finish(s->stream);
    struct buffer more = buffer(PIECE, 3);
    CHECK(step(&more, 11, s->stream) == OK);
    CHECK(step(&s->idle, 13, s->stream) == OK);
    finish(s->stream);
    verify(&s->used);
    verify(&s->idle);
    verify(&more);
    CHECK(release(more.at) == OK);
}

/* The allocation comes before the flag. */
static void program_flag(const char *how)
{
    struct scene s = scene(blocker(how));
    ptr_t p = 0;
    result_t result = allocate(&p, PIECE);
    CHECK(result == OK || result == OUT_OF_MEMORY);
    printf("blocked: %d\n", result);
    *flag = 1;
    if (result == OK) CHECK(release(p) == OK);
    go_on(&s);
}

/* A launch needs memory that only the blocked stream's buffer could give. */
static void program_launch(const char *how)
{
    struct buffer first = buffer(PIECE, 9);
    struct scene s = scene(blocker(how));
    /* `first` was the coldest when the scene was made, so it is away now. */
    handle_t other = new_stream();
    result_t result = step(&first, 17, other);
    CHECK(result == OK || result == OUT_OF_MEMORY);
    printf("blocked: %d\n", result);
    *flag = 1;
    finish(other);
    finish(s.stream);
    verify(&first);
    CHECK(release(first.at) == OK);
    go_on(&s);
}

static struct buffer workers;
static atomic_int launched;

static void *work_then_set(void *unused)
{
    enter();
    handle_t stream = new_stream();
    for (int i = 0; i < WORK; i++) {
        CHECK(step(&workers, i, stream) == OK);
        finish(stream);
        atomic_fetch_add(&launched, 1);
    }
    *flag = 1;
    return unused;
}

/* Another thread sets the flag, but launches first: the world runs while the allocation waits. */
static void program_world(const char *how)
{
    workers = buffer(MIB, 4);
    struct scene s = scene(blocker(how));
    pthread_t worker = start(work_then_set, NULL);
    ptr_t p = 0;
    printf("allocated: %d\n", allocate(&p, PIECE));
    pthread_join(worker, NULL);
    if (p != 0) CHECK(release(p) == OK);
    verify(&workers);
    go_on(&s);
}

/* The flag is set by a thread that itself needs something restored before. */
static void *restore_then_set(void *unused)
{
    enter();
    handle_t stream = new_stream();
    usleep(50000);
    CHECK(step(&workers, 3, stream) == OK);
    finish(stream);
    *flag = 1;
    return unused;
}

static void program_ticket(const char *how)
{
    workers = buffer(2 * MIB, 4);
    struct scene s = {buffer(PIECE, 1), buffer(PIECE, 2), new_stream()};
    /* Makes room for itself and leaves some: the worker's buffer is the coldest. */
    struct buffer large = buffer(PIECE, 5);
    CHECK(release(large.at) == OK);
    CHECK(step(&s.idle, 2, s.stream) == OK);
    CHECK(step(&s.used, 5, s.stream) == OK);
    finish(s.stream);
    block(s.stream, blocker(how));
    CHECK(step(&s.used, 7, s.stream) == OK);
    pthread_t worker = start(restore_then_set, NULL);
    ptr_t p = 0;
    printf("allocated: %d\n", allocate(&p, 8 * MIB));
    pthread_join(worker, NULL);
    if (p != 0) CHECK(release(p) == OK);
    verify(&workers);
    CHECK(release(workers.at) == OK);
    go_on(&s);
}

static struct scene behind;

static void *fill_the_queue(void *unused)
{
    enter();
    for (int i = 0; i < 12; i++) {
        atomic_store(&launched, i + 1);
        CHECK(step(&behind.used, i, behind.stream) == OK);
    }
    return unused;
}

/* A thread is stuck in a launch, its stream's queue being full. */
static void program_queue(const char *how)
{
    behind = scene(blocker(how));
    pthread_t launcher = start(fill_the_queue, NULL);
    for (int seen = -1; seen != atomic_load(&launched);) {
        seen = atomic_load(&launched);
        usleep(200000);
    }
    CHECK(atomic_load(&launched) < 12);
    ptr_t p = 0;
    result_t result = allocate(&p, PIECE);
    CHECK(result == OK || result == OUT_OF_MEMORY);
    printf("blocked: %d\n", result);
    CHECK(atomic_load(&launched) < 12);
    *flag = 1;
    if (result == OK) CHECK(release(p) == OK);
    pthread_join(launcher, NULL);
    go_on(&behind);
}

/* The queue is full to the last place and nobody is stuck yet. */
static void program_full(const char *how)
{
    struct scene s = scene(blocker(how));
    /* The blocked item runs, so one place is free again behind it. */
    usleep(100000);
    const char *most = getenv("SIMCUDA_QUEUE");
    for (int i = 2; most != NULL && i < atoi(most); i++) CHECK(step(&s.used, i, s.stream) == OK);
    ptr_t p = 0;
    result_t result = allocate(&p, PIECE);
    CHECK(result == OK || result == OUT_OF_MEMORY);
    printf("blocked: %d\n", result);
    *flag = 1;
    if (result == OK) CHECK(release(p) == OK);
    go_on(&s);
}

static void *wait_for_memory(void *unused)
{
    enter();
    ptr_t p;
    atomic_fetch_add(&launched, 1);
    allocate(&p, PIECE);
    return unused;
}

/* The end of the program comes before the end of anything else. */
static void program_exit(const char *how)
{
    scene(blocker(how));
    start(wait_for_memory, NULL);
    while (atomic_load(&launched) == 0) usleep(1000);
    usleep(50000);
    printf("leaving\n");
}

int main(int argc, char **argv)
{
    static const struct { const char *name; void (*run)(const char *); } all[] = {
        {"flag", program_flag}, {"launch", program_launch}, {"world", program_world}, {"ticket", program_ticket},
        {"queue", program_queue}, {"full", program_full}, {"exit", program_exit}};
    CHECK(argc > 2);
    begin(argv[1]);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (!strcmp(all[i].name, argv[2])) {
            all[i].run(argc > 3 ? argv[3] : "kernel");
            return 0;
        }
    return 2;
}
