//! Refusals and deadlines in gRPC's terms.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::{HeaderMap, StatusCode};
use tonic::metadata::MetadataValue;
use tonic::{Code, Status};

use crate::serve::second_port::Refusal;

/// The client's patience: what is not answered by then is not computed.
const TIMEOUT: &str = "grpc-timeout";
/// When a client that repeats calls may come again, in milliseconds.
const PUSHBACK: &str = "grpc-retry-pushback-ms";

/// A refusal as the status of a call, with the same words as over REST; it stays its source.
pub fn status(refusal: Refusal) -> Status {
    let mut status = Status::new(code(refusal.status()), refusal.message());
    if matches!(
        refusal.status(),
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
    ) {
        let second = MetadataValue::from_static("1000");
        status.metadata_mut().insert(PUSHBACK, second);
    }
    status.set_source(Arc::new(refusal));
    status
}

fn code(status: StatusCode) -> Code {
    match status {
        StatusCode::BAD_REQUEST => Code::InvalidArgument,
        StatusCode::UNAUTHORIZED => Code::Unauthenticated,
        StatusCode::NOT_FOUND => Code::NotFound,
        StatusCode::METHOD_NOT_ALLOWED | StatusCode::UNSUPPORTED_MEDIA_TYPE => Code::Unimplemented,
        StatusCode::PAYLOAD_TOO_LARGE | StatusCode::TOO_MANY_REQUESTS => Code::ResourceExhausted,
        StatusCode::SERVICE_UNAVAILABLE => Code::Unavailable,
        StatusCode::REQUEST_TIMEOUT | StatusCode::GATEWAY_TIMEOUT => Code::DeadlineExceeded,
        _ => Code::Internal,
    }
}

/// When the client does not want an answer any more, if it says so.
///
/// # Errors
///
/// 400 when what it says is no time.
pub fn deadline(headers: &HeaderMap, started: Instant) -> Result<Option<Instant>, Refusal> {
    let Some(value) = headers.get(TIMEOUT) else {
        return Ok(None);
    };
    let patience = value.to_str().ok().and_then(patience);
    match patience {
        // A time that no clock reaches is none.
        Some(patience) => Ok(started.checked_add(patience)),
        None => Err(Refusal::bad(format!(
            "the header `{TIMEOUT}` is no number of up to eight digits with a unit of time (`H`, `M`, `S`, `m`, `u`, `n`)"
        ))),
    }
}

fn patience(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if !(1..=8).contains(&digits.len()) || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    #[test]
    fn patience_is_a_number_with_a_unit() {
        let started = Instant::now();
        let read = |text: &'static str| {
            let headers = HeaderMap::from_iter([(
                hyper::header::HeaderName::from_static(TIMEOUT),
                HeaderValue::from_static(text),
            )]);
            deadline(&headers, started).map(|end| end.map(|end| end - started))
        };
        assert_eq!(deadline(&HeaderMap::new(), started), Ok(None));
        for (text, patience) in [
            ("2H", Duration::from_hours(2)),
            ("3M", Duration::from_mins(3)),
            ("5S", Duration::from_secs(5)),
            ("99999999m", Duration::from_millis(99_999_999)),
            ("7u", Duration::from_micros(7)),
            ("0n", Duration::ZERO),
        ] {
            assert_eq!(read(text), Ok(Some(patience)), "{text}");
        }
        for wrong in ["", "5", "S", "-1S", "+1S", "1.5S", "123456789S", "5s", "5 S"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_refusal_keeps_its_words() {
        let busy = status(Refusal::new(StatusCode::TOO_MANY_REQUESTS, "the server is busy"));
        assert_eq!(
            (busy.code(), busy.message()),
            (Code::ResourceExhausted, "the server is busy")
        );
        assert!(busy.metadata().contains_key(PUSHBACK));
        let late = status(Refusal::new(StatusCode::GATEWAY_TIMEOUT, "late"));
        assert_eq!(late.code(), Code::DeadlineExceeded);
        assert!(!late.metadata().contains_key(PUSHBACK));
    }
}
