//! `emberline generate`: the reference and the man pages, for those who package the tool. `tests/reference.rs` holds the
//! reference in docs/ against it.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::output::Report;
use super::reference;
use crate::files;

/// Write the reference and the man pages
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  emberline generate /tmp/reference")]
pub struct Args {
    /// Folder to write to
    pub folder: PathBuf,
}

/// What `generate` gives.
#[derive(Debug, Serialize)]
pub struct GenerateReport {
    /// The files that were written.
    pub files: Vec<PathBuf>,
}

impl Report for GenerateReport {
    fn text(&self) -> String {
        let files: Vec<String> = self.files.iter().map(|file| file.display().to_string()).collect();
        files.join("\n")
    }
}

/// Runs the command.
///
/// # Errors
///
/// A file that cannot be written.
pub fn run(args: &Args) -> Result<GenerateReport> {
    let command = reference::tree();
    let mut files = vec![
        ("cli.md".to_owned(), reference::commands(&command).into_bytes()),
        ("alerts.md".to_owned(), reference::alerts().into_bytes()),
        ("exit-codes.md".to_owned(), reference::exit_codes().into_bytes()),
        ("metrics.md".to_owned(), reference::metrics().into_bytes()),
    ];
    for page in reference::pages(&command) {
        let mut bytes = Vec::new();
        page.render(&mut bytes).context("cannot render a man page")?;
        files.push((format!("man/{}", page.get_filename()), bytes));
    }
    let files = files
        .into_iter()
        .map(|(name, bytes)| {
            let path = args.folder.join(name);
            files::replace(&path, &bytes)?;
            Ok(path)
        })
        .collect::<Result<_>>()?;
    Ok(GenerateReport { files })
}
