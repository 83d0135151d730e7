//! Which path goes where, and what is done for every request: it is counted, and while the server drains its answer
//! tells the client to close the connection.

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::header::{CONNECTION, CONTENT_TYPE, HeaderValue};
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};

use super::metrics::Protocol;
use super::refusal::{self, Refusal};
use super::service::{Phase, Service};
use super::{plain, v1, v2};

/// What `GET /` tells: method, path with `NAME` and `VERSION`, and what it is for.
const ENDPOINTS: [(&str, &str, &str); 14] = [
    (
        "POST",
        "/predict",
        "one input or an array of inputs; answers with names",
    ),
    ("POST", "/v1/models/NAME:predict", "TensorFlow Serving, row form"),
    ("GET", "/v1/models/NAME", "status, TensorFlow Serving"),
    ("GET", "/v1/models/NAME/metadata", "signature, TensorFlow Serving"),
    ("POST", "/v2/models/NAME/infer", "Open Inference Protocol"),
    (
        "POST",
        "/v2/models/NAME/versions/VERSION/infer",
        "the same for one version",
    ),
    ("GET", "/v2", "server metadata, Open Inference Protocol"),
    ("GET", "/v2/models/NAME", "model metadata, Open Inference Protocol"),
    ("GET", "/v2/models/NAME/ready", "readiness of the model"),
    ("GET", "/v2/health/live", "liveness, Open Inference Protocol"),
    ("GET", "/v2/health/ready", "readiness, Open Inference Protocol"),
    ("GET", "/livez", "200 while the process is of use"),
    (
        "GET",
        "/readyz",
        "200 while requests should be sent here; /healthz is the same",
    ),
    ("GET", "/metrics", "Prometheus"),
];

/// All routes of a server.
pub fn router(service: Arc<Service>) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/predict", post(plain::predict))
        .route("/livez", get(live))
        .route("/readyz", get(ready))
        .route("/healthz", get(ready))
        .route("/metrics", get(metrics))
        .route("/v1/models/{target}", get(v1::status).post(v1::predict))
        .route("/v1/models/{name}/metadata", get(v1::metadata))
        .route(
            "/v1/models/{name}/versions/{target}",
            get(v1::status_version).post(v1::predict_version),
        )
        .route("/v2", get(v2::server))
        .route("/v2/health/live", get(live))
        .route("/v2/health/ready", get(ready))
        .route("/v2/models/{name}", get(v2::metadata))
        .route("/v2/models/{name}/ready", get(model_ready))
        .route("/v2/models/{name}/infer", post(v2::infer))
        .route("/v2/models/{name}/versions/{version}", get(v2::metadata_version))
        .route("/v2/models/{name}/versions/{version}/ready", get(version_ready))
        .route("/v2/models/{name}/versions/{version}/infer", post(v2::infer_version))
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(Arc::clone(&service), observe))
        .with_state(service)
}

async fn observe(State(service): State<Arc<Service>>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let protocol = Protocol::of(request.method(), request.uri().path());
    let in_flight = (protocol != Protocol::Other).then(|| service.metrics().enter());
    let mut response = next.run(request).await;
    drop(in_flight);
    // What axum refuses itself, it refuses as text: a path that is no UTF-8.
    let status = response.status();
    if status.is_client_error()
        && response
            .headers()
            .get(CONTENT_TYPE)
            .is_none_or(|kind| kind != "application/json")
    {
        response = Refusal::new(status, "the path cannot be read").into_response();
    }
    service
        .metrics()
        .answered(protocol, response.status(), started.elapsed());
    if service.phase() == Phase::Draining {
        response
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

async fn index(State(service): State<Arc<Service>>) -> Response {
    let manifest = service.manifest();
    let endpoints: Vec<Value> = ENDPOINTS
        .iter()
        .map(|(method, path, purpose)| {
            let path = path
                .replace("NAME", &manifest.name)
                .replace("VERSION", service.version());
            json!({"method": method, "path": path, "purpose": purpose})
        })
        .collect();
    refusal::json(&json!({
        "model": manifest.name,
        "version": service.version(),
        "digest": service.digest(),
        "classes": manifest.classes,
        "server": format!("emberline {}", env!("CARGO_PKG_VERSION")),
        "endpoints": endpoints,
    }))
}

async fn live(State(service): State<Arc<Service>>) -> Result<Response, Refusal> {
    service.alive()?;
    Ok(refusal::json(&json!({"live": true})))
}

async fn ready(State(service): State<Arc<Service>>) -> Result<Response, Refusal> {
    service.ready()?;
    Ok(refusal::json(&json!({"ready": true})))
}

async fn model_ready(State(service): State<Arc<Service>>, Path(name): Path<String>) -> Result<Response, Refusal> {
    service.check_model(&name, None)?;
    service.ready()?;
    Ok(refusal::json(&json!({"name": name, "ready": true})))
}

async fn version_ready(
    State(service): State<Arc<Service>>,
    Path((name, version)): Path<(String, String)>,
) -> Result<Response, Refusal> {
    service.check_model(&name, Some(&version))?;
    service.ready()?;
    Ok(refusal::json(&json!({"name": name, "ready": true})))
}

async fn metrics(State(service): State<Arc<Service>>) -> Response {
    let content_type = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    ([(CONTENT_TYPE, content_type)], service.metrics_page()).into_response()
}

async fn unknown(method: Method, uri: Uri) -> Refusal {
    Refusal::not_found(format!(
        "there is no `{method} {}` here: `GET /` lists what there is",
        uri.path()
    ))
}

async fn wrong_method(method: Method, uri: Uri) -> Refusal {
    Refusal::new(
        StatusCode::METHOD_NOT_ALLOWED,
        format!(
            "`{}` does not take `{method}`: the header `Allow` tells what",
            uri.path()
        ),
    )
}
