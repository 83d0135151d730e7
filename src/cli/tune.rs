//! `emberline tune`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;
use serde_json::json;

use super::data_progress::DataProgress;
use super::duration::duration;
use super::error::Failure;
use super::evaluate;
use super::output::{Report, columns, percent};
use super::place::{Place, TargetName};
use super::train::{Validation, source_revision};
use super::{Context, package};
use crate::bundle::Verdict;
use crate::cluster::Cluster;
use crate::files;
use crate::image::Reference;
use crate::problem::Problem;
use crate::project::{Project, TargetKind};
use crate::tune::kubernetes::{self, Worker};
use crate::tune::{self, Draw, End, Event, Ledger, Metric, Pace, Record, Settings, Sweep, Trial, rank};

/// Pods of a sweep at the same time, when nobody says how many.
const PODS: usize = 16;

/// Train once for each combination of the values that `tune` lists, and keep the best
///
/// Trials are ranked by the metric that `evaluate.gate` names, on the validation split. The best one becomes the newest
/// bundle, and it alone is measured on the test set. The same command again does what is missing.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  emberline tune
  emberline tune --trials 20 --parallel 4
  emberline tune --target kubernetes -o json | jq .best
  emberline tune --target kubernetes --cancel

Exit codes: 0 the best bundle is the newest, 1 a trial failed, 3 the best one misses the gate.")]
pub struct Args {
    /// Folder of the project
    #[arg(default_value = ".", env = "EMBERLINE_PROJECT")]
    pub project: PathBuf,
    /// Where the trials run
    #[command(flatten)]
    pub place: Place,
    /// Draw so many of the combinations at random [default: `tune.trials` where `tune.strategy` is random, or all]
    #[arg(long, env = "EMBERLINE_TRIALS")]
    pub trials: Option<usize>,
    /// Trials at the same time [default: `tune.parallel`; or as many as there are processors, in a cluster all, up to 16]
    #[arg(long, env = "EMBERLINE_PARALLEL")]
    pub parallel: Option<usize>,
    /// Seed of the draw, and of the trainings where `tune.seed` lists none [default: `train.seed`]
    #[arg(long, env = "EMBERLINE_SEED")]
    pub seed: Option<u64>,
    /// Folder with the MNIST files
    #[arg(long, env = "EMBERLINE_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
    /// Kubernetes: an image that an earlier sweep has pushed [default: one of this tool and the data is pushed to
    /// `package.repository`]
    #[arg(long, value_name = "REF", env = "EMBERLINE_WORKER_IMAGE")]
    pub worker_image: Option<String>,
    /// How long all of it may take
    #[arg(long, value_parser = duration, default_value = "24h", env = "EMBERLINE_TIMEOUT")]
    pub timeout: Duration,
    /// Choose among the trials that have finished, though others have failed
    #[arg(long, env = "EMBERLINE_ALLOW_FAILED")]
    pub allow_failed: bool,
    /// Kubernetes: end the sweeps of the project that go on in the cluster, and do nothing else
    #[arg(long, env = "EMBERLINE_CANCEL")]
    pub cancel: bool,
}

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
    missed: Option<String>,
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

/// Runs the command. Failed trials and a missed gate are no errors here: the report says so, and the caller decides.
///
/// # Errors
///
/// Whatever is wrong with project, space, data or cluster; [`Failure::Interrupted`] after Ctrl-C.
pub fn run(args: &Args, context: &Context) -> Result<TuneReport> {
    let start = Instant::now();
    let mut project = context.project(&args.project)?;
    let target = target(args, &project)?;
    if let Some(seed) = args.seed {
        project.config.train.seed = seed;
    }
    let output = &context.output;
    context.check_data_dir(&project, args.data_dir.as_deref());
    let progress = DataProgress::new(output);
    let revision = source_revision(&project.folder);
    let draw = Draw { trials: args.trials };
    let access = args.place.access(&project);
    let sweep = Sweep::plan(project, &draw, args.data_dir.as_deref(), revision, &|event| {
        progress.show(&event);
    })?;
    drop(progress);
    let worker = match target {
        TargetKind::Kubernetes => Some(worker(args, sweep.project())?),
        _ => None,
    };
    let cluster = worker.is_some().then(|| Cluster::connect(&access)).transpose()?;
    if let Some(cluster) = &cluster {
        cluster.check()?;
    }
    let ledger = Ledger::open(sweep.project())?;
    let interrupt = context.interrupt()?;

    let mut board = Board::new(&sweep, &ledger, target, start, context);
    let missing: Vec<&Trial> = sweep
        .trials
        .iter()
        .filter(|trial| board.report.trials[trial.index - 1].outcome == TrialOutcome::Missing)
        .collect();
    board.begin(missing.len())?;
    let pace = pace(args, sweep.project(), target, start);
    let end = if missing.is_empty() {
        End::Whole
    } else {
        let hear = &mut |event: Event<'_>| board.hear(&event);
        match (&cluster, &worker) {
            (Some(cluster), Some(worker)) => {
                kubernetes::run(cluster, &sweep, &missing, &ledger, worker, pace, &interrupt, hear)
            }
            _ => tune::run_local(&sweep, &missing, &ledger, pace, &interrupt, hear),
        }?
    };
    board.is_whole(end)?;
    choose(args, board, &ledger, context)
}

