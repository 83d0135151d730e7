//! `evaluate`: what a model is measured on, and what it must reach.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::data::DataConfig;
use super::or_default;

/// `evaluate`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EvaluateConfig {
    /// More labelled data, each measured on its own.
    #[serde(deserialize_with = "or_default")]
    pub slices: Vec<SliceConfig>,
    /// What must be reached.
    #[serde(deserialize_with = "or_default")]
    pub gate: GateConfig,
}

/// One of `evaluate.slices`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SliceConfig {
    /// Name in the report and in the gate.
    pub name: String,
    /// Where its data comes from.
    #[serde(deserialize_with = "or_default")]
    pub data: DataConfig,
}

/// `evaluate.gate`: thresholds, all of which must hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GateConfig {
    /// Least accuracy on the test set, 0 to 1.
    pub accuracy: Option<f64>,
    /// Greatest mean cross-entropy on the test set, in nats.
    pub loss: Option<f64>,
    /// Least recall of the worst class on the test set, 0 to 1.
    pub worst_class_recall: Option<f64>,
    /// Greatest expected calibration error on the test set, 0 to 1.
    pub calibration_error: Option<f64>,
    /// Least accuracy on each slice, by its name.
    #[serde(deserialize_with = "or_default")]
    pub slices: BTreeMap<String, f64>,
}
