//! `emberline train`.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use indicatif::ProgressBar;
use serde::Serialize;

use super::Context;
use super::data_progress::DataProgress;
use super::error::Failure;
use super::output::{Output, Report, percent, table};
use crate::bundle::Store;
use crate::data;
use crate::files;
use crate::project::{ModelKind, Project};
use crate::train::{self, EpochReport, Event, TrainDevice};

/// Train the project's network and write a bundle
#[derive(Clone, Debug, Default, clap::Args)]
#[command(
    after_help = "Examples:\n  emberline train\n  emberline train examples/digits --model cnn\n  emberline train -o json | jq -r .bundle"
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
}

/// Kinds of network, as the command line has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ModelArg {
    /// Dense layers
    Mlp,
    /// Two convolution blocks
    Cnn,
}

/// Devices, as the command line has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum DeviceArg {
    /// The processor
    #[default]
    Cpu,
    /// A GPU (needs a build with `--features wgpu`)
    Wgpu,
    /// burn's deprecated CPU backend (needs a build with `--features ndarray`)
    Ndarray,
}

/// What `train` gives.
#[derive(Clone, Debug, Serialize)]
pub struct TrainReport {
    /// The bundle's directory.
    pub bundle: PathBuf,
    /// First 12 hex digits of the bundle's digest.
    pub version: String,
    /// SHA-256 of the weights file.
    pub weights_digest: String,
    /// SHA-256 over samples and labels.
    pub data_digest: String,
    /// Passes that were done.
    pub epochs: usize,
    /// The pass whose weights were kept, counted from 1.
    pub best_epoch: usize,
    /// From the first byte of data to the written bundle.
    pub seconds: f64,
    /// On the validation split.
    pub validation: Validation,
    /// The folder with the metrics of each pass.
    pub run: PathBuf,
}

/// What the kept weights reach on the validation split.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Validation {
    /// Share of right answers.
    pub accuracy: f64,
    /// Mean cross-entropy, in nats.
    pub loss: f64,
}

impl Report for TrainReport {
    fn text(&self) -> String {
        table(&[
            ("bundle", self.bundle.display().to_string()),
            ("version", self.version.clone()),
            ("weights", self.weights_digest.clone()),
            ("data", self.data_digest.clone()),
            (
                "validation",
                format!(
                    "accuracy {}, loss {:.4} (epoch {} of {})",
                    percent(self.validation.accuracy),
                    self.validation.loss,
                    self.best_epoch,
                    self.epochs
                ),
            ),
            ("time", format!("{:.1} s", self.seconds)),
        ])
    }
}

/// Runs the command.
///
/// # Errors
///
/// Whatever is wrong with project, data, device or disk; [`Failure::Interrupted`] after Ctrl-C.
pub fn run(args: &Args, context: &Context) -> Result<TrainReport> {
    let start = Instant::now();
    let mut project = context.project(&args.project)?;
    override_config(&mut project, args);
    project.config.check().map_err(Failure::Usage)?;
    let device = TrainDevice::from(args.device);
    device.backend()?;
    let output = &context.output;
    context.check_data_dir(&project, args.data_dir.as_deref());

    let progress = DataProgress::new(output);
    let loaded = data::load(&project, args.data_dir.as_deref(), &|event| progress.show(&event))?;
    drop(progress);
    let data = loaded.training;

    let interrupt = context.interrupt()?;
    let mut run = Run::create(&project)?;
    let mut drawing = Drawing::new(output);
    let mut failed_write = None;
    let trained = train::train(
        &project,
        data,
        device,
        source_revision(&project.folder),
        &mut |event| {
            if let Event::Epoch(report) = &event
                && let Err(error) = run.epoch(report)
            {
                // The loop goes on to its next check of the flag, and the error is told then.
                failed_write.get_or_insert(error);
                interrupt.store(true, std::sync::atomic::Ordering::Relaxed);
            }
            drawing.show(&event);
        },
        &interrupt,
    );
    drawing.finish();
    let trained = trained?;
    if let Some(error) = failed_write {
        return Err(error);
    }
    let Some(trained) = trained else {
        return Err(Failure::Interrupted(" before the first epoch was whole: no bundle was written".into()).into());
    };
    let bundle = Store::of_project(&project.folder).write(trained.draft)?;
    let manifest = bundle.manifest();
    let report = TrainReport {
        bundle: bundle.path().to_owned(),
        version: bundle.version().to_owned(),
        weights_digest: bundle.weights_digest().to_owned(),
        data_digest: manifest.data.digest.clone(),
        epochs: trained.epochs.len(),
        best_epoch: manifest.training.best_epoch,
        seconds: start.elapsed().as_secs_f64(),
        validation: Validation {
            accuracy: manifest.metrics.validation_accuracy,
            loss: manifest.metrics.validation_loss,
        },
        run: run.folder.clone(),
    };
    files::replace(&run.folder.join("run.json"), &serde_json::to_vec_pretty(&report)?)?;
    if trained.interrupted {
        return Err(Failure::Interrupted(format!(
            " after {} of {} epochs: the best weights are kept in bundle `{}`",
            report.epochs,
            project.config.train.epochs,
            report.bundle.display()
        ))
        .into());
    }
    Ok(report)
}

