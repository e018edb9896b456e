/* A victim program: does what its arguments say, one after the other, and prints what it saw.
 * It knows nothing of coldpress; "ours" is decided by the file that holds an address. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

typedef int (*any_fn)(uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t);
typedef int (*resolver_v1)(const char *, void **, int, uint64_t);
typedef int (*resolver_v2)(const char *, void **, int, uint64_t, unsigned *);

static void *library = RTLD_DEFAULT;
static void *last;

static const char *file_of(void *address) {
    Dl_info info;
    if (!address) return "-";
    if (!dladdr(address, &info) || !info.dli_fname) return "?";
    const char *slash = strrchr(info.dli_fname, '/');
    return slash ? slash + 1 : info.dli_fname;
}

static void *symbol(const char *name) { return dlsym(library, name); }

static int call(const char *name, uint64_t a, uint64_t b) {
    any_fn fn = (any_fn)symbol(name);
    return fn ? fn(a, b, 0, 0, 0, 0) : -1;
}

static void open_with(const char *path, int flags) {
    library = dlopen(path, flags);
    if (!library) printf("open %s: %s\n", path, dlerror());
}

/* Every name in a file: in which file the loader finds it. */
static void names(const char *list) {
    char name[256];
    FILE *file = fopen(list, "r");
    while (file && fscanf(file, "%255s", name) == 1) printf("%s %s\n", name, file_of(symbol(name)));
    if (file) fclose(file);
}

static void *resolve(int form, const char *base, int version, uint64_t flags, int *result) {
    void *found = NULL;
    unsigned status = 0;
    if (form == 1)
        *result = ((resolver_v1)symbol("cuGetProcAddress"))(base, &found, version, flags);
    else
        *result = ((resolver_v2)symbol("cuGetProcAddress_v2"))(base, &found, version, flags, &status);
    return *result == 0 ? found : NULL;
}

/* Every "base version flags symbol" in a file, through both forms of the resolver: the same
 * address as the symbol's? */
static void ask(const char *list) {
    char base[256], name[256];
    int version, flags, asked = 0, same = 0;
    FILE *file = fopen(list, "r");
    while (file && fscanf(file, "%255s %d %d %255s", base, &version, &flags, name) == 4) {
        void *wanted = symbol(name);
        for (int form = 1; form <= 2; form++) {
            int result;
            void *found = resolve(form, base, version, flags, &result);
            asked++;
            if (found && found == wanted)
                same++;
            else
                printf("form %d %s@%d/%d: %d %s %p, not %s %p\n", form, base, version, flags, result,
                       file_of(found), found, name, wanted);
        }
    }
    if (file) fclose(file);
    printf("asked %d same %d\n", asked, same);
}

/* NAME@VERSION@FLAGS */
static void proc(char *spec, int form) {
    char *name = strsep(&spec, "@");
    int version = atoi(strsep(&spec, "@")), result;
    uint64_t flags = spec ? strtoull(spec, NULL, 10) : 0;
    void *before = last;
    last = resolve(form, name, version, flags, &result);
    printf("proc %s %d %s%s\n", name, result, file_of(last), last && last == before ? " again" : "");
}

/* Names that nobody knows, each resolved twice and called: in which file they are. */
static void many(int count) {
    int ours = 0, others = 0, called = 0, same = 0, result;
    char name[32];
    for (int i = 0; i < count; i++) {
        snprintf(name, sizeof name, "cuUnknown%d", i);
        last = resolve(2, name, 12000, 0, &result);
        same += last == resolve(2, name, 12000, 0, &result);
        if (!strcmp(file_of(last), "libcoldpress.so")) ours++;
        else others++;
    }
    for (int i = 0; i < count; i++) {
        snprintf(name, sizeof name, "cuUnknown%d", i);
        last = resolve(2, name, 12000, 0, &result);
        called += ((any_fn)last)(0, 0, 0, 0, 0, 0) == 45;
    }
    printf("ours %d others %d same %d called %d\n", ours, others, same, called);
}

