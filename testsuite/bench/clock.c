/* Clock reads through the vDSO. clock N */
#include "bench.h"
#include <time.h>

int main(int argc, char **argv) {
    long n = arg(argc, argv, 1, 1000000), backwards = 0;
    struct timespec before = {0, 0}, now;
    for (long i = 0; i < n; i++) {
        clock_gettime(CLOCK_MONOTONIC, &now);
        if (now.tv_sec < before.tv_sec || (now.tv_sec == before.tv_sec && now.tv_nsec < before.tv_nsec)) backwards++;
        before = now;
    }
    printf("%ld reads, %ld backwards\n", n, backwards);
    return backwards != 0;
}
