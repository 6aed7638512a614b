# Work for gcc, python3, perl and openssl whose output is the same on every right machine. Run by tests/rootfs.rs inside
# the guest and, in the same tree, on the host.
set -eu
export LC_ALL=C TZ=UTC
cd "$(mktemp -d)"

echo "== gcc"
cat >work.c <<'END'
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
static int order(const void *a, const void *b) { double x = *(double *)a, y = *(double *)b; return x < y ? -1 : x > y; }
struct big { unsigned char b[37]; long long n; float f; };
static struct big turn(struct big v, int by) { v.n = v.n * 31 + by; v.f = v.f / 3 + by; v.b[by % 37] ^= by; return v; }
int main(void) {
    unsigned long long seed = 88172645463325252ull, mix = 0;
    static double d[5000];
    for (int i = 0; i < 5000; i++) {
        seed ^= seed << 13; seed ^= seed >> 7; seed ^= seed << 17;
        d[i] = (double)(long long)seed / 3e9;
        mix += seed / (unsigned long long)(i + 1) + seed % (unsigned)(i + 7) + (long long)(d[i] * 1e3);
    }
    qsort(d, 5000, sizeof *d, order);
    double sum = 0; long double wide = 0; float narrow = 0;
    for (int i = 0; i < 5000; i++) { sum += sqrt(fabs(d[i])); wide += 1.0L / (i + 1); narrow += 1.0f / (i + 1); }
    struct big v = {{1, 2, 3}, 4, 5};
    for (int i = 0; i < 100000; i++) v = turn(v, i);
    int check = 0; for (unsigned i = 0; i < sizeof v.b; i++) check += v.b[i] * i;
    printf("%llx %.17g %.17g %.19Lg %.9g %lld %.9g %d\n", mix, sum, d[17], wide, narrow, v.n, v.f, check);
    printf("%.12g %.12g %.12g %a\n", sin(1e3), exp(-2.5), pow(1.1, 77), floor(-2.5));
    char *text = malloc(1 << 20); memset(text, 'x', (1 << 20) - 1); text[(1 << 20) - 1] = 0;
    text[777777] = 'y';
    printf("%zu %td %d\n", strlen(text), strchr(text, 'y') - text, memcmp(text, text + 777777, 9) < 0);
    return 0;
}
END
for flags in -O0 -O2 "-O3 -funroll-loops" "-O2 -m64 -mfpmath=387" "-O2 -msse4.2 -mpopcnt"; do
    gcc $flags -w -o work work.c -lm
    ./work
    gcc $flags -w -S -o - work.c | sha256sum
done

echo "== python3"
python3 - <<'END'
import decimal, fractions, hashlib, json, math, random, re, struct, sys, zlib
random.seed(1)
data = bytes(random.getrandbits(8) for _ in range(200000))
for name in ("md5", "sha1", "sha256", "sha512", "sha3_256", "blake2b"):
    print(name, hashlib.new(name, data).hexdigest())
packed = zlib.compress(data + b"calque" * 50000, 9)
print(len(packed), zlib.crc32(packed), zlib.adler32(packed), zlib.decompress(packed)[-6:])
print(pow(3, 100003, 10**60 + 7), math.factorial(300) % 10**40, math.isqrt(10**61))
print(sum(math.sqrt(n) for n in range(20000)), math.fsum(1 / n for n in range(1, 5000)), 0.1 + 0.2, 1e300 * 1e10)
print(sorted(random.random() for _ in range(5000))[::1000], random.gauss(0, 1))
decimal.getcontext().prec = 60
print(decimal.Decimal(2).sqrt(), fractions.Fraction(0.1), struct.pack("<dfq", math.pi, math.e, -5).hex())
print(json.dumps({"a": [1.5, None, "\u00e9"], "b": {str(n): n ** 3 for n in range(9)}}, sort_keys=True))
words = re.findall(r"[a-z]+", "the quick brown fox jumps over the lazy dog " * 500)
print(len(words), sorted(set(words)))
def queens(n, row=0, cols=0, up=0, down=0):
    if row == n: return 1
    return sum(queens(n, row + 1, cols | b, (up | b) << 1, (down | b) >> 1)
               for b in (1 << c for c in range(n)) if not (cols | up | down) & b)
print(queens(7), sys.version.split()[0])
END

echo "== perl"
perl -MDigest::SHA=sha256_hex -MList::Util=sum,reduce -e '
    my %count; my $text = join " ", map { ($_ * 7919) % 1009 } 1 .. 20000;
    $count{$_}++ for split / /, $text;
    print join(",", map { "$_=$count{$_}" } (sort { $count{$b} <=> $count{$a} || $a <=> $b } keys %count)[0 .. 9]), "\n";
    (my $turned = $text) =~ s/(\d)(\d)/$2$1/g;
    print sha256_hex($turned), " ", sum(map { sqrt } 1 .. 5000), "\n";
    my $mixed = reduce { ($a * 31 + $b) % 1000003 } 1 .. 5000;
    printf "%s %.12g %s\n", $mixed, atan2(1, 2) * exp(1), 2 ** 0.5;
    print scalar reverse("calque"), " ", join("", map { chr(65 + $_ % 26) } 1 .. 60), " ", 9 ** 20, " ", 7 / 3, "\n";'

echo "== openssl"
seq 100000 >data
for digest in md5 sha1 sha256 sha384 sha512 sha3-256 sm3 blake2b512; do openssl dgst -$digest data; done
openssl dgst -sha256 -hmac secret data
for cipher in aes-128-cbc aes-256-ctr aes-256-cfb camellia-256-cbc chacha20 aria-128-cbc; do
    openssl enc -$cipher -pbkdf2 -iter 1000 -S 0011223344556677 -k calque -in data -out coded
    echo "$cipher $(sha256sum <coded)"
    openssl enc -d -$cipher -pbkdf2 -iter 1000 -S 0011223344556677 -k calque -in coded | cmp - data && echo same
done
openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:1024 -out rsa.pem 2>/dev/null
openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out ec.pem 2>/dev/null
for key in rsa ec; do
    openssl pkey -in $key.pem -pubout -out $key.pub
    openssl dgst -sha256 -sign $key.pem -out signature data
    openssl dgst -sha256 -verify $key.pub -signature signature data
done
openssl prime 170141183460469231731687303715884105727
echo "== done"
