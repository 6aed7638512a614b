//! The programs under test.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

/// The workspace.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace")
}

/// calque: the program `CALQUE_BIN` names, else the one of this build's own profile, built if need be.
pub fn calque() -> Command {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    let path = PATH.get_or_init(|| match std::env::var_os("CALQUE_BIN") {
        Some(path) => root().join(path),
        None => build(),
    });
    Command::new(path)
}

/// Asks cargo where the program is, which builds it when it is not up to date.
fn build() -> PathBuf {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "--package", "calque", "--bin", "calque", "--message-format=json"]);
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    let output = cargo.current_dir(root()).stderr(Stdio::inherit()).output().expect("cargo runs");
    let messages = String::from_utf8_lossy(&output.stdout).into_owned();
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter_map(|message| Some(PathBuf::from(message.get("executable")?.as_str()?)))
        .next_back()
        .unwrap_or_else(|| panic!("cargo builds calque: {}", output.status))
}

/// Runs a tool of the host to its end.
///
/// # Panics
/// When it cannot be started or fails: the message has its output.
pub fn tool(command: &mut Command) -> Output {
    // e2fsprogs live where only root looks.
    let path = std::env::var("PATH").unwrap_or_default();
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.env("PATH", format!("{path}:/usr/sbin:/sbin")).stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|e| panic!("'{name}' cannot be run: {e}"));
    assert!(output.status.success(), "{command:?}: {output:?}");
    output
}

/// Whether a tool of the host is there.
pub fn has_tool(name: &str) -> bool {
    let path = std::env::var("PATH").unwrap_or_default();
    format!("{path}:/usr/sbin:/sbin").split(':').any(|folder| Path::new(folder).join(name).is_file())
}
