//! The Open Inference Protocol (version 2 of `KServe`) over REST, with its binary tensor extension.
//!
//! What a request's tensors hold is read in `tensor`. The answer has the tensors `probabilities` (`FP32`, `[n,
//! classes]`) and `label` (`BYTES`, `[n]`), as JSON or, where the request asks for it, as bytes after the JSON.

use std::time::{Duration, Instant};

use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::datatype;
use super::payload;
use super::refusal::{self, Refusal, Response};
use super::service::Service;
use super::tensor::{self, IMAGE, InputTensor};
use super::worker::{Answers, Worker};
use crate::preprocess::{Column, ColumnKind, Schema};

/// Name of the output that holds the probabilities.
pub const PROBABILITIES: &str = "probabilities";
/// Name of the output that holds the most likely class.
const LABEL: &str = "label";
/// How many bytes of a body are JSON, when tensors follow it as bytes.
const JSON_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");

#[derive(Deserialize)]
struct InferRequest {
    id: Option<String>,
    #[serde(default)]
    parameters: RequestParameters,
    inputs: Vec<InputTensor>,
    #[serde(default)]
    outputs: Vec<RequestedOutput>,
}

/// What a request says of itself. Other parameters are hints to other servers.
#[derive(Default, Deserialize)]
struct RequestParameters {
    /// Whether outputs come as bytes that do not say so themselves.
    #[serde(default)]
    binary_data_output: bool,
    /// The client's patience in microseconds, as Triton's clients tell it.
    timeout: Option<u64>,
}

#[derive(Deserialize)]
struct RequestedOutput {
    name: String,
    #[serde(default)]
    parameters: OutputParameters,
}

#[derive(Default, Deserialize)]
struct OutputParameters {
    binary_data: Option<bool>,
}

#[derive(Serialize)]
struct InferResponse<'a> {
    model_name: &'a str,
    model_version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    parameters: ResponseParameters<'a>,
    outputs: Vec<OutputTensor<'a>>,
}

#[derive(Serialize)]
struct ResponseParameters<'a> {
    digest: &'a str,
}

#[derive(Serialize)]
struct OutputTensor<'a> {
    name: &'static str,
    shape: Vec<usize>,
    datatype: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<BinarySize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<OutputData<'a>>,
}

#[derive(Serialize)]
struct BinarySize {
    binary_data_size: usize,
}

#[derive(Serialize)]
#[serde(untagged)]
enum OutputData<'a> {
    Numbers(&'a [f32]),
    Names(Vec<&'a str>),
}

/// An output that a request gets.
#[derive(Clone, Copy)]
struct Wanted {
    name: &'static str,
    binary: bool,
}

/// `POST /v2/models/NAME/infer`.
pub async fn infer(
    worker: &Worker,
    headers: &HeaderMap,
    body: &[u8],
    started: Instant,
    deadline: Option<Instant>,
) -> Result<Response, Refusal> {
    let service = worker.service();
    let (text, binary) = split(headers, body)?;
    let request: InferRequest = payload::json(text, "infer request")?;
    let wanted = wanted(&request)?;
    let patience = request.parameters.timeout.filter(|micros| *micros > 0);
    let patience = patience.and_then(|micros| started.checked_add(Duration::from_micros(micros)));
    let deadline = [deadline, patience].into_iter().flatten().min();
    let inputs = tensor::inputs(&service.manifest().inputs, request.inputs, binary).map_err(Refusal::bad)?;
    let answers = worker.answer(&inputs, deadline).await?;
    let mut bytes = Vec::new();
    let outputs = wanted
        .iter()
        .map(|output| output.tensor(&answers, &mut bytes))
        .collect();
    let response = InferResponse {
        model_name: &service.manifest().name,
        model_version: service.version(),
        id: request.id,
        parameters: ResponseParameters {
            digest: service.digest(),
        },
        outputs,
    };
    if wanted.iter().any(|output| output.binary) {
        Ok(with_bytes(&response, &bytes))
    } else {
        Ok(refusal::json(&response))
    }
}

/// The JSON of a body, and the bytes after it.
fn split<'a>(headers: &HeaderMap, body: &'a [u8]) -> Result<(&'a [u8], &'a [u8]), Refusal> {
    let Some(length) = headers.get(JSON_LENGTH) else {
        return Ok((body, b""));
    };
    length
        .to_str()
        .ok()
        .and_then(|length| body.split_at_checked(length.parse().ok()?))
        .ok_or_else(|| {
            Refusal::bad(format!(
                "the header `{JSON_LENGTH}` is no number of bytes up to the {} of the body",
                body.len()
            ))
        })
}

/// The outputs that a request asks for: all of them when it does not say.
fn wanted(request: &InferRequest) -> Result<Vec<Wanted>, Refusal> {
    const OUTPUTS: [&str; 2] = [PROBABILITIES, LABEL];
    let all = request.parameters.binary_data_output;
    if request.outputs.is_empty() {
        return Ok(OUTPUTS.map(|name| Wanted { name, binary: all }).to_vec());
    }
    let find = |output: &RequestedOutput| {
        let name = OUTPUTS.into_iter().find(|name| *name == output.name).ok_or_else(|| {
            Refusal::bad(format!(
                "there is no output `{}`, there are `{PROBABILITIES}` and `{LABEL}`",
                output.name
            ))
        })?;
        let binary = output.parameters.binary_data.unwrap_or(all);
        Ok(Wanted { name, binary })
    };
    request.outputs.iter().map(find).collect()
}

impl Wanted {
    /// The output, its elements at the end of `bytes` when they are wanted so.
    fn tensor<'a>(self, answers: &'a Answers<'_>, bytes: &mut Vec<u8>) -> OutputTensor<'a> {
        let begin = bytes.len();
        let classes = answers.classes.len();
        let rows = answers.probabilities.len() / classes;
        let (shape, datatype, data) = match (self.name, self.binary) {
            (LABEL, true) => {
                datatype::encode_texts(answers.labels(), bytes);
                (vec![rows], "BYTES", None)
            }
            (LABEL, false) => {
                let names = answers.labels().collect();
                (vec![rows], "BYTES", Some(OutputData::Names(names)))
            }
            (_, true) => {
                datatype::encode_numbers(&answers.probabilities, bytes);
                (vec![rows, classes], "FP32", None)
            }
            (_, false) => {
                let numbers = OutputData::Numbers(&answers.probabilities);
                (vec![rows, classes], "FP32", Some(numbers))
            }
        };
        OutputTensor {
            name: self.name,
            shape,
            datatype,
            parameters: self.binary.then(|| BinarySize {
                binary_data_size: bytes.len() - begin,
            }),
            data,
        }
    }
}

/// An answer of JSON and the bytes that follow it.
fn with_bytes(response: &InferResponse<'_>, bytes: &[u8]) -> Response {
    let Ok(mut body) = serde_json::to_vec(response) else {
        // As in `refusal::json`, which answers that this cannot be.
        return refusal::json(response);
    };
    let length = HeaderValue::from(body.len());
    body.extend_from_slice(bytes);
    let mut answer = refusal::content(HeaderValue::from_static("application/octet-stream"), body);
    answer.headers_mut().insert(JSON_LENGTH, length);
    answer
}

/// `GET /v2`: what this server is.
pub fn server() -> Response {
    refusal::json(
        &json!({"name": "emberline", "version": env!("CARGO_PKG_VERSION"), "extensions": ["binary_tensor_data"]}),
    )
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
