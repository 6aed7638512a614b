/* Pointer chase over a random cycle. chase NODES STEPS */
#include "bench.h"

struct node {
    struct node *next;
    uint64_t value, pad[6];
};

int main(int argc, char **argv) {
    long n = arg(argc, argv, 1, 100000), steps = arg(argc, argv, 2, 5000000);
    struct node *nodes = need(malloc(n * sizeof *nodes));
    long *order = need(malloc(n * sizeof *order));
    for (long i = 0; i < n; i++) order[i] = i;
    for (long i = n - 1; i > 0; i--) {
        long j = (long)(rng() % (uint64_t)(i + 1)), t = order[i];
        order[i] = order[j];
        order[j] = t;
    }
    for (long i = 0; i < n; i++) {
        nodes[order[i]].next = &nodes[order[(i + 1) % n]];
        nodes[order[i]].value = rng();
    }
    uint64_t sum = 0;
    struct node *p = nodes;
    for (long i = 0; i < steps; i++) {
        sum += p->value;
        p = p->next;
    }
    show("chase", sum);
    return 0;
}
