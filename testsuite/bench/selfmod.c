/* Code that is changed and run again: one instruction's constant is rewritten before each call. selfmod N */
#include "bench.h"
#include <sys/mman.h>

int main(int argc, char **argv) {
    long n = arg(argc, argv, 1, 200000);
    /* lea eax, [rdi + imm32]; xor eax, edi; ret */
    static const unsigned char code[] = {0x8d, 0x87, 0, 0, 0, 0, 0x31, 0xf8, 0xc3};
    unsigned char *page = mmap(0, 8192, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) return 1;
    for (int i = 0; i < 64; i++) memcpy(page + i * 64, code, sizeof code);
    uint64_t sum = 0;
    for (long i = 0; i < n; i++) {
        unsigned char *f = page + (i % 64) * 64;
        int imm = (int)(i * 2654435761u);
        memcpy(f + 2, &imm, 4);
        for (int j = 0; j < 10; j++) sum = mix(sum, ((unsigned (*)(unsigned))f)((unsigned)(i + j)));
    }
    show("selfmod", sum);
    return 0;
}
