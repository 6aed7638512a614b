//! Random blocks and processors to run them on.

use emu_core::addr::PhysAddr;
use emu_core::cpu::{Cpu, Wiring};
use emu_core::cpu_box::CpuBox;
use emu_core::features::Features;
use emu_core::ir::{Block, BlockKey, Cc, Inst, Op, StateField, Type, Value, VecOp};
use emu_core::mem::PhysMem;
use emu_core::state::bits::{cr0, efer, rflags};
use emu_core::state::{Mode, SegReg};

/// xorshift64*.
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() >> 33) as usize % n
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    /// A number that is often a corner.
    pub fn number(&mut self) -> u64 {
        match self.below(6) {
            0 => self.next(),
            1 => self.next() & 0xff,
            2 => 1u64.rotate_left(self.next() as u32),
            3 => u64::MAX << self.below(64),
            4 => u64::MAX >> self.below(64),
            _ => self.next() & 3,
        }
    }
}

const INTS: [Type; 4] = [Type::I8, Type::I16, Type::I32, Type::I64];

struct Gen<'a> {
    r: &'a mut Rng,
    b: Block,
    /// Values by type: the four integers, Bool, Flags, V128.
    pool: [Vec<Value>; 7],
    /// The address that was made last.
    near: Option<Value>,
}

fn slot(ty: Type) -> usize {
    match ty {
        Type::I8 => 0,
        Type::I16 => 1,
        Type::I32 => 2,
        Type::I64 => 3,
        Type::Bool => 4,
        Type::Flags => 5,
        _ => 6,
    }
}

