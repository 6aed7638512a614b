/* A bytecode interpreter with one indirect jump per instruction. bytecode ROUNDS */
#include "bench.h"

enum { PUSH, ADD, SUB, MUL, XOR, DUP, SWAP, LOAD, STORE, JNZ, DEC, SHR, HALT };

/* Counts down from variable 1, mixing into variable 0 on the way. */
static const unsigned char program[] = {LOAD, 0, PUSH, 31, MUL, LOAD, 1, ADD, DUP, PUSH, 7, SHR, XOR, STORE, 0, LOAD, 2, PUSH, 3, ADD, LOAD, 0,
                                        SWAP, SUB, STORE, 2, LOAD, 1, DEC, DUP, STORE, 1, JNZ, 0, HALT};

int main(int argc, char **argv) {
    static const void *const labels[] = {&&push, &&add, &&sub, &&mul, &&xor, &&dup, &&swap, &&load, &&store, &&jnz, &&dec, &&shr, &&halt};
    uint64_t stack[32], vars[4] = {1, (uint64_t)arg(argc, argv, 1, 1000000), 5, 0}, *sp = stack, t;
    const unsigned char *pc = program;
#define NEXT goto *labels[*pc++]
    NEXT;
push: *sp++ = *pc++; NEXT;
add: sp--; sp[-1] += *sp; NEXT;
sub: sp--; sp[-1] -= *sp; NEXT;
mul: sp--; sp[-1] *= *sp; NEXT;
xor: sp--; sp[-1] ^= *sp; NEXT;
dup: *sp = sp[-1]; sp++; NEXT;
swap: t = sp[-1]; sp[-1] = sp[-2]; sp[-2] = t; NEXT;
load: *sp++ = vars[*pc++]; NEXT;
store: vars[*pc++] = *--sp; NEXT;
jnz: pc = *--sp ? program + *pc : pc + 1; NEXT;
dec: sp[-1]--; NEXT;
shr: t = *--sp; sp[-1] >>= t; NEXT;
halt:
    show("bytecode", vars[0] ^ vars[2]);
    return 0;
}
