//! Vector operations, named after the SSE instruction whose manual page defines them.
//!
//! A legacy-SSE operation `op xmm1, xmm2` is `Vec2 op(xmm1, xmm2)`: a is the destination's old value. Operations with
//! an immediate take it from `imm`. On V256 each works per 128-bit lane as the VEX form does.

macro_rules! vecops {
    ($( $(#[$doc:meta])* $name:ident = $text:literal; )*) => {
        /// Which vector operation a `Vec1`, `Vec2`, `Vec3` or `Fp` does.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
        #[repr(u8)]
        #[allow(missing_docs, reason = "the names are the manual's")]
        pub enum VecOp { $( $(#[$doc])* $name, )* }

        impl VecOp {
            /// Every operation, in order of its number.
            pub const ALL: &'static [VecOp] = &[$(VecOp::$name),*];

            /// Its name in IR text.
            pub const fn name(self) -> &'static str {
                match self { $(VecOp::$name => $text,)* }
            }

            /// The operation with number `n`.
            pub fn from_number(n: u32) -> Option<Self> {
                Self::ALL.get(n as usize).copied()
            }
        }
    };
}

vecops! {
    // Bitwise: Vec2.
    Pand = "pand"; Pandn = "pandn"; Por = "por"; Pxor = "pxor";
    // Integer arithmetic: Vec2.
    Paddb = "paddb"; Paddw = "paddw"; Paddd = "paddd"; Paddq = "paddq";
    Psubb = "psubb"; Psubw = "psubw"; Psubd = "psubd"; Psubq = "psubq";
    Paddsb = "paddsb"; Paddsw = "paddsw"; Paddusb = "paddusb"; Paddusw = "paddusw";
    Psubsb = "psubsb"; Psubsw = "psubsw"; Psubusb = "psubusb"; Psubusw = "psubusw";
    Pmullw = "pmullw"; Pmulhw = "pmulhw"; Pmulhuw = "pmulhuw"; Pmuludq = "pmuludq"; Pmaddwd = "pmaddwd";
    Psadbw = "psadbw"; Pavgb = "pavgb"; Pavgw = "pavgw";
    Pminub = "pminub"; Pmaxub = "pmaxub"; Pminsw = "pminsw"; Pmaxsw = "pmaxsw";
    Pminsb = "pminsb"; Pmaxsb = "pmaxsb"; Pminuw = "pminuw"; Pmaxuw = "pmaxuw";
    Pminsd = "pminsd"; Pmaxsd = "pmaxsd"; Pminud = "pminud"; Pmaxud = "pmaxud";
    Pmulld = "pmulld"; Pmuldq = "pmuldq"; Pmulhrsw = "pmulhrsw"; Pmaddubsw = "pmaddubsw";
    Phaddw = "phaddw"; Phaddd = "phaddd"; Phaddsw = "phaddsw";
    Phsubw = "phsubw"; Phsubd = "phsubd"; Phsubsw = "phsubsw";
    Psignb = "psignb"; Psignw = "psignw"; Psignd = "psignd";
    // One operand: Vec1.
    Pabsb = "pabsb"; Pabsw = "pabsw"; Pabsd = "pabsd";
    // Comparisons: Vec2.
    Pcmpeqb = "pcmpeqb"; Pcmpeqw = "pcmpeqw"; Pcmpeqd = "pcmpeqd"; Pcmpeqq = "pcmpeqq";
    Pcmpgtb = "pcmpgtb"; Pcmpgtw = "pcmpgtw"; Pcmpgtd = "pcmpgtd"; Pcmpgtq = "pcmpgtq";
    // Shifts by the low quadword of b: Vec2. By `imm`: Vec1.
    Psllw = "psllw"; Pslld = "pslld"; Psllq = "psllq";
    Psrlw = "psrlw"; Psrld = "psrld"; Psrlq = "psrlq"; Psraw = "psraw"; Psrad = "psrad";
    /// Bytes left by `imm`: Vec1.
    Pslldq = "pslldq";
    /// Bytes right by `imm`: Vec1.
    Psrldq = "psrldq";
    // Shuffles. With `imm`: Vec1 for pshufd/lw/hw; Vec2 for the others.
    Pshufd = "pshufd"; Pshuflw = "pshuflw"; Pshufhw = "pshufhw"; Pshufb = "pshufb";
    Shufps = "shufps"; Shufpd = "shufpd"; Palignr = "palignr";
    Punpcklbw = "punpcklbw"; Punpcklwd = "punpcklwd"; Punpckldq = "punpckldq"; Punpcklqdq = "punpcklqdq";
    Punpckhbw = "punpckhbw"; Punpckhwd = "punpckhwd"; Punpckhdq = "punpckhdq"; Punpckhqdq = "punpckhqdq";
    Packsswb = "packsswb"; Packssdw = "packssdw"; Packuswb = "packuswb"; Packusdw = "packusdw";
    /// Blends by the immediate: Vec2.
    Pblendw = "pblendw";
    /// Blend by the sign bits of c: Vec3.
    Pblendvb = "pblendvb";
    // Widening moves from the low bytes: Vec1.
    Pmovsxbw = "pmovsxbw"; Pmovsxbd = "pmovsxbd"; Pmovsxbq = "pmovsxbq";
    Pmovsxwd = "pmovsxwd"; Pmovsxwq = "pmovsxwq"; Pmovsxdq = "pmovsxdq";
    Pmovzxbw = "pmovzxbw"; Pmovzxbd = "pmovzxbd"; Pmovzxbq = "pmovzxbq";
    Pmovzxwd = "pmovzxwd"; Pmovzxwq = "pmovzxwq"; Pmovzxdq = "pmovzxdq";
    /// Sign mask of the bytes: Vec1, result I32.
    Pmovmskb = "pmovmskb";
    /// Sign mask of the singles: Vec1, result I32.
    Movmskps = "movmskps";
    /// Sign mask of the doubles: Vec1, result I32.
    Movmskpd = "movmskpd";
    /// Integer I32 or I64 a into the low lane, the rest zero: Vec1, result V128.
    FromInt = "fromint";
    /// Lane `imm` (counted in lanes of the result's integer type) of a: Vec1, result I8 to I64.
    Lane = "lane";
    /// a with lane `imm` replaced by integer b: Vec2.
    SetLane = "setlane";
    /// Low quadword of b over the high quadword of a... as MOVSD xmm, xmm: a with its low 64 bits from b: Vec2.
    Movsd = "movsd";
    /// a with its low 32 bits from b, as MOVSS xmm, xmm: Vec2.
    Movss = "movss";
    /// Low 64 bits of a, the rest zero: Vec1.
    ZeroHigh = "zerohigh";
    // Floating point under MXCSR: Fp. Scalar forms keep the upper lanes of a.
    Addss = "addss"; Addsd = "addsd"; Addps = "addps"; Addpd = "addpd";
    Subss = "subss"; Subsd = "subsd"; Subps = "subps"; Subpd = "subpd";
    Mulss = "mulss"; Mulsd = "mulsd"; Mulps = "mulps"; Mulpd = "mulpd";
    Divss = "divss"; Divsd = "divsd"; Divps = "divps"; Divpd = "divpd";
    Minss = "minss"; Minsd = "minsd"; Minps = "minps"; Minpd = "minpd";
    Maxss = "maxss"; Maxsd = "maxsd"; Maxps = "maxps"; Maxpd = "maxpd";
    /// Square roots take the source in b; scalar forms keep the upper lanes of a.
    Sqrtss = "sqrtss"; Sqrtsd = "sqrtsd"; Sqrtps = "sqrtps"; Sqrtpd = "sqrtpd";
    /// Comparisons with predicate `imm`: 0 to 7, and to 31 on hosts whose emitter puts VCMPPS and its kin so.
    Cmpss = "cmpss"; Cmpsd = "cmpsd"; Cmpps = "cmpps"; Cmppd = "cmppd";
    /// Ordered and unordered comparison of the low lanes of a and b; the result is Flags.
    Comiss = "comiss"; Comisd = "comisd"; Ucomiss = "ucomiss"; Ucomisd = "ucomisd";
    /// Conversions: a is the destination's old value, b the source (a vector, or an integer for si2).
    Cvtss2sd = "cvtss2sd"; Cvtsd2ss = "cvtsd2ss"; Cvtps2pd = "cvtps2pd"; Cvtpd2ps = "cvtpd2ps";
    Cvtdq2ps = "cvtdq2ps"; Cvtdq2pd = "cvtdq2pd"; Cvtps2dq = "cvtps2dq"; Cvttps2dq = "cvttps2dq";
    Cvtpd2dq = "cvtpd2dq"; Cvttpd2dq = "cvttpd2dq";
    Cvtsi2ss = "cvtsi2ss"; Cvtsi2sd = "cvtsi2sd";
    /// To integer: b is the vector (a equals b), the result type I32 or I64.
    Cvtss2si = "cvtss2si"; Cvtsd2si = "cvtsd2si"; Cvttss2si = "cvttss2si"; Cvttsd2si = "cvttsd2si";
}
