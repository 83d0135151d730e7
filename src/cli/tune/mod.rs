//! `emberline tune`.

mod board;
mod report;

pub use report::{CancelReport, TuneReport};

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::data_progress::DataProgress;
use super::duration::duration;
use super::error::Failure;
use super::evaluate;
use super::place::{Place, TargetName};
use super::train::source_revision;
use super::{Context, package};
use crate::cluster::Cluster;
use crate::image::Reference;
use crate::problem::Problem;
use crate::project::{Project, TargetKind};
use crate::tune::kubernetes::{self, Worker};
use crate::tune::{self, Draw, End, Event, Ledger, Pace, Sweep, Trial};
use board::Board;
use report::{Best, Measured, TrialOutcome};

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
    pub trials: Option<NonZeroUsize>,
    /// Trials at the same time [default: `tune.parallel`; or as many as there are processors, in a cluster all, up to 16]
    #[arg(long, env = "EMBERLINE_PARALLEL")]
    pub parallel: Option<NonZeroUsize>,
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
    let draw = Draw {
        trials: args.trials.map(NonZeroUsize::get),
    };
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
                let site = kubernetes::Site { cluster, worker };
                kubernetes::run(site, &sweep, &missing, &ledger, pace, &interrupt, hear)
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
    let parallel = args.parallel.map(NonZeroUsize::get);
    let parallel = parallel.or(project.config.tune.parallel);
    let otherwise = || match target {
        TargetKind::Kubernetes => PODS,
        _ => thread::available_parallelism().map_or(1, NonZeroUsize::get),
    };
    Pace {
        parallel: parallel.unwrap_or_else(otherwise),
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
