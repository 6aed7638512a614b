//! Chooses the kernel modules a small guest needs and writes the indexes `modprobe` reads.
//!
//! What `depmod` would do, for a chosen few: dependencies come from each module's own `.modinfo` section, so
//! that the set is right for whatever the kernel package has as a module or built in.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use goblin::elf::Elf;

use super::apt::{complaint, output_of};
use crate::guests::GuestError;

/// Modules to include, with everything they depend on, when the kernel has them as modules.
pub const WANTED: &str = "virtio_pci virtio_blk virtio_net virtio_console virtio_rng virtio_balloon \
                          ext4 overlay crc32c_generic crc32c_intel";

/// One chosen module.
#[derive(Debug)]
pub struct Module {
    /// Its path below `lib/modules/VERSION`, without compression suffix.
    pub path: String,
    /// Its ELF bytes.
    pub bytes: Vec<u8>,
    info: Info,
}

/// What a module says of itself.
#[derive(Debug, Default)]
struct Info {
    depends: Vec<String>,
    /// Names or aliases that should be loaded first.
    before: Vec<String>,
    aliases: Vec<String>,
}

/// The chosen modules by name, with underscores for hyphens.
#[derive(Debug, Default)]
pub struct Modules(BTreeMap<String, Module>);

impl Modules {
    /// Chooses from the folder `lib/modules/VERSION` of an unpacked kernel package.
    pub fn choose(folder: &Path) -> Result<Self, GuestError> {
        let mut files = BTreeMap::new();
        collect(&folder.join("kernel"), &mut files)?;
        let mut chosen = Self::default();
        let mut todo: Vec<String> = WANTED.split_whitespace().map(str::to_owned).collect();
        while let Some(name) = todo.pop() {
            // A name without a file is built in (or an alias that a chosen module answers to).
            let (Some(file), false) = (files.get(&name), chosen.0.contains_key(&name)) else { continue };
            let bytes = read(file)?;
            let info = Info::of(&bytes);
            todo.extend(info.depends.iter().chain(&info.before).cloned());
            let path = file.strip_prefix(folder).unwrap_or(file).with_extension("");
            let path = path.to_string_lossy().trim_end_matches(".ko").to_owned() + ".ko";
            chosen.0.insert(name, Module { path, bytes, info });
        }
        Ok(chosen)
    }

    /// The modules, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Module> {
        self.0.values()
    }

    /// `modules.dep`: each module with all it needs; what must be loaded first stands last.
    pub fn dependencies(&self) -> String {
        let line = |(name, module): (&String, &Module)| {
            let mut order = Vec::new();
            self.load_order(name, &mut order, &mut BTreeSet::new());
            let needed = order.iter().rev().skip(1).map(|name| format!(" {}", self.0[*name].path));
            format!("{}:{}\n", module.path, needed.collect::<String>())
        };
        self.0.iter().map(line).collect()
    }

    /// `modules.alias`: the devices and features each module answers to.
    pub fn aliases(&self) -> String {
        let lines = |(name, module): (&String, &Module)| {
            module.info.aliases.iter().map(|alias| format!("alias {alias} {name}\n")).collect::<String>()
        };
        self.0.iter().map(lines).collect()
    }

    /// `modules.softdep`: what is loaded before a module although it does not link to it.
    pub fn soft_dependencies(&self) -> String {
        let line = |(name, module): (&String, &Module)| match module.info.before.join(" ") {
            before if before.is_empty() => String::new(),
            before => format!("softdep {name} pre: {before}\n"),
        };
        self.0.iter().map(line).collect()
    }

    /// Appends `name` after everything it needs.
    fn load_order<'a>(&'a self, name: &str, order: &mut Vec<&'a str>, seen: &mut BTreeSet<&'a str>) {
        let Some((name, module)) = self.0.get_key_value(name) else { return };
        if seen.insert(name) {
            module.info.depends.iter().for_each(|needed| self.load_order(needed, order, seen));
            order.push(name);
        }
    }
}

impl Info {
    fn of(module: &[u8]) -> Self {
        let mut info = Self::default();
        for entry in modinfo(module).unwrap_or_default().split(|byte| *byte == 0) {
            let entry = String::from_utf8_lossy(entry);
            match entry.split_once('=') {
                Some(("depends", list)) => {
                    info.depends.extend(list.split(',').filter(|name| !name.is_empty()).map(normal));
                }
                Some(("softdep", list)) => {
                    let first = list.split("post:").next().unwrap_or_default();
                    info.before.extend(first.replace("pre:", "").split_whitespace().map(normal));
                }
                Some(("alias", alias)) => info.aliases.push(alias.to_owned()),
                _ => {}
            }
        }
        info
    }
}

fn modinfo(module: &[u8]) -> Option<&[u8]> {
    let elf = Elf::parse(module).ok()?;
    let is_it = |name: usize| elf.shdr_strtab.get_at(name) == Some(".modinfo");
    let range = elf.section_headers.iter().find(|header| is_it(header.sh_name))?.file_range()?;
    module.get(range)
}

/// All modules below `folder`, by name.
fn collect(folder: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<(), GuestError> {
    let error = || GuestError::io("read", folder);
    for entry in fs::read_dir(folder).map_err(error())? {
        let entry = entry.map_err(error())?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type().map_err(error())?.is_dir() {
            collect(&entry.path(), files)?;
        } else if let Some((stem, _)) = name.split_once(".ko") {
            files.insert(normal(stem), entry.path());
        }
    }
    Ok(())
}

/// Reads a module, which newer Debian kernels keep compressed.
fn read(file: &Path) -> Result<Vec<u8>, GuestError> {
    if file.extension().is_some_and(|e| e == "xz") {
        let output = output_of(Command::new("xz").arg("-dc").arg(file), "xz")?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        return Err(GuestError::ToolFailed { tool: "xz -dc".into(), reason: complaint(&output) });
    }
    fs::read(file).map_err(GuestError::io("read", file))
}

/// Module names treat hyphens and underscores alike.
fn normal(name: &str) -> String {
    name.trim().replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(path: &str, depends: &[&str]) -> Module {
        let depends = depends.iter().map(|d| (*d).to_owned()).collect();
        Module { path: path.into(), bytes: Vec::new(), info: Info { depends, ..Info::default() } }
    }

    #[test]
    fn what_is_loaded_first_stands_last() {
        let mut all = Modules::default();
        all.0.insert("a".into(), module("a.ko", &["b", "c"]));
        all.0.insert("b".into(), module("b.ko", &["c", "built_in"]));
        all.0.insert("c".into(), module("c.ko", &[]));
        assert_eq!(all.dependencies(), "a.ko: b.ko c.ko\nb.ko: c.ko\nc.ko:\n");
    }

    #[test]
    fn a_cycle_of_dependencies_ends() {
        let mut all = Modules::default();
        all.0.insert("a".into(), module("a.ko", &["b"]));
        all.0.insert("b".into(), module("b.ko", &["a"]));
        assert_eq!(all.dependencies().lines().count(), 2);
    }

    #[test]
    fn a_module_that_is_no_elf_needs_nothing() {
        let info = Info::of(b"garbage");
        assert!(info.depends.is_empty() && info.aliases.is_empty());
    }
}
