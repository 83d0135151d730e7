//! What `tune` gives: for a person, as JSON, and as the file of the sweep.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::PathBuf;

use serde::Serialize;

use crate::bundle::Verdict;
use crate::cli::error::Failure;
use crate::cli::output::{Report, columns, percent};
use crate::cli::train::Validation;
use crate::problem::Problem;
use crate::tune::{self, Ledger, Metric, Record, Settings};

/// What `tune` gives, and what it writes while it goes on.
#[derive(Debug, Serialize)]
pub struct TuneReport {
    /// Twelve hex digits that follow from what was tried, and on which data.
    pub sweep: String,
    /// What decides: `accuracy` or `loss`, on the validation split.
    pub metric: Metric,
    /// `local` or `kubernetes`.
    pub target: &'static str,
    /// In the order of the space, or of the draw.
    pub trials: Vec<TrialReport>,
    /// How many were trained now, and not before.
    pub trained: usize,
    /// How many failed.
    pub failed: usize,
    /// The one that is the newest bundle now; null while the sweep is not whole.
    pub best: Option<Best>,
    /// How long it took.
    pub seconds: f64,
    /// This file, while it goes on and after.
    pub results: PathBuf,
}

/// One trial.
#[derive(Clone, Debug, Serialize)]
pub struct TrialReport {
    /// Counted from 1.
    pub index: usize,
    /// Twelve hex digits that follow from all that decides on its weights.
    pub trial: String,
    /// Where it stands among those that finished, counted from 1.
    pub rank: Option<usize>,
    /// What it laid over `emberline.yaml`.
    pub settings: Settings,
    /// `done`, `failed` or `missing`.
    pub outcome: TrialOutcome,
    /// Why it failed.
    pub reason: Option<String>,
    /// What it said last.
    pub log: Vec<String>,
    /// Whether it was done before.
    pub reused: bool,
    /// Version of its bundle.
    pub version: Option<String>,
    /// The bundle's directory.
    pub bundle: Option<PathBuf>,
    /// Weights of its network.
    pub parameters: Option<usize>,
    /// What its kept weights reach on the validation split.
    pub validation: Option<Validation>,
    /// From the first byte of data to the bundle.
    pub seconds: Option<f64>,
    /// `this machine`, or the pod.
    pub place: Option<String>,
}

/// What came of a trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TrialOutcome {
    /// A bundle.
    Done,
    /// None.
    Failed,
    /// It was not done yet.
    Missing,
}

/// The winner.
#[derive(Debug, Serialize)]
pub struct Best {
    /// Of the trial.
    pub index: usize,
    /// Of the bundle.
    pub version: String,
    /// The bundle's directory.
    pub bundle: PathBuf,
    /// What it laid over `emberline.yaml`.
    pub settings: Settings,
    /// What chose it.
    pub validation: Validation,
    /// What it reaches on the test set, which chose nothing.
    pub evaluation: Measured,
}

/// The test set.
#[derive(Debug, Serialize)]
pub struct Measured {
    /// Share of right answers.
    pub accuracy: f64,
    /// Mean cross-entropy, in nats.
    pub loss: f64,
    /// Samples.
    pub samples: usize,
    /// `pass`, `fail` or `none`.
    pub verdict: Verdict,
    /// What failed, in a sentence.
    #[serde(skip)]
    pub missed: Option<String>,
}

/// What `tune --cancel` gives.
#[derive(Debug, Serialize)]
pub struct CancelReport {
    /// The Jobs that were deleted.
    pub cancelled: Vec<String>,
}

impl Report for CancelReport {
    fn text(&self) -> String {
        match &self.cancelled[..] {
            [] => "no sweep goes on in the cluster".to_owned(),
            jobs => format!("cancelled {}", jobs.join(", ")),
        }
    }
}

