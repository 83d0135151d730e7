//! The loop: passes over the training split, each followed by a look at the validation split.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::Result;
use burn::module::Module;
use burn::tensor::Device;
use burn::tensor::activation::log_softmax;
use serde::Serialize;

use super::step::read;
use super::{Encoded, Order, Step};
use crate::bundle::Schedule;
use crate::model::{self, Architecture, Model};
use crate::predict::argmax;

/// Validation samples that go through the network at once.
const VALIDATION_BATCH: usize = 512;

/// What the loop needs besides data and network.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Passes over the training split.
    pub epochs: usize,
    /// Samples in a step.
    pub batch_size: usize,
    /// Adam's step size at the beginning.
    pub learning_rate: f64,
    /// What becomes of it.
    pub schedule: Schedule,
    /// Seed of the order, the initial weights and dropout.
    pub seed: u64,
}

/// What happens, as it happens.
#[derive(Debug)]
pub enum Event<'a> {
    /// The network is built, the data split.
    Started {
        /// Samples to train on.
        training: usize,
        /// Samples held out.
        validation: usize,
        /// Weights of the network.
        parameters: usize,
        /// Passes to be done.
        epochs: usize,
    },
    /// A batch was trained on.
    Batch {
        /// The pass, counted from 1.
        epoch: usize,
        /// Samples of this pass that were seen so far.
        samples: usize,
        /// Mean loss of this pass so far.
        loss: f64,
        /// Share of right answers of this pass so far.
        accuracy: f64,
    },
    /// A pass is whole.
    Epoch(&'a EpochReport),
}

/// One pass over the data.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EpochReport {
    /// Counted from 1.
    pub epoch: usize,
    /// Mean cross-entropy over the pass, with dropout, as the weights went.
    pub loss: f64,
    /// Share of right answers over the pass, with dropout, as the weights went.
    pub accuracy: f64,
    /// Mean cross-entropy on the validation split.
    pub validation_loss: f64,
    /// Share of right answers on the validation split.
    pub validation_accuracy: f64,
    /// Time of the pass, validation included.
    pub seconds: f64,
    /// Training samples a second, validation not counted.
    pub samples_per_second: f64,
}

/// A trained network.
#[derive(Debug)]
pub struct Outcome {
    /// With the weights of the best pass, without gradients.
    pub model: Model,
    /// Each pass that was done.
    pub epochs: Vec<EpochReport>,
    /// The index of the best pass in `epochs`.
    pub best: usize,
    /// Whether it was ended before its last pass.
    pub interrupted: bool,
}

/// Trains a fresh network, and keeps the weights of the pass with the highest validation accuracy. `None` when
/// `interrupt` was raised before the first pass was whole.
///
/// # Errors
///
/// A device that fails, or a loss that diverges.
pub fn fit(
    architecture: &Architecture,
    training: &Encoded,
    validation: &Encoded,
    settings: &Settings,
    device: &Device,
    events: &mut dyn FnMut(Event<'_>),
    interrupt: &AtomicBool,
) -> Result<Option<Outcome>> {
    device.seed(settings.seed);
    let gradients = device.clone().autodiff();
    let fresh = architecture.init(&gradients);
    events(Event::Started {
        training: training.len(),
        validation: validation.len(),
        parameters: fresh.num_params(),
        epochs: settings.epochs,
    });
    let mut step = Step::new(fresh, gradients);
    let steps = (training.len().div_ceil(settings.batch_size) * settings.epochs) as f64;
    let mut steps_done = 0_u32;
    let mut order = Order::new(training.len(), settings.seed);
    let mut epochs: Vec<EpochReport> = Vec::with_capacity(settings.epochs);
    let mut best: Option<(usize, Model)> = None;
    'epochs: for epoch in 1..=settings.epochs {
        let start = Instant::now();
        let (mut samples, mut correct, mut loss) = (0, 0, 0.0);
        for rows in order.batches(settings.batch_size) {
            if interrupt.load(Ordering::Relaxed) {
                break 'epochs;
            }
            let left = settings.schedule.factor(f64::from(steps_done) / steps);
            let (next, report) = step.train(training, rows, settings.learning_rate * left)?;
            step = next;
            steps_done += 1;
            samples += rows.len();
            correct += report.correct;
            loss += report.loss * rows.len() as f64;
            events(Event::Batch {
                epoch,
                samples,
                loss: loss / samples as f64,
                accuracy: correct as f64 / samples as f64,
            });
        }
        let trained = start.elapsed().as_secs_f64();
        let model = step.model();
        let (validation_loss, validation_accuracy) = validate(&model, validation, device)?;
        let report = EpochReport {
            epoch,
            loss: loss / samples as f64,
            accuracy: correct as f64 / samples as f64,
            validation_loss,
            validation_accuracy,
            seconds: start.elapsed().as_secs_f64(),
            samples_per_second: samples as f64 / trained,
        };
        events(Event::Epoch(&report));
        let better = best.as_ref().is_none_or(|(index, _)| {
            let best: &EpochReport = &epochs[*index];
            (report.validation_accuracy, -report.validation_loss) > (best.validation_accuracy, -best.validation_loss)
        });
        if better {
            best = Some((epochs.len(), model));
        }
        epochs.push(report);
    }
    Ok(best.map(|(best, model)| Outcome {
        interrupted: epochs.len() < settings.epochs,
        model,
        epochs,
        best,
    }))
}

/// Mean loss and accuracy.
fn validate(model: &Model, data: &Encoded, device: &Device) -> Result<(f64, f64)> {
    let (mut loss, mut correct) = (0.0, 0);
    let rows: Vec<usize> = (0..data.len()).collect();
    for rows in rows.chunks(VALIDATION_BATCH) {
        let inputs = model::batch(data.gather(rows), data.width(), device);
        let answers = read(log_softmax(model.forward(inputs), 1))?;
        for (row, answer) in rows.iter().zip(answers.chunks_exact(answers.len() / rows.len())) {
            let label = data.label(*row) as usize;
            loss -= f64::from(answer[label]);
            correct += usize::from(argmax(answer) == label);
        }
    }
    Ok((loss / data.len() as f64, correct as f64 / data.len() as f64))
}
