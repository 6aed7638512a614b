/* Records with names in a hash table: string building, hashing, comparing, small allocations, sorting. structs N ROUNDS */
#include "bench.h"

struct record {
    struct record *next;
    char *name;
    unsigned id, uses;
    short kind;
    struct { int x, y; } at;
};

#define SLOTS 4096
static struct record *table[SLOTS];

static unsigned hash(const char *s) {
    unsigned h = 5381;
    while (*s) h = h * 33 + (unsigned char)*s++;
    return h;
}

static struct record *find(const char *name, int make) {
    struct record **slot = &table[hash(name) % SLOTS];
    for (struct record *r = *slot; r; r = r->next)
        if (!strcmp(r->name, name)) return r;
    if (!make) return 0;
    struct record *r = need(calloc(1, sizeof *r));
    r->name = need(strdup(name));
    r->next = *slot;
    *slot = r;
    return r;
}

static int order(const void *a, const void *b) {
    const struct record *x = *(struct record *const *)a, *y = *(struct record *const *)b;
    return x->uses != y->uses ? (x->uses < y->uses ? 1 : -1) : strcmp(x->name, y->name);
}

int main(int argc, char **argv) {
    long n = arg(argc, argv, 1, 20000), rounds = arg(argc, argv, 2, 5);
    uint64_t sum = 0;
    for (long round = 0; round < rounds; round++) {
        for (long i = 0; i < n; i++) {
            char name[64];
            unsigned id = rng() % (n / 4);
            int len = 0;
            for (unsigned v = id * 2654435761u; len < 20; v = v * 31 + len) name[len++] = 'a' + v % 26;
            name[len] = 0;
            if (id % 3 == 0) strcat(name, "-third");
            struct record *r = find(name, 1);
            r->id = id;
            r->uses++;
            r->kind ^= (short)i;
            r->at.x += (int)id;
            r->at.y -= r->at.x >> 3;
        }
        struct record **all = need(malloc(n * sizeof *all));
        long count = 0;
        for (int s = 0; s < SLOTS; s++)
            for (struct record *r = table[s]; r; r = r->next) all[count++] = r;
        qsort(all, count, sizeof *all, order);
        for (long i = 0; i < count; i++) sum = mix(sum, all[i]->id + all[i]->uses * 7 + all[i]->at.y + all[i]->kind);
        for (long i = 0; i < count; i++) {
            free(all[i]->name);
            free(all[i]);
        }
        memset(table, 0, sizeof table);
        free(all);
    }
    show("structs", sum);
    return 0;
}
