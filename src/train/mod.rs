//! Training: from a dataset to a bundle's draft.
//!
//! Data, step and loop are apart: `batches` holds encoded samples and deals them out, `step` turns one batch into better
//! weights, `fit` is the loop with its validation and its choice of the best pass, `device` names what it runs on. What
//! happens is told as [`Event`]s; nothing here prints, and nothing here knows where data comes from or bundles go.

mod batches;
mod device;
mod fit;
mod step;

pub use batches::{Encoded, Order};
pub use device::TrainDevice;
pub use fit::{EpochReport, Event, Outcome, Settings, fit};
pub use step::{Step, StepReport};

use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result};
use burn::module::Module;
use burn::tensor::activation::softmax;

use crate::bundle::{
    DataRecord, Draft, FORMAT, Golden, GoldenCase, Manifest, Metrics, Profile, Selection, TrainingRecord,
};
use crate::data::{self, Dataset};
use crate::model::{self, Architecture, Model};
use crate::predict::argmax;
use crate::preprocess::Schema;
use crate::problem::Problem;
use crate::project::Project;

/// How far a probability of a golden case may be off: sums in another order, on another processor.
const GOLDEN_TOLERANCE: f32 = 1e-3;
/// Golden cases in a bundle, at the most.
const GOLDEN_CASES: usize = 10;
/// Training samples that the profile counts, at the most.
const PROFILE_SAMPLES: usize = 10_000;

/// A trained model, ready to be written as a bundle.
#[derive(Debug)]
pub struct Trained {
    /// To be handed to the bundle store.
    pub draft: Draft,
    /// Each pass that was done.
    pub epochs: Vec<EpochReport>,
    /// Whether it was ended before its last pass.
    pub interrupted: bool,
}

/// Trains the project's network on `data`; `None` when it was interrupted before the first pass was whole.
///
/// # Errors
///
/// Data and configuration that do not go together, or a device that fails.
pub fn train(
    project: &Project,
    data: Dataset,
    device: TrainDevice,
    source_revision: Option<String>,
    events: &mut dyn FnMut(Event<'_>),
    interrupt: &AtomicBool,
) -> Result<Option<Trained>> {
    let config = &project.config;
    let digest = data.digest();
    let classes = data.classes.clone();

    let (training_rows, validation_rows) = data::stratified(
        &data.labels,
        classes.len(),
        config.train.validation_split,
        config.train.seed,
    );
    if training_rows.is_empty() || validation_rows.is_empty() {
        return Err(Problem::new(format!(
            "{} samples cannot be split into a training and a validation part",
            data.len()
        ))
        .hint("more data, or another `train.validation_split`")
        .into());
    }
    let training = data.select(&training_rows);
    let validation = data.select(&validation_rows);
    drop(data);
    let (schema, preprocessing) = data::fit(&training, &config.preprocess)?;
    let training = data::in_schema(training, &schema);
    let validation = data::in_schema(validation, &schema);

    let architecture = Architecture {
        model: config.model.resolve().map_err(Problem::new)?,
        input: match &schema {
            Schema::Image {
                height,
                width,
                channels,
            } => vec![*height, *width, *channels],
            Schema::Table { .. } => vec![schema.encoded_width()],
        },
        classes: classes.len(),
    };
    architecture
        .check()
        .map_err(|reason| Problem::new(format!("this network cannot be built: {reason}")))?;

    let encoded_training = Encoded::new(&training, &schema, &preprocessing)?;
    let encoded_validation = Encoded::new(&validation, &schema, &preprocessing)?;
    let settings = Settings {
        epochs: config.train.epochs,
        batch_size: config.train.batch_size,
        learning_rate: config.train.learning_rate,
        schedule: config.train.schedule,
        seed: config.train.seed,
    };
    let burn_device = device.backend()?();
    let Some(outcome) = fit(
        &architecture,
        &encoded_training,
        &encoded_validation,
        &settings,
        &burn_device,
        events,
        interrupt,
    )?
    else {
        return Ok(None);
    };

    let best = &outcome.epochs[outcome.best];
    let weights = model::to_safetensors(&outcome.model).context("cannot read the trained weights")?;
    let golden = golden(&outcome.model, &validation, &encoded_validation)?;
    let profile = profile(&outcome.model, &training, &encoded_training)?;
    let manifest = Manifest {
        format: FORMAT,
        name: config.name.clone(),
        architecture,
        inputs: schema,
        classes,
        preprocessing,
        training: TrainingRecord {
            device: device.name().into(),
            epochs: config.train.epochs,
            epochs_done: outcome.epochs.len(),
            best_epoch: best.epoch,
            selection: Selection::ValidationAccuracy,
            batch_size: config.train.batch_size,
            learning_rate: config.train.learning_rate,
            schedule: config.train.schedule,
            validation_split: config.train.validation_split,
            seed: config.train.seed,
        },
        data: DataRecord {
            source: config.data.source.map_or("", crate::project::Source::name).into(),
            digest,
            training_samples: training.len(),
            validation_samples: validation.len(),
        },
        metrics: Metrics {
            validation_accuracy: best.validation_accuracy,
            validation_loss: best.validation_loss,
        },
        source_revision,
        tool_version: env!("CARGO_PKG_VERSION").into(),
        files: std::collections::BTreeMap::new(),
    };
    Ok(Some(Trained {
        draft: Draft {
            manifest,
            weights,
            golden,
            profile,
        },
        interrupted: outcome.interrupted,
        epochs: outcome.epochs,
    }))
}

/// Held-out samples with the model's answers: the first of each class in turn.
fn golden(model: &Model, raw: &Dataset, encoded: &Encoded) -> Result<Golden> {
    let mut rows: Vec<usize> = (0..raw.classes.len() as u32)
        .filter_map(|class| raw.labels.iter().position(|label| *label == class))
        .collect();
    rows.truncate(GOLDEN_CASES);
    let answers = probabilities(model, encoded, &rows)?;
    Ok(Golden {
        tolerance: GOLDEN_TOLERANCE,
        cases: rows
            .iter()
            .zip(answers.chunks_exact(raw.classes.len()))
            .map(|(row, answer)| GoldenCase::new(raw.row(*row), answer.to_vec()))
            .collect(),
    })
}

/// Histograms of evenly spaced training samples.
fn profile(model: &Model, raw: &Dataset, encoded: &Encoded) -> Result<Profile> {
    let step = raw.len().div_ceil(PROFILE_SAMPLES).max(1);
    let rows: Vec<usize> = (0..raw.len()).step_by(step).collect();
    let mut answers = Vec::with_capacity(rows.len());
    for rows in rows.chunks(512) {
        let probabilities = probabilities(model, encoded, rows)?;
        answers.extend(probabilities.chunks_exact(raw.classes.len()).map(argmax));
    }
    let sample = raw.select(&rows);
    Ok(Profile::new(&raw.schema, &sample.values, &answers, raw.classes.len()))
}

fn probabilities(model: &Model, encoded: &Encoded, rows: &[usize]) -> Result<Vec<f32>> {
    let device = model.devices()[0].clone();
    let inputs = model::batch(encoded.gather(rows), encoded.width(), &device);
    let data = softmax(model.forward(inputs), 1)
        .try_into_data()
        .map_err(|error| Problem::new(format!("the model did not answer: {error:?}")))?;
    data.try_into_vec_as::<f32>()
        .map_err(|error| Problem::new(format!("the model did not answer: {error}")).into())
}
