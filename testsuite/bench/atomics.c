/* LOCK-prefixed instructions and XCHG, without contention. atomics N */
#include "bench.h"
#include <stdatomic.h>

int main(int argc, char **argv) {
    long n = arg(argc, argv, 1, 2000000);
    static _Atomic uint64_t counter, bits, word;
    static _Atomic uint32_t lock;
    uint64_t sum = 0;
    for (long i = 0; i < n; i++) {
        sum += atomic_fetch_add(&counter, (uint64_t)i);
        atomic_fetch_or(&bits, 1ull << (i & 63));
        while (atomic_exchange(&lock, 1)) continue;
        uint64_t old = atomic_load(&word);
        while (!atomic_compare_exchange_weak(&word, &old, old * 3 + (uint64_t)i)) continue;
        atomic_store(&lock, 0);
        if ((i & 63) == 63) sum ^= atomic_fetch_and(&bits, ~sum);
    }
    show("atomics", mix(sum, mix(counter, word)));
    return 0;
}
