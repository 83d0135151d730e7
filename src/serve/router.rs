//! Which path goes where, and what is done for every request: it needs a key where keys are asked for, it is counted and
//! logged, and while the server drains its answer tells the client to close the connection.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hyper::body::{Body as _, Incoming};
use hyper::header::{ALLOW, CONNECTION, HeaderValue, WWW_AUTHENTICATE};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method, Request, StatusCode};
use serde_json::json;

use super::front::{Front, Outcome};
use super::metrics::Protocol;
use super::refusal::{self, Refusal, Response};
use super::request_id::REQUEST_ID;
use super::service::{Phase, Service};
use super::worker::Worker;
use super::{explain, index, openapi, payload, plain, playground, v1, v2};

/// The client's patience, in milliseconds: what is not answered by then is not computed.
const TIMEOUT: &str = "x-request-timeout-ms";

/// Segments of the longest path that there is: `/v2/models/NAME/versions/VERSION/infer`.
const LONGEST: usize = 6;

/// What a path stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Endpoint<'a> {
    action: Action,
    /// The model that it names.
    model: Option<&'a str>,
    /// The version that it names.
    version: Option<&'a str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Index,
    OpenApi,
    Playground(&'static playground::File),
    Live,
    Ready,
    Metrics,
    Predict,
    V1Status,
    V1Metadata,
    V1Predict,
    V1Classify,
    V1Explain,
    V2Server,
    V2Metadata,
    V2Ready,
    V2Infer,
}

impl Action {
    const fn alone(self) -> Endpoint<'static> {
        Endpoint {
            action: self,
            model: None,
            version: None,
        }
    }

    const fn of<'a>(self, model: &'a str, version: Option<&'a str>) -> Endpoint<'a> {
        Endpoint {
            action: self,
            model: Some(model),
            version,
        }
    }

    /// The way a prediction came in; other requests are counted together.
    fn protocol(self) -> Protocol {
        match self {
            Self::Predict => Protocol::Plain,
            Self::V1Predict | Self::V1Classify => Protocol::V1,
            Self::V2Infer => Protocol::V2,
            Self::V1Explain => Protocol::Explain,
            _ => Protocol::Other,
        }
    }

    /// Whether it is closed to those without a key, where keys are asked for. Whether a server is alive and ready is
    /// asked by those who have none: kubelets, load balancers, a container's own health check. The page, which tells
    /// nothing of the model, is where a person enters a key.
    fn needs_key(self) -> bool {
        !matches!(self, Self::Live | Self::Ready | Self::Playground(_))
    }

    /// What its body may be besides JSON.
    fn other_kinds(self) -> &'static [&'static str] {
        match self {
            Self::Predict => &["application/octet-stream", "image/png", "multipart/form-data"],
            Self::V1Explain => &["image/png"],
            Self::V2Infer => &["application/octet-stream"],
            _ => &[],
        }
    }

    fn takes(self, method: &Method) -> bool {
        let methods = self.protocol().methods();
        methods.split(',').any(|taken| method == taken)
    }
}

impl<'a> Endpoint<'a> {
    /// Names of models and versions hold nothing that a path would have to escape, so nothing is unescaped here.
    fn of(path: &'a str) -> Option<Self> {
        let mut segments = [""; LONGEST];
        let mut count = 0;
        for segment in path.strip_prefix('/')?.split('/') {
            *segments.get_mut(count)? = segment;
            count += 1;
        }
        Some(match &segments[..count] {
            [""] => Action::Index.alone(),
            ["playground", name] => Action::Playground(playground::part(name)?).alone(),
            ["livez"] | ["v2", "health", "live"] => Action::Live.alone(),
            ["readyz" | "healthz"] | ["v2", "health", "ready"] => Action::Ready.alone(),
            ["metrics"] => Action::Metrics.alone(),
            ["openapi.json"] => Action::OpenApi.alone(),
            ["predict"] => Action::Predict.alone(),
            ["v1", "models", target] => Self::v1(target, None)?,
            ["v1", "models", name, "versions", target] => Self::v1(target, Some(name))?,
            ["v1", "models", name, "metadata"] => Action::V1Metadata.of(name, None),
            ["v1", "models", name, "versions", version, "metadata"] => Action::V1Metadata.of(name, Some(version)),
            ["v2"] => Action::V2Server.alone(),
            ["v2", "models", name, rest @ ..] => {
                let (version, verb) = match rest {
                    ["versions", version, verb @ ..] => (Some(*version), verb),
                    verb => (None, verb),
                };
                let action = match verb {
                    [] => Action::V2Metadata,
                    ["ready"] => Action::V2Ready,
                    ["infer"] => Action::V2Infer,
                    _ => return None,
                };
                action.of(name, version)
            }
            _ => return None,
        })
    }

