//! Predictions in the manner of TensorFlow Serving's REST API, in its row form: `{"instances": [...]}` gives
//! `{"predictions": [[probability, ...], ...]}`. The columnar form (`inputs`) is refused.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::payload::Payload;
use super::refusal::{self, Refusal};
use super::service::{Phase, Service};
use crate::preprocess::{ColumnKind, Schema};

/// The only signature of a model.
const SIGNATURE: &str = "serving_default";

#[derive(Deserialize)]
struct Request {
    signature_name: Option<String>,
    instances: Option<Vec<Value>>,
    inputs: Option<Value>,
}

#[derive(Serialize)]
struct Answer<'a> {
    predictions: Vec<&'a [f32]>,
}

/// `POST /v1/models/NAME:predict`: the method is part of the last segment.
pub async fn predict(
    State(service): State<Arc<Service>>,
    Path(target): Path<String>,
    payload: Payload,
) -> Result<Response, Refusal> {
    answer(&service, &target, None, &payload).await
}

/// `POST /v1/models/NAME/versions/VERSION:predict`.
pub async fn predict_version(
    State(service): State<Arc<Service>>,
    Path((name, target)): Path<(String, String)>,
    payload: Payload,
) -> Result<Response, Refusal> {
    answer(&service, &target, Some(&name), &payload).await
}

async fn answer(service: &Service, target: &str, name: Option<&str>, payload: &Payload) -> Result<Response, Refusal> {
    let Some((subject, method)) = target.rsplit_once(':') else {
        return Err(Refusal::not_found(format!(
            "`{target}` names no method: predictions are at `{target}:predict`"
        )));
    };
    match name {
        None => service.check_model(subject, None)?,
        Some(name) => service.check_model(name, Some(subject))?,
    }
    if method != "predict" {
        return Err(Refusal::not_found(format!(
            "there is no method `{method}`, there is `predict`"
        )));
    }
    let request: Request = payload.json("predict request")?;
    if let Some(signature) = request.signature_name.filter(|signature| signature != SIGNATURE) {
        return Err(Refusal::bad(format!(
            "there is no signature `{signature}`, there is `{SIGNATURE}`"
        )));
    }
    if request.inputs.is_some() {
        return Err(Refusal::bad(
            "the columnar form (`inputs`) is not served: send rows as `instances`",
        ));
    }
    let instances = request
        .instances
        .ok_or_else(|| Refusal::bad("the body has no `instances`: an array of inputs"))?;
    let answers = service.answer(&instances).await?;
    Ok(refusal::json(&Answer {
        predictions: answers.rows().collect(),
    }))
}

/// `GET /v1/models/NAME`: whether the model is available.
pub async fn status(State(service): State<Arc<Service>>, Path(name): Path<String>) -> Result<Response, Refusal> {
    service.check_model(&name, None)?;
    Ok(model_status(&service))
}

/// `GET /v1/models/NAME/versions/VERSION`.
pub async fn status_version(
    State(service): State<Arc<Service>>,
    Path((name, version)): Path<(String, String)>,
) -> Result<Response, Refusal> {
    service.check_model(&name, Some(&version))?;
    Ok(model_status(&service))
}

fn model_status(service: &Service) -> Response {
    let state = match service.phase() {
        Phase::Starting => "LOADING",
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
pub async fn metadata(State(service): State<Arc<Service>>, Path(name): Path<String>) -> Result<Response, Refusal> {
    service.check_model(&name, None)?;
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
    Ok(refusal::json(&json!({
        "model_spec": {"name": manifest.name, "signature_name": "", "version": service.version()},
        "metadata": {"signature_def": {"signature_def": {SIGNATURE: {
            "inputs": inputs,
            "outputs": {super::v2::PROBABILITIES: tensor("DT_FLOAT", &[manifest.classes.len()])},
            "method_name": "tensorflow/serving/predict",
        }}}},
    })))
}

/// A tensor as the metadata describes it; the first dimension is the batch.
fn tensor(dtype: &str, shape: &[usize]) -> Value {
    let sizes = std::iter::once("-1".to_owned()).chain(shape.iter().map(ToString::to_string));
    let sizes: Vec<Value> = sizes.map(|size| json!({"size": size, "name": ""})).collect();
    json!({"dtype": dtype, "tensor_shape": {"dim": sizes, "unknown_rank": false}})
}
