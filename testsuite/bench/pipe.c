/* Bulk data through a pipe from a child. pipe MIB */
#include "bench.h"
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv) {
    long left = arg(argc, argv, 1, 100) << 20;
    int fd[2];
    if (pipe(fd)) return 1;
    static char buffer[65536];
    pid_t child = fork();
    if (child < 0) return 1;
    if (child == 0) {
        for (int i = 0; i < 65536; i++) buffer[i] = (char)rng();
        for (; left > 0; left -= 65536)
            if (write(fd[1], buffer, 65536) != 65536) _exit(1);
        _exit(0);
    }
    close(fd[1]);
    uint64_t sum = 0, total = 0;
    ssize_t n;
    while ((n = read(fd[0], buffer, sizeof buffer)) > 0) total += (uint64_t)n, sum += (unsigned char)buffer[0] == 0 ? 0 : 1;
    int status;
    waitpid(child, &status, 0);
    printf("%llu bytes\n", (unsigned long long)total);
    return status || !sum;
}