/// Ends the sweeps of the project that go on in the cluster.
///
/// # Errors
///
/// [`Failure::Usage`] where there is no cluster, and what the cluster says against it.
pub fn cancel(args: &Args, context: &Context) -> Result<CancelReport> {
    let project = context.project(&args.project)?;
    if target(args, &project)? != TargetKind::Kubernetes {
        return Err(Failure::Usage(
            "`--cancel` is about a cluster: a sweep of this machine ends with Ctrl-C, and `--target kubernetes` names one"
                .into(),
        )
        .into());
    }
    let cluster = Cluster::connect(&args.place.access(&project))?;
    Ok(CancelReport {
        cancelled: kubernetes::cancel(&cluster, &project.config.name)?,
    })
}

/// Where the trials run. A project that is deployed to containers has its trials on this machine as well.
fn target(args: &Args, project: &Project) -> Result<TargetKind> {
    if args.place.target == Some(TargetName::Docker) {
        return Err(
            Failure::Usage("a sweep runs on `local` or `kubernetes`, and `--target` is `docker`".into()).into(),
        );
    }
    let kind = args.place.kind(project)?;
    if kind != TargetKind::Kubernetes
        && let Some(image) = &args.worker_image
    {
        return Err(Failure::Usage(format!(
            "`--worker-image {image}` is for the pods of a cluster, and the trials run on this machine"
        ))
        .into());
    }
    Ok(match kind {
        TargetKind::Docker => TargetKind::Local,
        kind => kind,
    })
}

/// What the pods run; that it can be is known before anything else is done.
fn worker(args: &Args, project: &Project) -> Result<Worker> {
    if let Some(image) = &args.worker_image {
        Reference::check(image)?;
        return Ok(Worker::Image(image.clone()));
    }
    let reference = package::reference(project, None, "tune")?;
    reference.require_registry().map_err(|problem| {
        Problem::new(format!("trials in a cluster run an image, and {problem}")).hint(
            "begin `package.repository` with a registry's host, `registry.example.com/team/NAME`; or name by --worker-image an image \
             that `emberline tune` has pushed",
        )
    })?;
    Ok(Worker::Pushed(reference.repository().to_owned()))
}

fn pace(args: &Args, project: &Project, target: TargetKind, start: Instant) -> Pace {
    let parallel = args.parallel.or(project.config.tune.parallel);
    let otherwise = || match target {
        TargetKind::Kubernetes => PODS,
        _ => thread::available_parallelism().map_or(1, std::num::NonZero::get),
    };
    Pace {
        parallel: parallel.unwrap_or_else(otherwise).max(1),
        deadline: start + args.timeout,
    }
}

/// Makes the best trial the newest bundle, and measures it on the test set.
fn choose(args: &Args, mut board: Board<'_>, ledger: &Ledger, context: &Context) -> Result<TuneReport> {
    let report = &board.report;
    let first = report.trials.iter().find(|trial| trial.rank == Some(1)).cloned();
    let chosen = match first {
        Some(first) if report.failed == 0 || args.allow_failed => first,
        _ => return board.end(),
    };
    let (Some(version), Some(bundle), Some(validation)) = (chosen.version, chosen.bundle, chosen.validation) else {
        return board.end();
    };
    let evaluated = evaluate::run(
        &evaluate::Args {
            project: args.project.clone(),
            bundle: Some(version.clone()),
            data_dir: args.data_dir.clone(),
        },
        context,
    )?;
    ledger.store().set_latest(&ledger.store().open(&version)?)?;
    board.report.best = Some(Best {
        index: chosen.index,
        version,
        bundle,
        settings: chosen.settings,
        validation,
        evaluation: Measured {
            accuracy: evaluated.accuracy,
            loss: evaluated.loss,
            samples: evaluated.samples,
            verdict: evaluated.gate.verdict,
            missed: evaluated.failure(),
        },
    });
    board.end()
}

/// The results as they come: in the file of the sweep, and on stderr.
struct Board<'a> {
    report: TuneReport,
    ledger: &'a Ledger,
    context: &'a Context,
    start: Instant,
}

impl<'a> Board<'a> {
    fn new(sweep: &Sweep, ledger: &'a Ledger, target: TargetKind, start: Instant, context: &'a Context) -> Self {
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
    fn begin(&mut self, missing: usize) -> Result<()> {
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

    fn hear(&mut self, event: &Event<'_>) -> Result<()> {
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
    fn is_whole(&self, end: End) -> Result<()> {
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
    fn end(mut self) -> Result<TuneReport> {
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

impl TrialReport {
    fn done(&mut self, record: &Record, ledger: &Ledger) {
        self.outcome = TrialOutcome::Done;
        self.version = Some(record.version.clone());
        self.bundle = Some(ledger.store().folder().join(&record.version));
        self.parameters = Some(record.parameters);
        self.validation = Some(record.validation.into());
        self.seconds = Some(record.seconds);
        self.place = Some(record.place.clone());
    }

    /// What its rank is made of.
    fn record(&self) -> Option<Record> {
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

/// Settings in a line.
fn told(settings: &Settings) -> String {
    let pairs = settings
        .pairs()
        .into_iter()
        .map(|(key, value)| format!("{key} {value}"));
    pairs.collect::<Vec<_>>().join(", ")
}
