//! `emberline diff`: what a deployment would change in the cluster.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;
use similar::TextDiff;

use super::Context;
use super::deploy::{Wanted, request};
use super::error::Failure;
use super::output::{Report, yaml};
use super::place::Place;
use crate::deploy::kubernetes::Difference;
use crate::project::TargetKind;

/// Show what `deploy` would change in the cluster, and change nothing
///
/// The cluster itself says what it would make of each object, with its checks and defaults. Exit codes: 0 nothing would
/// change, 1 something would, 2 it cannot be told.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  emberline diff --target kubernetes")]
pub struct Args {
    /// Folder of the project
    #[arg(default_value = ".", env = "EMBERLINE_PROJECT")]
    pub project: PathBuf,
    /// Where it runs
    #[command(flatten)]
    pub place: Place,
    /// What is to run
    #[command(flatten)]
    pub wanted: Wanted,
}

/// Runs the command.
///
/// # Errors
///
/// What is wrong with the project, the bundle or its gate, or what the cluster says against an object.
pub fn run(args: &Args, context: &Context) -> Result<DiffReport> {
    let project = context.project(&args.project)?;
    let kind = args.place.kind(&project)?;
    if kind != TargetKind::Kubernetes {
        return Err(Failure::Usage(format!(
            "`diff` asks a cluster, and the target is `{}`; --target kubernetes is the one that has it",
            kind.name()
        ))
        .into());
    }
    let request = request(&args.wanted, Duration::ZERO, &project, kind, context)?;
    let differences = args.place.kubernetes(&project)?.differences(&request)?;
    Ok(DiffReport {
        objects: differences.into_iter().map(ObjectDiff::of).collect(),
    })
}

/// What would change.
#[derive(Debug, Serialize)]
pub struct DiffReport {
    /// Every object of the release, and those that would go.
    pub objects: Vec<ObjectDiff>,
}

/// What would become of an object.
#[derive(Debug, Serialize)]
pub struct ObjectDiff {
    /// Such as `Deployment`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// What would be done to it.
    pub change: Change,
    /// The lines that differ of its YAML, those before with `-` and those after with `+`; empty when none does.
    pub diff: String,
}

/// What would be done to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Nothing.
    None,
    /// It would be made.
    Create,
    /// It would be changed.
    Update,
    /// It would be taken away.
    Delete,
}

impl ObjectDiff {
    fn of(difference: Difference) -> Self {
        let change = match (&difference.live, &difference.wanted) {
            _ if !difference.is_change() => Change::None,
            (None, _) => Change::Create,
            (Some(_), None) => Change::Delete,
            (Some(_), Some(_)) => Change::Update,
        };
        let is_secret = difference.kind == "Secret";
        let text = |object: Option<serde_json::Value>, side: &str| {
            let Some(mut object) = object else { return String::new() };
            if is_secret && let Some(data) = object["data"].as_object_mut() {
                // Whether it differs is told, and not what it is.
                data.values_mut()
                    .for_each(|value| *value = format!("*** ({side})").into());
            }
            yaml(&[object]) + "\n"
        };
        let (before, after) = match change {
            Change::None => (String::new(), String::new()),
            _ => (text(difference.live, "before"), text(difference.wanted, "after")),
        };
        let title = format!("{}/{}", difference.kind, difference.name);
        let diff = TextDiff::from_lines(&before, &after)
            .unified_diff()
            .context_radius(3)
            .header(&format!("{title} (now)"), &format!("{title} (wanted)"))
            .to_string();
        Self {
            kind: difference.kind,
            name: difference.name,
            change,
            diff,
        }
    }
}

impl DiffReport {
    /// Whether anything would change.
    pub fn differs(&self) -> bool {
        self.objects.iter().any(|object| object.change != Change::None)
    }
}

impl Report for DiffReport {
    /// The lines that differ, as `kubectl diff` shows them; nothing when none does.
    fn text(&self) -> String {
        let diffs: String = self.objects.iter().map(|object| object.diff.as_str()).collect();
        diffs.trim_end().to_owned()
    }
}
