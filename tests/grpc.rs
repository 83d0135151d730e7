//! gRPC as it is on the wire: what is answered and refused, and how, to a client that sends what others never would.
//! With clients that others wrote it is tested in tests/clients.

mod fixture;

use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use fixture::http::{Connection, get, post};
use fixture::process::{run, start, start_with_grpc};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper::{HeaderMap, Request};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustix::process::Signal;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

const LIVE: &str = "/inference.GRPCInferenceService/ServerLive";
const INFER: &str = "/inference.GRPCInferenceService/ModelInfer";
const HEALTH: &str = "/grpc.health.v1.Health/Check";

/// One connection.
struct Client {
    runtime: Runtime,
    sender: SendRequest<Full<Bytes>>,
}

/// How a call was answered.
#[derive(Debug)]
struct Answer {
    http: u16,
    headers: HeaderMap,
    /// Of the headers when there is no body, otherwise of the trailers.
    code: Option<u16>,
    message: String,
    body: Vec<u8>,
}

impl Client {
    fn open(address: SocketAddr) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build();
        let runtime = runtime.expect("a runtime");
        let sender = runtime.block_on(async {
            let stream = TcpStream::connect(address).await.expect("connected");
            let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream))
                .await
                .expect("HTTP/2");
            tokio::spawn(connection);
            sender
        });
        Self { runtime, sender }
    }

    fn call(&self, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Answer {
        self.runtime.block_on(call(self.sender.clone(), path, headers, body))
    }

    /// The code and the words of a refusal.
    fn refused(&self, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> (u16, String) {
        let answer = self.call(path, headers, body);
        assert_eq!((answer.http, answer.body.len()), (200, 0), "{answer:?}");
        (answer.code.expect("a code"), answer.message)
    }
}

async fn call(mut sender: SendRequest<Full<Bytes>>, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Answer {
    let mut request = Request::post(format!("http://localhost{path}")).header("te", "trailers");
    if headers.iter().all(|(name, _)| *name != "content-type") {
        request = request.header("content-type", "application/grpc");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(body.into())).expect("a request");
    let (head, body) = sender.send_request(request).await.expect("answered").into_parts();
    let body = body.collect().await.expect("a body");
    let trailers = body.trailers().cloned().unwrap_or_else(|| head.headers.clone());
    let text = |name: &str| trailers.get(name).and_then(|value| value.to_str().ok());
    Answer {
        http: head.status.as_u16(),
        code: text("grpc-status").and_then(|code| code.parse().ok()),
        message: text("grpc-message")
            .unwrap_or_default()
            .replace("%20", " ")
            .replace("%60", "`"),
        headers: head.headers,
        body: body.to_bytes().to_vec(),
    }
}

/// A message with what goes before it.
fn framed(message: &[u8]) -> Vec<u8> {
    let length = (message.len() as u32).to_be_bytes();
    [&[0], &length[..], message].concat()
}

/// A field of bytes, a text or a message.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let length = u8::try_from(content.len()).expect("short");
    assert!(length < 128);
    [&[number << 3 | 2, length], content].concat()
}

/// A tensor of one element, in field `kind` of its contents.
fn tensor(name: &str, datatype: &str, kind: u8, element: &[u8]) -> Vec<u8> {
    let contents = field(5, &field(kind, element));
    field(
        5,
        &[
            field(1, name.as_bytes()),
            field(2, datatype.as_bytes()),
            field(3, &[1]),
            contents,
        ]
        .concat(),
    )
}

#[test]
fn an_answer_is_one_message_and_a_code() {
    let folder = tempfile::tempdir().expect("a folder");
    let (_server, grpc) = start_with_grpc(&fixture::digits_bundle(folder.path()), &[]);
    let client = Client::open(grpc);
    for path in [LIVE, "/inference.GRPCInferenceService/ServerReady", HEALTH] {
        let answer = client.call(path, &[("x-request-id", "order-7")], framed(b""));
        assert_eq!((answer.http, answer.code), (200, Some(0)), "{answer:?}");
        assert_eq!(answer.body, framed(&[8, 1]), "{path}");
        assert_eq!(answer.headers["content-type"], "application/grpc");
        assert_eq!(answer.headers["x-request-id"], "order-7");
    }
}

#[test]
fn contents_are_answered_with_contents_and_as_over_rest() {
    let folder = tempfile::tempdir().expect("a folder");
    let (server, grpc) = start_with_grpc(&fixture::table_bundle(folder.path()), &[]);
    let inputs = json!([
        {"name": "age", "shape": [1], "datatype": "FP32", "data": [31]},
        {"name": "city", "shape": [1], "datatype": "BYTES", "data": ["rome"]},
    ]);
    let rest = post(server.address, "/v2/models/table/infer", &json!({"inputs": inputs})).json();
    let age = tensor("age", "FP32", 6, &31_f32.to_le_bytes());
    let city = tensor("city", "BYTES", 8, b"rome");
    let message = framed(&[field(1, b"table"), age, city].concat());
    let answer = Client::open(grpc).call(INFER, &[], message.clone());
    assert_eq!(answer.code, Some(0), "{answer:?}");
    let holds = |bytes: &[u8]| answer.body.windows(bytes.len()).any(|window| window == bytes);
    for probability in rest["outputs"][0]["data"].as_array().expect("probabilities") {
        let probability = probability.as_f64().expect("a number") as f32;
        assert!(
            holds(&probability.to_le_bytes()),
            "{probability} is not in {:?}",
            answer.body
        );
    }
    let label = rest["outputs"][1]["data"][0].as_str().expect("a label");
    assert!(
        holds(&field(5, &field(8, label.as_bytes()))),
        "no `{label}` in {:?}",
        answer.body
    );
}

#[test]
fn what_is_wrong_is_refused_with_its_code_and_counted() {
    let folder = tempfile::tempdir().expect("a folder");
    let bundle = fixture::digits_bundle(folder.path());
    let (server, grpc) = start_with_grpc(&bundle, &["--max-body", "300000"]);
    let client = Client::open(grpc);
    let refused = |headers: &[(&str, &str)], body| client.refused(INFER, headers, body);
    let says = |(code, message): (u16, String), expected, words: &str| {
        assert_eq!(code, expected, "{message}");
        assert!(message.contains(words), "{message}");
    };
    says(
        refused(&[], framed(b"")),
        5,
        "there is no model `` here, there is `digits`",
    );
    says(
        refused(&[], framed(&field(1, b"digits"))),
        3,
        "the model takes one input `image`",
    );
    says(refused(&[], framed(b"\xff\xff")), 3, "no infer request");
    says(refused(&[], b"\0\0\0\0\x09a".to_vec()), 3, "not one message");
    says(refused(&[], [framed(b""), framed(b"")].concat()), 3, "not one message");
    says(refused(&[("grpc-timeout", "soon")], framed(b"")), 3, "grpc-timeout");
    says(
        refused(&[("grpc-encoding", "gzip")], framed(b"")),
        12,
        "compressed (`gzip`)",
    );
    says(refused(&[], framed(&vec![0; 300_000])), 8, "raise --max-body");
    // Two bytes each here, and some hundred in memory.
    says(
        refused(&[], framed(&b"*\0".repeat(100_000))),
        8,
        "the request holds 100000 tensors",
    );
    let nowhere = client.refused("/inference.GRPCInferenceService/ModelStreamInfer", &[], framed(b""));
    says(nowhere, 12, "there is no method");
    // Said to be compressed, without saying how: gRPC has its own words for that.
    assert_eq!(refused(&[], b"\x01\0\0\0\0".to_vec()).0, 13);

    let page = get(server.address, "/metrics").text();
    assert!(
        page.contains("emberline_requests_total{protocol=\"grpc\",status=\"4xx\"} 10\n"),
        "{page}"
    );
    assert!(
        page.contains("emberline_requests_total{protocol=\"other\",status=\"4xx\"} 1\n"),
        "{page}"
    );
    assert!(page.contains("emberline_requests_in_flight 0\n"), "{page}");
}

#[test]
fn a_busy_server_refuses_and_says_when_to_come_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let (_server, grpc) = start_with_grpc(&fixture::slow_bundle(folder.path()), &["--queue", "1"]);
    let client = Client::open(grpc);
    let image = [field(1, b"image"), field(2, b"UINT8"), field(3, &[1, 0x90, 0x06])].concat();
    let pixels = [&[7 << 3 | 2, 0x90, 0x06], &[0; 784][..]].concat();
    let message = framed(&[field(1, b"slow"), field(5, &image), pixels].concat());
    let answers = client.runtime.block_on(async {
        let calls = (0..50).map(|_| {
            let (sender, message) = (client.sender.clone(), message.clone());
            tokio::spawn(async move { call(sender, INFER, &[], message).await })
        });
        let mut answers = Vec::new();
        for call in calls.collect::<Vec<_>>() {
            answers.push(call.await.expect("answered"));
        }
        answers
    });
    let answered = answers.iter().filter(|answer| answer.code == Some(0)).count();
    let refused: Vec<&Answer> = answers.iter().filter(|answer| answer.code == Some(8)).collect();
    assert!(
        answered > 0 && !refused.is_empty() && answered + refused.len() == 50,
        "{answers:?}"
    );
    for answer in refused {
        assert!(answer.message.contains("the server is busy"), "{answer:?}");
        assert_eq!(answer.headers["grpc-retry-pushback-ms"], "1000");
    }
    let (code, message) = client.refused(INFER, &[("grpc-timeout", "1m")], message);
    assert_eq!(code, 4, "{message}");
}

