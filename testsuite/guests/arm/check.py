# What python3 makes of numbers, text and hashes: the same on every processor.
import cmath, decimal, fractions, hashlib, json, math, random, re, struct, threading, zlib

r = random.Random(2026)
values = [r.uniform(-1e3, 1e3) for _ in range(200)] + [5e-324, 1.7976931348623157e308, -0.0, float("inf")]
print("reprs", hashlib.sha256(repr(values).encode()).hexdigest())
print("sums", math.fsum(values[:-1]), sum(values[:200]), repr(math.prod(abs(v) ** 0.01 for v in values[:200])))
print("functions", [f(values[7]).hex() for f in (math.sin, math.cos, math.atan, math.tanh, math.erf)], cmath.sqrt(-2))
print("integers", hashlib.md5(hex(3**20000 // 7**500 + math.factorial(500)).encode()).hexdigest(), pow(3, 10**40, 10**20 + 39))
decimal.getcontext().prec = 60
print("decimal", decimal.Decimal(2).sqrt(), fractions.Fraction(355, 113).limit_denominator(50))
text = json.dumps({str(i): [values[i % 200], i] for i in range(500)}, sort_keys=True)
print("text", len(re.findall(r"\d+\.\d*5", text)), zlib.crc32(zlib.compress(text.encode(), 9)), hashlib.sha3_256(text.encode()).hexdigest())
print("packed", hashlib.blake2b(b"".join(struct.pack("<dfq", v, v % 100, i) for i, v in enumerate(values[:200]))).hexdigest())
parts = [0] * 4


def work(n):
    for i in range(n, 20000, 4):
        parts[n] = (parts[n] * 31 + i * i) % 1000000007


threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
[t.start() for t in threads]
[t.join() for t in threads]
print("threads", parts)
