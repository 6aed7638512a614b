/* Two processes that pass a word to and fro through pipes; with a second argument on a processor each.
 * pingpong N [APART] */
#define _GNU_SOURCE
#include "bench.h"
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

static void pin(int cpu) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    if (sched_setaffinity(0, sizeof set, &set)) perror("sched_setaffinity");
}

int main(int argc, char **argv) {
    long n = arg(argc, argv, 1, 50000), apart = arg(argc, argv, 2, 0);
    int there[2], back[2];
    if (pipe(there) || pipe(back)) return 1;
    pid_t child = fork();
    if (child < 0) return 1;
    if (apart) pin(child == 0);
    int in = child ? back[0] : there[0], out = child ? there[1] : back[1];
    close(child ? there[0] : there[1]);
    close(child ? back[1] : back[0]);
    uint64_t word = 1;
    if (child && write(out, &word, 8) != 8) return 1;
    for (long i = 0; i < n; i++) {
        if (read(in, &word, 8) != 8) return 1;
        word = word * 6364136223846793005ull + 1;
        if (child && i == n - 1) break;
        if (write(out, &word, 8) != 8) return 1;
    }
    if (!child) _exit(0);
    int status;
    waitpid(child, &status, 0);
    show("pingpong", word);
    return status;
}
