/* Page faults: map, touch each page, protect, touch again, unmap. faults PAGES ROUNDS */
#include "bench.h"
#include <sys/mman.h>

int main(int argc, char **argv) {
    long pages = arg(argc, argv, 1, 2000), rounds = arg(argc, argv, 2, 20);
    uint64_t sum = 0;
    for (long round = 0; round < rounds; round++) {
        unsigned char *p = mmap(0, pages << 12, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (p == MAP_FAILED) return 1;
        madvise(p, pages << 12, MADV_NOHUGEPAGE);
        for (long i = 0; i < pages; i++) p[i << 12] = (unsigned char)(i + round);
        if (mprotect(p, pages << 12, PROT_READ)) return 1;
        for (long i = 0; i < pages; i++) sum = mix(sum, p[i << 12]);
        if (mprotect(p, pages << 12, PROT_READ | PROT_WRITE)) return 1;
        for (long i = 0; i < pages; i += 2) p[i << 12] ^= 0x55;
        for (long i = 0; i < pages; i++) sum = mix(sum, p[i << 12]);
        munmap(p, pages << 12);
    }
    show("faults", sum);
    return 0;
}
