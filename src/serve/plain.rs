//! `POST /predict`, for people: one input or an array of inputs as JSON, answered with names instead of positions.

use std::time::Instant;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::payload;
use super::refusal::{self, Refusal, Response};
use super::worker::{Inputs, Worker};
use crate::predict::{OneOrMore, argmax};

#[derive(Serialize)]
struct Answer<'a> {
    predictions: Vec<Prediction<'a>>,
    model: &'a str,
    version: &'a str,
    digest: &'a str,
}

#[derive(Serialize)]
struct Prediction<'a> {
    label: &'a str,
    confidence: f32,
    probabilities: ByClass<'a>,
}

/// Probabilities as an object, in the order of the classes.
struct ByClass<'a> {
    classes: &'a [String],
    probabilities: &'a [f32],
}

impl Serialize for ByClass<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.classes.len()))?;
        for (class, probability) in self.classes.iter().zip(self.probabilities) {
            map.serialize_entry(class, probability)?;
        }
        map.end()
    }
}

/// `POST /predict`.
pub async fn predict(worker: &Worker, body: &[u8], deadline: Option<Instant>) -> Result<Response, Refusal> {
    let service = worker.service();
    let mut inputs = Inputs::default();
    let seed = OneOrMore {
        schema: &service.manifest().inputs,
        raw: &mut inputs.raw,
    };
    inputs.count = payload::json_with(seed, body, "input")?;
    let answers = worker.answer(&inputs, deadline).await?;
    let predictions = answers
        .rows()
        .map(|probabilities| {
            let best = argmax(probabilities);
            Prediction {
                label: &answers.classes[best],
                confidence: probabilities[best],
                probabilities: ByClass {
                    classes: answers.classes,
                    probabilities,
                },
            }
        })
        .collect();
    Ok(refusal::json(&Answer {
        predictions,
        model: &service.manifest().name,
        version: service.version(),
        digest: service.digest(),
    }))
}
