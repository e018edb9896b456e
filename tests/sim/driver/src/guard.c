/* Device work runs under a guard: a fault inside it ends the work, not the process.
 *
 * Only C frames (this file and kernels) lie between the jump and its target, so nothing that needs
 * a destructor is skipped. Outside device work every signal goes to whoever handled it before. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* In static storage of each thread, so that the handler of a thread that never worked can look. */
#define PER_THREAD static __thread __attribute__((tls_model("initial-exec")))
PER_THREAD sigjmp_buf *volatile target;
PER_THREAD uintptr_t fault_address;
PER_THREAD int passing;

/* Who handled a signal when we first came, and when we last came. */
struct others {
    struct sigaction first, last;
};
static struct others segv, bus;

static void pass_on(const struct sigaction *before, int sig, siginfo_t *info, void *ctx)
{
    if (before->sa_flags & SA_SIGINFO) {
        before->sa_sigaction(sig, info, ctx);
    } else if (before->sa_handler != SIG_DFL && before->sa_handler != SIG_IGN) {
        before->sa_handler(sig);
    } else {
        /* As if nobody had been here: the access faults again and ends the process. */
        signal(sig, SIG_DFL);
    }
}

static void on_fault(int sig, siginfo_t *info, void *ctx)
{
    const struct others *others = sig == SIGSEGV ? &segv : &bus;
    sigjmp_buf *to = target;
    if (to) {
        target = NULL;
        fault_address = (uintptr_t)info->si_addr;
        siglongjmp(*to, 1);
    }
    if (passing) {
        /* Whoever came after us passed it back: on to those before us both. */
        pass_on(&others->first, sig, info, ctx);
        return;
    }
    passing = 1;
    pass_on(&others->last, sig, info, ctx);
    passing = 0;
}

static void arm(int sig, struct others *others, int once)
{
    struct sigaction action, now;
    sigaction(sig, NULL, &now);
    if ((now.sa_flags & SA_SIGINFO) && now.sa_sigaction == on_fault)
        return;
    if (once)
        others->first = now;
    others->last = now;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    sigemptyset(&action.sa_mask);
    sigaction(sig, &action, NULL);
}

void sim_guard_install(void)
{
    arm(SIGSEGV, &segv, 1);
    arm(SIGBUS, &bus, 1);
}

/* Runs f(arg); 0, or 1 after a fault, whose address is then in *address. */
int sim_guard_run(void (*f)(void *), void *arg, uintptr_t *address)
{
    sigjmp_buf here;
    /* The program may have put its own handler in our place since. */
    arm(SIGSEGV, &segv, 0);
    arm(SIGBUS, &bus, 0);
    passing = 0;
    if (sigsetjmp(here, 1)) {
        *address = fault_address;
        return 1;
    }
    target = &here;
    f(arg);
    target = NULL;
    return 0;
}

struct sim_copy {
    unsigned char *dst;
    const unsigned char *src;
    size_t width, height, depth;
    size_t dst_pitch, dst_slice, src_pitch, src_slice;
};

void sim_copy(void *arg)
{
    const struct sim_copy *c = arg;
    for (size_t z = 0; z < c->depth; z++)
        for (size_t y = 0; y < c->height; y++)
            memmove(c->dst + z * c->dst_slice + y * c->dst_pitch,
                    c->src + z * c->src_slice + y * c->src_pitch, c->width);
}

struct sim_fill {
    unsigned char *dst;
    uint32_t value, bytes;
    size_t width, height, pitch;
};

void sim_fill(void *arg)
{
    const struct sim_fill *f = arg;
    for (size_t y = 0; y < f->height; y++) {
        unsigned char *row = f->dst + y * f->pitch;
        for (size_t x = 0; x < f->width; x++)
            memcpy(row + x * f->bytes, &f->value, f->bytes);
    }
}
