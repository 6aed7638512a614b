// Floating point as gcc makes it for x86-64-v3: FMA, F16C, AVX2 and, for long double, the x87. Prints bits, so that any
// difference shows. The numbers come from one generator, ordinary ones and corners.
#include <immintrin.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { N = 256 };

static uint64_t seed = 88172645463325252u;

static uint64_t next(void) {
  seed ^= seed << 13;
  seed ^= seed >> 7;
  return seed ^= seed << 17;
}

static double number(void) {
  uint64_t bits = next();
  switch (next() % 16) {
  case 0: bits &= 0x800fffffffffffff; break;
  case 1: bits |= 0x7ff0000000000000; break;
  case 2: bits &= 0x8000000000000000; break;
  default: bits = (bits & 0x800fffffffffffff) | (1023 - 8 + next() % 16) << 52;
  }
  double d;
  memcpy(&d, &bits, 8);
  return d;
}

static uint64_t hash = 14695981039346656037u;

static void mix(const void *p, size_t n) {
  for (const unsigned char *c = p; n--; c++) hash = (hash ^ *c) * 1099511628211u;
}

static void say(const char *what) {
  printf("%-12s %016llx mxcsr %04x\n", what, (unsigned long long)hash, _mm_getcsr());
  hash = 14695981039346656037u;
}

static double a[N], b[N], c[N], d[N];
static float s[N], t[N];

int main(void) {
  static const int modes[] = {_MM_ROUND_NEAREST, _MM_ROUND_DOWN, _MM_ROUND_UP, _MM_ROUND_TOWARD_ZERO};
  for (int mode = 0; mode < 8; mode++) {
    _mm_setcsr(0x1f80 | modes[mode & 3] | (mode & 4 ? 0x8040 : 0));
    printf("rounding %d, denormals %s\n", mode & 3, mode & 4 ? "are zeros" : "count");
    for (int i = 0; i < N; i++) {
      a[i] = number(), b[i] = number(), c[i] = number();
      s[i] = (float)a[i], t[i] = (float)b[i];
    }
    mix(s, sizeof s);
    say("narrowed");
    for (int i = 0; i < N; i++) d[i] = __builtin_fma(a[i], b[i], c[i]) - __builtin_fma(b[i], c[i], -a[i]);
    mix(d, sizeof d);
    say("fused");
    for (int i = 0; i < N; i++) d[i] = a[i] / b[i] + sqrt(fabs(c[i])) * (a[i] > b[i] ? a[i] : c[i]);
    mix(d, sizeof d);
    say("quotients");
    for (int i = 0; i < N; i++) s[i] = s[i] * t[i] + (float)i;
    mix(s, sizeof s);
    say("singles");
    for (int i = 0; i < N; i += 8) {
      __m128i h = _mm256_cvtps_ph(_mm256_loadu_ps(s + i), _MM_FROUND_CUR_DIRECTION);
      _mm256_storeu_ps(t + i, _mm256_cvtph_ps(h));
      mix(&h, sizeof h);
    }
    mix(t, sizeof t);
    say("halves");
    for (int i = 0; i < N; i += 8) {
      __m256 x = _mm256_loadu_ps(s + i), y = _mm256_loadu_ps(t + i);
      __m256 z = _mm256_addsub_ps(_mm256_dp_ps(x, y, 0xd7), _mm256_hadd_ps(x, y));
      __m256i k = _mm256_cvtps_epi32(z);
      __m256 m = _mm256_cmp_ps(x, y, _CMP_NGT_UQ);
      z = _mm256_blendv_ps(_mm256_round_ps(z, 1), _mm256_permutevar8x32_ps(z, k), m);
      k = _mm256_sllv_epi32(k, _mm256_and_si256(k, _mm256_set1_epi32(63)));
      mix(&z, sizeof z), mix(&k, sizeof k);
    }
    say("lanes");
  }
  _mm_setcsr(0x1f80);
  for (int i = 0; i < N; i++) {
    a[i] = number(), b[i] = number();
    d[i] = sin(a[i]) + exp(-fabs(b[i])) * log(fabs(a[i]) + 1) + pow(fabs(a[i]), b[i]);
  }
  mix(d, sizeof d);
  say("functions");
  for (int i = 0; i < N; i++) {
    long double x = a[i], y = b[i], z = 0;
    for (int n = 1; n < 20; n++) z = z * x + y / n - (x > y ? x : y);
    z += fmodl(x, y) + sqrtl(fabsl(y)) + (long double)llrint(fmin(fabs(a[i]), 1e9));
    mix(&z, 10);
    double narrow = (double)z;
    mix(&narrow, sizeof narrow);
  }
  say("long double");
  double sum = 0;
  for (int n = 1; n < 2000000; n++) sum += 1.0 / ((double)n * n);
  printf("%.17g %a\n", sqrt(sum * 6), sum);
  long double e = 1, term = 1;
  for (int n = 1; n < 30; n++) term /= n, e += term;
  printf("%.20Lg %La\n", e, e);
  return 0;
}
