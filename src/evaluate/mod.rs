//! How good a model is: metrics of its answers, and the gate that holds them against thresholds.
//!
//! All of it is computed from probabilities and labels; where those come from is the caller's business, and so is what
//! becomes of a verdict.

mod gate;
mod metrics;

pub use gate::{Check, Gate, gate};
pub use metrics::{ClassMetrics, Measures};

use anyhow::Result;

use crate::data::Dataset;
use crate::predict::Predictor;

/// Measures the model's answers to labelled data.
///
/// # Errors
///
/// Samples that the model cannot read, or a device that fails.
pub fn measure(predictor: &Predictor, data: &Dataset) -> Result<Measures> {
    let probabilities = predictor.predict(&data.values)?;
    Ok(Measures::new(&probabilities, &data.labels, &data.classes))
}
