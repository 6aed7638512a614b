//! Random cases: instructions of every form that the decoder knows, and states in which they matter.

mod insn;
mod state;

use super::case::Case;
use super::explain;
use super::native::HostFlags;
use super::rng::Rng;
use super::scene::{CODE, SCENES, Scene};
use emu_core::addr::PhysAddr;
use emu_core::features::Features;
use emu_core::ir::{BlockKey, Op};
use emu_core::state::Mode;
use frontend_x86::{Lifted, lift_bytes};
use iced_x86::{Code, CpuidFeature, Decoder, DecoderOptions, Instruction};
use insn::{Made, instruction, link, mutate};
use serde::{Deserialize, Serialize};
use state::state;

/// Cases of a group: one scene and layout, a few encodings, many values for each.
pub const GROUP: u64 = 512;
/// Values tried on one encoding.
const VALUES: u64 = 16;

/// What cases are made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Family {
    /// The engines: every mode, every instruction, descriptor tables and handlers.
    Engines,
    /// The host's processor: user code, without what belongs to the system.
    Host,
}

/// Generates cases for one seed.
#[derive(Debug)]
pub struct Generator {
    family: Family,
    /// Scenes that are in use.
    scenes: Vec<usize>,
    /// Forms by width of code (16, 32, 64): all that the processor offers, and those that are translated.
    pools: [Pools; 3],
    lacking: Vec<Code>,
}

#[derive(Debug, Default)]
struct Pools {
    all: Vec<Code>,
    /// For sequences: translated, or for the host's processor with nothing undefined that could spread.
    lifted: Vec<Code>,
}

fn width_index(bits: u32) -> usize {
    bits as usize / 32
}

/// Whether the processor has the instruction.
pub(super) fn offered(code: Code) -> bool {
    let mut i = Instruction::default();
    i.set_code(code);
    interp::features::offered(&Features::max(), &i)
}

/// Whether the host has the instruction, as far as Linux's names of features tell.
pub(super) fn host_has(flags: &HostFlags, code: Code) -> bool {
    use CpuidFeature as F;
    code.cpuid_features().iter().all(|f| match f {
        F::SSE3 => flags.has("pni"),
        F::CX8 => flags.has("cx8"),
        F::CMPXCHG16B => flags.has("cx16"),
        F::LZCNT => flags.has("abm"),
        F::PCLMULQDQ => flags.has("pclmulqdq"),
        F::SHA => flags.has("sha_ni"),
        F::CLFSH => flags.has("clflush"),
        F::CMOV => flags.has("cmov"),
        F::SSE4_1 => flags.has("sse4_1"),
        F::SSE4_2 => flags.has("sse4_2"),
        F::MMX
        | F::SSE
        | F::SSE2
        | F::SSSE3
        | F::FMA
        | F::MOVBE
        | F::POPCNT
        | F::AES
        | F::AVX
        | F::AVX2
        | F::F16C
        | F::BMI1
        | F::BMI2
        | F::ADX
        | F::SSE4A
        | F::CLFLUSHOPT
        | F::CLWB
        | F::CLZERO
        | F::VAES
        | F::VPCLMULQDQ => flags.has(&format!("{f:?}").to_lowercase()),
        _ => true,
    })
}

impl Generator {
    /// Finds out which forms there are. `host`: what the host's processor has, if it is to take part.
    pub fn new(family: Family, host: Option<&HostFlags>) -> Self {
        Self::where_there_is(family, |code| host.is_none_or(|h| host_has(h, code)))
    }

    /// The cases for a processor that lacks just these forms of those that calque offers.
    pub fn without(lacking: &[Code]) -> Self {
        Self::where_there_is(Family::Host, |code| !lacking.contains(&code))
    }

    fn where_there_is(family: Family, has: impl Fn(Code) -> bool) -> Self {
        let mut pools: [Pools; 3] = Default::default();
        let mut rng = Rng::new(1);
        let native = family == Family::Host;
        let mut lacking = Vec::new();
        for code in Code::values() {
            let info = code.op_code();
            if !info.is_instruction() || !offered(code) {
                continue;
            }
            if native && !has(code) {
                lacking.push(code);
                continue;
            }
            for (i, bits) in [16, 32, 64].into_iter().enumerate() {
                let there = match bits {
                    16 => info.mode16(),
                    32 => info.mode32(),
                    _ => info.mode64(),
                };
                if !there {
                    continue;
                }
                // The first scene of this width.
                let Some(scene) = SCENES.iter().find(|s| s.bits == bits && (!native || s.native)) else {
                    continue;
                };
                let made: Vec<_> = (0..6).filter_map(|_| instruction(&mut rng, code, scene)).collect();
                if made.is_empty() {
                    continue;
                }
                let decode = |m: &Made| Decoder::new(bits, &m.bytes, DecoderOptions::NONE).decode();
                if native && made.iter().any(|m| explain::kept_from_host(&decode(m)).is_some()) {
                    continue;
                }
                pools[i].all.push(code);
                let chosen = if native {
                    made.iter().all(|m| spreads_nothing(&decode(m)))
                } else {
                    made.iter().any(|m| lifts(&m.bytes, bits))
                };
                if chosen {
                    pools[i].lifted.push(code);
                }
            }
        }
        let scenes = (0..SCENES.len()).filter(|n| SCENES[*n].native || !native).collect();
        Self { family, scenes, pools, lacking }
    }

