/* A job under pressure, in circumstances that programs meet: keeps BUFFERS buffers of random bytes and
 * looks at all of them again and again, under a limit that holds only some.
 *   limits CIRCUMSTANCE      prints `right` or what was wrong, and how many buffers it could have
 * Each circumstance is one function below; they are in the table at the end. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

typedef unsigned long long ptr_t;

enum { MOST = 96, BYTES = 2 << 20 };

static int (*init)(unsigned), (*retain)(void **, int), (*set_current)(void *);
static int (*allocate)(ptr_t *, size_t), (*release)(ptr_t);
static int (*up)(ptr_t, const void *, size_t), (*down)(void *, ptr_t, size_t);
static void *context;
static ptr_t buffers[MOST];
static int count;
static int wrong;

static void *find(void *driver, const char *name)
{
    void *f = dlsym(driver, name);
    if (f == NULL) exit(2);
    return f;
}

static void open_driver(void)
{
    void *driver = dlopen("libcuda.so.1", RTLD_NOW);
    if (driver == NULL) exit(2);
    init = (int (*)(unsigned))find(driver, "cuInit");
    retain = (int (*)(void **, int))find(driver, "cuDevicePrimaryCtxRetain");
    set_current = (int (*)(void *))find(driver, "cuCtxSetCurrent");
    allocate = (int (*)(ptr_t *, size_t))find(driver, "cuMemAlloc_v2");
    release = (int (*)(ptr_t))find(driver, "cuMemFree_v2");
    up = (int (*)(ptr_t, const void *, size_t))find(driver, "cuMemcpyHtoD_v2");
    down = (int (*)(void *, ptr_t, size_t))find(driver, "cuMemcpyDtoH_v2");
}

static void begin(void)
{
    if (init(0) != 0 || retain(&context, 0) != 0 || set_current(context) != 0) {
        printf("no context\n");
        exit(2);
    }
}

/* Byte `i` of buffer `n`: nothing that compresses. */
static uint64_t word_of(int n, size_t i)
{
    uint64_t x = (uint64_t)i * 0x9E3779B97F4A7C15ull + (uint64_t)(n + 1) * 0xD1B54A32D192ED03ull;
    x = (x ^ (x >> 31)) * 0xBF58476D1CE4E5B9ull;
    return x ^ (x >> 29);
}

static void problem(const char *what, int n, int code)
{
    if (__atomic_fetch_add(&wrong, 1, __ATOMIC_RELAXED) < 5) printf("%s buffer %d: %d\n", what, n, code);
}

/* As many of `want` buffers as can be had. */
static void have(int want)
{
    uint64_t *host = malloc(BYTES);
    while (count < want) {
        int result = allocate(&buffers[count], BYTES);
        if (result != 0) {
            if (result != 2) problem("allocate", count, result);
            break;
        }
        for (size_t i = 0; i < BYTES / 8; i++) host[i] = word_of(count, i);
        result = up(buffers[count], host, BYTES);
        if (result != 0) problem("fill", count, result);
        count++;
    }
    memset(host, 0, BYTES);
    free(host);
}

static void look(int n, uint64_t *host)
{
    int result = down(host, buffers[n], BYTES);
    if (result != 0) {
        problem("read", n, result);
        return;
    }
    for (size_t i = 0; i < BYTES / 8; i++)
        if (host[i] != word_of(n, i)) {
            problem("wrong bytes in", n, (int)i);
            return;
        }
}

static void rounds(int times)
{
    uint64_t *host = malloc(BYTES);
    for (int round = 0; round < times; round++)
        for (int n = 0; n < count; n++) look(n, host);
    memset(host, 0, BYTES);
    free(host);
}

static int end(void)
{
    for (int n = 0; n < count; n++) {
        int result = release(buffers[n]);
        if (result != 0) problem("free", n, result);
    }
    if (wrong == 0) printf("right\n");
    printf("buffers: %d\n", count);
    return wrong != 0;
}

static int plain(void)
{
    begin();
    have(12);
    rounds(3);
    return end();
}

/* Takes what there is until somebody says no. */
static int hungry(void)
{
    begin();
    have(MOST);
    rounds(2);
    return end();
}

static void limited(int what, rlim_t most)
{
    struct rlimit limit = { most, most };
    if (setrlimit(what, &limit) != 0) exit(2);
}

static int no_files(void)
{
    begin();
    have(2);
    limited(RLIMIT_NOFILE, 0);
    have(12);
    rounds(2);
    return end();
}

