/* Numerical kernels for gcc.sh: compiled at several -march levels, so that the vectoriser makes of them what the level has.
   Prints the bits of what they compute. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { N = 4099 };
static double d[N], e[N], g[N];
static float f[N], h[N];
static int32_t i32[N], j32[N];
static uint32_t u32[N];
static int64_t i64[N];
static uint64_t u64[N];
static int16_t i16[N], j16[N];
static uint8_t u8[N], v8[N];
static uint64_t state = 88172645463325252ull;

static uint64_t next(void) {
    state ^= state << 13;
    state ^= state >> 7;
    return state ^= state << 17;
}

/* FNV-1a over the bytes. */
static void show(const char *name, const void *p, size_t n) {
    uint64_t sum = 14695981039346656037ull;
    for (size_t i = 0; i < n; i++) sum = (sum ^ ((const uint8_t *)p)[i]) * 1099511628211ull;
    printf("%s %016llx\n", name, (unsigned long long)sum);
}

static void fill(void) {
    for (int i = 0; i < N; i++) {
        uint64_t r = next();
        d[i] = (double)(int64_t)next() / 1e15;
        e[i] = (double)(int64_t)next() / 9e18 + 1.5;
        f[i] = (float)d[i];
        h[i] = (float)e[i];
        i32[i] = (int32_t)r; j32[i] = (int32_t)(r >> 32); u32[i] = (uint32_t)next();
        i64[i] = (int64_t)next(); u64[i] = next();
        i16[i] = (int16_t)r; j16[i] = (int16_t)(r >> 16);
        u8[i] = (uint8_t)r; v8[i] = (uint8_t)(r >> 40);
    }
}

