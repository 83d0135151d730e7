//! `emberline ship`: the whole chain, one link after another, ending with one live prediction.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::ArgAction;
use clap::builder::BoolishValueParser;
use serde::Serialize;
use serde_json::{Value, json};

use super::duration::duration;
use super::error::Failure;
use super::evaluate::EvaluateReport;
use super::output::{Report, percent, table};
use super::package::PackageReport;
use super::place::Place;
use super::predict::{Prediction, prediction};
use super::service::ServiceReport;
use super::train::{DeviceArg, ModelArg, TrainReport};
use super::{Context, canary, deploy, evaluate, package, train};
use crate::bundle::Store;
use crate::cluster::Cluster;
use crate::engine::Engine;
use crate::problem::Problem;
use crate::project::{Builder, TargetKind};

/// Train, evaluate, package and deploy, stopping at the first thing that is wrong
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  emberline ship examples/digits\n  emberline ship -o json | jq -r .deploy.address\n\nExit codes: 3 the gate failed, 4 the deploy failed and was rolled back, 5 it failed with nothing to go back to."
)]
pub struct Args {
    /// Folder with emberline.yaml
    #[arg(default_value = ".", env = "EMBERLINE_PROJECT")]
    pub project: PathBuf,
    /// Kind of network; another one than the project's takes its default sizes
    #[arg(long, value_enum, env = "EMBERLINE_MODEL")]
    pub model: Option<ModelArg>,
    /// Passes over the training split
    #[arg(long, env = "EMBERLINE_EPOCHS")]
    pub epochs: Option<usize>,
    /// Seed of drawn digits, validation split, order, initial weights and dropout; the test set stays the same
    #[arg(long, env = "EMBERLINE_SEED")]
    pub seed: Option<u64>,
    /// Folder with the MNIST files
    #[arg(long, env = "EMBERLINE_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
    /// What to train on
    #[arg(long, value_enum, default_value_t, env = "EMBERLINE_DEVICE")]
    pub device: DeviceArg,
    /// The static `emberline-server` that goes into the image [default: the one beside this tool, or built from source]
    #[arg(long, value_name = "PATH", env = "EMBERLINE_RUNTIME")]
    pub runtime: Option<PathBuf>,
    /// Where it runs
    #[command(flatten)]
    pub place: Place,
    /// Port to listen on [default: `deploy.port`]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..), env = "EMBERLINE_PORT")]
    pub port: Option<u16>,
    /// Processes that answer [default: `deploy.replicas`]
    #[arg(long, env = "EMBERLINE_REPLICAS")]
    pub replicas: Option<usize>,
    /// Kubernetes: the key file whose keys clients need [default: `deploy.keys`]; `EMBERLINE_KEY` then holds one of them
    #[arg(long, value_name = "FILE", env = "EMBERLINE_KEYS")]
    pub keys: Option<PathBuf>,
    /// Listen beyond this machine, though anyone who reaches the port is answered
    #[arg(long, env = "EMBERLINE_ALLOW_PUBLIC")]
    pub allow_public: bool,
    /// How long a replica may take until it is ready
    #[arg(long, value_parser = duration, default_value = "60s", env = "EMBERLINE_TIMEOUT")]
    pub timeout: Duration,
    /// Kubernetes: send the service no requests meanwhile, which prove that none is lost
    #[arg(long, env = "EMBERLINE_NO_PROBE")]
    pub no_probe: bool,
    /// Whether a version that does not get ready is replaced by the former one; `false` leaves it to be looked at (Kubernetes)
    #[arg(long, value_name = "YES", env = "EMBERLINE_ROLLBACK_ON_FAILURE", action = ArgAction::Set)]
    #[arg(value_parser = BoolishValueParser::new(), default_value = "true", default_missing_value = "true")]
    #[arg(num_args = 0..=1, require_equals = true, hide_possible_values = true)]
    pub rollback_on_failure: bool,
}

