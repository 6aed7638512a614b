/* Code that is generated once and run some hundred times, on fresh pages each time, as just-in-time compilers do.
 * codegen FUNCTIONS CALLS ROUNDS */
#include "bench.h"
#include <sys/mman.h>

int main(int argc, char **argv) {
    long functions = arg(argc, argv, 1, 1000), calls = arg(argc, argv, 2, 200), rounds = arg(argc, argv, 3, 3);
    uint64_t sum = 0;
    for (long round = 0; round < rounds; round++) {
        size_t size = (size_t)functions * 256;
        unsigned char *code = mmap(0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (code == MAP_FAILED) return 1;
        for (long f = 0; f < functions; f++) {
            unsigned char *p = code + f * 256;
            *p++ = 0x89, *p++ = 0xf8; /* mov eax, edi */
            for (int i = 0; i < 30; i++) {
                unsigned imm = (unsigned)rng();
                switch (imm % 4) {
                case 0: *p++ = 0x05; break;             /* add eax, imm32 */
                case 1: *p++ = 0x35; break;             /* xor eax, imm32 */
                case 2: *p++ = 0x69, *p++ = 0xc0; imm |= 1; break; /* imul eax, eax, imm32 */
                case 3: *p++ = 0x2d; break;             /* sub eax, imm32 */
                }
                memcpy(p, &imm, 4);
                p += 4;
            }
            *p++ = 0xc3;
        }
        if (mprotect(code, size, PROT_READ | PROT_EXEC)) return 1;
        for (long c = 0; c < calls; c++)
            for (long f = 0; f < functions; f++) sum += ((unsigned (*)(unsigned))(code + f * 256))((unsigned)(sum >> 3));
        munmap(code, size);
    }
    show("codegen", sum);
    return 0;
}
