//! What `GET /` tells a program: the facts of the model, and the paths that there are. The page that a browser gets there
//! is the playground's; which path does what is the router's.

use hyper::header::{HeaderValue, VARY};
use serde_json::{Value, json};

use super::refusal::{self, Response};
use super::service::Service;
use crate::bundle::Manifest;

/// A path for people to use.
#[derive(Clone, Copy, Debug)]
pub struct Endpoint {
    /// The method that it takes.
    pub method: &'static str,
    /// The path, with `NAME` where the model's name stands.
    pub path: &'static str,
    /// What it is for.
    pub purpose: &'static str,
}

const fn get(path: &'static str, purpose: &'static str) -> Endpoint {
    Endpoint {
        method: "GET",
        path,
        purpose,
    }
}

const fn post(path: &'static str, purpose: &'static str) -> Endpoint {
    Endpoint {
        method: "POST",
        path,
        purpose,
    }
}

/// The paths. Each that names the model may name its version, too, see [`Endpoint::of_version`].
pub const ENDPOINTS: [Endpoint; 17] = [
    post(
        "/predict",
        "one input or an array of inputs, as JSON, PNG, raw bytes or a form; answers with names",
    ),
    post(
        "/v1/models/NAME:predict",
        "TensorFlow Serving, rows as `instances` or columns as `inputs`",
    ),
    post("/v1/models/NAME:classify", "TensorFlow Serving, `examples` by name"),
    post(
        "/v1/models/NAME:explain",
        "what an answer rests on, by occlusion; as a picture with `Accept: image/png`",
    ),
    get("/v1/models/NAME", "status, TensorFlow Serving"),
    get("/v1/models/NAME/metadata", "signature, TensorFlow Serving"),
    post(
        "/v2/models/NAME/infer",
        "Open Inference Protocol; for one version, as any path of the model: `/models/NAME/versions/VERSION/infer`",
    ),
    get("/v2", "server metadata, Open Inference Protocol"),
    get("/v2/models/NAME", "model metadata, Open Inference Protocol"),
    get("/v2/models/NAME/ready", "readiness of the model"),
    get("/v2/health/live", "liveness, Open Inference Protocol"),
    get("/v2/health/ready", "readiness, Open Inference Protocol"),
    get("/livez", "200 while the process is of use"),
    get(
        "/readyz",
        "200 while requests should be sent here; /healthz is the same",
    ),
    get("/metrics", "Prometheus"),
    get("/openapi.json", "these paths for a program, OpenAPI 3.1"),
    get("/", "this list; a page to try the model where HTML is accepted"),
];

impl Endpoint {
    /// Its path for one version of the model; none when it names no model.
    pub fn of_version(self) -> Option<String> {
        const MODEL: &str = "/models/NAME";
        let (before, after) = self.path.split_once(MODEL)?;
        Some(format!("{before}{MODEL}/versions/VERSION{after}"))
    }
}

/// A path with the name and the version of what is served.
pub fn fill(path: &str, manifest: &Manifest, version: &str) -> String {
    path.replace("VERSION", version).replace("NAME", &manifest.name)
}

/// `GET /`.
pub fn index(service: &Service) -> Response {
    let manifest = service.manifest();
    let endpoints: Vec<Value> = ENDPOINTS
        .iter()
        .map(|Endpoint { method, path, purpose }| {
            let fill = |text| fill(text, manifest, service.version());
            json!({"method": method, "path": fill(path), "purpose": fill(purpose)})
        })
        .collect();
    let mut response = refusal::json(&json!({
        // What KServe's clients of version 1 ask for.
        "status": if service.alive().is_ok() { "alive" } else { "stopped" },
        "model": manifest.name,
        "version": service.version(),
        "digest": service.digest(),
        "classes": manifest.classes,
        "inputs": manifest.inputs,
        "server": format!("emberline {}", env!("CARGO_PKG_VERSION")),
        "endpoints": endpoints,
    }));
    // A browser gets the playground here.
    response.headers_mut().insert(VARY, HeaderValue::from_static("accept"));
    response
}
