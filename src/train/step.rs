//! One step: a batch in, better weights out.

use anyhow::Result;
use burn::module::Module;
use burn::nn::loss::{CrossEntropyLoss, CrossEntropyLossConfig};
use burn::optim::{AdamConfig, GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Int, Tensor, TensorData};

use super::Encoded;
use crate::model::{self, Model};
use crate::predict::argmax;
use crate::problem::Problem;

/// Adam's guard against division by zero, as in Keras and PyTorch.
const EPSILON: f32 = 1e-7;

/// A network with the state of its optimiser.
pub struct Step {
    model: Model,
    optimiser: ModuleOptimizer,
    loss: CrossEntropyLoss,
    device: Device,
}

/// What one batch showed, before its weights were changed.
#[derive(Clone, Copy, Debug)]
pub struct StepReport {
    /// Mean cross-entropy, in nats.
    pub loss: f64,
    /// Right answers.
    pub correct: usize,
}

impl Step {
    /// Starts from `model`, which lives on `device` (an autodiff device).
    pub fn new(model: Model, device: Device) -> Self {
        Self {
            loss: CrossEntropyLossConfig::new().init(&device),
            optimiser: AdamConfig::new().with_epsilon(EPSILON).init(),
            model,
            device,
        }
    }

    /// The network without gradients and dropout, as it is now.
    pub fn model(&self) -> Model {
        self.model.valid()
    }

    /// Trains on the rows of one batch, with Adam's step size `learning_rate`.
    ///
    /// # Errors
    ///
    /// A device that fails, or a loss that is no finite number.
    pub fn train(mut self, data: &Encoded, rows: &[usize], learning_rate: f64) -> Result<(Self, StepReport)> {
        let labels = data.gather_labels(rows);
        let inputs = model::batch(data.gather(rows), data.width(), &self.device);
        let targets = Tensor::<1, Int>::from_data(TensorData::new(labels.clone(), [labels.len()]), &self.device);
        let logits = self.model.forward(inputs);
        let loss = self.loss.forward(logits.clone(), targets);
        let gradients = GradientsParams::from_grads(loss.backward(), &self.model);
        let loss = f64::from(read(loss)?[0]);
        if !loss.is_finite() {
            return Err(Problem::new("training diverged: the loss is no finite number")
                .hint("a smaller `train.learning_rate`, or `preprocess.normalise: standard`")
                .into());
        }
        let logits = read(logits)?;
        let correct = logits
            .chunks_exact(logits.len() / rows.len())
            .zip(&labels)
            .filter(|(logits, label)| argmax(logits) == label.cast_unsigned() as usize)
            .count();
        // The step is passed on by value, so that the optimiser holds the only handle of the weights and writes into
        // their own memory.
        self.model = self.optimiser.step(learning_rate, self.model, gradients);
        Ok((self, StepReport { loss, correct }))
    }
}

/// The values of a tensor.
pub(super) fn read<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>> {
    let data = tensor
        .try_into_data()
        .map_err(|error| Problem::new(format!("the device failed: {error:?}")))?;
    data.try_into_vec_as::<f32>()
        .map_err(|error| Problem::new(format!("the device failed: {error}")).into())
}
