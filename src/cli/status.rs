//! `emberline status`.

use std::path::PathBuf;

use anyhow::Result;
use serde::Serialize;

use super::Context;
use super::output::Report;
use super::place::Place;
use super::service::ServiceReport;

/// Show what serves now
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  emberline status -o json")]
pub struct Args {
    /// Folder of the project
    #[arg(default_value = ".", env = "EMBERLINE_PROJECT")]
    pub project: PathBuf,
    /// Where it runs
    #[command(flatten)]
    pub place: Place,
}

/// Runs the command.
///
/// # Errors
///
/// When nothing is deployed.
pub fn run(args: &Args, context: &Context) -> Result<StatusReport> {
    let project = context.project(&args.project)?;
    let service = args.place.target(&project)?.status()?;
    Ok(StatusReport(ServiceReport(service)))
}

/// A service with the table of its processes.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct StatusReport(ServiceReport);

impl Report for StatusReport {
    fn text(&self) -> String {
        let instances = self.0.instances();
        let service = self.0.text();
        if instances.is_empty() {
            service
        } else {
            format!("{service}\n\n{instances}")
        }
    }
}
