//! `model` and `train`: the network, and how it is trained.

use serde::{Deserialize, Serialize};

use crate::bundle::Schedule;

/// `model`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NetworkConfig {
    /// Kind of network.
    pub kind: ModelKind,
    /// `mlp`: neurons of each hidden layer, `[64, 64]` by default. `cnn`: of its one hidden layer, `[128]` by default.
    pub hidden: Option<Vec<usize>>,
    /// `cnn`: channels of its two convolution blocks, `[16, 32]` by default.
    pub filters: Option<[usize; 2]>,
    /// Share of activations that training drops, 0.2 by default.
    pub dropout: Option<f64>,
}

/// Kinds of network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelKind {
    /// Dense.
    #[default]
    Mlp,
    /// Convolutional.
    Cnn,
}

/// `train`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainConfig {
    /// Passes over the training split.
    pub epochs: usize,
    /// Samples in a step.
    pub batch_size: usize,
    /// Adam's step size at the beginning.
    pub learning_rate: f64,
    /// What becomes of it.
    pub schedule: Schedule,
    /// Share of the data that is held out to choose the best pass.
    pub validation_split: f64,
    /// Seed of drawn digits, validation split, order, initial weights and dropout; the test set stays the same.
    pub seed: u64,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            epochs: 10,
            batch_size: 128,
            learning_rate: 0.002,
            schedule: Schedule::Cosine,
            validation_split: 0.2,
            seed: 42,
        }
    }
}
