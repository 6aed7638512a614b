/* What the benchmark programs share. Each takes sizes on its command line and prints checksums of what it computed, so that
 * the outputs of emulators and of the bare processor can be compared. No library function whose rounding depends on
 * the processor (libm's choice of FMA) is called. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The command line's number N, or a default. */
static inline long arg(int argc, char **argv, int n, long otherwise) {
    return argc > n ? strtol(argv[n], 0, 0) : otherwise;
}

static uint64_t rng_state = 0x9e3779b97f4a7c15ull;

/* xorshift64*: the same numbers on every machine. */
static inline uint64_t rng(void) {
    rng_state ^= rng_state >> 12;
    rng_state ^= rng_state << 25;
    rng_state ^= rng_state >> 27;
    return rng_state * 0x2545f4914f6cdd1dull;
}

static inline uint64_t mix(uint64_t sum, uint64_t v) {
    sum ^= v + 0x9e3779b97f4a7c15ull + (sum << 6) + (sum >> 2);
    return sum;
}

static inline uint64_t mix_bytes(uint64_t sum, const void *p, size_t n) {
    const unsigned char *b = p;
    for (size_t i = 0; i < n; i++) sum = (sum ^ b[i]) * 0x100000001b3ull;
    return sum;
}

static inline void show(const char *what, uint64_t sum) { printf("%s %016llx\n", what, (unsigned long long)sum); }

static inline void *need(void *p) {
    if (!p) {
        perror("memory");
        exit(1);
    }
    return p;
}
