//! Lines of work that another program does for the tool, shown as they come.

use indicatif::ProgressBar;
use serde_json::json;

use super::output::{Output, ProgressMode};

/// On a terminal the latest of them beside a spinner, elsewhere each as a line, or as an event.
pub(super) struct Lines<'a> {
    output: &'a Output,
    title: &'static str,
    event: &'static str,
    spinner: Option<ProgressBar>,
}

impl<'a> Lines<'a> {
    /// `title` says what is being done; `event` is the name of the events. Nothing is shown before the first line.
    pub(super) fn new(output: &'a Output, title: &'static str, event: &'static str) -> Self {
        Self {
            output,
            title,
            event,
            spinner: None,
        }
    }

    /// Shows a line.
    pub(super) fn show(&mut self, line: &str) {
        match self.output.progress_mode() {
            ProgressMode::Tty => self
                .spinner
                .get_or_insert_with(|| self.output.spinner(self.title))
                .set_message(format!("{}: {}", self.title, line.trim())),
            ProgressMode::Json => self.output.event(&json!({ "event": self.event, "line": line })),
            _ => self.output.note(line),
        }
    }
}

impl Drop for Lines<'_> {
    fn drop(&mut self) {
        if let Some(spinner) = &self.spinner {
            spinner.finish_and_clear();
        }
    }
}
