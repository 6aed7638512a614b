//! Fetching Debian packages by name with apt's own tools, as any user, changing nothing of the machine's apt.
//!
//! First apt's existing package lists are used. When they are missing or stale (a container without lists, a
//! version that has left the mirror), the same sources are read again into private lists inside the cache.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::guests::{GuestError, Progress};

/// apt with a choice of package lists.
#[derive(Debug)]
pub struct Apt {
    private: PathBuf,
    use_private: bool,
}

/// A package apt can download.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version, as apt writes it.
    pub version: String,
}

impl Apt {
    /// apt with the machine's lists at first; private ones will be kept in the folder `private`.
    pub fn new(private: PathBuf) -> Self {
        Self { private, use_private: false }
    }

    /// Runs `wanted` with the lists at hand and, if it fails for their sake, once more with fresh private ones.
    pub fn with_fresh_lists<T>(
        &mut self,
        progress: &dyn Progress,
        mut wanted: impl FnMut(&Self) -> Result<T, GuestError>,
    ) -> Result<T, GuestError> {
        let stale = |error: &GuestError| {
            matches!(error, GuestError::UnknownPackage { .. } | GuestError::Download { .. })
        };
        match wanted(self) {
            Err(first) if stale(&first) && !self.use_private => {
                progress.message("reading Debian's package lists");
                self.update()?;
                // When fresh lists do not help, the first complaint is nearer to the cause.
                wanted(self).map_err(|second| if stale(&second) { first } else { second })
            }
            other => other,
        }
    }

    /// The newest version of `name` for amd64.
    pub fn find(&self, name: &str) -> Result<Package, GuestError> {
        let output = self.run("apt-cache", ["show", "--no-all-versions", &qualified(name)])?;
        let version = field(&output.stdout, "Version");
        version.map(|version| Package { name: name.to_owned(), version }).ok_or_else(|| {
            GuestError::UnknownPackage { package: name.to_owned(), reason: complaint(&output) }
        })
    }

    /// The first dependency of `name` that starts with `prefix`: the real package behind a meta-package.
    pub fn dependency(&self, name: &str, prefix: &str) -> Result<Package, GuestError> {
        let output = self.run("apt-cache", ["show", "--no-all-versions", &qualified(name)])?;
        let depends = field(&output.stdout, "Depends").ok_or_else(|| GuestError::UnknownPackage {
            package: name.to_owned(),
            reason: complaint(&output),
        })?;
        let real = depends
            .split([',', '|'])
            .filter_map(|part| part.split_whitespace().next())
            .find(|part| part.starts_with(prefix))
            .ok_or_else(|| GuestError::UnexpectedPackage {
                package: name.to_owned(),
                what: format!("dependency on a {prefix} package"),
            })?;
        self.find(real.split(':').next().unwrap_or(real))
    }

    /// Downloads `package` and unpacks its files into the new folder `into`.
    pub fn unpack(&self, package: &Package, scratch: &Path, into: &Path) -> Result<(), GuestError> {
        let downloads = scratch.join(format!("{}.deb.d", package.name));
        fs::create_dir_all(&downloads).map_err(GuestError::io("create the folder", &downloads))?;
        let wanted = format!("{}={}", qualified(&package.name), package.version);
        let mut command = self.command("apt-get");
        let output = output_of(command.args(["download", &wanted]).current_dir(&downloads), "apt-get")?;
        let deb = fs::read_dir(&downloads)
            .map_err(GuestError::io("read", &downloads))?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|path| path.extension() == Some(OsStr::new("deb")));
        let Some(deb) = deb.filter(|_| output.status.success()) else {
            return Err(GuestError::Download { package: package.name.clone(), reason: complaint(&output) });
        };
        let output = output_of(Command::new("dpkg-deb").arg("-x").arg(&deb).arg(into), "dpkg-deb")?;
        if !output.status.success() {
            return Err(GuestError::ToolFailed { tool: "dpkg-deb -x".into(), reason: complaint(&output) });
        }
        fs::remove_dir_all(&downloads).map_err(GuestError::io("remove", &downloads))
    }

    /// Reads the machine's package sources into private lists and uses those from now on.
    fn update(&mut self) -> Result<(), GuestError> {
        for part in ["state/lists/partial", "cache/archives/partial"] {
            let path = self.private.join(part);
            fs::create_dir_all(&path).map_err(GuestError::io("create the folder", &path))?;
        }
        self.use_private = true;
        let output = self.run("apt-get", ["-qq", "update"])?;
        if output.status.success() {
            return Ok(());
        }
        Err(GuestError::Download { package: "package lists".into(), reason: complaint(&output) })
    }

    fn run<const N: usize>(&self, tool: &str, arguments: [&str; N]) -> Result<Output, GuestError> {
        output_of(self.command(tool).args(arguments), tool)
    }

    fn command(&self, tool: &str) -> Command {
        let mut command = Command::new(tool);
        // As root, apt would hand downloads to a user that cannot write into a private cache.
        command.args(["-o", "APT::Sandbox::User="]);
        if self.use_private {
            // The lists are named too, in case the machine's own configuration does.
            let places =
                [("Dir::State", "state"), ("Dir::State::lists", "state/lists"), ("Dir::Cache", "cache")];
            for (option, part) in places {
                command.arg("-o").arg(format!("{option}={}", self.private.join(part).display()));
            }
            // The state folder moves, the machine's own record of installed packages does not matter.
            command.args(["-o", "Dir::State::status=/dev/null", "-o", "Acquire::Languages=none"]);
        }
        command
    }
}

/// Runs a program to its end with nothing on its input and its words in English.
pub(super) fn output_of(command: &mut Command, tool: &str) -> Result<Output, GuestError> {
    command.stdin(Stdio::null()).env("LC_ALL", "C").env("DEBIAN_FRONTEND", "noninteractive").output().map_err(
        |e| match e.kind() {
            io::ErrorKind::NotFound => GuestError::MissingTool { tool: tool.to_owned() },
            _ => GuestError::ToolFailed { tool: tool.to_owned(), reason: e.to_string() },
        },
    )
}

/// The line of a tool's complaint that says most: its last error, else its last line.
pub(super) fn complaint(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("N: "));
    let line = lines().rfind(|line| line.starts_with("E: ")).or_else(|| lines().next_back());
    line.map_or_else(|| output.status.to_string(), |line| line.trim_start_matches("E: ").to_owned())
}

fn qualified(name: &str) -> String {
    format!("{name}:amd64")
}

/// The value of a one-line field of the first stanza in a control file.
fn field(control: &[u8], name: &str) -> Option<String> {
    let text = String::from_utf8_lossy(control);
    let stanza = text.split("\n\n").next()?;
    stanza.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(": ")?.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_from_the_first_stanza() {
        let text =
            b"Package: a\nVersion: 6.1-2\nDepends: linux-image-6.1 (= 6.1-2)\n\nPackage: a\nVersion: 5\n";
        assert_eq!(field(text, "Version").as_deref(), Some("6.1-2"));
        assert_eq!(field(text, "Depends").as_deref(), Some("linux-image-6.1 (= 6.1-2)"));
        assert_eq!(field(text, "Size"), None);
    }

    #[test]
    fn a_missing_tool_is_named() {
        let error = output_of(&mut Command::new("no-such-tool-of-apt"), "apt-cache").unwrap_err();
        let text = error.to_string();
        assert!(text.contains("`apt-cache`") && text.contains("--kernel and --initrd"), "{text}");
        assert!(!text.contains('\n'));
    }
}
