//! The house rules of the design that a machine can check: which crate may import which, where unsafe code may
//! stand, and what the top level holds.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

/// (crate, the crates of ours that it may import).
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("emu-core", &[]),
    ("frontend-x86", &["emu-core"]),
    ("backend-jit", &["emu-core"]),
    ("interp", &["emu-core"]),
    ("devices", &["emu-core"]),
    ("calque", &["emu-core", "frontend-x86", "backend-jit", "interp", "devices"]),
];

/// The dependencies of the sections of a manifest that are compiled into the crate.
fn dependencies(manifest: &str) -> Vec<String> {
    let mut inside = false;
    let mut found = Vec::new();
    for line in manifest.lines().map(str::trim) {
        if line.starts_with('[') {
            inside = line.ends_with("dependencies]") && !line.contains("dev-dependencies");
            continue;
        }
        if inside && let Some(name) = line.split(['.', '=', ' ']).next().filter(|n| !n.is_empty()) {
            found.push(name.to_owned());
        }
    }
    found
}

#[test]
fn crates_import_only_what_the_design_allows() {
    for (name, allowed) in MAY_IMPORT {
        let path = root().join(name).join("Cargo.toml");
        let manifest = fs::read_to_string(&path).expect("a manifest");
        for dep in dependencies(&manifest) {
            let ours = MAY_IMPORT.iter().any(|(n, _)| *n == dep) || dep == "testsuite";
            assert!(!ours || allowed.contains(&dep.as_str()), "{name} must not import {dep}");
            assert!(
                dep != "anyhow" || *name == "calque",
                "{name} is a library: it uses thiserror, not anyhow"
            );
        }
    }
}

fn sources(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
}

#[test]
fn four_crates_forbid_unsafe_code() {
    for name in ["frontend-x86", "interp", "devices", "calque"] {
        let lib = fs::read_to_string(root().join(name).join("src/lib.rs")).expect("lib.rs");
        assert!(lib.contains("#![forbid(unsafe_code)]"), "{name}");
    }
}

/// Where unsafe code may stand: guest RAM and the MMU over it, the code arena, the trampolines, the helpers, and a CPUID.
const UNSAFE_HOMES: &[&str] = &[
    "emu-core/src/cpu_box.rs",
    "emu-core/src/mem.rs",
    "emu-core/src/mmu/",
    "emu-core/src/state/mod.rs",
    "backend-jit/src/arena",
    "backend-jit/src/helpers",
    "backend-jit/src/x64/trampoline",
    "backend-jit/src/x64/set",
    "backend-jit/src/aarch64/",
];

#[test]
fn unsafe_code_stands_only_in_its_homes() {
    let root = root();
    for (name, _) in MAY_IMPORT {
        let mut files = Vec::new();
        sources(&root.join(name).join("src"), &mut files);
        for file in files {
            let at = file.strip_prefix(&root).expect("inside").to_string_lossy().replace('\\', "/");
            if UNSAFE_HOMES.iter().any(|home| at.starts_with(home)) || at.contains("/tests") {
                continue;
            }
            let text = fs::read_to_string(&file).expect("source");
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            for (n, line) in code.lines().enumerate() {
                let bare = line.split("//").next().unwrap_or_default();
                let unsafe_here = ["unsafe {", "unsafe fn", "unsafe impl"].iter().any(|u| bare.contains(u));
                assert!(!unsafe_here, "{at}:{}: unsafe code outside its homes", n + 1);
            }
        }
    }
}

#[test]
fn the_top_level_holds_what_the_design_lists() {
    const ALLOWED: &[&str] = &[
        "Cargo.toml",
        "Cargo.lock",
        "README.md",
        "ARCHITECTURE.md",
        "docs",
        "emu-core",
        "frontend-x86",
        "backend-jit",
        "interp",
        "devices",
        "calque",
        "testsuite",
        "rustfmt.toml",
        "clippy.toml",
        "target",
        "fuzz",
        "LICENSE-MIT",
        "LICENSE-APACHE",
        "results",
    ];
    for entry in fs::read_dir(root()).expect("the workspace") {
        let name = entry.expect("an entry").file_name().to_string_lossy().into_owned();
        assert!(name.starts_with('.') || ALLOWED.contains(&name.as_str()), "{name} is not part of the house");
    }
}