static int no_file_sizes(void)
{
    begin();
    have(2);
    struct rlimit before, small;
    getrlimit(RLIMIT_FSIZE, &before);
    small = before;
    small.rlim_cur = 100;
    setrlimit(RLIMIT_FSIZE, &small);
    have(12);
    rounds(2);
    /* The simulated driver writes its report at the end. */
    setrlimit(RLIMIT_FSIZE, &before);
    return end();
}

static int no_addresses(void)
{
    begin();
    have(6);
    FILE *statm = fopen("/proc/self/statm", "r");
    unsigned long pages = 0;
    if (statm == NULL || fscanf(statm, "%lu", &pages) != 1) exit(2);
    fclose(statm);
    limited(RLIMIT_AS, pages * 4096 + (24 << 20));
    have(MOST);
    rounds(2);
    return end();
}

/* As many mappings as the kernel allows; whatever was refused meanwhile, nothing is lost after. */
static int no_mappings(void)
{
    enum { MANY = 1 << 18 };
    static void *taken[MANY];
    uint64_t *host = malloc(BYTES);
    begin();
    have(12);
    int n = 0;
    while (n < MANY) {
        /* Neighbours with different rights are not merged. */
        void *page = mmap(NULL, 4096, n % 2 ? PROT_READ : PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (page == MAP_FAILED) break;
        taken[n++] = page;
    }
    int refused = 0;
    for (int b = 0; b < count; b++) refused += down(host, buffers[b], BYTES) != 0;
    while (n > 0) munmap(taken[--n], 4096);
    free(host);
    fprintf(stderr, "refused without mappings: %d\n", refused);
    rounds(2);
    return end();
}

/* Started without standard error; its number is taken by a file of the program's. */
static int own_files(void)
{
    char path[] = "own-XXXXXX", text[64] = "";
    int file = mkstemp(path);
    if (file != STDERR_FILENO || write(file, "mine\n", 5) != 5) exit(2);
    begin();
    have(12);
    rounds(2);
    ssize_t n = pread(file, text, sizeof text - 1, 0);
    if (n != 5 || strcmp(text, "mine\n") != 0) {
        printf("somebody wrote: %s", text);
        wrong++;
    }
    unlink(path);
    return end();
}

/* Whether any private, nameless memory of this process holds the first words of buffer `n`. */
static int in_memory(int n)
{
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[512];
    int found = 0;
    if (maps == NULL) exit(2);
    while (fgets(line, sizeof line, maps) != NULL) {
        unsigned long from, to, inode;
        char rights[8];
        if (sscanf(line, "%lx-%lx %7s %*s %*s %lu", &from, &to, rights, &inode) != 4) continue;
        if (inode != 0 || rights[0] != 'r' || rights[3] != 'p' || strchr(line, '[') != NULL) continue;
        for (const uint64_t *at = (const uint64_t *)from; at + 4 <= (const uint64_t *)to; at++)
            found |= at[0] == word_of(n, 0) && at[1] == word_of(n, 1) && at[2] == word_of(n, 2);
    }
    fclose(maps);
    return found;
}

static int away(void)
{
    for (int n = 0; n < count; n++)
        if (in_memory(n)) return n;
    return -1;
}

static int reap(pid_t child)
{
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {}
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static int forks(void)
{
    begin();
    have(12);
    rounds(1);
    int n = away();
    printf("in the host tier: %s\n", n < 0 ? "nothing" : "something");
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        ptr_t p;
        if (in_memory(n)) _exit(3);
        /* CUDA does not work here; it says so, and so does everything of ours. */
        if (allocate(&p, BYTES) == 0) _exit(4);
        if (down(&p, buffers[0], sizeof p) == 0) _exit(5);
        _exit(0);
    }
    printf("child: %d\n", reap(child));
    fflush(stdout);
    child = fork();
    if (child == 0) {
        execl("/proc/self/exe", "limits", "plain", (char *)NULL);
        _exit(6);
    }
    printf("child with exec: %d\n", reap(child));
    fflush(stdout);
    child = vfork();
    if (child == 0) {
        execl("/proc/self/exe", "limits", "plain", (char *)NULL);
        _exit(6);
    }
    printf("child of vfork: %d\n", reap(child));
    rounds(2);
    return end();
}

static int stop;

static void *keep_looking(void *arg)
{
    uint64_t *host = malloc(BYTES);
    set_current(context);
    for (int n = (int)(long)arg; !__atomic_load_n(&stop, __ATOMIC_RELAXED); n = (n + 1) % count) look(n, host);
    free(host);
    return NULL;
}

/* Children while other threads are in the middle of everything. */
static int fork_storm(void)
{
    pthread_t threads[3];
    begin();
    have(12);
    for (long i = 0; i < 3; i++) pthread_create(&threads[i], NULL, keep_looking, (void *)i);
    int bad = 0;
    for (int i = 0; i < 60; i++) {
        pid_t child = fork();
        if (child == 0) {
            ptr_t p;
            /* exit() runs the handlers that this process has inherited. */
            exit(allocate(&p, BYTES) == 0);
        }
        bad += reap(child) != 0;
    }
    stop = 1;
    for (int i = 0; i < 3; i++) pthread_join(threads[i], NULL);
    printf("bad children: %d\n", bad);
    return end();
}

static char ours[] = "a marker of the program's own: ....";

static int core(void)
{
    limited(RLIMIT_CORE, RLIM_INFINITY);
    memcpy(ours + sizeof ours - 5, "7391", 4);
    begin();
    have(12);
    rounds(1);
    int n = away();
    if (n < 0) return 2;
    printf("look for %016llx%016llx%016llx and %s\n", (unsigned long long)word_of(n, 0),
           (unsigned long long)word_of(n, 1), (unsigned long long)word_of(n, 2), ours);
    fflush(stdout);
    abort();
}

static void let_go(void)
{
    /* After the library's own handler, and before. */
    for (int n = 0; n < count; n++) release(buffers[n]);
}

static void busy(void)
{
    pthread_t thread;
    begin();
    have(12);
    for (long i = 0; i < 2; i++) pthread_create(&thread, NULL, keep_looking, (void *)i);
    usleep(50000);
}

static int returns(void) { busy(); return 7; }
static int frees_late(void) { atexit(let_go); busy(); exit(7); }
static int frees_early(void) { busy(); atexit(let_go); exit(7); }
static int exits_at_once(void) { busy(); _exit(7); }
static int exits_quickly(void) { busy(); quick_exit(7); }
static int is_ended(void) { busy(); kill(getpid(), SIGTERM); sleep(60); return 1; }
static void *exit_here(void *unused) { (void)unused; usleep(20000); exit(7); }
static int exits_in_a_thread(void)
{
    pthread_t thread;
    busy();
    pthread_create(&thread, NULL, exit_here, NULL);
    rounds(1 << 20);
    return 1;
}
static int main_ends_first(void)
{
    pthread_t thread;
    busy();
    pthread_create(&thread, NULL, exit_here, NULL);
    pthread_exit(NULL);
    return 1;
}

static volatile sig_atomic_t signals;
static void counted(int signal) { (void)signal; signals++; }

static int storm(int flags)
{
    struct sigaction action = { .sa_handler = counted, .sa_flags = flags };
    struct itimerval often = { { 0, 300 }, { 0, 300 } }, never = { { 0, 0 }, { 0, 0 } };
    pthread_t threads[2];
    sigaction(SIGALRM, &action, NULL);
    begin();
    setitimer(ITIMER_REAL, &often, NULL);
    have(12);
    for (long i = 0; i < 2; i++) pthread_create(&threads[i], NULL, keep_looking, (void *)i);
    rounds(4);
    stop = 1;
    for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
    setitimer(ITIMER_REAL, &never, NULL);
    printf("signals: %s\n", signals > 20 ? "many" : "few");
    return end();
}
static int signals_restart(void) { return storm(SA_RESTART); }
static int signals_interrupt(void) { return storm(0); }

static void own_fault(int signal)
{
    (void)signal;
    _exit(wrong == 0 ? 7 : 1);
}

/* The program's own handler of faults is still its own. */
static int own_handler(void)
{
    struct sigaction action = { .sa_handler = own_fault };
    sigaction(SIGSEGV, &action, NULL);
    begin();
    have(12);
    rounds(2);
    *(volatile int *)8 = 1;
    return 1;
}

static const struct { const char *name; int (*run)(void); } table[] = {
    { "plain", plain }, { "hungry", hungry }, { "no-files", no_files }, { "no-file-sizes", no_file_sizes },
    { "no-addresses", no_addresses }, { "no-mappings", no_mappings }, { "own-files", own_files },
    { "forks", forks }, { "fork-storm", fork_storm }, { "core", core }, { "returns", returns },
    { "frees-late", frees_late }, { "frees-early", frees_early }, { "exits-at-once", exits_at_once },
    { "exits-quickly", exits_quickly }, { "is-ended", is_ended }, { "exits-in-a-thread", exits_in_a_thread },
    { "main-ends-first", main_ends_first }, { "signals-restart", signals_restart },
    { "signals-interrupt", signals_interrupt }, { "own-handler", own_handler },
};

int main(int argc, char **argv)
{
    open_driver();
    for (size_t i = 0; argc > 1 && i < sizeof table / sizeof table[0]; i++)
        if (strcmp(table[i].name, argv[1]) == 0) return table[i].run();
    fprintf(stderr, "limits: no such circumstance\n");
    return 2;
}
