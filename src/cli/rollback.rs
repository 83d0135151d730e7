//! `emberline rollback`.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

use super::Context;
use super::duration::duration;
use super::place::Place;
use super::service::ServiceReport;
use super::watch::Watch;
use crate::problem::Problem;

/// Serve the bundle of a former revision again, as a new revision
///
/// It rolls like a deployment, on the same address and with the same number of replicas as now.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  emberline rollback --revision 3")]
pub struct Args {
    /// Folder of the project
    #[arg(default_value = ".", env = "EMBERLINE_PROJECT")]
    pub project: PathBuf,
    /// Where it runs
    #[command(flatten)]
    pub place: Place,
    /// Revision to go back to [default: the newest one with another bundle, or what served before a deploy that was left half-way]
    #[arg(long, value_name = "N", env = "EMBERLINE_REVISION")]
    pub revision: Option<u64>,
    /// How long a replica may take until it is ready
    #[arg(long, value_parser = duration, default_value = "60s", env = "EMBERLINE_TIMEOUT")]
    pub timeout: Duration,
    /// Kubernetes: send the service no requests meanwhile, which prove that none is lost
    #[arg(long, env = "EMBERLINE_NO_PROBE")]
    pub no_probe: bool,
}

/// Runs the command.
///
/// # Errors
///
/// When there is no such revision or its bundle is gone, or how the rollback ended.
pub fn run(args: &Args, context: &Context) -> Result<ServiceReport> {
    let project = context.project(&args.project).map_err(|error| {
        let folder = args.project.display().to_string();
        // Where others name the revision.
        if args.revision.is_none() && folder.parse::<u64>().is_ok() && !args.project.exists() {
            let problem = Problem::new(format!("there is no folder `{folder}` with a project"));
            problem.hint(format!("`--revision {folder}` names a revision")).into()
        } else {
            error
        }
    })?;
    let watch = Watch::new(context)?;
    args.place
        .target_to_change(&project, args.no_probe)?
        .rollback(args.revision, args.timeout, &watch)
        .map(ServiceReport)
}