#define MAP(name, out, expression)                              \
    __attribute__((noinline)) static void name(void) {          \
        for (int i = 0; i < N; i++) out[i] = (expression);      \
        show(#name, out, sizeof out);                           \
    }
static double od[N]; static float of[N]; static int32_t oi[N]; static uint32_t ou[N]; static int64_t ol[N]; static uint64_t oul[N];
static int16_t os[N]; static uint8_t ob[N]; static int8_t oc[N];
MAP(axpy, od, d[i] * 1.7 + e[i])
MAP(axmy, of, f[i] * h[i] - h[(i + 1) % N])
MAP(poly, od, ((e[i] * 0.3 - 1.1) * e[i] + 2.7) * e[i] - d[i])
MAP(quotient, od, d[i] / e[i])
MAP(roots, of, sqrtf(h[i]) / f[i])
MAP(rounded, od, floor(d[i]) + ceil(e[i]) - trunc(d[i] * 0.7) + rint(d[i] * 3))
MAP(smaller, od, d[i] < e[i] * 1000 ? d[i] : e[i])
MAP(absolute, of, fabsf(f[i]) - copysignf(h[i], f[i]))
MAP(to_int, oi, (int32_t)(d[i] / 10))
MAP(to_long, ol, (int64_t)(d[i] * 1e9))
MAP(from_int, od, (double)i32[i] + (float)j32[i])
MAP(from_unsigned, of, (float)u32[i])
MAP(from_long, od, (double)i64[i] * 1e-9 + (double)u64[i])
MAP(narrow, of, (float)(d[i] * 1e-30))
MAP(wide, od, (double)f[i] * h[i])
MAP(sums, oi, i32[i] + j32[i] * 3 - (int32_t)u32[i])
MAP(products, ol, (int64_t)i32[i] * j32[i])
MAP(long_products, oul, u64[i] * (uint64_t)i64[i] + (u64[i] >> 7))
MAP(by_constant, ou, u32[i] / 1000003 + u32[i] % 77)
MAP(by_variable, oi, i32[i] / (j32[i] | 1))
MAP(shifts, ou, (u32[i] << (i & 31)) ^ (u32[i] >> (u8[i] & 31)))
MAP(arithmetic, ol, i64[i] >> (u8[i] & 63))
MAP(rotates, ou, (u32[i] << 11 | u32[i] >> 21) + ((uint32_t)i32[i] >> 3 | (uint32_t)i32[i] << 29))
MAP(saturated, os, (int16_t)(i16[i] + j16[i] > 32767 ? 32767 : i16[i] + j16[i] < -32768 ? -32768 : i16[i] + j16[i]))
MAP(averages, ob, (uint8_t)((u8[i] + v8[i] + 1) >> 1))
MAP(differences, ob, (uint8_t)(u8[i] > v8[i] ? u8[i] - v8[i] : v8[i] - u8[i]))
MAP(high_halves, os, (int16_t)((i16[i] * j16[i]) >> 16))
MAP(chosen, oi, i32[i] > j32[i] ? (int32_t)u32[i] : (int32_t)~u32[i])
MAP(packed, oc, (int8_t)(i32[i] >> 9))
MAP(gathered, od, d[u32[i] % N] + e[(uint32_t)j32[i] % N])
MAP(gathered_ints, oi, i32[u32[i] % N] ^ j32[u8[i]])
MAP(counted, oi, __builtin_popcountll(u64[i]) + __builtin_clzll(u64[i] | 1) * 64 + __builtin_ctz(u32[i] | 1 << 30) * 4096)
MAP(swapped, oul, __builtin_bswap64(u64[i]) ^ __builtin_bswap32(u32[i]))
MAP(and_not, oul, (~u64[i] & (uint64_t)i64[i]) + (u64[i] & -u64[i]) + (u64[i] & (u64[i] - 1)) + (u64[i] ^ (u64[i] - 1)))
MAP(fields, ou, (u32[i] >> 5 & 0x7ff) + (uint32_t)(u64[i] & ((1ull << (u8[i] & 63)) - 1)))
MAP(carried, oul, (uint64_t)(((unsigned __int128)u64[i] * (uint64_t)i64[i] + u64[(i + 1) % N]) >> 64))
MAP(remainders, ol, (int64_t)(((__int128)i64[i] << 20) / (i32[i] | 1)))
MAP(complexes, od, (d[i] + e[i]) * (d[i] - e[i]) / (e[i] * e[i] + 1))

static void reductions(void) {
    double s = 0, t = 1; float q = 0; int32_t a = 0, m = 0; uint64_t x = 0; long double w = 0; int64_t dot = 0;
    for (int i = 0; i < N; i++) s += d[i] * e[i];
    for (int i = 0; i < N; i++) t *= e[i] / 1.5;
    for (int i = 0; i < N; i++) q += f[i] / h[i];
    for (int i = 0; i < N; i++) a += u8[i] > v8[i] ? u8[i] - v8[i] : v8[i] - u8[i];
    for (int i = 0; i < N; i++) m = m > i32[i] ? m : i32[i];
    for (int i = 0; i < N; i++) x ^= u64[i] * 0x9e3779b97f4a7c15ull;
    for (int i = 0; i < N; i++) w += (long double)d[i] / (i + 1) + sqrtl(e[i]);
    for (int i = 0; i < N; i++) dot += i16[i] * j16[i];
    printf("%a %a %a %d %d %llx %La %lld\n", s, t, q, a, m, (unsigned long long)x, w, (long long)dot);
}

static void fast(void) { /* the same with leave to reorder, as -ffast-math programs have */
    float q = 0; double s = 0;
    for (int i = 0; i < N; i++) q += (float)(u8[i] * v8[i]);
    for (int i = 0; i < N; i++) s = fmax(s, fmin(d[i], e[i] * 7));
    printf("%a %a\n", q, s);
}

static void matrices(void) {
    static double a[61][61], b[61][61], c[61][61];
    for (int i = 0; i < 61; i++)
        for (int j = 0; j < 61; j++) a[i][j] = d[(i * 61 + j) % N], b[i][j] = e[(j * 61 + i) % N], c[i][j] = 0;
    for (int i = 0; i < 61; i++)
        for (int k = 0; k < 61; k++)
            for (int j = 0; j < 61; j++) c[i][j] += a[i][k] * b[k][j];
    show("matrices", c, sizeof c);
}

static void strings(void) {
    static char a[3000], b[3000];
    size_t sum = 0;
    for (int i = 0; i < 2999; i++) a[i] = (char)('a' + u8[i] % 23);
    for (int k = 0; k < 200; k++) {
        memcpy(b + k % 64, a + k, 1000 + (size_t)k);
        b[k % 64 + 1000 + k] = 0;
        sum = sum * 31 + strlen(b + k % 64) + (size_t)(strchr(b + k % 64, 'w') - b) + (size_t)(memcmp(a, b, 700) > 0) + (size_t)(strstr(a, b + 900 + k % 64) != 0);
        memmove(b + 7, b, 2000);
        memset(b + 2100, k, 333);
    }
    show("strings", b, sizeof b);
    printf("%zu\n", sum);
}

#ifdef __F16C__
#include <immintrin.h>
static void halves(void) {
    static uint16_t o[N + 1]; static float back[N + 1];
    for (int i = 0; i + 8 <= N; i += 8) {
        __m128i x = _mm256_cvtps_ph(_mm256_loadu_ps(f + i), _MM_FROUND_TO_NEAREST_INT);
        _mm_storeu_si128((__m128i *)(o + i), x);
        _mm256_storeu_ps(back + i, _mm256_cvtph_ps(_mm_xor_si128(x, _mm_loadu_si128((__m128i *)(i16 + i)))));
    }
    show("halves", o, sizeof o); show("from halves", back, sizeof back);
}
#else
static void halves(void) {}
#endif

int main(void) {
    fill();
    axpy(); axmy(); poly(); quotient(); roots(); rounded(); smaller(); absolute(); to_int(); to_long(); from_int(); from_unsigned(); from_long();
    narrow(); wide(); sums(); products(); long_products(); by_constant(); by_variable(); shifts(); arithmetic(); rotates(); saturated(); averages();
    differences(); high_halves(); chosen(); packed(); gathered(); gathered_ints(); counted(); swapped(); and_not(); fields(); carried(); remainders();
    complexes(); reductions(); fast(); matrices(); strings(); halves();
    for (int i = 0; i < N; i++) g[i] = sin(d[i]) * exp(-e[i]) + pow(e[i], 1.3) + atan2(d[i], e[i]) + tanh(d[i]);
    show("libm", g, sizeof g);
#ifndef __FAST_MATH__ /* glibc's log of vectors, which fast math takes, begins with RCPPS: a bound, no value (SDM vol. 2) */
    for (int i = 0; i < N; i++) g[i] = log(e[i] + 1);
    show("libm's log", g, sizeof g);
#endif
    for (int i = 0; i < N; i++) of[i] = sinf(f[i]) * expf(-h[i]) + powf(h[i], 1.3f) + logf(h[i] + 1) + cosf(h[i]);
    show("libm in single", of, sizeof of);
    return 0;
}
