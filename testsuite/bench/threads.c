/* Two threads: independent work, then a shared counter and a lock. threads N COUNT */
#include "bench.h"
#include <pthread.h>

static long work, count;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t shared, counter;

static void *run(void *which) {
    uint64_t x = 1 + (uint64_t)(uintptr_t)which, sum = 0;
    unsigned char seen[4096] = {0};
    for (long i = 0; i < work; i++) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        sum += seen[x & 4095]++ * (x >> 40);
    }
    for (long i = 0; i < count; i++) {
        __atomic_fetch_add(&counter, 3, __ATOMIC_SEQ_CST);
        if (i % 16 == 0) {
            pthread_mutex_lock(&lock);
            shared += (uint64_t)i;
            pthread_mutex_unlock(&lock);
        }
    }
    return (void *)(uintptr_t)sum;
}

int main(int argc, char **argv) {
    work = arg(argc, argv, 1, 20000000);
    count = arg(argc, argv, 2, 100000);
    pthread_t t[2];
    uint64_t sum = 0;
    for (int i = 0; i < 2; i++)
        if (pthread_create(&t[i], 0, run, (void *)(uintptr_t)(i * 77))) return 1;
    for (int i = 0; i < 2; i++) {
        void *r;
        pthread_join(t[i], &r);
        sum = mix(sum, (uint64_t)(uintptr_t)r);
    }
    show("threads", sum);
    printf("%llu %llu\n", (unsigned long long)counter, (unsigned long long)shared);
    return 0;
}
