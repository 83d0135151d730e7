//! `emberline scale`.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

use super::Context;
use super::deploy::{ServiceReport, Watch, target};
use super::duration::duration;

/// Change the number of replicas
///
/// The number stays until the next `deploy`, which takes it from `deploy.replicas` or `--replicas`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  emberline scale --replicas 3")]
pub struct Args {
    /// Folder of the project
    #[arg(default_value = ".", env = "EMBERLINE_PROJECT")]
    pub project: PathBuf,
    /// Processes that answer
    #[arg(long, env = "EMBERLINE_REPLICAS")]
    pub replicas: usize,
    /// How long all of it may take
    #[arg(long, value_parser = duration, default_value = "60s", env = "EMBERLINE_TIMEOUT")]
    pub timeout: Duration,
}

/// Runs the command.
///
/// # Errors
///
/// When nothing is deployed, or the replicas do not become ready.
pub fn run(args: &Args, context: &Context) -> Result<ServiceReport> {
    let project = context.project(&args.project)?;
    let watch = Watch::new(context)?;
    target(&project)
        .scale(args.replicas, args.timeout, &watch)
        .map(ServiceReport)
}