#[test]
fn each_port_speaks_its_own_protocol() {
    let folder = tempfile::tempdir().expect("a folder");
    let (server, grpc) = start_with_grpc(&fixture::digits_bundle(folder.path()), &[]);
    let client = Client::open(grpc);
    for kind in ["application/json", "application/grpc-web", "application/grpc+json"] {
        assert_eq!(
            client.call(LIVE, &[("content-type", kind)], framed(b"")).http,
            415,
            "{kind}"
        );
    }
    let mut first = Connection::open(grpc).expect("connected");
    assert!(first.get("/readyz").is_err(), "HTTP/1.1 is not spoken here");
    assert_eq!(
        client.call(LIVE, &[], framed(b"")).code,
        Some(0),
        "others are served still"
    );
    assert_eq!(get(server.address, "/readyz").status, 200);
}

#[test]
fn a_client_that_says_nothing_is_not_waited_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let bundle = fixture::digits_bundle(folder.path());
    let (mut server, grpc) = start_with_grpc(&bundle, &["--idle-grace", "0", "--grace", "50"]);
    let silent = std::net::TcpStream::connect(grpc).expect("connected");
    let idle = Client::open(grpc);
    assert_eq!(idle.call(LIVE, &[], framed(b"")).code, Some(0));
    let told = Instant::now();
    server.signal(Signal::TERM);
    assert_eq!(server.exit_code(), Some(0));
    assert!(told.elapsed() < Duration::from_secs(30), "{:?}", told.elapsed());
    server.says("all connections are closed");
    drop((silent, idle));
}

#[test]
fn a_port_that_cannot_be_had_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let bundle = fixture::digits_bundle(folder.path());
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port().to_string();
    let output = run(&[
        bundle.as_os_str(),
        "--port".as_ref(),
        "0".as_ref(),
        "--grpc-port".as_ref(),
        port.as_ref(),
    ]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains(&format!("port {port}")) && said.contains("--grpc-port N"),
        "{said}"
    );

    // Without the flag there is one port, and nothing is said of another.
    let server = start(&bundle, &[]);
    let page = get(server.address, "/metrics").text();
    assert!(
        page.contains("emberline_requests_total{protocol=\"grpc\",status=\"2xx\"} 0\n"),
        "{page}"
    );
}
