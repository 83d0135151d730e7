//! `emberline delete`.

use std::path::PathBuf;

use anyhow::Result;
use serde::Serialize;

use super::Context;
use super::error::Failure;
use super::output::Report;
use super::place::Place;
use super::watch::Watch;
use crate::problem::Problem;

/// End the service and forget its history
///
/// What the service has accepted is answered first. Bundles stay.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  emberline delete --yes")]
pub struct Args {
    /// Folder of the project
    #[arg(default_value = ".", env = "EMBERLINE_PROJECT")]
    pub project: PathBuf,
    /// Where it runs
    #[command(flatten)]
    pub place: Place,
    /// Do not ask
    #[arg(short, long, env = "EMBERLINE_YES")]
    pub yes: bool,
}

/// Runs the command.
///
/// # Errors
///
/// When nothing is deployed, nobody said yes, or something does not end.
pub fn run(args: &Args, context: &Context) -> Result<DeleteReport> {
    let project = context.project(&args.project)?;
    let target = args.place.target(&project)?;
    let name = project.config.name.clone();
    if !args.yes {
        let question = match target.status() {
            Ok(service) => {
                let place = match (&service.address, &service.namespace) {
                    (Some(address), _) => format!("at {address}"),
                    (None, Some(namespace)) => format!("in namespace `{namespace}`"),
                    (None, None) => "at no address".to_owned(),
                };
                format!("delete `{name}`, {} replicas {place}?", service.replicas.ready)
            }
            Err(_) => format!("delete `{name}`?"),
        };
        match context.output.confirm(&question) {
            Some(true) => {}
            Some(false) => return Ok(DeleteReport { name, deleted: false }),
            None => {
                return Err(anyhow::Error::from(
                    Problem::new("there is no terminal to ask on").hint("`--yes` deletes without asking"),
                )
                .context(Failure::Usage("`delete` asks before it ends a service".into())));
            }
        }
    }
    target.delete(&Watch::new(context)?)?;
    Ok(DeleteReport { name, deleted: true })
}

/// What became of the service.
#[derive(Debug, Serialize)]
pub struct DeleteReport {
    /// The project's name.
    pub name: String,
    /// Whether it is gone; not when the answer was no.
    pub deleted: bool,
}

impl Report for DeleteReport {
    fn text(&self) -> String {
        let Self { name, deleted } = self;
        if *deleted {
            format!("deleted `{name}`")
        } else {
            format!("`{name}` is as it was")
        }
    }
}