    /// The last segment of a path of TensorFlow Serving: `NAME`, `NAME:METHOD`, or the same with a version.
    fn v1(target: &'a str, name: Option<&'a str>) -> Option<Self> {
        let (subject, action) = match target.rsplit_once(':') {
            None => (target, Action::V1Status),
            Some((subject, "predict")) => (subject, Action::V1Predict),
            Some((subject, "classify")) => (subject, Action::V1Classify),
            Some((subject, "explain")) => (subject, Action::V1Explain),
            Some(_) => return None,
        };
        Some(match name {
            None => action.of(subject, None),
            Some(name) => action.of(name, Some(subject)),
        })
    }

    fn wrong_method(self, head: &Parts) -> Refusal {
        let (method, path) = (&head.method, head.uri.path());
        let hint = match self.action {
            Action::V1Status => format!("predictions are at `{path}:predict`"),
            _ => "the header `Allow` tells what".to_owned(),
        };
        Refusal::new(
            StatusCode::METHOD_NOT_ALLOWED,
            format!("`{path}` does not take `{method}`: {hint}"),
        )
    }
}

/// Answers a request.
pub async fn answer(
    worker: &Worker,
    front: &Front,
    client: Option<SocketAddr>,
    request: Request<Incoming>,
) -> Response {
    let started = Instant::now();
    let service = worker.service();
    let (head, mut body) = request.into_parts();
    let endpoint = Endpoint::of(head.uri.path()).map(|endpoint| match endpoint.action {
        Action::Index if playground::is_wanted(&head.headers) => Action::Playground(&playground::PAGE).alone(),
        _ => endpoint,
    });
    let protocol = endpoint.map_or(Protocol::Other, |endpoint| endpoint.action.protocol());
    let needs_key = endpoint.is_none_or(|endpoint| endpoint.action.needs_key());
    let (visit, admitted) = front.visit(&head.headers, needs_key);
    let in_flight = (protocol != Protocol::Other).then(|| service.metrics().enter());
    let outcome = match (admitted, endpoint) {
        (Err(refusal), _) => Err(refusal),
        (_, Some(endpoint)) if endpoint.action.takes(&head.method) => {
            act(worker, front, endpoint, &head, &mut body, started).await
        }
        (_, Some(endpoint)) => Err(endpoint.wrong_method(&head)),
        (_, None) => Err(Refusal::not_found(format!(
            "there is no `{} {}` here: `GET /` lists what there is",
            head.method,
            head.uri.path()
        ))),
    };
    drop(in_flight);
    let mut response = outcome.unwrap_or_else(|refusal| {
        payload::discard(&head.headers, body);
        refusal.into()
    });
    if response.status() == StatusCode::METHOD_NOT_ALLOWED {
        let allowed = HeaderValue::from_static(protocol.methods());
        response.headers_mut().insert(ALLOW, allowed);
    }
    if response.status() == StatusCode::UNAUTHORIZED {
        let scheme = HeaderValue::from_static("Bearer");
        response.headers_mut().insert(WWW_AUTHENTICATE, scheme);
    }
    if service.phase() == Phase::Draining {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(CONNECTION, close);
    }
    response.headers_mut().insert(REQUEST_ID, visit.id.clone());
    let (status, duration) = (response.status(), started.elapsed());
    service.metrics().answered(protocol, status, duration);
    let outcome = Outcome {
        protocol: protocol.name(),
        status,
        seconds: duration.as_secs_f64(),
        bytes: response.body().size_hint().lower(),
    };
    front.answered(client, &visit, &head, outcome);
    response
}

