/* The C library's string functions on short and middling strings. strings ROUNDS */
#include "bench.h"

int main(int argc, char **argv) {
    long rounds = arg(argc, argv, 1, 2000);
    static char text[8192], copy[8192];
    for (int i = 0; i < 8191; i++) text[i] = (char)('a' + rng() % 20);
    for (int i = 60; i < 8191; i += 13 + (int)(rng() % 150)) text[i] = ' ';
    uint64_t sum = 0;
    for (long round = 0; round < rounds; round++) {
        char *p = text + round % 37;
        while (p && *p) {
            char *end = strchr(p, ' ');
            size_t n = end ? (size_t)(end - p) : strlen(p);
            memcpy(copy + (p - text), p, n);
            copy[p - text + n] = 0;
            sum = mix(sum, n + strlen(copy + (p - text)) + (strcmp(copy + (p - text), p) < 0) + (memcmp(p, text, n) > 0));
            char *z = memchr(p, 'q', n);
            sum += z ? (uint64_t)(z - p) : 99;
            p = end ? end + 1 : 0;
        }
        memmove(copy + 3, copy, 4000);
        sum += strstr(text, "zz") == 0;
        sum += strspn(text + round % 50, "abcdefghijklm");
    }
    show("strings", sum);
    return 0;
}
