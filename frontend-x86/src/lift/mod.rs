//! What each instruction means, by group. A group's `lift` is called with its own mnemonics alone.

mod alu;
mod avx;
mod bits;
mod bmi;
mod branch;
mod mov;
mod muldiv;
mod pair;
mod shift;
mod sse;
mod stack;
mod string;
mod system;
mod x87;

use crate::operand::{Cx, Lift};
use iced_x86::Mnemonic as M;

/// Lifts one instruction behind its marker.
pub(crate) fn lift(cx: &mut Cx) -> Lift {
    match cx.i.mnemonic() {
        M::Add | M::Sub | M::Adc | M::Sbb | M::And | M::Or | M::Xor | M::Cmp | M::Test => alu::binary(cx),
        M::Inc | M::Dec | M::Neg | M::Not => alu::unary(cx),
        M::Xadd | M::Cmpxchg => alu::exchange(cx),
        M::Cmpxchg8b | M::Cmpxchg16b => pair::compare_exchange(cx),
        M::Shl | M::Sal | M::Shr | M::Sar | M::Rol | M::Ror | M::Rcl | M::Rcr => shift::shift(cx),
        M::Shld | M::Shrd => shift::double(cx),
        M::Mul | M::Imul | M::Div | M::Idiv => muldiv::lift(cx),
        M::Bt | M::Bts | M::Btr | M::Btc => bits::test(cx),
        M::Andn
        | M::Blsr
        | M::Blsmsk
        | M::Blsi
        | M::Bzhi
        | M::Mulx
        | M::Rorx
        | M::Shlx
        | M::Shrx
        | M::Sarx
        | M::Adcx
        | M::Adox => bmi::lift(cx),
        M::Bsf | M::Bsr | M::Tzcnt | M::Lzcnt | M::Popcnt => bits::scan(cx),
        M::Mov
        | M::Movzx
        | M::Movsx
        | M::Movsxd
        | M::Lea
        | M::Xchg
        | M::Bswap
        | M::Movbe
        | M::Movnti
        | M::Cbw
        | M::Cwde
        | M::Cdqe
        | M::Cwd
        | M::Cdq
        | M::Cqo => mov::lift(cx),
        M::Push | M::Pop | M::Leave | M::Pushf | M::Pushfd | M::Pushfq => stack::lift(cx),
        M::Call | M::Ret | M::Jmp | M::Loop | M::Loope | M::Loopne | M::Jcxz | M::Jecxz | M::Jrcxz => {
            branch::lift(cx)
        }
        M::Movsb | M::Movsw | M::Movsd | M::Movsq if string::is_string(cx) => string::movs(cx),
        M::Stosb | M::Stosw | M::Stosd | M::Stosq => string::stos(cx),
        M::Lodsb | M::Lodsw | M::Lodsd | M::Lodsq => string::lods(cx),
        M::Scasb | M::Scasw | M::Scasd | M::Scasq => string::scas(cx),
        M::Cmpsb | M::Cmpsw | M::Cmpsd | M::Cmpsq if string::is_string(cx) => string::cmps(cx),
        M::Cmc
        | M::Clc
        | M::Stc
        | M::Cld
        | M::Std
        | M::Lahf
        | M::Sahf
        | M::Nop
        | M::Reservednop
        | M::Pause
        | M::Endbr32
        | M::Endbr64
        | M::Prefetch
        | M::Prefetchw
        | M::Prefetchwt1
        | M::Prefetchnta
        | M::Prefetcht0
        | M::Prefetcht1
        | M::Prefetcht2
        | M::Mfence
        | M::Lfence
        | M::Sfence => system::lift(cx),
        M::Rdpkru => system::rdpkru(cx),
        M::Rdfsbase | M::Rdgsbase | M::Wrfsbase | M::Wrgsbase => system::segment_base(cx),
        M::Syscall | M::Sysretq | M::Iretq => system::transfer(cx),
        M::Cli | M::Sti | M::Clac | M::Stac | M::Swapgs | M::Rdtsc | M::Rdtscp => system::privileged(cx),
        _ => {
            if cx.i.condition_code() != iced_x86::ConditionCode::None {
                return match cx.i.mnemonic() {
                    _ if cx.i.is_jcc_short_or_near() => branch::jcc(cx),
                    _ if cx.i.op_count() == 1 => mov::setcc(cx),
                    _ => mov::cmov(cx),
                };
            }
            match x87::opcode(cx) {
                Some(aux) => x87::lift(cx, aux),
                None if avx::is_vex(cx) => avx::lift(cx),
                None => sse::lift(cx),
            }
        }
    }
}