/// Does what an endpoint is for.
async fn act(
    worker: &Worker,
    front: &Front,
    endpoint: Endpoint<'_>,
    head: &Parts,
    body: &mut Incoming,
    started: Instant,
) -> Result<Response, Refusal> {
    let service = worker.service();
    if let Some(name) = endpoint.model {
        service.check_model(name, endpoint.version)?;
    }
    if endpoint.action.protocol() != Protocol::Other {
        // Told before the body is read: a server that is busy has no time for it.
        worker.has_place()?;
        payload::check_kind(&head.headers, endpoint.action.other_kinds())?;
        let deadline = deadline(&head.headers, started)?;
        let body = payload::read(&head.headers, body, service.max_body()).await?;
        return match endpoint.action {
            Action::V1Predict => v1::predict(worker, &body, deadline).await,
            Action::V1Classify => v1::classify(worker, &body, deadline).await,
            Action::V1Explain => explain::explain(worker, &head.headers, &body, deadline).await,
            Action::V2Infer => v2::infer(worker, &head.headers, &body, started, deadline).await,
            _ => plain::predict(worker, &head.headers, body, deadline).await,
        };
    }
    Ok(match endpoint.action {
        Action::Live => {
            service.alive()?;
            refusal::json(&json!({"live": true}))
        }
        Action::Ready => {
            service.ready()?;
            refusal::json(&json!({"ready": true}))
        }
        Action::V2Ready => {
            service.ready()?;
            refusal::json(&json!({"name": service.manifest().name, "ready": true}))
        }
        Action::Metrics => metrics(service, front),
        Action::V1Status => v1::status(service),
        Action::V1Metadata => v1::metadata(service),
        Action::V2Server => v2::server(),
        Action::V2Metadata => v2::metadata(service),
        Action::Playground(part) => part.response(),
        Action::OpenApi => openapi::openapi(service, front.asks_for_keys()),
        _ => index::index(service),
    })
}

/// When the client does not want an answer any more, if it says so.
fn deadline(headers: &HeaderMap, started: Instant) -> Result<Option<Instant>, Refusal> {
    let Some(value) = headers.get(TIMEOUT) else {
        return Ok(None);
    };
    value
        .to_str()
        .ok()
        .and_then(|text| text.parse::<u32>().ok())
        .and_then(|millis| started.checked_add(Duration::from_millis(millis.into())))
        .map(Some)
        .ok_or_else(|| {
            let most = u32::MAX;
            Refusal::bad(format!(
                "the header `{TIMEOUT}` is no whole number of milliseconds up to {most}"
            ))
        })
}

fn metrics(service: &Service, front: &Front) -> Response {
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    refusal::content(kind, service.metrics_page(front))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stands_for_one_thing() {
        let of = |path| Endpoint::of(path);
        assert_eq!(of("/"), Some(Action::Index.alone()));
        let style = playground::part("page.css").expect("the style");
        assert_eq!(of("/playground/page.css"), Some(Action::Playground(style).alone()));
        assert_eq!(of("/v2/health/live"), Some(Action::Live.alone()));
        assert_eq!(of("/v1/models/a"), Some(Action::V1Status.of("a", None)));
        assert_eq!(of("/v1/models/a:predict"), Some(Action::V1Predict.of("a", None)));
        assert_eq!(
            of("/v1/models/a/versions/7:predict"),
            Some(Action::V1Predict.of("a", Some("7")))
        );
        assert_eq!(
            of("/v1/models/a/versions/7:explain"),
            Some(Action::V1Explain.of("a", Some("7")))
        );
        assert_eq!(of("/v1/models/a/versions/7"), Some(Action::V1Status.of("a", Some("7"))));
        assert_eq!(of("/v2/models/a"), Some(Action::V2Metadata.of("a", None)));
        assert_eq!(of("/v2/models/a/infer"), Some(Action::V2Infer.of("a", None)));
        assert_eq!(
            of("/v2/models/a/versions/7/infer"),
            Some(Action::V2Infer.of("a", Some("7")))
        );
        for nothing in [
            "",
            "*",
            "//",
            "/predict/",
            "/playground",
            "/playground/page.html",
            "/v1/models/a:steal",
            "/v2/models",
            "/v2/models/a/b",
            "/v2/models/a/versions",
            "/v2/models/a/versions/7/infer/8",
            "/../etc/passwd",
        ] {
            assert_eq!(of(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn what_the_index_lists_is_there() {
        for endpoint in index::ENDPOINTS {
            for path in endpoint.of_version().into_iter().chain([endpoint.path.to_owned()]) {
                let known = Endpoint::of(&path).unwrap_or_else(|| panic!("{path}"));
                let method = endpoint.method.parse().expect("a method");
                assert!(known.action.takes(&method), "{path}");
            }
        }
    }

    #[test]
    fn patience_is_a_number_of_milliseconds() {
        let started = Instant::now();
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(TIMEOUT, HeaderValue::from_str(text).expect("a value"));
            deadline(&headers, started)
        };
        assert_eq!(deadline(&HeaderMap::new(), started), Ok(None));
        assert_eq!(read("50"), Ok(Some(started + Duration::from_millis(50))));
        for wrong in ["", "-1", "1.5", "5s", "4294967296"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
