/* Quicksort of 32-bit numbers. quicksort N ROUNDS */
#include "bench.h"

static void sort(int *a, long lo, long hi) {
    while (lo < hi) {
        int pivot = a[lo + (hi - lo) / 2];
        long i = lo, j = hi;
        while (i <= j) {
            while (a[i] < pivot) i++;
            while (a[j] > pivot) j--;
            if (i <= j) {
                int t = a[i];
                a[i++] = a[j];
                a[j--] = t;
            }
        }
        if (j - lo < hi - i) {
            sort(a, lo, j);
            lo = i;
        } else {
            sort(a, i, hi);
            hi = j;
        }
    }
}

int main(int argc, char **argv) {
    long n = arg(argc, argv, 1, 500000), rounds = arg(argc, argv, 2, 3);
    int *a = need(malloc(n * sizeof *a));
    uint64_t sum = 0;
    for (long round = 0; round < rounds; round++) {
        for (long i = 0; i < n; i++) a[i] = (int)rng();
        sort(a, 0, n - 1);
        for (long i = 1; i < n; i++)
            if (a[i - 1] > a[i]) return 1;
        sum = mix_bytes(sum, a, n * sizeof *a / 16);
    }
    show("quicksort", sum);
    return 0;
}
