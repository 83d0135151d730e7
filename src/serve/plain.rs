//! `POST /predict`, for people: one input or an array of inputs as JSON, answered with names instead of positions.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::Value;

use super::payload::Payload;
use super::refusal::{self, Refusal};
use super::service::Service;
use crate::predict::argmax;
use crate::preprocess::Schema;

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
pub async fn predict(State(service): State<Arc<Service>>, payload: Payload) -> Result<Response, Refusal> {
    let body: Value = payload.json("input")?;
    let inputs = inputs(&service.manifest().inputs, body);
    let answers = service.answer(&inputs).await?;
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

/// Tells one input from an array of them. What is neither is one input, so that the refusal says what an input is.
fn inputs(schema: &Schema, body: Value) -> Vec<Value> {
    match body {
        Value::Array(items) => {
            let many = match schema {
                // An image may be nested itself: it is one when all its numbers together are one image.
                Schema::Image { .. } => {
                    items.iter().any(Value::is_array) && items.iter().map(leaves).sum::<usize>() != schema.width()
                }
                Schema::Table { .. } => items.iter().any(|item| item.is_array() || item.is_object()),
            };
            if many || items.is_empty() {
                items
            } else {
                vec![Value::Array(items)]
            }
        }
        other => vec![other],
    }
}

fn leaves(value: &Value) -> usize {
    match value {
        Value::Array(items) => items.iter().map(leaves).sum(),
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preprocess::{Column, ColumnKind};
    use serde_json::json;

    #[test]
    fn one_image_is_told_from_several() {
        let schema = Schema::Image {
            height: 2,
            width: 2,
            channels: 1,
        };
        let count = |body| inputs(&schema, body).len();
        assert_eq!(count(json!([1, 2, 3, 4])), 1);
        assert_eq!(count(json!([[1, 2], [3, 4]])), 1);
        assert_eq!(count(json!([[[1], [2]], [[3], [4]]])), 1);
        assert_eq!(count(json!([[1, 2, 3, 4], [1, 2, 3, 4]])), 2);
        assert_eq!(count(json!([[[1, 2], [3, 4]], [[1, 2], [3, 4]]])), 2);
        assert_eq!(count(json!([])), 0);
        assert_eq!(count(json!("x")), 1);
    }

    #[test]
    fn one_row_is_told_from_several() {
        let schema = Schema::Table {
            columns: vec![Column {
                name: "x".into(),
                kind: ColumnKind::Numeric,
            }],
        };
        let count = |body| inputs(&schema, body).len();
        assert_eq!(count(json!({"x": 1})), 1);
        assert_eq!(count(json!([1])), 1);
        assert_eq!(count(json!([[1], [2]])), 2);
        assert_eq!(count(json!([{"x": 1}, [2]])), 2);
    }
}