fn override_config(project: &mut Project, args: &Args) {
    let config = &mut project.config;
    if let Some(kind) = args.model.map(ModelKind::from) {
        config.set_kind(kind);
    }
    if let Some(epochs) = args.epochs {
        config.train.epochs = epochs;
    }
    if let Some(seed) = args.seed {
        config.train.seed = seed;
    }
}

/// `git rev-parse HEAD` of the project, with `-dirty` when its files differ (the state folder aside, which is being
/// written); none outside a repository.
pub(super) fn source_revision(folder: &Path) -> Option<String> {
    let git = |arguments: &[&str]| {
        let output = Command::new("git")
            .arg("-C")
            .arg(folder)
            .args(arguments)
            .output()
            .ok()?;
        output
            .status
            .success()
            .then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let revision = git(&["rev-parse", "--verify", "-q", "HEAD"])?;
    let changed =
        git(&["status", "--porcelain", "--", ".", ":(exclude).emberline"]).is_some_and(|changes| !changes.is_empty());
    Some(if changed { format!("{revision}-dirty") } else { revision })
}

/// `.emberline/runs/N/`: what a training run measured, written as it comes.
struct Run {
    folder: PathBuf,
    metrics: File,
}

impl Run {
    fn create(project: &Project) -> Result<Self> {
        let runs = project.state().join("runs");
        files::create_folder(&runs)?;
        let last = std::fs::read_dir(&runs)
            .with_context(|| format!("cannot read `{}`", runs.display()))?
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
            .max()
            .unwrap_or(0);
        let mut folder = runs.clone();
        for number in last + 1.. {
            folder = runs.join(format!("{number:04}"));
            match std::fs::create_dir(&folder) {
                // Another training took the number meanwhile.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(files::cannot_write(&folder, &error)),
                Ok(()) => break,
            }
        }
        let path = folder.join("metrics.jsonl");
        let metrics = File::create(&path).map_err(|error| files::cannot_write(&path, &error))?;
        Ok(Self { folder, metrics })
    }

    fn epoch(&mut self, report: &EpochReport) -> Result<()> {
        let line = serde_json::to_string(report)?;
        writeln!(self.metrics, "{line}")
            .and_then(|()| self.metrics.sync_data())
            .map_err(|error| files::cannot_write(&self.folder.join("metrics.jsonl"), &error))
    }
}

/// Training on the screen: a bar on a terminal, a line for each epoch everywhere.
struct Drawing<'a> {
    output: &'a Output,
    bar: ProgressBar,
    epochs: usize,
    training: usize,
}

impl<'a> Drawing<'a> {
    fn new(output: &'a Output) -> Self {
        Self {
            output,
            bar: ProgressBar::hidden(),
            epochs: 0,
            training: 0,
        }
    }

    fn show(&mut self, event: &Event<'_>) {
        match event {
            Event::Started {
                training,
                validation,
                parameters,
                epochs,
            } => {
                self.epochs = *epochs;
                self.training = *training;
                self.output.note(&format!(
                    "training on {training} samples, validating on {validation}, {parameters} weights"
                ));
                self.output.event(&serde_json::json!({
                    "event": "started", "training": training, "validation": validation,
                    "parameters": parameters, "epochs": epochs,
                }));
                self.bar = self.output.bar(
                    (training * epochs) as u64,
                    "{prefix} {bar:24.cyan/dim} {percent:>3}% {msg}  {eta} left",
                );
            }
            Event::Batch {
                epoch,
                samples,
                loss,
                accuracy,
            } => {
                self.bar.set_position(((epoch - 1) * self.training + samples) as u64);
                if !self.bar.is_hidden() {
                    self.bar.set_prefix(format!("epoch {epoch}/{}", self.epochs));
                    self.bar.set_message(format!(
                        "loss {loss:.4}  accuracy {}  {:.0} samples/s",
                        percent(*accuracy),
                        self.bar.per_sec()
                    ));
                }
            }
            Event::Epoch(report) => {
                self.output
                    .event(&serde_json::json!({ "event": "epoch", "epoch": report.epoch,
                    "loss": report.loss, "accuracy": report.accuracy,
                    "validation_loss": report.validation_loss,
                    "validation_accuracy": report.validation_accuracy,
                    "seconds": report.seconds, "samples_per_second": report.samples_per_second }));
                let width = self.epochs.to_string().len();
                let line = format!(
                    "epoch {:>width$}/{}  loss {:.4}  accuracy {}  validation loss {:.4}  accuracy {}  {:.2} s  {:.0} samples/s",
                    report.epoch,
                    self.epochs,
                    report.loss,
                    percent(report.accuracy),
                    report.validation_loss,
                    percent(report.validation_accuracy),
                    report.seconds,
                    report.samples_per_second,
                );
                if self.bar.is_hidden() {
                    self.output.note(&line);
                } else {
                    self.bar.println(line);
                }
            }
        }
    }

    fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

impl From<ModelArg> for ModelKind {
    fn from(kind: ModelArg) -> Self {
        match kind {
            ModelArg::Mlp => Self::Mlp,
            ModelArg::Cnn => Self::Cnn,
        }
    }
}

impl From<DeviceArg> for TrainDevice {
    fn from(device: DeviceArg) -> Self {
        match device {
            DeviceArg::Cpu => Self::Cpu,
            DeviceArg::Wgpu => Self::Wgpu,
            DeviceArg::Ndarray => Self::Ndarray,
        }
    }
}
