//! Whose the host's processor is, for tests that hold calque against it: makers part where the manual leaves something open.

/// Whether it is one of AMD's, as Linux names its maker.
pub fn is_amd() -> bool {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    text.lines().any(|l| l.starts_with("vendor_id") && l.ends_with("AuthenticAMD"))
}
