/* Runs a program that may not make some system calls: they answer EPERM.
 *   forbid NAME[,NAME..] PROGRAM ARGS.. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static const struct { const char *name; int number; } calls[] = {
    { "socket", SYS_socket },       { "process_vm_readv", SYS_process_vm_readv },
    { "pread64", SYS_pread64 },     { "madvise", SYS_madvise },
    { "statx", SYS_statx },         { "sched_getaffinity", SYS_sched_getaffinity },
    { "fallocate", SYS_fallocate }, { "sigtimedwait", SYS_rt_sigtimedwait },
};

int main(int argc, char **argv)
{
    struct sock_filter filter[64] = { BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)) };
    unsigned short n = 1;
    if (argc < 3) return 2;
    for (char *name = strtok(argv[1], ","); name != NULL; name = strtok(NULL, ",")) {
        size_t i = 0;
        while (i < sizeof calls / sizeof calls[0] && strcmp(calls[i].name, name) != 0) i++;
        if (i == sizeof calls / sizeof calls[0]) return 2;
        filter[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)calls[i].number, 0, 1);
        filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
    }
    filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = { n, filter };
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return 3;
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) return 3;
    execv(argv[2], argv + 2);
    return 4;
}