impl Gen<'_> {
    fn keep(&mut self, v: Value) {
        let ty = self.b.def(v).result();
        self.pool[slot(ty)].push(v);
    }

    /// A value of type `ty`, made now or earlier.
    fn any(&mut self, ty: Type) -> Value {
        let n = self.pool[slot(ty)].len();
        if n != 0 && !self.r.one_in(3) {
            // Recent values are likelier.
            let k = self.r.below(n.min(8));
            return self.pool[slot(ty)][n - 1 - k];
        }
        let v = self.fresh(ty);
        self.keep(v);
        v
    }

    fn fresh(&mut self, ty: Type) -> Value {
        let n = self.r.below(6);
        match ty {
            Type::Bool => {
                let f = self.any(Type::Flags);
                let cc = self.r.pick(&Cc::ALL);
                self.b.test_cc(cc, f)
            }
            Type::Flags if self.pool[slot(Type::I32)].is_empty() || n < 3 => self.b.get_flags(),
            Type::Flags => {
                let v = self.any(Type::I32);
                self.b.op(Op::UnpackFlags, ty, &[v])
            }
            Type::V128 => self.b.op_imm(Op::GetVec, ty, &[], n as i64 & 3, 0),
            _ if self.r.one_in(3) => {
                let n = self.r.number();
                self.b.iconst(ty, ty.truncate(n))
            }
            _ if self.r.one_in(8) => self.b.op_imm(Op::CodeWord, ty, &[], n as i64, 0),
            Type::I8 if n < 3 => self.b.op_imm(Op::GetRegHi, ty, &[], n as i64, 0),
            _ => self.b.get_reg(ty, n),
        }
    }

    fn op(&mut self, op: Op, ty: Type, args: &[Type]) -> Value {
        let args: Vec<_> = args.iter().map(|&t| self.any(t)).collect();
        self.b.op(op, ty, &args)
    }

    fn pure(&mut self) {
        use Op::*;
        let ty = self.r.pick(&INTS);
        let (i8, i64, bool, flags, vec) = (Type::I8, Type::I64, Type::Bool, Type::Flags, Type::V128);
        let v = match self.r.below(14) {
            0..=2 => {
                let op = self.r.pick(&[Add, Sub, And, Or, Xor, Mul, MulHiU, MulHiS]);
                self.op(op, ty, &[ty, ty])
            }
            3 => {
                let (op, ty) = match self.r.below(8) {
                    0 => (Adcx, self.r.pick(&[Type::I32, i64])),
                    1 => (Adox, self.r.pick(&[Type::I32, i64])),
                    _ => (self.r.pick(&[Adc, Sbb, BitTest]), ty),
                };
                self.op(op, ty, &[ty, ty, flags])
            }
            4 | 5 => {
                let op = self.r.pick(&[Shl, Shr, Sar, Rol, Ror, Rcl, Rcr]);
                self.op(op, ty, &[ty, i8, flags])
            }
            6 => {
                let op = self.r.pick(&[Not, Neg, Popcnt]);
                self.op(op, ty, &[ty])
            }
            7 => {
                let op = self.r.pick(&[Clz, Ctz]);
                self.op(op, ty, &[ty, flags])
            }
            8 => {
                let to = self.r.pick(&INTS);
                let op = self.r.pick(&[ZExt, SExt]);
                match to.bits().cmp(&ty.bits()) {
                    std::cmp::Ordering::Less => self.op(Trunc, to, &[ty]),
                    std::cmp::Ordering::Equal => return,
                    std::cmp::Ordering::Greater => self.op(op, to, &[ty]),
                }
            }
            9 => {
                let op = self.r.pick(&[CmpEq, CmpNe, CmpUlt, CmpUle, CmpSlt, CmpSle]);
                self.op(op, bool, &[ty, ty])
            }
            10 => self.op(Select, ty, &[bool, ty, ty]),
            11 => {
                let v = self.op(Lea, i64, &[i64, i64]);
                let at = v.index();
                self.b.insts[at].imm = i64::from(Type::I64.bits()) * self.r.below(9) as i64 - 100;
                self.b.insts[at].aux = self.r.below(4) as u32;
                v
            }
            12 => {
                let v = self.op(Vec2, vec, &[vec, vec]);
                let op = self.r.pick(&[VecOp::Paddb, VecOp::Pxor, VecOp::Pshufb, VecOp::Pcmpgtd]);
                self.b.insts[v.index()].aux = op as u32;
                v
            }
            _ => {
                let v = self.op(Vec1, vec, &[i64]);
                self.b.insts[v.index()].aux = VecOp::FromInt as u32;
                v
            }
        };
        self.keep(v);
        if self.b.def(v).op.sets_flags() && !self.r.one_in(3) {
            let f = self.b.flags_of(v);
            self.keep(f);
        }
        if self.r.one_in(4) {
            let v = if self.r.one_in(2) {
                self.op(SelectFlags, flags, &[bool, flags, flags])
            } else {
                let v = self.op(MergeFlags, flags, &[flags, flags]);
                self.b.insts[v.index()].imm = self.r.next() as i64 & rflags::STATUS as i64;
                v
            };
            self.keep(v);
        }
        if self.r.one_in(20) {
            let v = self.op(PackFlags, Type::I32, &[flags]);
            self.keep(v);
        }
    }

    /// A linear address: in RAM, or now and then one that faults.
    fn address(&mut self) -> Value {
        if let Some(near) = self.near
            && self.r.one_in(2)
        {
            let imm = self.r.below(280) as i64 - 60;
            let none = Value::NONE;
            return self.b.push(Inst { op: Op::Lea, ty: Type::I64, aux: 0, args: [near, none, none], imm });
        }
        if self.r.one_in(6) {
            // In a table, by a byte.
            let x = self.any(Type::I8);
            let x = self.b.op(Op::ZExt, Type::I64, &[x]);
            let (aux, imm) = (self.r.below(4) as u32, self.r.pick(&[0x1100, 0x1100, 0x2f00, 0x3456]));
            return self.b.push(Inst {
                op: Op::Lea,
                ty: Type::I64,
                aux,
                args: [Value::NONE, x, Value::NONE],
                imm,
            });
        }
        let x = self.any(Type::I64);
        let m = self.b.iconst(Type::I64, 0x3fff);
        let x = self.b.op(Op::And, Type::I64, &[x, m]);
        if self.r.one_in(8) {
            let far = self.b.iconst(Type::I64, 1 << 60);
            return self.b.op(Op::Or, Type::I64, &[x, far]);
        }
        self.near = Some(x);
        x
    }

    fn faulting(&mut self) {
        let ty = self.r.pick(&[Type::I8, Type::I16, Type::I32, Type::I64, Type::V128]);
        let v = if self.r.one_in(6) && ty != Type::V128 {
            let op = self.r.pick(&[Op::DivU, Op::RemU, Op::DivS, Op::RemS]);
            self.op(op, ty, &[ty, ty, ty])
        } else {
            let a = self.address();
            self.b.op(Op::Load, ty, &[a])
        };
        self.keep(v);
    }

    fn write(&mut self) {
        let ty = self.r.pick(&INTS);
        let n = self.r.below(6);
        match self.r.below(8) {
            0..=2 => {
                let v = self.any(ty);
                self.b.set_reg(ty, n, v);
            }
            3 => {
                let v = self.any(Type::I8);
                self.b.op_imm(Op::SetRegHi, Type::I8, &[v], n as i64 & 3, 0);
            }
            4 => {
                let v = self.any(Type::V128);
                self.b.op_imm(Op::SetVec, Type::V128, &[v], n as i64 & 3, 0);
            }
            5 if n == 0 => {
                let v = self.any(Type::I64);
                self.b.op_imm(Op::SetState, Type::I64, &[v], StateField::Cr2 as i64, 0);
            }
            _ => {
                let f = self.any(Type::Flags);
                self.b.set_flags(f);
            }
        }
    }
}

