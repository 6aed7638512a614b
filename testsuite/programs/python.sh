# Python's own tests of numbers and of what computes with them, each test by name; then numbers of ours, and numpy's.
python3 - <<'END'
import sys, unittest, warnings, io, importlib
from test import support
warnings.simplefilter("ignore")
names = """math cmath float complex int long bool range numeric_tower fractions decimal statistics struct array bytes binascii
hashlib hmac zlib random bisect heapq format fstring strtod json colorsys audioop pow augassign binop compare marshal base64""".split()
class Result(unittest.TestResult):
    def say(self, test, word):
        if test.id() not in seen: lines.append(f"{test.id()} {word}")
    def addSuccess(self, test): self.say(test, "ok")
    def addError(self, test, err): self.say(test, f"ERROR {err[0].__name__}: {str(err[1])[:200]}")
    def addFailure(self, test, err): self.say(test, f"FAIL {str(err[1])[:200]}")
    def addSkip(self, test, why): self.say(test, "skipped")
    def addExpectedFailure(self, test, err): self.say(test, "expected failure")
    def addUnexpectedSuccess(self, test): self.say(test, "unexpected success")
    def addSubTest(self, test, sub, err):
        if err: self.say(sub, f"FAIL {str(err[1])[:200]}")
seen, count = set(), 0
support._run_suite = lambda suite: suite.run(Result())
for name in names:
    lines, module = [], f"test.test_{name}"
    try:
        loaded = importlib.import_module(module)
        suite = unittest.defaultTestLoader.loadTestsFromModule(loaded)
    except (ImportError, unittest.SkipTest) as e:
        print(module, "is not here:", type(e).__name__)
        continue
    was = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = io.StringIO(), io.StringIO()
    try:
        # Modules that choose among their tests do so in test_main, which ends in _run_suite.
        if hasattr(loaded, "test_main"): loaded.test_main()
        else: suite.run(Result())
    finally:
        sys.stdout, sys.stderr = was
    good = sum(l.endswith(" ok") for l in lines)
    count += good
    print(module, len(lines), "tests,", good, "ok", flush=True)
    for line in sorted(lines):
        if not line.endswith(" ok"): print("  ", line)
print(count, "tests ok")
END
python3 - <<'END'
import sys, math, cmath, decimal, fractions, random, statistics, struct, hashlib
random.seed(20261)
sys.set_int_max_str_digits(0)
print("== libm: a sum over the bits of 4000 results each")
def values(low, high): return [random.uniform(low, high) for _ in range(4000)]
def show(name, results): print(name, hashlib.sha256(b"".join(struct.pack("<d", r) for r in results)).hexdigest()[:32], float(results[7]).hex())
for f, low, high in [(math.sin, -1e4, 1e4), (math.cos, -1e9, 1e9), (math.tan, -100, 100), (math.exp, -700, 700), (math.log, 1e-300, 1e300),
        (math.log2, 1e-9, 1e9), (math.log10, 1e-9, 1e9), (math.log1p, -.9, 100), (math.expm1, -5, 5), (math.sqrt, 0, 1e300), (math.atan, -1e3, 1e3),
        (math.asin, -1, 1), (math.acos, -1, 1), (math.sinh, -20, 20), (math.cosh, -20, 20), (math.tanh, -5, 5), (math.asinh, -1e9, 1e9),
        (math.acosh, 1, 1e9), (math.atanh, -.999, .999), (math.gamma, .1, 100), (math.lgamma, .1, 1e6), (math.erf, -3, 3), (math.erfc, -3, 20),
        (math.cbrt, -1e9, 1e9), (math.exp2, -900, 900)]:
    show(f.__name__, [f(x) for x in values(low, high)])
for f in (math.atan2, math.hypot, math.fmod, math.remainder, math.copysign, math.nextafter):
    show(f.__name__, [f(x, y) for x, y in zip(values(-1e6, 1e6), values(-1e3, 1e3))])
show("pow", [math.pow(x, y) for x, y in zip(values(0, 50), values(-40, 40))])
show("ldexp", [math.ldexp(x, int(y)) for x, y in zip(values(-1, 1), values(-1100, 1000))])
show("cmath", [abs(cmath.exp(cmath.sqrt(complex(x, y)))) for x, y in zip(values(-9, 9), values(-9, 9))])
show("fsum", [math.fsum(values(-1e9, 1e9)) for _ in range(9)])
print("== text and floats")
text = [repr(struct.unpack("<d", random.randbytes(8))[0]) for _ in range(20000)]
print(hashlib.sha256(" ".join(text).encode()).hexdigest(), sum(float(t).hex() == t for t in text))
print(hashlib.sha256("".join("%.40g %.3e %f" % ((float(t),) * 3) for t in text[:2000]).encode()).hexdigest())
halves = [struct.unpack("<e", struct.pack("<H", n))[0] for n in range(0x7c00)]
print(sum(halves), hashlib.sha256(struct.pack("<31744f", *halves)).hexdigest())
print("== integers, decimals, fractions")
a, b = random.getrandbits(20000), random.getrandbits(9000)
print(hashlib.sha256(b"%d %d %d %d" % (a * b, a // b, a % b, pow(a, b % 997, b))).hexdigest(), math.gcd(a, b), math.isqrt(a) % 10**9)
decimal.getcontext().prec = 300
print(decimal.Decimal(2).sqrt() * decimal.Decimal(3).ln() / decimal.Decimal("1.7").exp())
print(sum(fractions.Fraction(1, n) for n in range(1, 400)), statistics.stdev(values(0, 1)), statistics.NormalDist(3, 2).inv_cdf(.123))
END
