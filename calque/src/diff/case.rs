//! A case: code and the state it starts from, and its form as text.

use std::fmt::Write;

/// One experiment. Everything else that matters follows from the scene.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// Number of the scene in [`super::scene::SCENES`].
    pub scene: usize,
    /// Rights of the data pages and the like: see [`super::scene`].
    pub layout: u32,
    /// Offset of the code in its first page.
    pub at: u64,
    /// The instructions.
    pub code: Vec<Vec<u8>>,
    /// General registers.
    pub gpr: [u64; 16],
    /// RFLAGS.
    pub rflags: u64,
    /// Low halves of the vector registers.
    pub xmm: [[u64; 2]; 16],
    /// Bits 128 to 255 of the vector registers.
    pub upper: [[u64; 2]; 16],
    /// MXCSR.
    pub mxcsr: u32,
    /// x87 registers as (significand, sign and exponent).
    pub st: [(u64, u16); 8],
    /// x87 control, status and (abridged) tag words.
    pub fpu: [u16; 3],
    /// Bytes in guest-physical memory.
    pub patches: Vec<(u64, Vec<u8>)>,
    /// Translation caches start empty.
    pub cold: bool,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(text.get(i..i + 2)?, 16).ok()).collect()
}

fn number(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok()
}

fn array<const N: usize>(words: &[&str]) -> Option<[u64; N]> {
    let all: Option<Vec<u64>> = words.iter().map(|w| number(w)).collect();
    all?.try_into().ok()
}

impl Case {
    /// As text: a line for each part, numbers in hexadecimal.
    pub fn to_text(&self) -> String {
        let mut t = String::new();
        let name = super::scene::SCENES[self.scene].name;
        let _ = writeln!(t, "scene {name}\nlayout {:x}\nat {:x}", self.layout, self.at);
        let code: Vec<_> = self.code.iter().map(|c| hex(c)).collect();
        let _ = writeln!(t, "code {}", code.join(" "));
        let list = |words: &[u64]| words.iter().map(|w| format!("{w:x}")).collect::<Vec<_>>().join(" ");
        let _ = writeln!(t, "gpr {}\nrflags {:x}", list(&self.gpr), self.rflags);
        if self.xmm != [[0; 2]; 16] {
            let _ = writeln!(t, "xmm {}", list(self.xmm.as_flattened()));
        }
        if self.upper != [[0; 2]; 16] {
            let _ = writeln!(t, "upper {}", list(self.upper.as_flattened()));
        }
        let _ = writeln!(t, "mxcsr {:x}", self.mxcsr);
        let st: Vec<u64> = self.st.iter().flat_map(|s| [s.0, s.1.into()]).collect();
        let _ = writeln!(t, "st {}\nfpu {}", list(&st), list(&self.fpu.map(u64::from)));
        for (at, bytes) in &self.patches {
            let _ = writeln!(t, "mem {at:x} {}", hex(bytes));
        }
        if self.cold {
            t.push_str("cold\n");
        }
        t
    }

    /// From text. Lines that begin with `#` say nothing.
    ///
    /// # Errors
    /// The first line that cannot be understood, or what is missing.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut case = Self::empty();
        let mut missing = vec!["scene", "code"];
        for (n, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if case.line(line).is_none() {
                let shown: String = line.chars().take(80).collect();
                return Err(format!("line {}: not understood: {shown}", n + 1));
            }
            missing.retain(|key| line.split_whitespace().next() != Some(key));
        }
        match missing.first() {
            Some(key) => Err(format!("there is no line '{key}'")),
            None => Ok(case),
        }
    }

    /// A case without code and with everything zero.
    pub fn empty() -> Self {
        Self {
            scene: 0,
            layout: 0,
            at: 0,
            code: Vec::new(),
            gpr: [0; 16],
            rflags: 2,
            xmm: [[0; 2]; 16],
            upper: [[0; 2]; 16],
            mxcsr: 0x1f80,
            st: [(0, 0); 8],
            fpu: [0x37f, 0, 0],
            patches: Vec::new(),
            cold: true,
        }
    }

    fn line(&mut self, line: &str) -> Option<()> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (key, rest) = words.split_first()?;
        match (*key, rest) {
            ("scene", [name]) => self.scene = super::scene::SCENES.iter().position(|s| s.name == *name)?,
            ("layout", [n]) => self.layout = number(n)?.try_into().ok()?,
            ("at", [n]) => self.at = number(n).filter(|at| *at < 0x1000)?,
            ("code", list) => {
                self.code = list.iter().map(|w| unhex(w)).collect::<Option<_>>()?;
                // With room for the first page's offset.
                (self.bytes().len() as u64 <= super::scene::CODE_LEN - 0x1000).then_some(())?;
            }
            ("gpr", list) => self.gpr = array(list)?,
            ("rflags", [n]) => self.rflags = number(n)?,
            ("xmm", list) => {
                let flat: [u64; 32] = array(list)?;
                self.xmm = std::array::from_fn(|i| [flat[2 * i], flat[2 * i + 1]]);
            }
            ("upper", list) => {
                let flat: [u64; 32] = array(list)?;
                self.upper = std::array::from_fn(|i| [flat[2 * i], flat[2 * i + 1]]);
            }
            ("mxcsr", [n]) => self.mxcsr = number(n)?.try_into().ok()?,
            ("st", list) => {
                let flat: [u64; 16] = array(list)?;
                for (st, pair) in self.st.iter_mut().zip(flat.chunks_exact(2)) {
                    *st = (pair[0], pair[1].try_into().ok()?);
                }
            }
            ("fpu", list) => {
                for (word, n) in self.fpu.iter_mut().zip(array::<3>(list)?) {
                    *word = n.try_into().ok()?;
                }
            }
            ("mem", [at, bytes]) => {
                let (at, bytes) = (number(at)?, unhex(bytes)?);
                let end = at.checked_add(bytes.len() as u64)?;
                (end <= super::scene::RAM as u64).then_some(())?;
                self.patches.push((at, bytes));
            }
            ("cold", []) => self.cold = true,
            ("warm", []) => self.cold = false,
            _ => return None,
        }
        Some(())
    }

    /// The instructions one after the other.
    pub fn bytes(&self) -> Vec<u8> {
        self.code.concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        let mut case = Case::empty();
        case.scene = 1;
        case.code = vec![vec![0x90], vec![0x48, 1, 0xd8]];
        case.gpr[3] = u64::MAX;
        case.xmm[15] = [1, 2];
        case.st[7] = (1 << 63, 0x3fff);
        case.patches.push((0x2_0000, vec![1, 2, 3]));
        assert_eq!(Case::parse(&case.to_text()), Ok(case));
        for (bad, word) in [
            ("gpr 1 2", "line 1"),
            ("", "'scene'"),
            ("scene host64", "'code'"),
            ("scene host64\ncode 90\nat 1000", "line 3"),
            ("scene host64\ncode 9", "line 2"),
            ("scene host64\ncode 90\nmem 3ffff 0000", "line 3"),
            ("scene host64\ncode 90\nfpu 37f 0 10000", "line 3"),
        ] {
            let error = Case::parse(bad).unwrap_err();
            assert!(error.contains(word), "{bad}: {error}");
        }
    }
}
