//! `:explain`, in the manner of `KServe`'s explainers: `{"instances": [...], "class": "7"}` gives
//! `{"explanations": [...]}`, or for one image a picture when the client accepts `image/png`.
//!
//! What an explanation is stands in `predict`. Its many inputs go through the queue that predictions go through, a
//! portion at a time, so that predictions have their turn between them; they count neither as predictions nor as drift.

use std::time::Instant;

use hyper::body::Bytes;
use hyper::header::{ACCEPT, HeaderValue};
use hyper::{HeaderMap, StatusCode};
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;
use tokio::task::spawn_blocking;

use super::image;
use super::payload;
use super::refusal::{self, Refusal, Response};
use super::worker::{Inputs, Worker};
use crate::predict::{Explanation, Occlusion, overlay, raw_from_json};
use crate::preprocess::{Column, Schema};

/// Inputs that a request may have explained: each is as much work as hundreds of predictions.
const MAX_INSTANCES: usize = 8;
/// Values that go to the model at once, at the most, if that is one input or more.
const PORTION: usize = 1 << 15;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    instances: Vec<Value>,
    class: Option<Value>,
}

#[derive(Serialize)]
struct Answer<'a> {
    explanations: Vec<Explained<'a>>,
    model: &'a str,
    version: &'a str,
}

#[derive(Serialize)]
struct Explained<'a> {
    label: &'a str,
    class: usize,
    probability: f32,
    method: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<[usize; 2]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fill: Option<&'a [f32]>,
    saliency: Map<'a>,
}

enum Map<'a> {
    Rows(std::slice::ChunksExact<'a, f32>),
    Columns(&'a [Column], &'a [f32]),
}

impl Serialize for Map<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Rows(rows) => serializer.collect_seq(rows.clone()),
            Self::Columns(columns, values) => {
                let mut map = serializer.serialize_map(Some(columns.len()))?;
                for (column, value) in columns.iter().zip(*values) {
                    map.serialize_entry(&column.name, value)?;
                }
                map.end()
            }
        }
    }
}

/// `POST /v1/models/NAME:explain`.
pub async fn explain(
    worker: &Worker,
    headers: &HeaderMap,
    body: &Bytes,
    deadline: Option<Instant>,
) -> Result<Response, Refusal> {
    let service = worker.service();
    let manifest = service.manifest();
    let (inputs, class) = read(worker, body).await?;
    let picture_size = match manifest.inputs {
        _ if !accepts_picture(headers) => None,
        Schema::Image {
            height,
            width,
            channels,
        } if inputs.count == 1 => Some([height, width, channels]),
        _ => {
            return Err(Refusal::new(
                StatusCode::NOT_ACCEPTABLE,
                "a picture (`Accept: image/png`) explains one image: ask for JSON",
            ));
        }
    };
    let mut explanations = Vec::with_capacity(inputs.count);
    for (index, raw) in inputs.raw.chunks_exact(manifest.inputs.width()).enumerate() {
        let occlusion = Occlusion::new(service.predictor(), raw)
            .map_err(|error| Refusal::bad(format!("input {index}: {error}")))?;
        explanations.push(ask(worker, &occlusion, class, deadline).await?);
    }
    if let Some(size) = picture_size
        && let Some(explanation) = explanations.pop()
    {
        return picture(inputs.raw, explanation.saliency, size).await;
    }
    let explanations = explanations.iter().map(|explanation| Explained {
        label: &manifest.classes[explanation.class],
        class: explanation.class,
        probability: explanation.probability,
        method: "occlusion",
        patch: explanation.patch.as_ref().map(|patch| patch.size),
        fill: explanation.patch.as_ref().map(|patch| &patch.fill[..]),
        saliency: match &manifest.inputs {
            Schema::Image { width, .. } => Map::Rows(explanation.saliency.chunks_exact(*width)),
            Schema::Table { columns } => Map::Columns(columns, &explanation.saliency),
        },
    });
    Ok(refusal::json(&Answer {
        explanations: explanations.collect(),
        model: &manifest.name,
        version: service.version(),
    }))
}

fn accepts_picture(headers: &HeaderMap) -> bool {
    let mut accepted = headers.get_all(ACCEPT).iter().filter_map(|kinds| kinds.to_str().ok());
    accepted.any(|kinds| kinds.contains("image/png"))
}

/// The inputs of a request, and the class that it asks about, if it does.
async fn read(worker: &Worker, body: &Bytes) -> Result<(Inputs, Option<usize>), Refusal> {
    let manifest = worker.service().manifest();
    if image::is_png(body) {
        let raw = image::read(&manifest.inputs, body).await?;
        return Ok((Inputs { raw, count: 1 }, None));
    }
    let request: Request = payload::json(body, "explain request")?;
    let count = request.instances.len();
    if count == 0 || count > MAX_INSTANCES {
        return Err(Refusal::bad(format!(
            "the request holds {count} inputs, and may hold 1 to {MAX_INSTANCES}: each takes hundreds of predictions"
        )));
    }
    let mut raw = Vec::with_capacity(count * manifest.inputs.width());
    for (index, instance) in request.instances.iter().enumerate() {
        raw_from_json(&manifest.inputs, instance, &mut raw)
            .map_err(|error| Refusal::bad(format!("input {index}: {error}")))?;
    }
    let class = match &request.class {
        None => None,
        Some(label) => Some(class(&manifest.classes, label)?),
    };
    Ok((Inputs { raw, count }, class))
}

/// The class with a name; a name that is a number may come as one.
fn class(classes: &[String], label: &Value) -> Result<usize, Refusal> {
    let label = label.as_str().map_or_else(|| label.to_string(), str::to_owned);
    classes
        .iter()
        .position(|class| *class == label)
        .ok_or_else(|| Refusal::bad(format!("the model has no class `{label}`: `GET /` lists its classes")))
}

/// Asks the model for the answers that an explanation needs.
async fn ask(
    worker: &Worker,
    occlusion: &Occlusion<'_>,
    class: Option<usize>,
    deadline: Option<Instant>,
) -> Result<Explanation, Refusal> {
    let width = worker.service().predictor().encoded_width();
    let portion = (PORTION / width).max(1);
    let mut probabilities = Vec::new();
    for start in (0..occlusion.inputs()).step_by(portion) {
        let inputs = start..occlusion.inputs().min(start + portion);
        let mut encoded = Vec::with_capacity(inputs.len() * width);
        for index in inputs {
            occlusion
                .encode(index, &mut encoded)
                .map_err(|error| Refusal::bad(error.to_string()))?;
        }
        probabilities.extend(worker.ask(encoded, deadline).await?);
    }
    Ok(occlusion.explain(&probabilities, class))
}

/// The explanation of an image as a picture, drawn away from the event loop.
async fn picture(raw: Vec<f32>, saliency: Vec<f32>, size: [usize; 3]) -> Result<Response, Refusal> {
    let drawn = spawn_blocking(move || overlay(&raw, &saliency, size)).await;
    match drawn {
        Ok(Ok(png)) => Ok(refusal::content(HeaderValue::from_static("image/png"), png)),
        Ok(Err(problem)) => Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, problem.to_string())),
        Err(_) => Err(Refusal::unavailable("the picture was not drawn: the server ends")),
    }
}
