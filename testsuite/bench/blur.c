/* Packed integers: a box filter and an alpha blend over bytes, as picture code does. blur N ROUNDS */
#include "bench.h"

int main(int argc, char **argv) {
    long n = arg(argc, argv, 1, 512), rounds = arg(argc, argv, 2, 30);
    unsigned char *a = need(malloc(n * n)), *b = need(malloc(n * n));
    unsigned short *wide = need(malloc(n * n * 2));
    for (long i = 0; i < n * n; i++) a[i] = (unsigned char)rng(), b[i] = (unsigned char)(i * 7);
    uint64_t sum = 0;
    for (long round = 0; round < rounds; round++) {
        for (long y = 1; y < n - 1; y++)
            for (long x = 0; x < n; x++) wide[y * n + x] = (unsigned short)(a[(y - 1) * n + x] + 2 * a[y * n + x] + a[(y + 1) * n + x]);
        for (long y = 1; y < n - 1; y++)
            for (long x = 1; x < n - 1; x++)
                b[y * n + x] = (unsigned char)((wide[y * n + x - 1] + 2 * wide[y * n + x] + wide[y * n + x + 1]) >> 4);
        int alpha = (int)(round * 37 % 256);
        for (long i = 0; i < n * n; i++) a[i] = (unsigned char)((a[i] * alpha + b[i] * (255 - alpha) + 128) >> 8);
        for (long i = 0; i < n * n; i++) b[i] = a[i] > b[i] ? a[i] : b[i];
        sum = mix_bytes(sum, b + round * 17, 1000);
    }
    show("blur", mix_bytes(sum, a, n * n));
    return 0;
}
