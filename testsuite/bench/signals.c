/* Signals: raised by a call, and by a fault that the handler repairs. signals N */
#include "bench.h"
#include <signal.h>
#include <sys/mman.h>

static volatile long raised, repaired;
static unsigned char *page;

static void on_usr1(int n) {
    (void)n;
    raised++;
}

static void on_segv(int n) {
    (void)n;
    repaired++;
    mprotect(page, 4096, PROT_READ | PROT_WRITE);
}

int main(int argc, char **argv) {
    long n = arg(argc, argv, 1, 20000);
    page = mmap(0, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) return 1;
    signal(SIGUSR1, on_usr1);
    signal(SIGSEGV, on_segv);
    for (long i = 0; i < n; i++) {
        raise(SIGUSR1);
        mprotect(page, 4096, PROT_READ);
        *(volatile unsigned char *)page = (unsigned char)i;
    }
    printf("%ld %ld %d\n", raised, repaired, page[0]);
    return 0;
}
