//! Predictions in the manner of TensorFlow Serving's REST API, in its row form: `{"instances": [...]}` gives
//! `{"predictions": [[probability, ...], ...]}`. The columnar form (`inputs`) is refused.

use std::fmt;
use std::time::Instant;

use serde::Serialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::{Value, json};

use super::payload;
use super::refusal::{self, Refusal, Response};
use super::service::{Phase, Service};
use super::worker::{Inputs, Worker};
use crate::predict::Samples;
use crate::preprocess::{ColumnKind, Schema};

/// The only signature of a model.
const SIGNATURE: &str = "serving_default";

#[derive(Serialize)]
struct Answer<'a> {
    predictions: Vec<&'a [f32]>,
}

/// Reads the body of a prediction, its instances straight into the inputs.
struct Request<'a> {
    schema: &'a Schema,
}

impl<'de> DeserializeSeed<'de> for Request<'_> {
    type Value = Inputs;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Inputs, D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Request<'_> {
    type Value = Inputs;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("an object with `instances`: an array of inputs")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Inputs, A::Error> {
        let mut inputs = None;
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "instances" => {
                    let mut read = Inputs::default();
                    let samples = Samples {
                        schema: self.schema,
                        raw: &mut read.raw,
                    };
                    read.count = map.next_value_seed(samples)?;
                    inputs = Some(read);
                }
                "inputs" => {
                    return Err(A::Error::custom(
                        "the columnar form (`inputs`) is not served: send rows as `instances`",
                    ));
                }
                "signature_name" => {
                    if let Some(other) = map.next_value::<Option<String>>()?.filter(|name| name != SIGNATURE) {
                        return Err(A::Error::custom(format_args!(
                            "there is no signature `{other}`, there is `{SIGNATURE}`"
                        )));
                    }
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        inputs.ok_or_else(|| A::Error::custom("the body has no `instances`: an array of inputs"))
    }
}

/// `POST /v1/models/NAME:predict`.
pub async fn predict(worker: &Worker, body: &[u8], deadline: Option<Instant>) -> Result<Response, Refusal> {
    let request = Request {
        schema: &worker.service().manifest().inputs,
    };
    let inputs = payload::json_with(request, body, "predict request")?;
    let answers = worker.answer(&inputs, deadline).await?;
    Ok(refusal::json(&Answer {
        predictions: answers.rows().collect(),
    }))
}

/// `GET /v1/models/NAME`: whether the model is available.
pub fn status(service: &Service) -> Response {
    let state = match service.phase() {
        Phase::Ready => "AVAILABLE",
        Phase::Draining => "UNLOADING",
    };
    refusal::json(&json!({
        "model_version_status": [{
            "version": service.version(),
            "state": state,
            "status": {"error_code": "OK", "error_message": ""},
        }]
    }))
}

/// `GET /v1/models/NAME/metadata`: the signature.
pub fn metadata(service: &Service) -> Response {
    let manifest = service.manifest();
    let inputs: serde_json::Map<String, Value> = match &manifest.inputs {
        Schema::Image {
            height,
            width,
            channels,
        } => [(
            super::tensor::IMAGE.to_owned(),
            tensor("DT_FLOAT", &[*height, *width, *channels]),
        )]
        .into_iter()
        .collect(),
        Schema::Table { columns } => columns
            .iter()
            .map(|column| {
                let dtype = match column.kind {
                    ColumnKind::Numeric => "DT_FLOAT",
                    ColumnKind::Categorical { .. } => "DT_STRING",
                };
                (column.name.clone(), tensor(dtype, &[]))
            })
            .collect(),
    };
    refusal::json(&json!({
        "model_spec": {"name": manifest.name, "signature_name": "", "version": service.version()},
        "metadata": {"signature_def": {"signature_def": {SIGNATURE: {
            "inputs": inputs,
            "outputs": {super::v2::PROBABILITIES: tensor("DT_FLOAT", &[manifest.classes.len()])},
            "method_name": "tensorflow/serving/predict",
        }}}},
    }))
}

/// A tensor as the metadata describes it; the first dimension is the batch.
fn tensor(dtype: &str, shape: &[usize]) -> Value {
    let sizes = std::iter::once("-1".to_owned()).chain(shape.iter().map(ToString::to_string));
    let sizes: Vec<Value> = sizes.map(|size| json!({"size": size, "name": ""})).collect();
    json!({"dtype": dtype, "tensor_shape": {"dim": sizes, "unknown_rank": false}})
}
