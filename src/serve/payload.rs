//! The body of a request: read whole, within its limits, before anything is made of it.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HeaderValue};
use hyper::{HeaderMap, StatusCode};
use serde::de::{DeserializeOwned, DeserializeSeed};
use tokio::time::timeout;

use super::refusal::Refusal;

/// How long a body may take to arrive.
const ARRIVAL: Duration = Duration::from_secs(30);
/// How much of a body that nobody wants is read and thrown away, in bytes, and for how long: a client that is still
/// sending when its connection is closed would not see the answer.
const LINGER: (usize, Duration) = (256 << 20, Duration::from_secs(10));

/// Kinds of content that are taken for JSON: what says nothing of itself, and what `curl -d` says of everything.
const JSON: [&str; 4] = [
    "",
    "application/json",
    "application/x-www-form-urlencoded",
    "text/plain",
];

/// Checks that a body is of a kind that is read: JSON, or one of `others`.
///
/// # Errors
///
/// 415 when it is of another kind, or compressed.
pub fn check_kind(headers: &HeaderMap, others: &[&str]) -> Result<(), Refusal> {
    let refuse = |message| Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
    let text = |name| {
        headers
            .get(name)
            .map_or("", |value: &HeaderValue| value.to_str().unwrap_or("?"))
    };
    let encoding = text(CONTENT_ENCODING);
    if !["", "identity"].contains(&encoding) {
        return refuse(format!(
            "the body is compressed (`{encoding}`), and is read only as it is"
        ));
    }
    let kind = text(CONTENT_TYPE).split(';').next().unwrap_or_default().trim();
    let is = |known: &&str| kind.eq_ignore_ascii_case(known);
    if JSON.iter().chain(others).any(is) || kind.to_ascii_lowercase().ends_with("+json") {
        return Ok(());
    }
    let kinds: Vec<&str> = JSON[1..2].iter().chain(others).copied().collect();
    refuse(format!(
        "the body is `{kind}`, and this path reads {}",
        kinds.join(", ")
    ))
}

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

#[cfg(test)]
mod tests {
    use hyper::header::HeaderName;

    use super::*;

    fn check(name: HeaderName, value: &'static str, others: &[&str]) -> Result<(), Refusal> {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_static(value));
        check_kind(&headers, others)
    }

    #[test]
    fn json_is_known_under_its_names_and_by_default() {
        assert_eq!(check_kind(&HeaderMap::new(), &[]), Ok(()));
        for kind in [
            "application/json",
            "Application/JSON; charset=utf-8",
            "application/vnd.api+json",
            "application/x-www-form-urlencoded",
            "text/plain",
        ] {
            assert_eq!(check(CONTENT_TYPE, kind, &[]), Ok(()), "{kind}");
        }
        assert_eq!(check(CONTENT_TYPE, "image/png", &["image/png"]), Ok(()));
        assert_eq!(check(CONTENT_ENCODING, "identity", &[]), Ok(()));
    }

    #[test]
    fn what_is_not_read_is_refused_with_what_is() {
        let refused = |name, value| format!("{:?}", check(name, value, &["image/png"]).expect_err("refused"));
        let jpeg = refused(CONTENT_TYPE, "image/jpeg");
        assert!(
            jpeg.contains("415") && jpeg.contains("application/json, image/png"),
            "{jpeg}"
        );
        assert!(refused(CONTENT_TYPE, "application/jsonp").contains("415"));
        assert!(refused(CONTENT_ENCODING, "gzip").contains("compressed (`gzip`)"));
    }
}
