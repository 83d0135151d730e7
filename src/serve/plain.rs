//! `POST /predict`, for people: one input or an array of inputs as JSON, an image as PNG, pixels as raw bytes, or a form with
//! such files, answered with names instead of positions.

use std::path::Path;
use std::time::Instant;

use http_body_util::{BodyDataStream, Full};
use hyper::HeaderMap;
use hyper::body::Bytes;
use hyper::header::CONTENT_TYPE;
use multer::Multipart;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::refusal::{self, Refusal, Response};
use super::worker::{Inputs, Worker};
use super::{image, payload};
use crate::predict::{MOST_PIXELS, OneOrMore, argmax, decimals};
use crate::preprocess::Schema;
use crate::probe;

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
pub async fn predict(
    worker: &Worker,
    headers: &HeaderMap,
    body: Bytes,
    deadline: Option<Instant>,
) -> Result<Response, Refusal> {
    let service = worker.service();
    let schema = &service.manifest().inputs;
    let kind = headers
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok())
        .unwrap_or_default();
    let mut inputs = Inputs::default();
    if kind.starts_with("multipart/") {
        let boundary = multer::parse_boundary(kind).map_err(|error| broken(&error))?;
        let mut parts = Multipart::new(BodyDataStream::new(Full::new(body)), boundary);
        let mut pixels = 0;
        while let Some(part) = parts.next_field().await.map_err(|error| broken(&error))? {
            // What `curl -F` says of a file that it does not know is of no use when the file's name says what it is.
            let json = part.file_name().is_some_and(is_json);
            let kind = part.content_type().filter(|_| !json);
            let kind = kind.map(ToString::to_string).unwrap_or_default();
            let name = part.file_name().or(part.name()).unwrap_or_default().to_owned();
            let content = part.bytes().await.map_err(|error| broken(&error))?;
            // Small on the wire, pictures can be much work: a form of them is bounded as one picture is.
            pixels += image::area(&content);
            if pixels > MOST_PIXELS {
                return Err(Refusal::bad(format!(
                    "the pictures have more than {MOST_PIXELS} pixels in all: send them in several forms"
                )));
            }
            read(schema, &kind, &content, &mut inputs)
                .await
                .map_err(|refusal| refusal.within(&format!("part `{name}`")))?;
        }
    } else {
        read(schema, kind, &body, &mut inputs).await?;
    }
    let answers = if headers.contains_key(probe::HEADER) {
        worker.answer_uncounted(&inputs, deadline).await?
    } else {
        worker.answer(&inputs, deadline).await?
    };
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

/// By its name, which is all that `curl -F` tells of a file that it does not know.
fn is_json(name: &str) -> bool {
    Path::new(name)
        .extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("json"))
}

fn broken(error: &multer::Error) -> Refusal {
    Refusal::bad(format!("the body is no multipart form: {error}"))
}

/// Appends the inputs that `content` holds. A PNG is one by its first bytes, whatever is said of it. What else does not
/// say what it is, or says only that a form was sent as `curl -d` does, is JSON.
async fn read(schema: &Schema, kind: &str, content: &Bytes, inputs: &mut Inputs) -> Result<(), Refusal> {
    if image::is_png(content) {
        inputs.raw.append(&mut image::read(schema, content).await?);
        inputs.count += 1;
        return Ok(());
    }
    if kind.starts_with("application/octet-stream") {
        return read_bytes(schema, content, inputs);
    }
    if let Some(count) = decimals::image(content, schema, &mut inputs.raw) {
        inputs.count += count;
        return Ok(());
    }
    let seed = OneOrMore {
        schema,
        raw: &mut inputs.raw,
    };
    inputs.count += payload::json_with(seed, content, "input")?;
    Ok(())
}

/// Raw bytes are the pixels of one image after another.
fn read_bytes(schema: &Schema, content: &[u8], inputs: &mut Inputs) -> Result<(), Refusal> {
    let Schema::Image { .. } = schema else {
        return Err(Refusal::bad(
            "rows of a table cannot come as raw bytes: send them as JSON",
        ));
    };
    let width = schema.width();
    if content.is_empty() || !content.len().is_multiple_of(width) {
        return Err(Refusal::bad(format!(
            "an image is {width} bytes, one for each pixel, and these are {}",
            content.len()
        )));
    }
    inputs.raw.extend(content.iter().map(|pixel| f32::from(*pixel)));
    inputs.count += content.len() / width;
    Ok(())
}
