//! `golden.json`: held-out inputs with the answers that the trained model gave.

use serde::{Deserialize, Serialize};

/// Inputs and the answers that the trained model gave to them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Golden {
    /// How far a probability may be off, absolutely: processors differ in the order of their sums.
    pub tolerance: f32,
    /// The cases.
    pub cases: Vec<GoldenCase>,
}

/// One input with its answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoldenCase {
    /// A raw sample; a missing value is `null`.
    pub input: Vec<Option<f32>>,
    /// The probability of each class.
    pub probabilities: Vec<f32>,
}

impl GoldenCase {
    /// A case from a raw sample, in which a missing value is NaN.
    pub fn new(raw: &[f32], probabilities: Vec<f32>) -> Self {
        Self {
            input: raw.iter().map(|value| (!value.is_nan()).then_some(*value)).collect(),
            probabilities,
        }
    }

    /// The raw sample, a missing value as NaN.
    pub fn raw(&self) -> Vec<f32> {
        self.input.iter().map(|value| value.unwrap_or(f32::NAN)).collect()
    }
}
