//! `emberline completions`.

use anyhow::Result;
use clap_complete::Shell;
use serde::Serialize;

use super::output::Report;
use super::reference;

/// Print what a shell completes the command line with
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    emberline completions bash > ~/.local/share/bash-completion/completions/emberline\n  \
    emberline completions fish > ~/.config/fish/completions/emberline.fish")]
pub struct Args {
    /// The shell
    #[arg(value_enum)]
    pub shell: Shell,
}

/// What `completions` gives.
#[derive(Debug, Serialize)]
pub struct CompletionsReport {
    /// The shell.
    pub shell: String,
    /// To be read by it.
    pub script: String,
}

impl Report for CompletionsReport {
    fn text(&self) -> String {
        self.script.trim_end().to_owned()
    }
}

/// Runs the command.
///
/// # Errors
///
/// A script that is not text, which none is.
pub fn run(args: &Args) -> Result<CompletionsReport> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut reference::tree(), "emberline", &mut script);
    Ok(CompletionsReport {
        shell: args.shell.to_string(),
        script: String::from_utf8(script)?,
    })
}
