//! The body of a request: read whole, within its limits, before anything is made of it.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use axum::http::header::CONTENT_LENGTH;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::refusal::Refusal;
use super::service::Service;

/// How long a body may take to arrive.
const ARRIVAL: Duration = Duration::from_secs(30);
/// How much of a body that is too large is read and thrown away, in bytes, and for how long: a client that is still
/// sending when its connection is closed would not see the answer.
const LINGER: (usize, Duration) = (256 << 20, Duration::from_secs(10));

/// The body of a request.
#[derive(Debug)]
pub struct Payload(Vec<u8>);

impl Payload {
    /// The body as JSON; `what` it should be is told when it is not.
    ///
    /// # Errors
    ///
    /// 400 with the place where the JSON goes wrong.
    pub fn json<T: DeserializeOwned>(&self, what: &str) -> Result<T, Refusal> {
        serde_json::from_slice(&self.0).map_err(|error| Refusal::bad(format!("the body is no {what} in JSON: {error}")))
    }
}

impl FromRequest<Arc<Service>> for Payload {
    type Rejection = Refusal;

    async fn from_request(request: Request, service: &Arc<Service>) -> Result<Self, Refusal> {
        let binary = request.headers().contains_key("inference-header-content-length");
        let limit = service.max_body();
        let announced = request
            .headers()
            .get(CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
        let mut body = request.into_body();
        // Told before anything is read, so that a client that asked (`Expect: 100-continue`) need not send it.
        if announced.is_some_and(|length| length > limit) {
            return Err(too_large(body, limit));
        }
        let arrived = timeout(ARRIVAL, async {
            let mut bytes = Vec::with_capacity(announced.unwrap_or_default());
            while let Some(chunk) = next(&mut body).await {
                let chunk = chunk.map_err(|error| Refusal::bad(format!("the body broke off: {error}")))?;
                if bytes.len() + chunk.len() > limit {
                    return Ok(None);
                }
                bytes.extend_from_slice(&chunk);
            }
            Ok(Some(bytes))
        });
        match arrived.await {
            // Told after the body was read: what nobody reads would cost the client its connection.
            Ok(Ok(Some(_))) if binary => Err(Refusal::bad(
                "binary tensors are not served: send them as JSON (`binary_data: false`)",
            )),
            Ok(Ok(Some(bytes))) => Ok(Self(bytes)),
            Ok(Ok(None)) => Err(too_large(body, limit)),
            Ok(Err(refusal)) => Err(refusal),
            Err(_) => Err(Refusal::new(
                StatusCode::REQUEST_TIMEOUT,
                format!("the body did not arrive within {} s", ARRIVAL.as_secs()),
            )),
        }
    }
}

fn too_large(mut body: Body, limit: usize) -> Refusal {
    tokio::spawn(timeout(LINGER.1, async move {
        let mut left = LINGER.0;
        while let Some(Ok(chunk)) = next(&mut body).await
            && left > chunk.len()
        {
            left -= chunk.len();
        }
    }));
    Refusal::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        format!("the body is larger than {limit} bytes: send the inputs in parts, or raise --max-body"),
    )
}

/// The next piece of data; none at the end.
async fn next(body: &mut Body) -> Option<Result<Bytes, axum::Error>> {
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
