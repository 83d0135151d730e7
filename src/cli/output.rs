//! The sole owner of stdout and stderr: results on stdout, everything else on stderr.

use std::io::{self, IsTerminal, Write};
use std::ops::ControlFlow;
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use anyhow::{Context, Result};
use clap::ValueEnum;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use serde_json::json;

use super::args::Global;

/// A spinner, and how often it turns.
const SPINNER: &str = "{spinner} {msg} {elapsed}";
const TICK: Duration = Duration::from_millis(100);

/// How a result is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object.
    Json,
}

/// How progress is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ProgressMode {
    /// Bars on a terminal, lines elsewhere
    #[default]
    Auto,
    /// Bars
    Tty,
    /// Lines
    Plain,
    /// One JSON object for each event, a line each
    Json,
    /// Nothing
    Quiet,
}

/// The result of a command: the same facts for a person and for a script.
pub trait Report: Serialize {
    /// What a person reads on stdout; ends without a newline.
    fn text(&self) -> String;
}

/// Two columns: a label and its value, a line each.
pub fn table<S: AsRef<str>>(rows: &[(S, String)]) -> String {
    columns(
        rows.iter()
            .map(|(label, value)| vec![label.as_ref().to_owned(), value.clone()]),
    )
}

/// Columns as wide as their widest cell, two spaces apart, a line for each row.
pub fn columns(rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let rows: Vec<Vec<String>> = rows.into_iter().collect();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..rows.iter().map(Vec::len).max().unwrap_or(0)).map(width).collect();
    let lines = rows.iter().map(|row| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// A share as a person reads it: `97.25 %`.
pub fn percent(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}

/// Where everything is printed.
#[derive(Debug)]
pub struct Output {
    format: Format,
    progress: ProgressMode,
    quiet: bool,
}

impl Output {
    pub(super) fn new(global: &Global) -> Self {
        let progress = match global.progress {
            _ if global.quiet => ProgressMode::Quiet,
            ProgressMode::Auto if io::stderr().is_terminal() => ProgressMode::Tty,
            ProgressMode::Auto => ProgressMode::Plain,
            chosen => chosen,
        };
        Self {
            format: global.format,
            progress,
            quiet: global.quiet,
        }
    }

    /// How the result is printed.
    pub fn format(&self) -> Format {
        self.format
    }

    /// How progress is shown; never `Auto`.
    pub fn progress_mode(&self) -> ProgressMode {
        self.progress
    }

    /// Whether a person reads the result: text, on a terminal.
    pub fn stdout_is_terminal(&self) -> bool {
        self.format == Format::Text && io::stdout().is_terminal()
    }

    /// Letters in a line of the result: those of the terminal as far as it is one, within reason.
    pub fn width(&self) -> usize {
        let size = rustix::termios::tcgetwinsize(io::stdout()).ok();
        let columns = size.map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0);
        columns
            .filter(|_| self.stdout_is_terminal())
            .unwrap_or(80)
            .clamp(60, 120)
    }

    /// Prints the result on stdout. A reader that has gone (`| head`) is no error.
    ///
    /// # Errors
    ///
    /// When stdout cannot be written.
    pub fn result<R: Report>(&self, report: &R) -> Result<()> {
        let text = match self.format {
            Format::Text => report.text(),
            Format::Json => serde_json::to_string_pretty(report)?,
        };
        // No lines of a log are no line, and not an empty one.
        if text.is_empty() {
            return Ok(());
        }
        self.stdout(&text).map(|_| ())
    }

    /// Prints text on stdout as it is, with a newline after it; `Break` when its reader has gone.
    ///
    /// # Errors
    ///
    /// When stdout cannot be written.
    pub fn stdout(&self, text: &str) -> Result<ControlFlow<()>> {
        let mut stdout = anstream::stdout().lock();
        let written = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
        match written {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ControlFlow::Break(())),
            other => other.map(ControlFlow::Continue).context("cannot write to stdout"),
        }
    }

    /// Asks a person for a yes or a no on the terminal; none where there is no terminal to ask on.
    pub fn confirm(&self, question: &str) -> Option<bool> {
        if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
            return None;
        }
        let mut stderr = anstream::stderr().lock();
        let mut answer = String::new();
        let asked = write!(stderr, "{question} [y/N] ").and_then(|()| stderr.flush());
        let read = asked.and_then(|()| io::stdin().read_line(&mut answer));
        Some(read.is_ok() && matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
    }

    /// A line on stderr, for a person.
    pub fn note(&self, text: &str) {
        if matches!(self.progress, ProgressMode::Tty | ProgressMode::Plain) {
            self.stderr(text);
        }
    }

    /// A line on stderr that begins with `warning:`, or the event `warning`.
    pub fn warn(&self, text: &str) {
        if self.progress == ProgressMode::Json {
            self.event(&json!({ "event": "warning", "message": text }));
        } else if !self.quiet {
            let style = Style::new().bold().fg_color(Some(AnsiColor::Yellow.into()));
            self.stderr(&format!("{style}warning:{style:#} {text}"));
        }
    }

    /// One event as a JSON line on stderr, with `--progress json`.
    pub fn event(&self, event: &impl Serialize) {
        if self.progress == ProgressMode::Json
            && let Ok(line) = serde_json::to_string(event)
        {
            self.stderr(&line);
        }
    }

    /// The error that ends a command: its message, its causes, its hints; or the event `error`.
    pub(super) fn error(&self, lines: &[String], hints: &[String]) {
        if self.progress == ProgressMode::Json {
            let (message, causes) = lines.split_first().unzip();
            self.event(&json!({ "event": "error", "message": message, "causes": causes, "hints": hints }));
            return;
        }
        let red = Style::new().bold().fg_color(Some(AnsiColor::Red.into()));
        let cyan = Style::new().bold().fg_color(Some(AnsiColor::Cyan.into()));
        for (index, line) in lines.iter().enumerate() {
            if index == 0 {
                self.stderr(&format!("{red}error:{red:#} {line}"));
            } else {
                self.stderr(&format!("  {line}"));
            }
        }
        for hint in hints {
            self.stderr(&format!("{cyan}hint:{cyan:#} {hint}"));
        }
    }

    /// A bar that counts to `length`, drawn on a terminal only.
    pub fn bar(&self, length: u64, template: &str) -> ProgressBar {
        let bar = ProgressBar::with_draw_target(Some(length), self.target());
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("━╸ "));
        }
        bar
    }

    /// Several of them below each other, drawn on a terminal only.
    pub fn bars(&self) -> MultiProgress {
        MultiProgress::with_draw_target(self.target())
    }

    /// A spinner beside `text` that is one of several.
    pub fn spinner_among(all: &MultiProgress, text: &str) -> ProgressBar {
        // Nothing is drawn before it has its place.
        let bar = all.add(ProgressBar::no_length());
        if let Ok(style) = ProgressStyle::with_template(SPINNER) {
            bar.set_style(style);
        }
        bar.set_message(text.to_owned());
        bar.enable_steady_tick(TICK);
        bar
    }

    /// How a line below a bar looks: as wide as the terminal, and no wider.
    pub fn line_style() -> ProgressStyle {
        ProgressStyle::with_template("{wide_msg}").unwrap_or_else(|_| ProgressStyle::default_spinner())
    }

    fn target(&self) -> ProgressDrawTarget {
        if self.progress == ProgressMode::Tty {
            ProgressDrawTarget::stderr_with_hz(10)
        } else {
            ProgressDrawTarget::hidden()
        }
    }

    /// A spinner beside `text`, drawn on a terminal only; elsewhere the text is a line.
    pub fn spinner(&self, text: &str) -> ProgressBar {
        let bar = self.bar(0, SPINNER);
        bar.set_message(text.to_owned());
        if self.progress == ProgressMode::Tty {
            bar.enable_steady_tick(TICK);
        } else {
            self.note(text);
        }
        bar
    }

    #[allow(clippy::unused_self)] // a method, so that nobody writes to stderr without a printer in hand
    fn stderr(&self, text: &str) {
        // With stderr gone there is nobody left to tell.
        let _ = writeln!(anstream::stderr().lock(), "{text}");
    }
}

/// A text for a cell of a table: its first `most` letters. The whole of it is in the JSON.
pub fn short(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(most).collect();
    short.push('…');
    short
}

/// Documents of YAML, for `kubectl apply -f -`.
pub fn yaml(objects: &[serde_json::Value]) -> String {
    let documents: Vec<String> = objects
        .iter()
        .map(|object| serde_saphyr::to_string(object).unwrap_or_else(|_| object.to_string()))
        .map(|document| document.trim_end().to_owned())
        .collect();
    documents.join("\n---\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["a", "bcd", "e"], ["abc", "d", "é"]];
        let text = columns(rows.map(|row| row.map(str::to_owned).to_vec()));
        assert_eq!(text, "a    bcd  e\nabc  d    é");
    }
}
