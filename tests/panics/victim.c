/* One call of a hooked function in which the library panics, and everything that must hold after it.
 *
 *   victim PLACE HOOK IMAGE [stuck]
 *
 * PLACE: where the library panics (`none`: nowhere). The program starts itself anew with the panic set
 * for the call under test, once it knows how many calls come before it. `stuck`: memory that is away
 * cannot come back during the call. Prints `status S calls N` for the call, then uses all memory. */
#include "victim.h"
#include <dlfcn.h>
#include <sys/mman.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

struct buffer a, b;
static struct buffer away;
uint32_t host[WORDS];
void *context, *stream, *module, *library, *fill;
const void *image;
const char *hook;
int context_ended;

static void *driver;
static long counted;
static char **arguments;
static int stuck;

void *find(const char *name)
{
    void *f = dlsym(driver, name);
    if (f == NULL) {
        printf("no %s\n", name);
        exit(4);
    }
    if (!strcmp(name, hook)) counted++;
    return f;
}

void wrong(const char *what)
{
    printf("wrong: %s\n", what);
    exit(3);
}

void must(const char *name, result_t result)
{
    if (result == 0) return;
    printf("%s: %d\n", name, result);
    exit(3);
}

int is(const char *name) { return !strcmp(hook, name); }
int starts(const char *prefix) { return !strncmp(hook, prefix, strlen(prefix)); }
int has(const char *part) { return strstr(hook, part) != NULL; }

static uint64_t calls(void)
{
    static void *simulator;
    if (simulator == NULL) simulator = dlopen(getenv("SIMCUDA_LIBRARY"), RTLD_NOW | RTLD_NOLOAD);
    if (simulator == NULL) wrong("no simulator");
    uint64_t (*f)(const char *) = (uint64_t(*)(const char *))dlsym(simulator, "simcuda_calls");
    return f(hook);
}

static void fail(const char *rules)
{
    void *simulator = dlopen(getenv("SIMCUDA_LIBRARY"), RTLD_NOW | RTLD_NOLOAD);
    if (simulator != NULL) ((int (*)(const char *))dlsym(simulator, "simcuda_fail"))(rules);
}

/* Functions that the library calls itself when something moves: nothing does then, so that the only
 * calls are the program's. */
static int of_the_engine(void)
{
    return is("cuMemcpyHtoDAsync_v2") || is("cuMemcpyDtoHAsync_v2") || is("cuStreamCreate") ||
           is("cuStreamDestroy_v2") || is("cuMemHostRegister_v2") || is("cuMemHostUnregister");
}

static uint64_t before;
static long made;

void begin(void)
{
    const char *place = arguments[1];
    if (strcmp(place, "none") && getenv("TEST_COLDPRESS_PANIC") == NULL) {
        char text[200];
        snprintf(text, sizeof text, "%s:%s:%ld", place, hook, counted + 1);
        setenv("TEST_COLDPRESS_PANIC", text, 1);
        execv("/proc/self/exe", arguments);
        wrong("exec");
    }
    if (stuck) fail("cuMemMap:*=999");
    before = calls();
}

void end(void)
{
    made = (long)(calls() - before);
    if (stuck) fail(NULL);
}

static void pattern(struct buffer *buffer, uint32_t seed)
{
    for (uint32_t i = 0; i < WORDS; i++) buffer->want[i] = (i + seed) * 2654435761u;
}

static void make(struct buffer *buffer, uint32_t seed)
{
    pattern(buffer, seed);
    MUST("cuMemAlloc_v2", (ptr_t *, size_t), &buffer->at, BYTES);
    MUST("cuMemcpyHtoD_v2", (ptr_t, const void *, size_t), buffer->at, buffer->want, BYTES);
}

static void check(const char *what, const struct buffer *buffer)
{
    static uint32_t got[WORDS];
    memset(got, 0xEE, BYTES);
    MUST("cuMemcpyDtoH_v2", (void *, ptr_t, size_t), got, buffer->at, BYTES);
    if (memcmp(got, buffer->want, BYTES)) wrong(what);
}

static void start(void)
{
    MUST("cuInit", (unsigned), 0);
    MUST("cuDevicePrimaryCtxRetain", (void **, int), &context, 0);
    MUST("cuCtxSetCurrent", (void *), context);
    MUST("cuStreamCreate", (void **, unsigned), &stream, 1);
    MUST("cuModuleLoadData", (void **, const void *), &module, image);
    MUST("cuModuleGetFunction", (void **, void *, const char *), &fill, module, "cp_demo_fill");
}

static void use_it(struct buffer *buffer)
{
    check("memory", buffer);
    unsigned seed = 7;
    unsigned long long words = WORDS;
    void *params[] = {&buffer->at, &words, &seed};
    MUST("cuLaunchKernel",
         (void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void *, void **, void **),
         fill, WORDS / 128, 1, 1, 128, 1, 1, 0, NULL, params, NULL);
    MUST("cuCtxSynchronize", (void));
    pattern(buffer, 1);
    MUST("cuMemcpyHtoD_v2", (ptr_t, const void *, size_t), buffer->at, buffer->want, BYTES);
    check("memory written again", buffer);
}

int main(int argc, char **argv)
{
    if (argc < 4) return 2;
    arguments = argv;
    hook = argv[2];
    stuck = argc > 4 && !strcmp(argv[4], "stuck");
    int file = open(argv[3], O_RDONLY);
    struct stat about;
    if (file < 0 || fstat(file, &about)) return 2;
    image = mmap(NULL, (size_t)about.st_size, PROT_READ, MAP_PRIVATE, file, 0);
    driver = dlopen("libcuda.so.1", RTLD_NOW);
    if (driver == NULL || image == MAP_FAILED) return 2;

    result_t status = NOT_HERE;
    if (is("cuInit")) {
        int version;
        CALL("cuDriverGetVersion", (int *), &version);
        status = TESTED((unsigned), 0);
        start();
    } else {
        start();
        MUST("cuLibraryLoadData", (void **, const void *, void *, void *, unsigned, void *, void *, unsigned),
             &library, image, NULL, NULL, 0, NULL, NULL, 0);
        make(&a, 100);
        make(&b, 200);
        make(&away, 300);
        /* The oldest buffer is away; those that the call names are there. */
        /* A busy machine may need more than one attempt; 1 says that all of it must go. */
        for (int i = 0; i < 200 && !of_the_engine(); i++)
            if (CALL("coldpress_evict", (const void *, const char *, unsigned), (void *)away.at, NULL, 1) == 0) break;
        if (status == NOT_HERE) status = memory();
        if (status == NOT_HERE) status = other();
        if (status == NOT_HERE) status = interface();
    }
    if (status == NOT_HERE) {
        printf("no case for %s\n", hook);
        return 5;
    }
    printf("status %d calls %ld\n", status, made);
    fflush(stdout);
    if (context_ended && status == 0) {
        start();
        a.at = b.at = away.at = 0;
    }
    struct buffer *all[] = {&a, &b, &away};
    for (int i = 0; i < 3; i++)
        if (all[i]->at) use_it(all[i]);
    static struct buffer late;
    make(&late, 400);
    use_it(&late);
    MUST("cuMemFree_v2", (ptr_t), late.at);
    for (int i = 0; i < 3; i++)
        if (all[i]->at) MUST("cuMemFree_v2", (ptr_t), all[i]->at);
    MUST("cuDevicePrimaryCtxRelease_v2", (int), 0);
    printf("ok\n");
    return 0;
}
