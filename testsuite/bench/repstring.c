/* REP MOVS, STOS, SCAS, CMPS of many lengths. repstring BUFFER ROUNDS */
#include "bench.h"

int main(int argc, char **argv) {
    long n = arg(argc, argv, 1, 65536), rounds = arg(argc, argv, 2, 500);
    unsigned char *from = need(malloc(n + 64)), *to = need(malloc(n + 64));
    for (long i = 0; i < n + 64; i++) from[i] = (unsigned char)(rng() | 1);
    memset(to, 0, n + 64);
    uint64_t sum = 0;
    for (long round = 0; round < rounds; round++) {
        for (long size = n; size >= 8; size /= 3) {
            long skew = round % 61;
            void *s = from + skew % 17, *d = to + skew % 29;
            unsigned long c = (unsigned long)size;
            __asm__ volatile("rep movsb" : "+S"(s), "+D"(d), "+c"(c)::"memory");
            s = from, d = to + 8, c = (unsigned long)size / 8;
            __asm__ volatile("rep movsq" : "+S"(s), "+D"(d), "+c"(c)::"memory");
            d = to, c = (unsigned long)size / 4;
            __asm__ volatile("rep stosl" : "+D"(d), "+c"(c) : "a"((unsigned)round * 0x01010101u) : "memory");
            d = to + size / 8, c = (unsigned long)size / 2;
            __asm__ volatile("rep stosb" : "+D"(d), "+c"(c) : "a"(round | 1) : "memory");
            s = from, d = to, c = (unsigned long)size;
            to[size - 1] = from[size - 1] ^ 1;
            __asm__ volatile("repe cmpsb" : "+S"(s), "+D"(d), "+c"(c)::"memory", "cc");
            sum = mix(sum, c);
            d = from, c = (unsigned long)size;
            __asm__ volatile("repne scasb" : "+D"(d), "+c"(c) : "a"(0) : "memory", "cc");
            sum = mix(sum, c);
        }
        sum = mix_bytes(sum, to + round % 100, 32);
    }
    show("repstring", sum);
    return 0;
}
