//! A request that is not answered with a prediction: the status, the reason as `{"error": "..."}`, and when to come
//! back.

use http_body_util::Full;
use hyper::StatusCode;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use serde::Serialize;

use super::batcher::BatchError;

/// An answer to a request, whole.
pub type Response = hyper::Response<Full<Bytes>>;

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    status: StatusCode,
    message: String,
}

impl Refusal {
    /// A refusal with its reason: lower case, no full stop.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
        }
    }

    /// 400: the request is wrong.
    pub fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// HTTP's status for it.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The reason, for people.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The same refusal, with the place that it is about in front.
    #[must_use]
    pub fn within(self, place: &str) -> Self {
        let message = format!("{place}: {}", self.message);
        Self { message, ..self }
    }

    /// 404: there is no such thing here.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    /// 503: not now.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, message)
    }
}

impl From<BatchError> for Refusal {
    fn from(error: BatchError) -> Self {
        let status = match error {
            BatchError::Full(_) => StatusCode::TOO_MANY_REQUESTS,
            BatchError::Late => StatusCode::GATEWAY_TIMEOUT,
            BatchError::Stopped => StatusCode::SERVICE_UNAVAILABLE,
            BatchError::Model(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, error.to_string())
    }
}

impl From<Refusal> for Response {
    fn from(refusal: Refusal) -> Self {
        #[derive(Serialize)]
        struct Body<'a> {
            error: &'a str,
        }
        let mut response = json(&Body {
            error: &refusal.message,
        });
        *response.status_mut() = refusal.status;
        if matches!(
            refusal.status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
        ) {
            response
                .headers_mut()
                .insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// An answer as JSON.
pub fn json(answer: &impl Serialize) -> Response {
    let Ok(body) = serde_json::to_vec(answer) else {
        // Only a map with keys that are no strings can end here, and no answer has one.
        let mut response = Response::default();
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        return response;
    };
    content(HeaderValue::from_static("application/json"), body)
}

/// An answer of another kind.
pub fn content(kind: HeaderValue, body: impl Into<Bytes>) -> Response {
    let mut response = Response::new(Full::new(body.into()));
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
