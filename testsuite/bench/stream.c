/* Streaming: copy, scale, add, triad over arrays of doubles. stream N ROUNDS */
#include "bench.h"

int main(int argc, char **argv) {
    long n = arg(argc, argv, 1, 200000), rounds = arg(argc, argv, 2, 20);
    double *a = need(malloc(n * sizeof *a)), *b = need(malloc(n * sizeof *b)), *c = need(malloc(n * sizeof *c));
    for (long i = 0; i < n; i++) a[i] = (double)(rng() % 1000), b[i] = 2, c[i] = 0;
    for (long round = 0; round < rounds; round++) {
        for (long i = 0; i < n; i++) c[i] = a[i];
        for (long i = 0; i < n; i++) b[i] = 0.5 * c[i];
        for (long i = 0; i < n; i++) c[i] = a[i] + b[i];
        for (long i = 0; i < n; i++) a[i] = 0.25 * (b[i] + 0.5 * c[i]) + 1;
    }
    show("stream", mix_bytes(mix_bytes(0, a, 4096), c + n - 512, 4096));
    return 0;
}
