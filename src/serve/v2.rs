//! The Open Inference Protocol (version 2 of `KServe`) over REST, with its binary tensor extension.
//!
//! What a request's tensors hold is read in `json_tensor` and `tensor`. The answer's tensors come as JSON or, where the
//! request asks for it, as bytes after the JSON.

use std::time::{Duration, Instant};

use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::json_tensor::{self, InputTensor};
use super::payload;
use super::refusal::{self, Refusal, Response};
use super::service::Service;
use super::signature::{self, Output};
use super::tensor;
use super::worker::{Answers, Worker};

/// What this server is called.
pub const SERVER: &str = "emberline";
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
    output: Output,
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
    let tensors = json_tensor::read(request.inputs, binary).map_err(Refusal::bad)?;
    let inputs = tensor::inputs(&service.manifest().inputs, tensors).map_err(Refusal::bad)?;
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
    let all = request.parameters.binary_data_output;
    if request.outputs.is_empty() {
        return Ok(Output::ALL.map(|output| Wanted { output, binary: all }).to_vec());
    }
    let find = |requested: &RequestedOutput| {
        let output = Output::named(&requested.name)?;
        let binary = requested.parameters.binary_data.unwrap_or(all);
        Ok(Wanted { output, binary })
    };
    request.outputs.iter().map(find).collect()
}

impl Wanted {
    /// The output, its elements at the end of `bytes` when they are wanted so.
    fn tensor<'a>(self, answers: &'a Answers<'_>, bytes: &mut Vec<u8>) -> OutputTensor<'a> {
        let begin = bytes.len();
        let data = match (self.output, self.binary) {
            (output, true) => {
                output.encode(answers, bytes);
                None
            }
            (Output::Probabilities, false) => Some(OutputData::Numbers(&answers.probabilities)),
            (Output::Label, false) => Some(OutputData::Names(answers.labels().collect())),
        };
        OutputTensor {
            name: self.output.name(),
            shape: self.output.shape(answers),
            datatype: self.output.datatype(),
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
    refusal::json(&json!({"name": SERVER, "version": env!("CARGO_PKG_VERSION"), "extensions": ["binary_tensor_data"]}))
}

/// `GET /v2/models/NAME`.
pub fn metadata(service: &Service) -> Response {
    let manifest = service.manifest();
    refusal::json(&json!({
        "name": manifest.name,
        "versions": [service.version()],
        "platform": SERVER,
        "inputs": signature::inputs(&manifest.inputs),
        "outputs": signature::outputs(manifest.classes.len()),
    }))
}