/// What each link gave.
#[derive(Debug, Serialize)]
pub struct ShipReport {
    /// As `emberline train` reports it.
    pub train: TrainReport,
    /// As `emberline evaluate` reports it.
    pub evaluate: EvaluateReport,
    /// As `emberline package` reports it.
    pub package: PackageReport,
    /// As `emberline deploy` reports it.
    pub deploy: ServiceReport,
    /// The answer of the running service to a held-out sample.
    pub prediction: Prediction,
    /// From the first byte of data to that answer.
    pub seconds: f64,
}

/// Runs the command.
///
/// # Errors
///
/// Those of the link that failed; the links before it keep what they made.
pub fn run(args: &Args, context: &Context) -> Result<ShipReport> {
    let start = Instant::now();
    let output = &context.output;
    let interrupt = context.interrupt()?;
    // What only a later link reads, and a long training should not end at.
    let packaging = packaging(args, context)?;
    let begin = |number: usize, what: &str| {
        if interrupt.load(Ordering::Relaxed) {
            return Err(Failure::Interrupted(format!(" before `{what}`")));
        }
        output.note(&format!("[{number}/4] {what}"));
        Ok(())
    };

    begin(1, "train")?;
    let trained = train::run(
        &train::Args {
            project: args.project.clone(),
            model: args.model,
            epochs: args.epochs,
            seed: args.seed,
            data_dir: args.data_dir.clone(),
            device: args.device,
        },
        context,
    )?;
    // By version from here on: another training may finish meanwhile, and this one is what is shipped.
    let bundle = Some(trained.version.clone());

    begin(2, "evaluate")?;
    let evaluated = evaluate::run(
        &evaluate::Args {
            project: args.project.clone(),
            bundle: bundle.clone(),
            data_dir: args.data_dir.clone(),
        },
        context,
    )?;
    if let Some(failure) = evaluated.failure() {
        return Err(Failure::Gate(failure).into());
    }

    begin(3, "package")?;
    let packaged = package::run(
        &package::Args {
            bundle: bundle.clone(),
            ..packaging
        },
        context,
    )?;
    // By digest from here on: the tag of a registry may be moved.
    let image = packaged
        .pushed
        .then(|| format!("{}@{}", packaged.image, packaged.digest));

    begin(4, "deploy")?;
    let deployed = deploy::run(
        &deploy::Args {
            project: args.project.clone(),
            place: args.place.clone(),
            wanted: deploy::Wanted {
                bundle,
                image,
                port: args.port,
                replicas: args.replicas,
                keys: args.keys.clone(),
                allow_public: args.allow_public,
                ..deploy::Wanted::default()
            },
            timeout: args.timeout,
            no_probe: args.no_probe,
            rollback_on_failure: args.rollback_on_failure,
            dry_run: None,
            canary: canary::Flags::default(),
        },
        context,
    )?;
    let prediction = ask(args, &trained.version, context)?;
    Ok(ShipReport {
        train: trained,
        evaluate: evaluated,
        package: packaged,
        deploy: deployed,
        prediction,
        seconds: start.elapsed().as_secs_f64(),
    })
}

/// How the image is made, so that the target can have it: in the engine for containers, in the registry for a cluster.
fn packaging(args: &Args, context: &Context) -> Result<package::Args> {
    let project = context.project(&args.project)?;
    let reference = package::reference(&project, None, "VERSION")?;
    let kind = args.place.kind(&project)?;
    Place::check_change(kind, args.no_probe, args.rollback_on_failure)?;
    let mut packaging = package::Args {
        project: args.project.clone(),
        runtime: args.runtime.clone(),
        ..package::Args::default()
    };
    match kind {
        TargetKind::Local => {}
        TargetKind::Docker if project.config.package.builder == Builder::Oci => {
            return Err(Failure::Usage(
                "the target `docker` runs an image that the container engine has, and `package.builder: oci` leaves it in \
                 a file"
                    .into(),
            )
            .into());
        }
        TargetKind::Docker => packaging.builder = Some(Builder::Docker),
        TargetKind::Kubernetes if reference.registry().is_some() => packaging.push = true,
        TargetKind::Kubernetes => context.output.warn(&format!(
            "`{reference}` names no registry, so the image will not be pushed, and the cluster must have it already; \
             `package.repository` names one"
        )),
    }
    package::builder(&packaging, &project.config.package)?;
    if deploy::keys(args.keys.as_deref(), &project, kind)?.is_some() && key().is_none() {
        return Err(Problem::new(
            "the service will ask for a key, and the last link of the chain has none to ask it with",
        )
        .hint("`export EMBERLINE_KEY=...` gives it one: `emberline keys add` makes and prints them")
        .into());
    }
    match kind {
        TargetKind::Local => {}
        TargetKind::Docker => drop(Engine::connect()?),
        TargetKind::Kubernetes => Cluster::connect(&args.place.access(&project))?.check()?,
    }
    Ok(packaging)
}

