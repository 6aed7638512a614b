/* Virtual dispatch: objects of several classes in random order, called through their tables. virtual OBJECTS ROUNDS */
#include "bench.h"

struct shape;
struct methods {
    long (*area)(const struct shape *);
    void (*grow)(struct shape *, long);
    int (*kind)(const struct shape *);
};
struct shape {
    const struct methods *methods;
    long a, b;
};

static long rect_area(const struct shape *s) { return s->a * s->b; }
static long square_area(const struct shape *s) { return s->a * s->a; }
static long line_area(const struct shape *s) { return s->a ^ s->b; }
static long ring_area(const struct shape *s) { return 3 * (s->a * s->a - s->b * s->b); }
static void both(struct shape *s, long by) { s->a += by, s->b -= by; }
static void first(struct shape *s, long by) { s->a += by; }
static int zero(const struct shape *s) { return s->a & 1; }
static int one(const struct shape *s) { return 1 + (int)(s->b & 3); }

static const struct methods classes[] = {
    {rect_area, both, zero}, {square_area, first, one}, {line_area, both, one}, {ring_area, first, zero}, {line_area, first, zero}};

int main(int argc, char **argv) {
    long n = arg(argc, argv, 1, 1000), rounds = arg(argc, argv, 2, 5000);
    struct shape *shapes = need(malloc(n * sizeof *shapes));
    for (long i = 0; i < n; i++) {
        shapes[i].methods = &classes[rng() % 5];
        shapes[i].a = (long)(rng() % 100);
        shapes[i].b = (long)(rng() % 100);
    }
    uint64_t sum = 0;
    for (long round = 0; round < rounds; round++)
        for (long i = 0; i < n; i++) {
            struct shape *s = &shapes[i];
            sum += (uint64_t)s->methods->area(s);
            if (s->methods->kind(s) == (int)(round & 3)) s->methods->grow(s, round & 7);
        }
    show("virtual", sum);
    return 0;
}
