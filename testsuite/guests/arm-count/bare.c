/* What a program of testsuite/bench/ needs to run without a system: arm-count.sh compiles it in front of the program, with
 * ARGS for its command line. calque enters it in long mode with memory mapped one to one, or as a 32-bit program in protected
 * mode. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

int main(int, char **);

static void out(unsigned short port, unsigned char value) { asm volatile("outb %0, %1" ::"a"(value), "Nd"(port)); }

__attribute__((naked, noreturn, used)) void _start(void) {
#ifdef __i386__
    asm("mov $0x3f00000, %esp\n call begin");
#else
    asm("mov $0x3f00000, %rsp\n"
        /* MP, not EM; OSFXSR, OSXMMEXCPT, OSXSAVE; x87, SSE and AVX. */
        "mov %cr0, %rax\n or $2, %rax\n and $~0xc, %rax\n mov %rax, %cr0\n"
        "mov %cr4, %rax\n or $0x40600, %rax\n mov %rax, %cr4\n"
        "mov $7, %eax\n xor %edx, %edx\n xor %ecx, %ecx\n xsetbv\n"
        "call begin");
#endif
}

__attribute__((noreturn, used)) void begin(void) {
    static char *argv[] = {ARGS, 0};
    out(0x501, main(sizeof argv / sizeof *argv - 1, argv));
    for (;;) asm volatile("cli; hlt");
}

void *memset(void *to, int value, size_t n) {
    void *d = to;
    asm volatile("rep stosb" : "+D"(d), "+c"(n) : "a"(value) : "memory");
    return to;
}

void *memcpy(void *to, const void *from, size_t n) {
    void *d = to;
    asm volatile("rep movsb" : "+D"(d), "+S"(from), "+c"(n) : : "memory");
    return to;
}

void *memmove(void *to, const void *from, size_t n) {
    unsigned char *d = to;
    const unsigned char *s = from;
    if (d <= s) return memcpy(to, from, n);
    while (n--) d[n] = s[n];
    return to;
}

void *malloc(size_t n) {
    static uintptr_t next = 0x1000000;
    void *p = (void *)next;
    next += (n + 63) & ~(uintptr_t)63;
    return p;
}

void *calloc(size_t n, size_t size) { return memset(malloc(n * size), 0, n * size); }
void exit(int status) {
    out(0x501, status);
    for (;;) asm volatile("cli; hlt");
}
void perror(const char *text) { (void)text; }

long strtol(const char *text, char **end, int base) {
    (void)end, (void)base;
    long n = 0;
    while (*text) n = 10 * n + *text++ - '0';
    return n;
}

int putchar(int c) {
    out(0xe9, c);
    return c;
}

int puts(const char *text) {
    while (*text) putchar(*text++);
    return putchar('\n');
}

/* What the programs use: %s, %d, %x, with zeroes in front, no longer than a register. */
int printf(const char *form, ...) {
    va_list args;
    va_start(args, form);
    for (; *form; form++) {
        if (*form != '%') {
            putchar(*form);
            continue;
        }
        int width = 0, length = 0;
        while (*++form >= '0' && *form <= '9') width = 10 * width + *form - '0';
        while (*form == 'l') form++, length++;
        if (*form == 's') {
            for (const char *s = va_arg(args, const char *); *s; s++) putchar(*s);
            continue;
        }
        unsigned base = *form == 'x' ? 16 : 10;
        uintptr_t v = length ? va_arg(args, uintptr_t) : base == 16 ? va_arg(args, unsigned) : (uintptr_t)va_arg(args, int);
        if (base == 10 && (intptr_t)v < 0) putchar('-'), v = -v;
        char text[24];
        int n = 0;
        do text[n++] = "0123456789abcdef"[v % base];
        while (v /= base);
        while (width-- > n) putchar('0');
        while (n) putchar(text[--n]);
    }
    va_end(args);
    return 0;
}
