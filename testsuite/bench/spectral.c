/* Spectral norm: integer-to-float conversions and divisions. spectral N */
#include "bench.h"

static double element(long i, long j) { return 1.0 / (double)((i + j) * (i + j + 1) / 2 + i + 1); }

static void times(long n, const double *v, double *out, int transposed) {
    for (long i = 0; i < n; i++) {
        double sum = 0;
        for (long j = 0; j < n; j++) sum += (transposed ? element(j, i) : element(i, j)) * v[j];
        out[i] = sum;
    }
}

int main(int argc, char **argv) {
    long n = arg(argc, argv, 1, 300);
    double *u = need(malloc(n * sizeof *u)), *v = need(malloc(n * sizeof *v)), *t = need(malloc(n * sizeof *t));
    for (long i = 0; i < n; i++) u[i] = 1;
    for (int round = 0; round < 10; round++) {
        times(n, u, t, 0), times(n, t, v, 1);
        times(n, v, t, 0), times(n, t, u, 1);
    }
    double vbv = 0, vv = 0;
    for (long i = 0; i < n; i++) vbv += u[i] * v[i], vv += v[i] * v[i];
    printf("%.17g\n", __builtin_sqrt(vbv / vv));
    return 0;
}
