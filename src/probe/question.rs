//! Golden inputs of a bundle as requests, and what an answer to one must be.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use serde::Deserialize;
use serde_json::{Value, json};

use super::client::Answer;
use super::destination::Destination;
use crate::bundle::Bundle;
use crate::problem::Problem;

/// Golden inputs that take turns.
const INPUTS: usize = 16;

/// A golden input as a request, and its answer.
pub struct Question {
    /// Over a connection that is kept, and over one of its own.
    pub requests: [Vec<u8>; 2],
    version: Arc<str>,
    classes: Arc<[String]>,
    probabilities: Vec<f32>,
    tolerance: f32,
}

/// What of an answer of `/predict` is looked at.
#[derive(Deserialize)]
struct Told {
    version: String,
    predictions: Vec<Value>,
}

impl Question {
    /// Those of the bundle in `path`, for `destination`.
    ///
    /// # Errors
    ///
    /// Why the bundle cannot be read, and when it has no golden case.
    pub fn of_bundle(path: &Path, destination: &Destination) -> Result<Vec<Self>> {
        let bundle = Bundle::open(path)?;
        let golden = bundle.golden()?;
        if golden.cases.is_empty() {
            return Err(Problem::new(format!("bundle `{}` has no golden case to ask for", path.display())).into());
        }
        let version: Arc<str> = bundle.version().into();
        let classes: Arc<[String]> = bundle.manifest().classes.clone().into();
        let questions = golden.cases.into_iter().take(INPUTS).map(|case| {
            let body = json!([case.told(&bundle.manifest().inputs)]).to_string();
            Self {
                requests: ["keep-alive", "close"].map(|connection| destination.request(connection, &body)),
                version: Arc::clone(&version),
                classes: Arc::clone(&classes),
                probabilities: case.probabilities,
                tolerance: golden.tolerance,
            }
        });
        Ok(questions.collect())
    }

    /// The version that answered, or why its answer is none.
    ///
    /// # Errors
    ///
    /// Why it is none, in a few words.
    pub fn check(&self, answer: &Answer) -> Result<String, String> {
        if answer.status != 200 {
            return Err(format!("status {}", answer.status));
        }
        let told: Told = serde_json::from_slice(&answer.body).map_err(|_| "no prediction".to_owned())?;
        let [prediction] = &told.predictions[..] else {
            return Err("no prediction".to_owned());
        };
        if *told.version == *self.version {
            let close = |(class, expected): (&String, &f32)| {
                let got = prediction["probabilities"][class].as_f64();
                got.is_some_and(|got| (got as f32 - expected).abs() <= self.tolerance)
            };
            if !self.classes.iter().zip(&self.probabilities).all(close) {
                return Err("not the golden answer".to_owned());
            }
        }
        Ok(told.version)
    }
}
