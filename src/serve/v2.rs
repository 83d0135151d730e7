//! The Open Inference Protocol (version 2 of `KServe`) over REST, with tensors as JSON.
//!
//! What a request's tensors hold is read in `tensor`. The answer has the tensors `probabilities` (`FP32`, `[n,
//! classes]`) and `label` (`BYTES`, `[n]`). Binary tensors are refused.

use std::time::Instant;

use hyper::HeaderMap;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::payload;
use super::refusal::{self, Refusal, Response};
use super::service::Service;
use super::tensor::{self, IMAGE, InputTensor};
use super::worker::{Inputs, Worker};
use crate::predict::raw_from_json;
use crate::preprocess::{Column, ColumnKind, Schema};

/// Name of the output that holds the probabilities.
pub const PROBABILITIES: &str = "probabilities";
/// Name of the output that holds the most likely class.
const LABEL: &str = "label";

#[derive(Deserialize)]
struct InferRequest {
    id: Option<String>,
    #[serde(default)]
    parameters: Map<String, Value>,
    inputs: Vec<InputTensor>,
    outputs: Option<Vec<RequestedOutput>>,
}

#[derive(Deserialize)]
struct RequestedOutput {
    name: String,
    #[serde(default)]
    parameters: Map<String, Value>,
}

#[derive(Serialize)]
struct InferResponse<'a> {
    model_name: &'a str,
    model_version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    outputs: Vec<OutputTensor<'a>>,
}

#[derive(Serialize)]
struct OutputTensor<'a> {
    name: &'static str,
    shape: Vec<usize>,
    datatype: &'static str,
    data: OutputData<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum OutputData<'a> {
    Numbers(&'a [f32]),
    Names(Vec<&'a str>),
}

/// `POST /v2/models/NAME/infer`.
pub async fn infer(
    worker: &Worker,
    headers: &HeaderMap,
    body: &[u8],
    deadline: Option<Instant>,
) -> Result<Response, Refusal> {
    if headers.contains_key("inference-header-content-length") {
        return Err(Refusal::bad(
            "binary tensors are not served: send them as JSON (`binary_data: false`)",
        ));
    }
    let service = worker.service();
    let request: InferRequest = payload::json(body, "infer request")?;
    let wanted = wanted_outputs(&request)?;
    let schema = &service.manifest().inputs;
    let samples = tensor::samples(schema, request.inputs).map_err(Refusal::bad)?;
    let mut inputs = Inputs::default();
    for sample in &samples {
        raw_from_json(schema, sample, &mut inputs.raw)
            .map_err(|error| Refusal::bad(format!("input {}: {error}", inputs.count)))?;
        inputs.count += 1;
    }
    let answers = worker.answer(&inputs, deadline).await?;
    let outputs = wanted
        .into_iter()
        .map(|name| match name {
            LABEL => OutputTensor {
                name,
                shape: vec![inputs.count],
                datatype: "BYTES",
                data: OutputData::Names(answers.labels().collect()),
            },
            _ => OutputTensor {
                name,
                shape: vec![inputs.count, answers.classes.len()],
                datatype: "FP32",
                data: OutputData::Numbers(&answers.probabilities),
            },
        })
        .collect();
    Ok(refusal::json(&InferResponse {
        model_name: &service.manifest().name,
        model_version: service.version(),
        id: request.id,
        outputs,
    }))
}

/// The outputs that a request asks for: all of them when it does not say.
fn wanted_outputs(request: &InferRequest) -> Result<Vec<&'static str>, Refusal> {
    const OUTPUTS: [&str; 2] = [PROBABILITIES, LABEL];
    let requested = request.outputs.as_deref().unwrap_or_default();
    let asks = |parameters: &Map<String, Value>, key: &str| parameters.get(key) == Some(&Value::Bool(true));
    if asks(&request.parameters, "binary_data_output")
        || requested.iter().any(|output| asks(&output.parameters, "binary_data"))
    {
        return Err(Refusal::bad(
            "binary tensors are not served: ask for JSON (`binary_data: false`)",
        ));
    }
    if requested.is_empty() {
        return Ok(OUTPUTS.to_vec());
    }
    requested
        .iter()
        .map(|output| {
            OUTPUTS.into_iter().find(|name| *name == output.name).ok_or_else(|| {
                Refusal::bad(format!(
                    "there is no output `{}`, there are `{PROBABILITIES}` and `{LABEL}`",
                    output.name
                ))
            })
        })
        .collect()
}

/// `GET /v2`: what this server is.
pub fn server() -> Response {
    refusal::json(&json!({"name": "emberline", "version": env!("CARGO_PKG_VERSION"), "extensions": []}))
}

/// `GET /v2/models/NAME`.
pub fn metadata(service: &Service) -> Response {
    let manifest = service.manifest();
    let inputs: Vec<Value> = match &manifest.inputs {
        Schema::Image {
            height,
            width,
            channels,
        } => vec![json!({"name": IMAGE, "datatype": "FP32", "shape": [-1, height, width, channels]})],
        Schema::Table { columns } => columns.iter().map(column_metadata).collect(),
    };
    refusal::json(&json!({
        "name": manifest.name,
        "versions": [service.version()],
        "platform": "emberline",
        "inputs": inputs,
        "outputs": [
            {"name": PROBABILITIES, "datatype": "FP32", "shape": [-1, manifest.classes.len()]},
            {"name": LABEL, "datatype": "BYTES", "shape": [-1]},
        ],
    }))
}

fn column_metadata(column: &Column) -> Value {
    let datatype = match column.kind {
        ColumnKind::Numeric => "FP32",
        ColumnKind::Categorical { .. } => "BYTES",
    };
    json!({"name": column.name, "datatype": datatype, "shape": [-1]})
}
