//! `bundle.json`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::Architecture;
use crate::preprocess::{Preprocessing, Schema};

/// The format that this version writes, and the only one that it reads.
pub const FORMAT: u32 = 1;

/// Everything about a model but its weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: u32,
    /// The model's name, as in `emberline.yaml`.
    pub name: String,
    /// What the network is rebuilt from.
    pub architecture: Architecture,
    /// What a raw input looks like.
    pub inputs: Schema,
    /// Names of the classes, in the order of the model's answers.
    pub classes: Vec<String>,
    /// From raw input to the network's.
    pub preprocessing: Preprocessing,
    /// How it was trained.
    pub training: TrainingRecord,
    /// What it was trained on.
    pub data: DataRecord,
    /// What training measured.
    pub metrics: Metrics,
    /// The source revision of the project (`git rev-parse HEAD`), when there is one.
    pub source_revision: Option<String>,
    /// The version of the tool that wrote the bundle.
    pub tool_version: String,
    /// SHA-256 of each other file of the bundle, by name.
    pub files: BTreeMap<String, String>,
}

/// How a model was trained: with these and the data, training gives the same weights again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingRecord {
    /// `cpu`, `wgpu` or `ndarray`.
    pub device: String,
    /// Passes over the training split that were asked for.
    pub epochs: usize,
    /// Passes that were done; fewer when training was interrupted.
    pub epochs_done: usize,
    /// The pass whose weights were kept, counted from 1.
    pub best_epoch: usize,
    /// What decided which pass was kept.
    pub selection: Selection,
    /// Samples in a step.
    pub batch_size: usize,
    /// Adam's step size at the beginning.
    pub learning_rate: f64,
    /// What becomes of it.
    pub schedule: Schedule,
    /// Share of the data that was held out to choose the best pass.
    pub validation_split: f64,
    /// Seed of the split, the order, the initial weights and dropout.
    pub seed: u64,
}

/// What becomes of the step size as training goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// It stays as it is.
    Constant,
    /// It falls to 0 along half a wave of cosine (Loshchilov and Hutter 2017, without restarts).
    #[default]
    Cosine,
}

impl Schedule {
    /// The share of the step size that is left when `done`, from 0 to 1, of the training is done.
    pub fn factor(self, done: f64) -> f64 {
        match self {
            Self::Constant => 1.0,
            Self::Cosine => f64::midpoint(1.0, (std::f64::consts::PI * done).cos()),
        }
    }
}

/// What decides which pass over the data is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Selection {
    /// The highest accuracy on the validation split, the lower loss among equals.
    #[default]
    ValidationAccuracy,
}

/// What a model was trained on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataRecord {
    /// The source's name, as in `emberline.yaml`.
    pub source: String,
    /// SHA-256 over the samples and labels, before any split.
    pub digest: String,
    /// Samples trained on.
    pub training_samples: usize,
    /// Samples held out to choose the best pass.
    pub validation_samples: usize,
}

/// What training measured on the validation split with the weights that were kept.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metrics {
    /// Share of right answers, 0 to 1.
    pub validation_accuracy: f64,
    /// Mean cross-entropy, in nats.
    pub validation_loss: f64,
}
