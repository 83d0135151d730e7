//! Which method is called, and what is done for every call: it needs a key where keys are asked for, it is counted and
//! logged, all as over REST and in the same words.

use std::future::ready;
use std::net::SocketAddr;
use std::time::Instant;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::CONTENT_TYPE;
use hyper::http::request::Parts;
use hyper::{HeaderMap, Request, Response, StatusCode};
use prost::Message;
use tonic::Status;
use tonic::body::Body;
use tonic::server::{Grpc, UnaryService};
use tonic_prost::ProstCodec;

use super::infer;
use super::messages::{
    Health, HealthRequest, HealthResponse, InferRequest, ModelMetadata, ModelRequest, ServerMetadata, TensorMetadata,
    Truth,
};
use super::status::{deadline, status};
use crate::serve::second_port::{Front, Outcome, Protocol, REQUEST_ID, Refusal, SERVER, Service, Worker, read};
use crate::serve::signature;

/// What a body may be: a message in the form that every client of gRPC sends.
const KINDS: [&str; 2] = ["application/grpc", "application/grpc+proto"];
/// Bytes before a message: whether it is compressed, and its length.
const PREFIX: usize = 5;
/// Tensors of a request, with those that it asks for; an empty one takes two bytes of a message and hundreds here.
const MOST_TENSORS: usize = 1 << 16;

/// The methods that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    ServerLive,
    ServerReady,
    ModelReady,
    ServerMetadata,
    ModelMetadata,
    ModelInfer,
    Health,
}

impl Method {
    fn of(path: &str) -> Option<Self> {
        Some(match path.strip_prefix('/')?.split_once('/')? {
            (SERVICE, "ServerLive") => Self::ServerLive,
            (SERVICE, "ServerReady") => Self::ServerReady,
            (SERVICE, "ModelReady") => Self::ModelReady,
            (SERVICE, "ServerMetadata") => Self::ServerMetadata,
            (SERVICE, "ModelMetadata") => Self::ModelMetadata,
            (SERVICE, "ModelInfer") => Self::ModelInfer,
            (HEALTH, "Check") => Self::Health,
            _ => return None,
        })
    }

    /// As over REST: only those who ask after the server's health have no key.
    fn needs_key(self) -> bool {
        !matches!(self, Self::ServerLive | Self::ServerReady | Self::Health)
    }

    fn protocol(self) -> Protocol {
        match self {
            Self::ModelInfer => Protocol::Grpc,
            _ => Protocol::Other,
        }
    }
}

/// The service of the Open Inference Protocol.
const SERVICE: &str = "inference.GRPCInferenceService";
/// The service that load balancers and kubelets ask.
const HEALTH: &str = "grpc.health.v1.Health";

/// Length of an answer's body, which goes with the answer to be logged.
#[derive(Clone, Copy, Debug)]
struct Written(usize);

/// Answers a call.
pub async fn answer(
    worker: &Worker,
    front: &Front,
    client: Option<SocketAddr>,
    request: Request<Incoming>,
) -> Response<Body> {
    let started = Instant::now();
    let metrics = worker.service().metrics();
    let (head, body) = request.into_parts();
    let method = Method::of(head.uri.path());
    let protocol = method.map_or(Protocol::Other, Method::protocol);
    let (visit, admitted) = front.visit(&head.headers, method.is_none_or(Method::needs_key));
    let in_flight = (protocol != Protocol::Other).then(|| metrics.enter());
    let outcome = match admitted {
        Ok(()) => act(worker, method, &head, body, started).await,
        Err(refusal) => Err(refusal),
    };
    drop(in_flight);
    let mut response = outcome.unwrap_or_else(|refusal| status(refusal).into_http());
    let status = match response.extensions().get::<Status>() {
        None => StatusCode::OK,
        // What tonic itself refuses is no message.
        Some(status) => refusal_of(status).map_or(StatusCode::BAD_REQUEST, Refusal::status),
    };
    if !is_grpc(&head.headers) {
        // Who does not speak gRPC knows HTTP's statuses only.
        *response.status_mut() = status;
    }
    response.headers_mut().insert(REQUEST_ID, visit.id.clone());
    let duration = started.elapsed();
    metrics.answered(protocol, status, duration);
    let outcome = Outcome {
        protocol: protocol.name(),
        status,
        seconds: duration.as_secs_f64(),
        bytes: response.extensions().get().map_or(0, |Written(bytes)| *bytes as u64),
    };
    front.answered(client, &visit, &head, outcome);
    response
}

