//! The results of a sweep as they come: in its file, and on stderr.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::Result;
use serde_json::json;

use super::report::{TrialOutcome, TrialReport, TuneReport};
use crate::cli::Context;
use crate::cli::error::Failure;
use crate::cli::output::percent;
use crate::cli::train::Validation;
use crate::files;
use crate::problem::Problem;
use crate::project::TargetKind;
use crate::tune::{End, Event, Ledger, Record, Settings, Sweep, Trial, rank};

/// The results as they come: in the file of the sweep, and on stderr.
pub struct Board<'a> {
    /// So far.
    pub report: TuneReport,
    ledger: &'a Ledger,
    context: &'a Context,
    start: Instant,
}

impl<'a> Board<'a> {
    /// With what was done before.
    pub fn new(sweep: &Sweep, ledger: &'a Ledger, target: TargetKind, start: Instant, context: &'a Context) -> Self {
        let trials = sweep.trials.iter().map(|trial| {
            let mut report = TrialReport {
                index: trial.index,
                trial: trial.id.clone(),
                rank: None,
                settings: trial.settings.clone(),
                outcome: TrialOutcome::Missing,
                reason: None,
                log: Vec::new(),
                reused: false,
                version: None,
                bundle: None,
                parameters: None,
                validation: None,
                seconds: None,
                place: None,
            };
            if let Some(record) = ledger.find(trial) {
                report.done(&record, ledger);
                report.reused = true;
            }
            report
        });
        Self {
            report: TuneReport {
                sweep: sweep.id.clone(),
                metric: sweep.metric,
                target: target.name(),
                trials: trials.collect(),
                trained: 0,
                failed: 0,
                best: None,
                seconds: 0.0,
                results: ledger.sweep(&sweep.id),
            },
            ledger,
            context,
            start,
        }
    }

    /// Says what is to be done.
    pub fn begin(&mut self, missing: usize) -> Result<()> {
        let report = &self.report;
        let all = report.trials.len();
        let done = match all - missing {
            0 => String::new(),
            done => format!(", {done} of them done before"),
        };
        let output = &self.context.output;
        output.note(&format!("sweep {}: {all} trials{done}", report.sweep));
        output.event(&json!({ "event": "sweep", "sweep": report.sweep, "trials": all, "missing": missing }));
        self.write()
    }

    /// Tells of an event, and keeps what came of a trial.
    pub fn hear(&mut self, event: &Event<'_>) -> Result<()> {
        let output = &self.context.output;
        let all = self.report.trials.len();
        let named = |trial: &Trial| format!("trial {} of {all} ({})", trial.index, told(&trial.settings));
        match event {
            Event::Started { trial, place } => {
                output.note(&format!("{} begins on {place}", named(trial)));
                output.event(&json!({ "event": "trial_started", "index": trial.index, "place": place }));
            }
            Event::Done { trial, record } => {
                let Validation { accuracy, loss } = record.validation.into();
                output.note(&format!(
                    "{}: validation accuracy {}, loss {loss:.4}, {:.1} s, version {}",
                    named(trial),
                    percent(accuracy),
                    record.seconds,
                    record.version
                ));
                output.event(
                    &json!({ "event": "trial_done", "index": trial.index, "version": record.version,
                    "validation_accuracy": accuracy, "validation_loss": loss, "seconds": record.seconds }),
                );
                self.report.trials[trial.index - 1].done(record, self.ledger);
                self.report.trained += 1;
                self.write()?;
            }
            Event::Failed { trial, failure } => {
                output.warn(&format!("{} failed: {}", named(trial), failure.reason));
                for line in failure.log.iter().filter(|line| !line.contains(&failure.reason)) {
                    output.note(&format!("  {line}"));
                }
                output.event(&json!({ "event": "trial_failed", "index": trial.index, "reason": failure.reason }));
                let report = &mut self.report.trials[trial.index - 1];
                report.outcome = TrialOutcome::Failed;
                report.reason = Some(failure.reason.clone());
                report.log.clone_from(&failure.log);
                self.report.failed += 1;
                self.write()?;
            }
            Event::Told(text) => {
                output.note(text);
                output.event(&json!({ "event": "note", "message": text }));
            }
            Event::Waits(reason) => output.warn(&format!("the sweep waits: {reason}")),
        }
        Ok(())
    }

    /// Refuses to go on with a sweep that is not.
    pub fn is_whole(&self, end: End) -> Result<()> {
        let missing = |trial: &&TrialReport| trial.outcome == TrialOutcome::Missing;
        let (all, left) = (
            self.report.trials.len(),
            self.report.trials.iter().filter(missing).count(),
        );
        let kept = format!("{} of {all} trials are told of", all - left);
        match (end, self.report.target) {
            (End::Whole, _) => Ok(()),
            (End::Interrupted, "kubernetes") => Err(Failure::Interrupted(format!(
                ": {kept}, and the sweep goes on in the cluster. The same command goes on collecting, with --cancel it ends it"
            ))
            .into()),
            (End::Interrupted, _) => Err(Failure::Interrupted(format!(
                ": {kept}. The same command goes on with what is missing"
            ))
            .into()),
            (End::Late, _) => Err(Problem::new(format!("the sweep took longer than --timeout: {kept}"))
                .hint("the same command goes on with what is missing; `--timeout` gives it longer")
                .into()),
        }
    }

    /// Writes the last of it.
    pub fn end(mut self) -> Result<TuneReport> {
        self.write()?;
        Ok(self.report)
    }

    /// Ranks what there is, and writes it.
    fn write(&mut self) -> Result<()> {
        let report = &mut self.report;
        let records: BTreeMap<usize, Record> = report
            .trials
            .iter()
            .filter_map(|trial| Some((trial.index, trial.record()?)))
            .collect();
        for (place, index) in (1..).zip(rank(
            report.metric,
            records.iter().map(|(index, record)| (*index, record)),
        )) {
            report.trials[index - 1].rank = Some(place);
        }
        report.seconds = self.start.elapsed().as_secs_f64();
        files::replace(&report.results, &serde_json::to_vec_pretty(report)?)
    }
}

/// Settings in a line.
fn told(settings: &Settings) -> String {
    let pairs = settings
        .pairs()
        .into_iter()
        .map(|(key, value)| format!("{key} {value}"));
    pairs.collect::<Vec<_>>().join(", ")
}
