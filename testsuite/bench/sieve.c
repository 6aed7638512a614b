/* Sieve of Eratosthenes over bytes: strided stores and a scan. sieve LIMIT ROUNDS */
#include "bench.h"

int main(int argc, char **argv) {
    long limit = arg(argc, argv, 1, 2000000), rounds = arg(argc, argv, 2, 5);
    unsigned char *composite = need(malloc(limit + 1));
    uint64_t sum = 0;
    for (long round = 0; round < rounds; round++) {
        memset(composite, 0, limit + 1);
        long found = 0;
        for (long i = 2; i <= limit; i++) {
            if (composite[i]) continue;
            found++;
            for (long j = i + i; j <= limit; j += i) composite[j] = 1;
        }
        sum = mix(sum, found + round);
    }
    show("sieve", sum);
    return 0;
}
