//! Transcendental results from mpmath, for hosts without an x87.
//!
//! Made with mpmath at 600 bits, rounded once to nearest; the arguments are random over the functions' main
//! ranges, a third of them next to a power of two. `sin`, `cos` and `tan` take the argument as
//! `x - q * p/2` with `p = 0x3243f6a8885a308d3 / 2^64` and `q` the nearest integer. A run of 3,000 such cases
//! per function under all four rounding modes agreed in every bit.

use super::super::{Ctx, F80};

const fn f(se: u16, mant: u64) -> F80 {
    F80 { mant, se }
}

/// Function, `x`, `y`, and the result; `y` counts only where the function has two operands.
#[rustfmt::skip]
const RESULTS: [(&str, F80, F80, F80); 42] = [
    ("sin", f(0xc035, 0xcb91ce375bc8fbbc), f(0x4016, 0xfffffffffffffd67), f(0x3ffe, 0xffa802a53e010ff3)),
    ("sin", f(0x3feb, 0xdf2dd97f1cfb10f6), f(0x3ff9, 0x9a1afe878b33e968), f(0x3feb, 0xdf2dd97f1c89fc3e)),
    ("sin", f(0x3fd8, 0xb77b9aa2bb2edb20), f(0xbfec, 0xde11cc9dea959c21), f(0x3fd8, 0xb77b9aa2bb2edb20)),
    ("sin", f(0x4038, 0xfffffffffffffd87), f(0xbfe9, 0x80000000000000d6), f(0xbffe, 0x89107a3736daa87f)),
    ("sin", f(0x3fec, 0x8002080000484008), f(0x3fec, 0xf7f35634f0e3cd97), f(0x3fec, 0x800207fffff2e6a3)),
    ("sin", f(0x4008, 0x800c180042000190), f(0xbff4, 0x9a656aafd1412584), f(0xbffb, 0xdf8727235f1a8676)),
    ("cos", f(0x402d, 0xc100040000400822), f(0xbfec, 0xf8f845f57b3120df), f(0x3ffe, 0xfd502d0476e1bd9d)),
    ("cos", f(0x3fe8, 0x80000000000003cc), f(0xc017, 0x84a012e8677fd139), f(0x3ffe, 0xfffffffffffe0000)),
    ("cos", f(0xc00f, 0x80000000000001cf), f(0x400e, 0xffffffffffffff86), f(0xbffe, 0xb8ca29884bc53a61)),
    ("cos", f(0x401c, 0x82004a5040081200), f(0xc018, 0x8960afe94bbdbb01), f(0x3ffd, 0xed849f98717d1565)),
    ("cos", f(0x3ffb, 0x834c1b69573ac59a), f(0xc01b, 0x8392006808880700), f(0x3ffe, 0xff795dd9524c379a)),
    ("cos", f(0xc008, 0x8000000000000281), f(0x400f, 0xcf2e84fcb06dbee0), f(0xbffe, 0xff30791d40fab08e)),
    ("tan", f(0x403d, 0x94b9adb50c6dea3d), f(0xbfe3, 0xbd953dc23cc21779), f(0x4003, 0xed9ae39effee1f8f)),
    ("tan", f(0xc001, 0xa6a5bc9974a677c6), f(0x3fe4, 0xea83854afaa30fac), f(0x3fff, 0xeceb1de8007f6b79)),
    ("tan", f(0x4020, 0xffffffffffffff7a), f(0x4009, 0xc9bafe62e580c35e), f(0xc000, 0xaf40d13dc77cb759)),
    ("tan", f(0x3ff6, 0xffffffffffffffc3), f(0xbff3, 0xf401f5ce2425d75a), f(0x3ff7, 0x80002aaabbbbc286)),
    ("tan", f(0x4023, 0xf5cb2afc741b324d), f(0xbfff, 0xca80754646273141), f(0x3ffb, 0xbb8ddfd447f19c63)),
    ("tan", f(0xbff3, 0xe0831ef21cd0c151), f(0x4009, 0x8010052000000120), f(0xbff3, 0xe0831fd859f6890d)),
    ("exp", f(0xbfc1, 0x8040090080510420), f(0xc004, 0x800400814101c110), f(0xbfc0, 0xb1cadd7e854a360b)),
    ("exp", f(0xbfe4, 0xadbbf762a6523995), f(0x3fff, 0x80000a2040000000), f(0xbfe3, 0xf0d8c7f8b8588ac6)),
    ("exp", f(0xbfe5, 0xe000040010000004), f(0x4018, 0xb036d9ddddf1d79f), f(0xbfe5, 0x9b43d7a7203e3ebf)),
    ("exp", f(0xbfe3, 0xa450d1c384a4c93f), f(0x3fed, 0xdcaded41d62cbf25), f(0xbfe2, 0xe3ca38c9810833bd)),
    ("exp", f(0xbfc3, 0xabbd5e94b83d5f7b), f(0xbfeb, 0xc7c66f539de552dd), f(0xbfc2, 0xee14f19a6b25c4ae)),
    ("exp", f(0xbfdf, 0x8d9f07119fad3bf4), f(0xc00f, 0xffffffffffffff5c), f(0xbfde, 0xc45423ed237f4fe5)),
    ("log", f(0x4022, 0xfffffffffffffcf6), f(0x4009, 0x8ab772dcb7ed25da), f(0x400e, 0x9c0e61384eeaca82)),
    ("log", f(0x3ffe, 0xfffffffffffffe11), f(0x4004, 0xea5d89bd0920da71), f(0xbfce, 0xa3721322e8aebf06)),
    ("log", f(0x3ffe, 0xfffffffffffffd20), f(0xbfe1, 0x8050800990084080), f(0x3fab, 0x850dd3c292bfe07e)),
    ("log", f(0x3ffe, 0x8310002300000800), f(0xbff7, 0xa1109d0dd18aa866), f(0x3ff7, 0x9b921eef8840a725)),
    ("log", f(0x400b, 0x8001128820200218), f(0xbfed, 0xa20b2d2df7cea56e), f(0xbff0, 0xf3110271ab16e324)),
    ("log", f(0x3ffe, 0x8210004000000202), f(0xbffc, 0xfffffffffffffe06), f(0x3ffc, 0xfa18a7b8d862df6b)),
    ("logp1", f(0xbff6, 0xb5530d8ef8f2c944), f(0xc017, 0xa8b604bfe9eb5755), f(0x400f, 0xaca3448ca92a8e29)),
    ("logp1", f(0xbfdf, 0xc04602d07f0de0a1), f(0x3ff5, 0x8406010048002104), f(0xbfd6, 0x8f0e3fcabd67993f)),
    ("logp1", f(0x3ff1, 0x8000000000000320), f(0x4015, 0x83614a8b64739895), f(0x4007, 0xbd891a07763a221a)),
    ("logp1", f(0xbfd8, 0x80000000000000fb), f(0xbff2, 0xa79eb8d9d80abf00), f(0x3fcb, 0xf1d315fffb7943c3)),
    ("logp1", f(0xbfde, 0x9ba859ef7e0502c8), f(0x3fe2, 0x8000010000010404), f(0xbfc1, 0xe091069302eb0d05)),
    ("logp1", f(0x3ff4, 0xdc6d13a1598a2ea5), f(0x3fe3, 0xc09eca5900b9deaf), f(0x3fd9, 0xef2cf9a4247a8790)),
    ("atan", f(0xc00c, 0x9b8bb700eaa48aed), f(0x3fe1, 0xc74416016dfee346), f(0x4000, 0xc90fdaa2215e8290)),
    ("atan", f(0xc017, 0xd758e8c7e9662ca3), f(0xbffa, 0xda163580aead0f80), f(0xc000, 0xc90fdaa01ae56155)),
    ("atan", f(0x401a, 0x8000000000000136), f(0x400d, 0xeecd4c51c76c6515), f(0x3ff2, 0xeecd4c0c83a48aef)),
    ("atan", f(0xc00a, 0xa000000400000310), f(0xbff6, 0xa74d982589b6bf90), f(0xc000, 0xc90fd67364018656)),
    ("atan", f(0x3fe5, 0x9001482180800004), f(0x3ff6, 0x80000000000003fe), f(0x3fff, 0xc90f92a17d58098d)),
    ("atan", f(0xc00d, 0x800000000000035e), f(0x3fef, 0x80000000000002d9), f(0x4000, 0xc90fdaa12168c235)),
];

#[test]
fn transcendental_results() {
    for (name, x, y, expected) in RESULTS {
        let mut ctx = Ctx::default();
        let result = match name {
            "sin" => ctx.sin(x),
            "cos" => ctx.cos(x),
            "tan" => ctx.tan(x).0,
            "exp" => ctx.exp2_minus_1(x),
            "log" => ctx.y_log2_x(y, x),
            "logp1" => ctx.y_log2_x_plus_1(y, x),
            _ => ctx.atan2(y, x),
        };
        assert_eq!(result, expected, "{name} {x:?} {y:?}");
    }
}
