/* Long double arithmetic on the x87: a continued fraction, Newton's square roots, a polynomial. x87 ROUNDS */
#include "bench.h"

int main(int argc, char **argv) {
    long rounds = arg(argc, argv, 1, 500000);
    long double fraction = 1, total = 0, c[8] = {1, -0.5L, 0.25L, -0.125L, 0.0625L, -0.03125L, 0.015625L, -0.0078125L};
    for (long i = 1; i <= rounds; i++) {
        fraction = 1 + 1 / (fraction + (long double)(i % 7));
        long double x = 1 + (long double)(i & 1023) / 1024, r = x;
        for (int k = 0; k < 4; k++) r = (r + x / r) / 2;
        long double p = c[7];
        for (int k = 6; k >= 0; k--) p = p * x + c[k];
        total += fraction * r - p + __builtin_sqrtl(x);
        if (total > 1e6L) total /= 3;
    }
    printf("%.21Lg %.21Lg\n", fraction, total);
    return 0;
}
