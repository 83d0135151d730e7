//! `emberline supervise`: hidden, started by `deploy`.

use std::path::PathBuf;

use anyhow::Result;

use crate::deploy::local;

/// Supervise the replicas of a local deployment
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  emberline supervise .emberline/local")]
pub struct Args {
    /// Folder of the deployment's state
    pub state: PathBuf,
}

/// Runs the supervisor until the deployment is deleted.
///
/// # Errors
///
/// When the state cannot be read at the start.
pub fn run(args: &Args) -> Result<()> {
    local::supervise(&args.state)
}
