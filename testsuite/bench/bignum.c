/* Multi-word arithmetic with 32-bit words, built for 32 bits: carries, wide multiplications, divisions. bignum DIGITS */
#include "bench.h"

/* Digits of e by the spigot of powers, then a schoolbook square. */
int main(int argc, char **argv) {
    long n = arg(argc, argv, 1, 1000) / 8 + 2;
    uint32_t *a = need(calloc(n, 4)), *term = need(calloc(n, 4)), *square = need(calloc(2 * n, 4));
    term[0] = a[0] = 1;
    for (uint32_t k = 1;; k++) {
        uint64_t rest = 0;
        int any = 0;
        for (long i = 0; i < n; i++) {
            uint64_t v = rest << 32 | term[i];
            term[i] = (uint32_t)(v / k);
            rest = v % k;
            any |= term[i] != 0;
        }
        if (!any) break;
        uint64_t carry = 0;
        for (long i = n - 1; i >= 0; i--) {
            carry += (uint64_t)a[i] + term[i];
            a[i] = (uint32_t)carry;
            carry >>= 32;
        }
    }
    for (long i = n - 1; i >= 0; i--) {
        uint64_t carry = 0;
        for (long j = n - 1; j >= 0; j--) {
            carry += (uint64_t)a[i] * a[j] + square[i + j + 1];
            square[i + j + 1] = (uint32_t)carry;
            carry >>= 32;
        }
        square[i] = (uint32_t)carry;
    }
    show("e", mix_bytes(0, a, n * 4));
    show("square", mix_bytes(0, square, 8 * n));
    return 0;
}
