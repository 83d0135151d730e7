//! A PNG as the body of a request. What it means to the model is `predict`'s, the same as for the tool; here is who
//! unpacks it: a small picture on the event loop, a large one on a thread of its own, a few at a time, because one that
//! is small on the wire can be a fifth of a second of work.

use hyper::body::Bytes;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use super::refusal::Refusal;
use crate::predict::raw_from_png;
use crate::preprocess::Schema;
use crate::problem::Problem;

/// What every PNG begins with, and no JSON does.
const SIGNATURE: [u8; 8] = *b"\x89PNG\r\n\x1a\n";
/// Pixels of the largest picture that an event loop unpacks: less than 0.1 ms.
const SMALL: u64 = 64 * 64;
/// Large pictures that are unpacked at once; the others wait.
static UNPACKERS: Semaphore = Semaphore::const_new(2);

/// Whether a body is a PNG, by its first bytes.
pub fn is_png(body: &[u8]) -> bool {
    body.starts_with(&SIGNATURE)
}

/// The raw input that a PNG holds.
///
/// # Errors
///
/// 400 with what is wrong with the picture, or with giving one to this model.
pub async fn read(schema: &Schema, body: &Bytes) -> Result<Vec<f32>, Refusal> {
    let raw = if area(body) <= SMALL {
        raw_from_png(body, schema)
    } else {
        let _permit = UNPACKERS.acquire().await;
        let (schema, body) = (schema.clone(), body.clone());
        spawn_blocking(move || raw_from_png(&body, &schema))
            .await
            .map_err(|_| Refusal::unavailable("the picture was not unpacked: the server ends"))?
    };
    raw.map_err(|problem| refuse(&problem))
}

fn refuse(problem: &Problem) -> Refusal {
    match problem.hint_text() {
        Some(hint) => Refusal::bad(format!("{problem}; {hint}")),
        None => Refusal::bad(problem.to_string()),
    }
}

/// Pixels that a PNG says it has: its width and height come first. What is none has 0.
pub fn area(body: &[u8]) -> u64 {
    if !is_png(body) {
        return 0;
    }
    let number = |at: usize| {
        let bytes = body.get(at..at + 4)?.try_into().ok()?;
        Some(u64::from(u32::from_be_bytes(bytes)))
    };
    // One that is too short for them is refused at once.
    number(16).zip(number(20)).map_or(0, |(width, height)| width * height)
}
