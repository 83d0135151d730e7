//! A bundle that answers: the one way from raw inputs to probabilities, for evaluation, `predict` and the server.
//!
//! It runs on the CPU, in the calling thread, and holds no queue: `serve/batcher.rs` does.

pub mod decimals;
mod explain;
mod json;
mod overlay;
mod picture;

pub use explain::{Explanation, Occlusion, Patch};
pub use json::{JsonInputError, OneOrMore, Samples, raw_from_json};
pub use overlay::overlay;
pub use picture::{MOST_PIXELS, raw_from_png};

use anyhow::{Context, Result};
use burn::tensor::Device;
use burn::tensor::activation::softmax;

use crate::bundle::{Bundle, Golden, GoldenCase, Manifest};
use crate::model::{self, Model};
use crate::preprocess::InputError;
use crate::problem::Problem;

/// Rows that are sent through the network at once when there are many.
const CHUNK: usize = 512;

/// A loaded model.
#[derive(Debug)]
pub struct Predictor {
    manifest: Manifest,
    version: String,
    digest: String,
    model: Model,
    device: Device,
}

impl Predictor {
    /// Loads the weights of an opened bundle.
    ///
    /// # Errors
    ///
    /// Weights that do not fit the architecture.
    pub fn load(bundle: &Bundle) -> Result<Self> {
        let device = Device::flex();
        let model = model::from_safetensors(&bundle.weights()?, &bundle.manifest().architecture, &device)
            .with_context(|| format!("cannot load the weights of bundle `{}`", bundle.version()))?;
        Ok(Self {
            manifest: bundle.manifest().clone(),
            version: bundle.version().to_owned(),
            digest: bundle.digest().to_owned(),
            model,
            device,
        })
    }

    /// What the bundle says of itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// First 12 hex digits of the bundle's digest.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The bundle's digest, 64 hex digits.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Values of a raw input.
    pub fn input_width(&self) -> usize {
        self.manifest.inputs.width()
    }

    /// Values of an encoded input.
    pub fn encoded_width(&self) -> usize {
        self.manifest.architecture.input_width()
    }

    /// Appends the network's input for one raw sample to `encoded`.
    ///
    /// # Errors
    ///
    /// [`InputError`]; `encoded` is then as it was.
    pub fn encode(&self, raw: &[f32], encoded: &mut Vec<f32>) -> Result<(), InputError> {
        let start = encoded.len();
        encoded.resize(start + self.encoded_width(), 0.0);
        let applied = self
            .manifest
            .preprocessing
            .apply(&self.manifest.inputs, raw, &mut encoded[start..]);
        if applied.is_err() {
            encoded.truncate(start);
        }
        applied
    }

    /// Probabilities, `classes` for each row, of encoded inputs, `encoded_width` for each row.
    ///
    /// # Errors
    ///
    /// When the device fails.
    pub fn forward(&self, encoded: Vec<f32>) -> Result<Vec<f32>> {
        if encoded.is_empty() {
            return Ok(Vec::new());
        }
        let inputs = model::batch(encoded, self.encoded_width(), &self.device);
        let data = softmax(self.model.forward(inputs), 1)
            .try_into_data()
            .map_err(|error| Problem::new(format!("the model did not answer: {error:?}")))?;
        data.try_into_vec_as::<f32>()
            .map_err(|error| Problem::new(format!("the model did not answer: {error}")).into())
    }

    /// Probabilities, `classes` for each row, of raw inputs, `input_width` for each row.
    ///
    /// # Errors
    ///
    /// An input that the model cannot read, with its number counted from 0, or a device that fails.
    pub fn predict(&self, raw: &[f32]) -> Result<Vec<f32>> {
        let width = self.input_width();
        if !raw.len().is_multiple_of(width) {
            return Err(InputError::Width {
                expected: width,
                got: raw.len() % width,
            }
            .into());
        }
        let mut probabilities = Vec::with_capacity(raw.len() / width * self.manifest.classes.len());
        for (chunk_index, chunk) in raw.chunks(width * CHUNK).enumerate() {
            let mut encoded = Vec::with_capacity(chunk.len() / width * self.encoded_width());
            for (index, row) in chunk.chunks_exact(width).enumerate() {
                self.encode(row, &mut encoded)
                    .with_context(|| format!("input {}", chunk_index * CHUNK + index))?;
            }
            probabilities.extend(self.forward(encoded)?);
        }
        Ok(probabilities)
    }

    /// Checks that the golden inputs still give the answers that training saw.
    ///
    /// # Errors
    ///
    /// Which case is off.
    pub fn check_golden(&self, golden: &Golden) -> Result<()> {
        let raw: Vec<f32> = golden.cases.iter().flat_map(GoldenCase::raw).collect();
        let answers = self.predict(&raw)?;
        for (index, (case, answer)) in golden
            .cases
            .iter()
            .zip(answers.chunks_exact(self.manifest.classes.len()))
            .enumerate()
        {
            // In this form a NaN is off, too.
            let close = |(expected, got): (&f32, &f32)| (expected - got).abs() <= golden.tolerance;
            let same_length = case.probabilities.len() == answer.len();
            if !same_length || !case.probabilities.iter().zip(answer).all(close) {
                return Err(Problem::new(format!(
                    "golden case {index} is off by more than {}: this machine does not reproduce what training gave",
                    golden.tolerance
                ))
                .hint("train again on this kind of machine, or report it with the processor's name")
                .into());
            }
        }
        Ok(())
    }
}

/// The place of the largest probability; the first of equals.
pub fn argmax(probabilities: &[f32]) -> usize {
    let mut best = 0;
    for (index, probability) in probabilities.iter().enumerate() {
        if *probability > probabilities[best] {
            best = index;
        }
    }
    best
}