/// The key that the service is asked with. Its only way in is the environment: arguments are read by everybody.
pub(super) fn key() -> Option<String> {
    std::env::var("EMBERLINE_KEY").ok().filter(|key| !key.is_empty())
}

/// Sends a held-out sample of the bundle to the running service.
fn ask(args: &Args, version: &str, context: &Context) -> Result<Prediction> {
    let bundle = Store::of_project(&args.project).open(version)?;
    let manifest = bundle.manifest();
    let case = bundle.golden()?.cases.into_iter().next_back();
    let case = case.ok_or_else(|| Problem::new("the bundle has no held-out sample to ask for"))?;
    let project = context.project(&args.project)?;
    let path = format!("/v1/models/{}:predict", manifest.name);
    let body = json!({ "instances": [case.told(&manifest.inputs)] }).to_string();
    let answer = args.place.target(&project)?.ask(&path, &body, key().as_deref())?;
    let failed = || "the service's answer is no prediction";
    let answer: Value = serde_json::from_str(&answer).with_context(failed)?;
    let probabilities: Vec<f32> = serde_json::from_value(answer["predictions"][0].clone())
        .ok()
        .filter(|probabilities: &Vec<f32>| probabilities.len() == manifest.classes.len())
        .ok_or_else(|| Problem::new(format!("{}: {answer}", failed())))?;
    let answer = prediction("held-out sample", &manifest.classes, &probabilities);
    let expected = prediction("held-out sample", &manifest.classes, &case.probabilities);
    if answer.label != expected.label {
        return Err(Problem::new(format!(
            "the service answers `{}` where the trained model answered `{}`",
            answer.label, expected.label
        ))
        .into());
    }
    Ok(answer)
}

impl Report for ShipReport {
    fn text(&self) -> String {
        let service = &self.deploy.0;
        let mut rows = vec![
            ("data".to_owned(), self.train.data_digest.clone()),
            ("weights".to_owned(), self.train.weights_digest.clone()),
            (
                "accuracy".to_owned(),
                format!(
                    "{} of {} test samples",
                    percent(self.evaluate.accuracy),
                    self.evaluate.samples
                ),
            ),
        ];
        for (name, slice) in &self.evaluate.slices {
            rows.push((
                format!("  {name}"),
                format!("{} of {} samples", percent(slice.accuracy), slice.samples),
            ));
        }
        rows.extend([
            ("gate".to_owned(), self.evaluate.gate.verdict.name().to_owned()),
            (
                "image".to_owned(),
                format!(
                    "{}, {:.1} MB, {}",
                    self.package.image,
                    self.package.size_bytes as f64 / 1e6,
                    self.package.digest
                ),
            ),
            (
                "replicas".to_owned(),
                format!("{} of {} ready", service.replicas.ready, service.replicas.desired),
            ),
            (
                "prediction".to_owned(),
                format!(
                    "{} ({}) for a held-out sample, as in training",
                    self.prediction.label,
                    percent(f64::from(self.prediction.confidence))
                ),
            ),
            ("time".to_owned(), format!("{:.1} s", self.seconds)),
            (
                "address".to_owned(),
                match (&service.address, &service.address_hint) {
                    (Some(address), _) => address.clone(),
                    (None, hint) => format!("none: {}", hint.as_deref().unwrap_or_default()),
                },
            ),
        ]);
        table(&rows)
    }
}
