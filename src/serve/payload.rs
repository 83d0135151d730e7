//! The body of a request: read whole, within its limits, before anything is made of it.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{CONTENT_LENGTH, EXPECT};
use hyper::{HeaderMap, StatusCode};
use serde::de::{DeserializeOwned, DeserializeSeed};
use tokio::time::timeout;

use super::refusal::Refusal;

/// How long a body may take to arrive.
const ARRIVAL: Duration = Duration::from_secs(30);
/// How much of a body that nobody wants is read and thrown away, in bytes, and for how long: a client that is still
/// sending when its connection is closed would not see the answer.
const LINGER: (usize, Duration) = (256 << 20, Duration::from_secs(10));

/// Reads a body of at most `limit` bytes.
///
/// # Errors
///
/// 413 when it is larger, 408 when it does not arrive in time, 400 when it breaks off.
pub async fn read(headers: &HeaderMap, body: &mut Incoming, limit: usize) -> Result<Bytes, Refusal> {
    let announced = headers
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    // Told before anything is read, so that a client that asked (`Expect: 100-continue`) need not send it.
    if announced.is_some_and(|length| length > limit) {
        return Err(too_large(limit));
    }
    let mut arrival = pin!(collect(body, announced, limit));
    // Most bodies come with their heads: only the others need a timer.
    if let Poll::Ready(arrived) = poll_fn(|context| Poll::Ready(arrival.as_mut().poll(context))).await {
        return arrived;
    }
    timeout(ARRIVAL, arrival).await.unwrap_or_else(|_| {
        Err(Refusal::new(
            StatusCode::REQUEST_TIMEOUT,
            format!("the body did not arrive within {} s", ARRIVAL.as_secs()),
        ))
    })
}

async fn collect(body: &mut Incoming, announced: Option<usize>, limit: usize) -> Result<Bytes, Refusal> {
    let broken = |error| Refusal::bad(format!("the body broke off: {error}"));
    let Some(first) = next(body).await else {
        return Ok(Bytes::new());
    };
    let first = first.map_err(broken)?;
    if announced == Some(first.len()) {
        return Ok(first);
    }
    let mut bytes = Vec::with_capacity(announced.unwrap_or_default().max(first.len()));
    let mut chunk = first;
    loop {
        if bytes.len() + chunk.len() > limit {
            return Err(too_large(limit));
        }
        bytes.extend_from_slice(&chunk);
        match next(body).await {
            Some(next) => chunk = next.map_err(broken)?,
            None => return Ok(bytes.into()),
        }
    }
}

fn too_large(limit: usize) -> Refusal {
    Refusal::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        format!("the body is larger than {limit} bytes: send the inputs in parts, or raise --max-body"),
    )
}

/// Throws away what is left of a body whose request is refused, so that the connection stays of use.
pub fn discard(headers: &HeaderMap, mut body: Incoming) {
    // A client that asks before it sends takes the answer as a no.
    if body.is_end_stream() || headers.contains_key(EXPECT) {
        return;
    }
    tokio::spawn(timeout(LINGER.1, async move {
        let mut left = LINGER.0;
        while let Some(Ok(chunk)) = next(&mut body).await
            && left > chunk.len()
        {
            left -= chunk.len();
        }
    }));
}

/// The next piece of data; none at the end.
async fn next(body: &mut Incoming) -> Option<Result<Bytes, hyper::Error>> {
    loop {
        match poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await? {
            Ok(frame) => {
                // Trailers say nothing here.
                if let Ok(data) = frame.into_data() {
                    return Some(Ok(data));
                }
            }
            Err(error) => return Some(Err(error)),
        }
    }
}

/// A body as JSON; `what` it should be is told when it is not.
///
/// # Errors
///
/// 400 with the place where the JSON goes wrong.
pub fn json<T: DeserializeOwned>(body: &[u8], what: &str) -> Result<T, Refusal> {
    json_with(std::marker::PhantomData, body, what)
}

/// As [`json`], with a seed that knows where the values go.
///
/// # Errors
///
/// 400 with the place where the JSON goes wrong.
pub fn json_with<'de, S: DeserializeSeed<'de>>(seed: S, body: &'de [u8], what: &str) -> Result<S::Value, Refusal> {
    let mut reader = serde_json::Deserializer::from_slice(body);
    let read = seed
        .deserialize(&mut reader)
        .and_then(|value| reader.end().map(|()| value));
    read.map_err(|error| {
        // What is JSON, and says something wrong, is told by those who read it.
        if error.is_data() {
            Refusal::bad(error.to_string())
        } else {
            Refusal::bad(format!("the body is no {what} in JSON: {error}"))
        }
    })
}
