/* Recursive calls: Fibonacci, Ackermann, Tak. calls FIB TAK */
#include "bench.h"

static __attribute__((noinline, noclone)) long fib(long n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }

static __attribute__((noinline, noclone)) long ackermann(long m, long n) {
    if (m == 0) return n + 1;
    if (n == 0) return ackermann(m - 1, 1);
    return ackermann(m - 1, ackermann(m, n - 1));
}

static __attribute__((noinline, noclone)) long tak(long x, long y, long z) {
    return y >= x ? z : tak(tak(x - 1, y, z), tak(y - 1, z, x), tak(z - 1, x, y));
}

int main(int argc, char **argv) {
    long f = arg(argc, argv, 1, 30), t = arg(argc, argv, 2, 6);
    printf("%ld %ld %ld\n", fib(f), ackermann(2, f * 10), tak(3 * t, 2 * t, t));
    return 0;
}
