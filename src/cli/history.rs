//! `emberline history`.

use std::path::PathBuf;

use anyhow::Result;
use serde::Serialize;

use super::Context;
use super::output::{Report, columns, short};
use super::place::Place;
use crate::bundle::Verdict;
use crate::deploy::history::{Revision, utc};

/// List what was deployed, when and by whom
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  emberline history")]
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
pub fn run(args: &Args, context: &Context) -> Result<HistoryReport> {
    let project = context.project(&args.project)?;
    let revisions = args.place.target(&project)?.history()?;
    Ok(HistoryReport {
        name: project.config.name,
        revisions,
    })
}

/// The revisions of a service.
#[derive(Debug, Serialize)]
pub struct HistoryReport {
    /// The project's name.
    pub name: String,
    /// The oldest first.
    pub revisions: Vec<Revision>,
}

impl Report for HistoryReport {
    fn text(&self) -> String {
        let heads = [
            "REVISION",
            "VERSION",
            "WHEN",
            "WHO",
            "GATE",
            "SOURCE",
            "FAILED REQUESTS",
            "OUTCOME",
        ];
        let rows = self.revisions.iter().map(|revision| {
            let source = &revision.source;
            let mut outcome = revision.outcome.name().to_owned();
            if let Some(to) = revision.rolled_back_to {
                outcome = format!("{outcome}, rollback to {to}");
            }
            if let Some(reason) = &revision.reason {
                outcome = format!("{outcome}: {}", short(reason, 100));
            }
            vec![
                revision.revision.to_string(),
                source.version.clone(),
                utc(revision.deployed_at),
                revision.deployed_by.clone(),
                source.gate.map_or("-", Verdict::name).to_owned(),
                source
                    .source_revision
                    .as_ref()
                    .map_or_else(|| "-".to_owned(), |revision| revision.chars().take(12).collect()),
                revision
                    .proof
                    .as_ref()
                    .map_or_else(|| "-".to_owned(), |proof| format!("{} of {}", proof.failed, proof.sent)),
                outcome,
            ]
        });
        columns([heads.map(str::to_owned).to_vec()].into_iter().chain(rows))
    }
}
