//! Names for guest addresses: from System.map or /proc/kallsyms as text, or from an ELF file's symbol table.

use anyhow::{Context, Result, ensure};
use std::path::Path;

/// Addresses with names, in order.
#[derive(Debug, Default)]
pub struct Symbols(Vec<(u64, String)>);

impl Symbols {
    /// Adds the symbols of `path`.
    ///
    /// # Errors
    /// When it cannot be read or names nothing.
    pub fn load(&mut self, path: &Path) -> Result<()> {
        let bytes = std::fs::read(path).with_context(|| format!("{}", path.display()))?;
        let before = self.0.len();
        match bytes.starts_with(b"\x7fELF") {
            true => self.elf(&bytes).with_context(|| format!("{}", path.display()))?,
            false => self.text(&String::from_utf8_lossy(&bytes)),
        }
        ensure!(
            self.0.len() > before,
            "{} has no symbols: give a System.map, /proc/kallsyms or an ELF file",
            path.display()
        );
        self.0.sort();
        Ok(())
    }

    /// Lines of address, type and name.
    fn text(&mut self, text: &str) {
        let symbol = |line: &str| {
            let mut words = line.split_whitespace();
            let address = u64::from_str_radix(words.next()?, 16).ok().filter(|a| *a != 0)?;
            let kind = words.next()?;
            "tTwW".contains(kind).then_some(())?;
            Some((address, words.next()?.to_owned()))
        };
        self.0.extend(text.lines().filter_map(symbol));
    }

    fn elf(&mut self, bytes: &[u8]) -> Result<()> {
        let elf = goblin::elf::Elf::parse(bytes)?;
        let functions = elf.syms.iter().filter(|s| s.is_function() && s.st_value != 0);
        let named = functions.filter_map(|s| Some((s.st_value, elf.strtab.get_at(s.st_name)?.to_owned())));
        self.0.extend(named);
        Ok(())
    }

    /// `name+offset` of the nearest symbol at or below `address`; empty if none is near.
    pub fn name(&self, address: u64) -> String {
        const NEAR: u64 = 1 << 20;
        let at = self.0.partition_point(|(a, _)| *a <= address);
        match at.checked_sub(1).map(|at| &self.0[at]) {
            Some((a, name)) if address - a < NEAR => format!("{name}+{:#x}", address - a),
            _ => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_symbol_below_names_an_address() {
        let mut symbols = Symbols::default();
        symbols.text("ffffffff81000000 T _text\nffffffff81000100 t step [module]\n0 A none\nffffffff81000180 d data\nnonsense");
        assert_eq!(symbols.name(0xffff_ffff_8100_0104), "step+0x4");
        assert_eq!(symbols.name(0xffff_ffff_8100_00ff), "_text+0xff");
        assert_eq!(symbols.name(0x1000), "");
        assert_eq!(symbols.name(0xffff_ffff_9100_0000), "");
    }
}