    /// Forms that calque offers and the host has not.
    pub fn lacking(&self) -> &[Code] {
        &self.lacking
    }

    /// How many forms there are for code of this width: offered, and of those translated.
    pub fn forms(&self, bits: u32) -> (usize, usize) {
        let p = &self.pools[width_index(bits)];
        (p.all.len(), p.lifted.len())
    }

    /// Case number `n` of the campaign with this seed: the same for ever.
    pub fn case(&self, seed: u64, n: u64) -> Case {
        self.group(seed, n / GROUP).swap_remove((n % GROUP) as usize)
    }

    /// Group number `n` of the campaign with this seed: the same for ever.
    pub fn group(&self, seed: u64, n: u64) -> Vec<Case> {
        let turn =
            &mut Rng::new(seed.wrapping_mul(0x0123_4567_89ab_cdef) ^ n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let number = turn.pick(&self.scenes);
        let layout = if turn.one_in(3) { 0 } else { turn.next() as u32 };
        let scene = &SCENES[number];
        let mut cases = Vec::with_capacity(GROUP as usize);
        for _ in 0..GROUP / VALUES {
            let mut rng = Rng::new(turn.next());
            let mut first = Case { scene: number, layout, ..Case::empty() };
            let starts = self.encoding(&mut rng, &mut first, scene);
            for i in 0..VALUES {
                let mut case = first.clone();
                case.cold = i == 0 && rng.one_in(2);
                state(&mut rng, &mut case, scene, &starts);
                cases.push(case);
            }
        }
        cases
    }

    /// Makes a case's instructions.
    fn encoding(&self, rng: &mut Rng, case: &mut Case, scene: &Scene) -> Vec<i64> {
        let single = rng.one_in(3) || self.family == Family::Host && rng.one_in(2);
        let count = if single { 1 } else { 2 + rng.below(11) };
        case.at = match rng.below(8) {
            0 => 0x1000 - 1 - rng.below(20) as u64,
            1 => 0,
            _ => rng.below(0xf00) as u64,
        };
        let pools = &self.pools[width_index(scene.bits)];
        let native = self.family == Family::Host;
        let mut made = Vec::new();
        while made.len() < count {
            let pool = if single || !native && rng.one_in(6) { &pools.all } else { &pools.lifted };
            let code = rng.pick(pool);
            let Some(mut m) = instruction(rng, code, scene) else { continue };
            mutate(rng, &mut m, scene.bits);
            if native {
                let i = Decoder::new(scene.bits, &m.bytes, DecoderOptions::NONE).decode();
                let kept = explain::kept_from_host(&i).is_some();
                if kept || !single && !spreads_nothing(&i) {
                    continue;
                }
            }
            made.push(m);
        }
        let starts = link(rng, &mut made, scene.bits);
        case.code = made.into_iter().map(|m| m.bytes).collect();
        starts
    }
}

/// Whether nothing undefined can come from an instruction and spread through a sequence.
fn spreads_nothing(i: &Instruction) -> bool {
    use iced_x86::Mnemonic as M;
    // AF of logic instructions: undefined, but the same on every processor that there is.
    let logic = matches!(i.mnemonic(), M::And | M::Or | M::Xor | M::Test);
    (logic || i.rflags_undefined() == 0)
        && !explain::approximate(i.mnemonic())
        && !(i.mnemonic() == M::Bswap && i.op_register(0).size() == 2)
}

/// Whether the front end translates the instruction.
fn lifts(bytes: &[u8], bits: u32) -> bool {
    let mode = match bits {
        64 => Mode::CODE64 | Mode::STACK32 | Mode::PROT | Mode::LMA | Mode::FLAT,
        32 => Mode::CODE32 | Mode::STACK32 | Mode::PROT | Mode::FLAT,
        _ => 0,
    };
    let key = BlockKey { phys: PhysAddr(CODE), rip: 0x100, mode: Mode(mode) };
    match lift_bytes(key, bytes, Features::max(), 1) {
        Lifted::Block(b) => b.insts.iter().any(|i| i.op == Op::Guest),
        Lifted::Interpret { .. } => false,
    }
}

/// Whether the case holds a repeated string instruction, after which the engines count instructions differently.
pub fn repeats(case: &Case) -> bool {
    let bits = SCENES[case.scene].bits;
    let code = case.bytes();
    code.iter().any(|b| matches!(b, 0xf2 | 0xf3)) && {
        // Any such bytes may be reached by a jump into the middle.
        let string = |b: &u8| matches!(b, 0x6c..=0x6f | 0xa4..=0xa7 | 0xaa..=0xaf);
        bits != 0 && code.iter().any(string)
    }
}

/// The instructions of a case, for coverage.
pub fn forms(case: &Case) -> impl Iterator<Item = Code> {
    let bits = SCENES[case.scene].bits;
    case.code.iter().filter_map(move |c| {
        let i = Decoder::new(bits, c, DecoderOptions::NONE).decode();
        (!i.is_invalid()).then(|| i.code())
    })
}