/// A block of up to eight instructions with loads, stores, divisions and side exits among them.
pub fn block(r: &mut Rng) -> Block {
    let key = BlockKey { phys: PhysAddr(0x5000), rip: 0x5000, mode: Mode(0) };
    let b = Block { ram: Some(5), ..Block::new(key) };
    let mut g = Gen { r, b, pool: Default::default(), near: None };
    let n = 1 + g.r.below(8) as u32;
    for k in 0..n {
        g.b.op_imm(Op::Guest, Type::Void, &[], 4 * i64::from(k), 4);
        for _ in 0..g.r.below(5) {
            g.pure();
        }
        if g.r.one_in(2) {
            g.faulting();
        }
        for _ in 0..g.r.below(3) {
            g.pure();
        }
        if g.r.one_in(3) {
            let ty = g.r.pick(&[Type::I8, Type::I32, Type::I64, Type::V128]);
            let (a, v) = (g.address(), g.any(ty));
            g.b.op(Op::Store, ty, &[a, v]);
        }
        for _ in 0..g.r.below(4) {
            g.write();
        }
        if g.r.one_in(12) {
            let c = g.any(Type::Bool);
            g.b.op_imm(Op::ExitIf, Type::Void, &[c], 0x100 + i64::from(k), 0);
        } else if g.r.one_in(12) {
            // Past a computed jump, or to wherever it may be.
            let to = g.any(Type::I64);
            let c = if g.r.one_in(2) {
                let on = g.b.op_imm(Op::Pc, Type::I64, &[], 0x40, 0);
                g.b.op(Op::CmpNe, Type::Bool, &[to, on])
            } else {
                g.any(Type::Bool)
            };
            g.b.op(Op::ExitIf, Type::Void, &[c, to]);
        }
    }
    let c = g.any(Type::Bool);
    g.b.op_imm(Op::Branch, Type::Void, &[c], 0x40, 0x80);
    g.b.guest_insns = n;
    g.b.guest_len = 4 * n;
    g.b
}

/// Bytes of RAM of [`cpu`].
const RAM: usize = 32 << 10;

/// A processor in 64-bit code without paging, with random registers and memory.
pub fn cpu(r: &mut Rng) -> CpuBox {
    let mem = PhysMem::new(RAM as u64).unwrap();
    let bytes: Vec<u8> = (0..RAM).map(|_| r.next() as u8).collect();
    assert!(mem.write(PhysAddr(0), &bytes));
    let mut cpu = Cpu::new(Wiring::bare(mem), Features::max(), 0);
    cpu.state.cr0 |= cr0::PE;
    cpu.state.efer = efer::LMA | efer::LME;
    cpu.state.seg[1] = SegReg { sel: 8, attr: 0xa09b, limit: u32::MAX, base: 0 };
    cpu.mode_changed();
    for i in 0..16 {
        cpu.state.gpr[i] = r.number();
    }
    for i in 0..4 {
        cpu.state.vec[i].set_xmm(u128::from(r.next()) << 64 | u128::from(r.number()));
    }
    cpu.state.rflags = 2 | r.next() & rflags::STATUS;
    cpu
}

/// Everything that a block can have changed.
pub fn snapshot(cpu: &Cpu) -> String {
    let s = &cpu.state;
    let mut ram = vec![0; RAM];
    assert!(cpu.mem.read(PhysAddr(0), &mut ram));
    let sum = ram.iter().fold(0u64, |h, &b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
    let (vec, n) = (&s.vec[..4], s.icount);
    let mx = s.mxcsr;
    format!("{:x?} {:x} {:x} {:x} {n} {vec:x?} mxcsr={mx:x} ram={sum:x}", s.gpr, s.rip, s.rflags, s.cr2)
}
