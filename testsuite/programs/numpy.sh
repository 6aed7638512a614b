# numpy, whose loops are chosen by the processor's features: the bits of its results.
python3 - <<'END'
import numpy as np, hashlib
def show(name, a):
    a = np.ascontiguousarray(a)
    # Of 16 bytes, x87's numbers use 10; what the others hold is chance.
    bits = a.view(np.uint8).reshape(-1, 16)[:, :10] if a.dtype == np.longdouble else a
    print(name, a.dtype, a.shape, hashlib.sha256(bits.tobytes()).hexdigest()[:32])
from numpy.core._multiarray_umath import __cpu_features__ as features
print("features:", *sorted(f for f, there in features.items() if there))
np.seterr(all="ignore")
rng = np.random.Generator(np.random.PCG64(2026))
show("uniform", rng.random(100003)); show("normal", rng.standard_normal(50001)); show("gamma", rng.gamma(2.5, size=9001))
show("integers", rng.integers(0, 1 << 40, 30011)); show("float32", rng.random(77777, dtype=np.float32))
show("legacy", np.random.RandomState(7).standard_cauchy(5000)); show("binomial", rng.binomial(40, .3, 5000))
wide = np.concatenate([rng.standard_normal(20011) * 10.0 ** rng.integers(-300, 300, 20011), [0., -0., np.inf, -np.inf, np.nan, 5e-324, -5e-324]])
near = rng.standard_normal(20011) * 3
# Of x87's transcendental instructions, which glibc uses for 80 bits, the manual gives a bound and not a value.
bounded = "exp exp2 expm1 log log2 log10 log1p arctan arcsinh tanh power arctan2 logaddexp".split()
for kind in (np.float64, np.float32, np.float16, np.longdouble):
    for f in "sin cos tan exp exp2 expm1 log log2 log10 log1p sqrt square cbrt reciprocal absolute negative rint floor ceil trunc sign arctan arcsinh tanh spacing signbit isnan isfinite".split():
        if kind is np.longdouble and f in bounded: continue
        for name, data in (("wide", wide), ("near", near)):
            show(f"{f} {name}", getattr(np, f)(data.astype(kind)))
    x, y = near.astype(kind), np.roll(near, 77).astype(kind)
    for f in "add subtract multiply divide power arctan2 hypot fmod remainder floor_divide maximum minimum fmax fmin copysign nextafter logaddexp less greater_equal equal".split():
        if kind is np.longdouble and f in bounded: continue
        show(f, getattr(np, f)(x, y))
    for f in ("sum", "prod", "cumsum", "mean", "std", "var", "argmax", "argsort", "sort", "ptp"):
        show(f, getattr(np, f)(x[:5003]))
    show("partition", np.partition(x, 999)[999:1000])
for kind in "bBhHiIqQ":
    info = np.iinfo(kind)
    x = rng.integers(info.min, info.max, 10007, dtype=kind, endpoint=True); y = np.roll(x, 13)
    for f in "add subtract multiply floor_divide remainder maximum minimum bitwise_and bitwise_xor left_shift right_shift gcd less equal".split():
        show(f"{kind} {f}", getattr(np, f)(x, y % 7 if "shift" in f else y))
    for f in ("sum", "sort", "argsort", "max", "cumsum", "unique"):
        show(f"{kind} {f}", getattr(np, f)(x))
    show(f"{kind} by 7", x // np.array(7, dtype=kind)); show(f"{kind} to float", x.astype(np.float32)); show(f"{kind} from float", (near * 20).astype(kind))
for name, a in (("f64", rng.standard_normal((90, 90))), ("f32", rng.standard_normal((90, 90)).astype(np.float32)), ("c128", rng.standard_normal((50, 50)) + 1j * rng.standard_normal((50, 50)))):
    show(f"{name} matmul", a @ a.T); show(f"{name} einsum", np.einsum("ij,jk,ki->i", a, a, a)); show(f"{name} fft", np.fft.fft2(a))
    show(f"{name} solve", np.linalg.solve(a, a[:, :3])); show(f"{name} svd", np.linalg.svd(a)[1]); show(f"{name} inv", np.linalg.inv(a)); show(f"{name} qr", np.linalg.qr(a)[1])
    show(f"{name} det", np.linalg.det(a)); show(f"{name} exp", np.exp(a)); show(f"{name} dot", a[0].dot(a[1]))
show("eigvals", np.linalg.eigvals(near[:3600].reshape(60, 60))); show("eigh", np.linalg.eigh(np.cov(near[:4000].reshape(40, 100)))[0])
show("polyfit", np.polyfit(np.arange(200.), near[:200].cumsum(), 5)); show("interp", np.interp(near, np.sort(near[:900]), near[:900]))
show("histogram", np.histogram(near, 37)[0]); show("convolve", np.convolve(near[:3000], near[:70])); show("half", wide.astype(np.float16).astype(np.float32))
show("packbits", np.packbits(near > 0)); show("searchsorted", np.searchsorted(np.sort(near), wide)); show("where", np.where(near > 0, near, -1)); show("complex", (near + 1j * np.roll(near, 1)) ** 3)
print(np.array2string(near[:6], precision=17), str(near.astype(np.longdouble)[:3] / 3))
END