static void *work_for_ever(void *ctx) {
    static char bytes[1 << 20];
    any_fn set = (any_fn)symbol("cuCtxSetCurrent"), copy = (any_fn)symbol("cuMemcpyHtoD_v2");
    set((uint64_t)(uintptr_t)ctx, 0, 0, 0, 0, 0);
    for (;;) {
        uint64_t ptr = 0;
        if (call("cuMemAlloc_v2", (uint64_t)(uintptr_t)&ptr, sizeof bytes) != 0) continue;
        copy(ptr, (uint64_t)(uintptr_t)bytes, sizeof bytes, 0, 0, 0);
        call("cuMemFree_v2", ptr, 0);
    }
    return NULL;
}

static void *leave(void *unused) {
    (void)unused;
    exit(0);
}

static void context(void) {
    void *ctx = NULL;
    printf("context %d\n", ((int (*)(void **, unsigned, int))symbol("cuCtxCreate_v2"))(&ctx, 0, 0));
}

static void parallel(int workers) {
    pthread_t thread;
    void *ctx = NULL;
    ((int (*)(void **))symbol("cuCtxGetCurrent"))(&ctx);
    for (int i = 0; i < workers; i++) pthread_create(&thread, NULL, work_for_ever, ctx);
    usleep(50000);
    pthread_create(&thread, NULL, leave, NULL);
    pthread_join(thread, NULL);
}

static void *first_call(void *result) {
    int version = 0;
    *(int *)result = ((int (*)(int *))symbol("cuDriverGetVersion"))(&version);
    return NULL;
}

/* The very first calls of a process, from many threads at once. */
static void race(void) {
    pthread_t threads[16];
    int results[16], good = 0;
    for (int i = 0; i < 16; i++) pthread_create(&threads[i], NULL, first_call, &results[i]);
    for (int i = 0; i < 16; i++) {
        pthread_join(threads[i], NULL);
        good += results[i] == 0;
    }
    printf("race %d\n", good);
}

int main(int argc, char **argv) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (int i = 1; i < argc; i++) {
        char *op = argv[i], *arg = strchr(op, ':');
        if (arg) *arg++ = 0;
        if (!strcmp(op, "open")) open_with(arg, RTLD_NOW | RTLD_LOCAL);
        else if (!strcmp(op, "deep")) open_with(arg, RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND);
        else if (!strcmp(op, "lazy")) open_with(arg, RTLD_LAZY | RTLD_GLOBAL);
        else if (!strcmp(op, "default")) library = RTLD_DEFAULT;
        else if (!strcmp(op, "names")) names(arg);
        else if (!strcmp(op, "ask")) ask(arg);
        else if (!strcmp(op, "proc")) proc(arg, 2);
        else if (!strcmp(op, "proc1")) proc(arg, 1);
        else if (!strcmp(op, "init")) printf("init %d\n", call("cuInit", 0, 0));
        else if (!strcmp(op, "call")) printf("%s %d\n", arg, call(arg, 0, 0));
        else if (!strcmp(op, "last")) printf("last %d\n", ((any_fn)last)(0, 0, 0, 0, 0, 0));
        else if (!strcmp(op, "version")) {
            int version = -1, result = call("cuDriverGetVersion", (uint64_t)(uintptr_t)&version, 0);
            printf("version %d %d\n", result, version);
        } else if (!strcmp(op, "context")) context();
        else if (!strcmp(op, "parallel")) parallel(atoi(arg));
        else if (!strcmp(op, "race")) race();
        else if (!strcmp(op, "many")) many(atoi(arg));
        else if (!strcmp(op, "file")) printf("file %s %s\n", arg, file_of(symbol(arg)));
        else if (!strcmp(op, "fork")) {
            /* The child does what follows up to "end", the parent what comes after. */
            pid_t child = fork();
            if (child == 0) continue;
            int status = 0;
            waitpid(child, &status, 0);
            printf("child %s %d\n", WIFEXITED(status) ? "exit" : "signal",
                   WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
            while (i < argc && strcmp(argv[i], "end")) i++;
        } else if (!strcmp(op, "end")) return 0;
        else {
            fprintf(stderr, "no operation %s\n", op);
            return 2;
        }
    }
    return 0;
}