/// Does what a method is for.
async fn act(
    worker: &Worker,
    method: Option<Method>,
    head: &Parts,
    mut body: Incoming,
    started: Instant,
) -> Result<Response<Body>, Refusal> {
    let service = worker.service();
    if !is_grpc(&head.headers) {
        return Err(Refusal::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "this port speaks gRPC, and the request is none: HTTP is spoken on the other port",
        ));
    }
    let Some(method) = method else {
        let path = head.uri.path();
        return Err(Refusal::new(
            StatusCode::METHOD_NOT_ALLOWED,
            format!("there is no method `{path}` here, there are those of `{SERVICE}` and `{HEALTH}/Check`"),
        ));
    };
    not_compressed(&head.headers)?;
    let deadline = deadline(&head.headers, started)?;
    if method == Method::ModelInfer {
        // Told before the body is read: a server that is busy has no time for it.
        worker.has_place()?;
    }
    let limit = service.max_body();
    let body = read(&head.headers, &mut body, limit).await?;
    let message = message(&body)?;
    Ok(match method {
        Method::ServerLive => {
            let holds = service.alive().is_ok();
            call(limit, body, |()| ready(Ok(Truth { holds }))).await
        }
        Method::ServerReady => {
            let holds = service.ready().is_ok();
            call(limit, body, |()| ready(Ok(Truth { holds }))).await
        }
        Method::ModelReady => {
            let holds = |model: &ModelRequest| {
                let here = infer::check_model(service, &model.name, &model.version);
                here.and_then(|()| service.ready()).is_ok()
            };
            call(limit, body, |model| ready(Ok(Truth { holds: holds(&model) }))).await
        }
        Method::ServerMetadata => call(limit, body, |()| ready(Ok(server_metadata()))).await,
        Method::ModelMetadata => call(limit, body, |model| ready(model_metadata(service, &model))).await,
        Method::ModelInfer => {
            let tensors = InferRequest::tensors(message);
            let tensors = tensors.map_err(|error| Refusal::bad(format!("the body is no infer request: {error}")))?;
            if tensors > MOST_TENSORS {
                return Err(Refusal::new(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    format!("the request holds {tensors} tensors, and may hold {MOST_TENSORS}"),
                ));
            }
            call(limit, body, |request| infer::infer(worker, request, started, deadline)).await
        }
        Method::Health => call(limit, body, |asked| ready(health(service, &asked))).await,
    })
}

/// Whether a request says that it is one of gRPC.
fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    kind.and_then(|kind| kind.split(';').next())
        .is_some_and(|kind| KINDS.contains(&kind.trim_end()))
}

fn not_compressed(headers: &HeaderMap) -> Result<(), Refusal> {
    let encoding = headers.get("grpc-encoding");
    let encoding = encoding.map_or("identity", |encoding| encoding.to_str().unwrap_or("?"));
    if encoding == "identity" {
        return Ok(());
    }
    Err(Refusal::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        format!("the body is compressed (`{encoding}`), and is read only as it is"),
    ))
}

/// The one message of a body.
fn message(body: &[u8]) -> Result<&[u8], Refusal> {
    match body.split_at_checked(PREFIX) {
        Some(([_, length @ ..], message)) if u32_of(length) == Some(message.len() as u32) => Ok(message),
        _ => Err(Refusal::bad(
            "the body is not one message of gRPC with its length before it",
        )),
    }
}

fn u32_of(bytes: &[u8]) -> Option<u32> {
    bytes.try_into().ok().map(u32::from_be_bytes)
}

/// Reads the message of a body of at most `limit` bytes, and writes what is answered to it.
async fn call<Q, A, F, O>(limit: usize, body: Bytes, mut answer: F) -> Response<Body>
where
    Q: Message + Default + 'static,
    A: Message + 'static,
    F: FnMut(Q) -> O,
    O: Future<Output = Result<A, Refusal>>,
{
    let method = Unary(|request: tonic::Request<Q>| told(answer(request.into_inner())));
    let mut grpc = Grpc::new(ProstCodec::<A, Q>::new()).max_decoding_message_size(limit);
    grpc.unary(method, Request::new(Full::new(body))).await
}

