/* Processes: fork and wait, and fork, exec and wait. forkexec N */
#include "bench.h"
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv) {
    long n = arg(argc, argv, 1, 200);
    if (n == 0) return 7;
    int sum = 0, status;
    for (long i = 0; i < n; i++) {
        pid_t child = fork();
        if (child < 0) return 1;
        if (child == 0) {
            if (i % 2) _exit(3);
            execl(argv[0], argv[0], "0", (char *)0);
            _exit(99);
        }
        waitpid(child, &status, 0);
        sum += WEXITSTATUS(status);
    }
    printf("%d\n", sum);
    return 0;
}
