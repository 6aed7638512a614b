/* Matrix product, double and float. Built for SSE2 and for AVX2 with FMA. matmul N ROUNDS */
#include "bench.h"

int main(int argc, char **argv) {
    long n = arg(argc, argv, 1, 200), rounds = arg(argc, argv, 2, 5);
    double *a = need(malloc(n * n * sizeof *a)), *b = need(malloc(n * n * sizeof *b)), *c = need(calloc(n * n, sizeof *c));
    float *fa = need(malloc(n * n * sizeof *fa)), *fb = need(malloc(n * n * sizeof *fb)), *fc = need(calloc(n * n, sizeof *fc));
    for (long i = 0; i < n * n; i++) {
        a[i] = (double)(rng() % 1000) / 997, b[i] = (double)(rng() % 1000) / 991;
        fa[i] = (float)a[i], fb[i] = (float)b[i];
    }
    for (long round = 0; round < rounds; round++) {
        for (long i = 0; i < n; i++)
            for (long k = 0; k < n; k++) {
                double x = a[i * n + k];
                for (long j = 0; j < n; j++) c[i * n + j] += x * b[k * n + j];
            }
        for (long i = 0; i < n; i++)
            for (long k = 0; k < n; k++) {
                float x = fa[i * n + k];
                for (long j = 0; j < n; j++) fc[i * n + j] += x * fb[k * n + j];
            }
    }
    show("double", mix_bytes(0, c, n * n * sizeof *c));
    show("float", mix_bytes(0, fc, n * n * sizeof *fc));
    return 0;
}