/// An outcome in tonic's terms.
async fn told<A: Message>(outcome: impl Future<Output = Result<A, Refusal>>) -> Result<tonic::Response<A>, Status> {
    let answer = outcome.await.map_err(status)?;
    let written = Written(PREFIX + answer.encoded_len());
    let mut response = tonic::Response::new(answer);
    response.extensions_mut().insert(written);
    Ok(response)
}

/// A method as tonic calls it.
struct Unary<F>(F);

impl<Q, A, F, O> UnaryService<Q> for Unary<F>
where
    F: FnMut(tonic::Request<Q>) -> O,
    O: Future<Output = Result<tonic::Response<A>, Status>>,
{
    type Response = A;
    type Future = O;

    fn call(&mut self, request: tonic::Request<Q>) -> O {
        self.0(request)
    }
}

fn server_metadata() -> ServerMetadata {
    ServerMetadata {
        name: SERVER.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        extensions: Vec::new(),
    }
}

fn model_metadata(service: &Service, model: &ModelRequest) -> Result<ModelMetadata, Refusal> {
    infer::check_model(service, &model.name, &model.version)?;
    let manifest = service.manifest();
    let message = |tensor: signature::TensorMetadata| TensorMetadata {
        name: tensor.name,
        datatype: tensor.datatype.to_owned(),
        shape: tensor.shape,
    };
    Ok(ModelMetadata {
        name: manifest.name.clone(),
        versions: vec![service.version().to_owned()],
        platform: SERVER.to_owned(),
        inputs: signature::inputs(&manifest.inputs).into_iter().map(message).collect(),
        outputs: signature::outputs(manifest.classes.len())
            .into_iter()
            .map(message)
            .collect(),
    })
}

/// Whether requests should be sent here; asked of the server, or of the one service that there is.
fn health(service: &Service, asked: &HealthRequest) -> Result<HealthResponse, Refusal> {
    if !["", SERVICE].contains(&asked.service.as_str()) {
        return Err(Refusal::not_found(format!(
            "there is no service `{}` here, there is `{SERVICE}`",
            asked.service
        )));
    }
    let health = match service.ready() {
        Ok(()) => Health::Serving,
        Err(_) => Health::NotServing,
    };
    Ok(HealthResponse { status: health.into() })
}

/// The refusal that a status was made of; none in one of tonic's own.
fn refusal_of(status: &Status) -> Option<&Refusal> {
    std::error::Error::source(status)?.downcast_ref()
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    #[test]
    fn a_path_is_one_method() {
        assert_eq!(
            Method::of("/inference.GRPCInferenceService/ModelInfer"),
            Some(Method::ModelInfer)
        );
        assert_eq!(Method::of("/grpc.health.v1.Health/Check"), Some(Method::Health));
        for nothing in [
            "",
            "/",
            "/ModelInfer",
            "/inference.GRPCInferenceService",
            "/inference.GRPCInferenceService/ModelStreamInfer",
            "/inference.GRPCInferenceService/ModelInfer/",
            "/grpc.health.v1.Health/Watch",
        ] {
            assert_eq!(Method::of(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn only_grpc_is_grpc() {
        let is = |kind: &'static str| is_grpc(&HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(kind))]));
        assert!(is("application/grpc") && is("application/grpc+proto") && is("application/grpc; a=b"));
        assert!(!is("application/grpc-web") && !is("application/grpc+json") && !is("application/json"));
        assert!(!is_grpc(&HeaderMap::new()));
    }

    #[test]
    fn a_body_is_one_message() {
        assert_eq!(message(b"\0\0\0\0\x02ab"), Ok(&b"ab"[..]));
        assert_eq!(message(b"\0\0\0\0\0"), Ok(&b""[..]));
        for wrong in [&b""[..], b"\0\0\0\0", b"\0\0\0\0\x03ab", b"\0\0\0\0\x01a\0\0\0\0\0"] {
            assert!(message(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_refusal_is_found_again_in_its_status() {
        let refusal = Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "too much");
        assert_eq!(refusal_of(&status(refusal.clone())), Some(&refusal));
        assert_eq!(refusal_of(&Status::internal("no message")), None);
    }
}