impl TrialReport {
    /// Takes in what came of it.
    pub fn done(&mut self, record: &Record, ledger: &Ledger) {
        self.outcome = TrialOutcome::Done;
        self.version = Some(record.version.clone());
        self.bundle = Some(ledger.store().folder().join(&record.version));
        self.parameters = Some(record.parameters);
        self.validation = Some(record.validation.into());
        self.seconds = Some(record.seconds);
        self.place = Some(record.place.clone());
    }

    /// What its rank is made of.
    pub fn record(&self) -> Option<Record> {
        let Validation { accuracy, loss } = self.validation?;
        Some(Record {
            id: self.trial.clone(),
            version: self.version.clone()?,
            digest: String::new(),
            parameters: self.parameters?,
            validation: tune::Validation { accuracy, loss },
            seconds: self.seconds?,
            place: self.place.clone()?,
        })
    }
}

impl From<tune::Validation> for Validation {
    fn from(validation: tune::Validation) -> Self {
        Self {
            accuracy: validation.accuracy,
            loss: validation.loss,
        }
    }
}

impl TuneReport {
    /// What ends the command with a code above 0.
    pub fn failure(&self) -> Option<anyhow::Error> {
        if let Some(best) = &self.best {
            return best
                .evaluation
                .missed
                .clone()
                .map(|missed| Failure::Gate(missed).into());
        }
        let all = self.trials.len();
        let problem = Problem::new(format!(
            "{} of {all} trials failed: the newest bundle stays as it was",
            self.failed
        ));
        Some(
            problem
                .hint(if self.failed < all {
                    "the same command tries them again; `--allow-failed` chooses among the others"
                } else {
                    "the same command tries them again"
                })
                .into(),
        )
    }
}

impl Report for TuneReport {
    fn text(&self) -> String {
        let settings: Vec<BTreeMap<String, String>> = self
            .trials
            .iter()
            .map(|trial| trial.settings.pairs().into_iter().collect())
            .collect();
        let keys: BTreeSet<&String> = settings.iter().flat_map(BTreeMap::keys).collect();
        // Those that differ; all of them when there is one trial.
        let keys: Vec<&String> = keys
            .into_iter()
            .filter(|key| settings.len() == 1 || settings.iter().any(|one| one.get(*key) != settings[0].get(*key)))
            .collect();
        let mut head = vec!["rank".to_owned(), "trial".to_owned()];
        head.extend(keys.iter().map(|key| (*key).clone()));
        head.extend(["accuracy", "loss", "weights", "time", "version", "where"].map(str::to_owned));
        let mut order: Vec<&TrialReport> = self.trials.iter().collect();
        order.sort_by_key(|trial| (trial.rank.unwrap_or(usize::MAX), trial.index));
        let rows = order.into_iter().map(|trial| {
            let mut row = vec![
                trial.rank.map_or("-".to_owned(), |rank| rank.to_string()),
                trial.index.to_string(),
            ];
            let values = &settings[trial.index - 1];
            row.extend(keys.iter().map(|key| values.get(*key).cloned().unwrap_or_default()));
            match trial.validation {
                Some(validation) => row.extend([
                    percent(validation.accuracy),
                    format!("{:.4}", validation.loss),
                    trial.parameters.unwrap_or_default().to_string(),
                    format!("{:.1} s", trial.seconds.unwrap_or_default()),
                    trial.version.clone().unwrap_or_default(),
                    trial.place.clone().unwrap_or_default(),
                ]),
                None => row.push("failed".to_owned()),
            }
            row
        });
        let mut table = columns([head].into_iter().chain(rows));
        for trial in &self.trials {
            if let Some(reason) = &trial.reason {
                let _ = write!(table, "\ntrial {} failed: {reason}", trial.index);
            }
        }
        let Some(best) = &self.best else { return table };
        format!(
            "{table}\n\nbest by validation {}: trial {}, version {}\ntest set: accuracy {}, loss {:.4}, {} samples; gate {}",
            self.metric.name(),
            best.index,
            best.version,
            percent(best.evaluation.accuracy),
            best.evaluation.loss,
            best.evaluation.samples,
            best.evaluation.verdict.name()
        )
    }
}
