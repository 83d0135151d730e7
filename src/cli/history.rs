//! `emberline history`.

use std::path::PathBuf;

use anyhow::Result;
use serde::Serialize;

use super::Context;
use super::output::{Report, columns, short};
use super::place::Place;
use crate::bundle::Verdict;
use crate::deploy::history::{Revision, Scaled, utc};
use crate::deploy::{Autoscale, Proof};

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
        let rows = self.revisions.iter().flat_map(|revision| {
            let source = &revision.source;
            let mut outcome = revision.outcome.name().to_owned();
            if let Some(to) = revision.rolled_back_to {
                outcome = format!("{outcome}, rollback to {to}");
            }
            if let Some(reason) = &revision.reason {
                outcome = format!("{outcome}: {}", short(reason, 100));
            }
            let row = vec![
                revision.revision.to_string(),
                source.version.clone(),
                utc(revision.deployed_at),
                revision.deployed_by.clone(),
                source.gate.map_or("-", Verdict::name).to_owned(),
                source
                    .source_revision
                    .as_ref()
                    .map_or_else(|| "-".to_owned(), |revision| revision.chars().take(12).collect()),
                failed(revision.proof.as_ref()),
                outcome,
            ];
            [row].into_iter().chain(revision.scaled.iter().map(scaled))
        });
        columns([heads.map(str::to_owned).to_vec()].into_iter().chain(rows))
    }
}

/// A row below that of the revision whose number of replicas was changed.
fn scaled(scaled: &Scaled) -> Vec<String> {
    let what = match (scaled.to, scaled.autoscale) {
        (_, Some(Autoscale { min, max, cpu })) => format!("by load, {min} to {max}, {cpu} %"),
        (to, None) => format!("{} to {} replicas", scaled.from, to.unwrap_or(scaled.from)),
    };
    let outcome = match &scaled.reason {
        Some(reason) => format!("{}: {}", scaled.outcome.name(), short(reason, 100)),
        None => scaled.outcome.name().to_owned(),
    };
    vec![
        "  scaled".to_owned(),
        what,
        utc(scaled.at),
        scaled.by.clone(),
        "-".to_owned(),
        "-".to_owned(),
        failed(scaled.proof.as_ref()),
        outcome,
    ]
}

/// Requests that failed during a change, of those that were sent.
fn failed(proof: Option<&Proof>) -> String {
    proof.map_or_else(|| "-".to_owned(), |proof| format!("{} of {}", proof.failed, proof.sent))
}
