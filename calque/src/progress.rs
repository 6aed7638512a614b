//! A moving sign while something takes long.

use indicatif::{ProgressBar, ProgressStyle};
use std::time::Duration;

/// A spinner on standard error; shows nothing where that is no terminal.
#[derive(Debug)]
pub struct Spinner(ProgressBar);

impl Spinner {
    /// Starts it.
    pub fn new() -> Self {
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(120));
        Self(bar)
    }
}

impl Default for Spinner {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

impl crate::guests::Progress for Spinner {
    fn message(&self, text: &str) {
        self.0.set_message(text.to_owned());
    }
}
