//! Request ids, and the access log: what is in it, what is not, and that nobody waits for its reader.

use std::fs::{self, File};
use std::path::Path;
use std::process::Stdio;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::fixture::http::{Connection, get};
use crate::fixture::process::{Server, server, start};
use crate::fixture::{digits_bundle, image};
use crate::tool;

/// Starts a server with an access log on `stdout`.
fn logged(bundle: &Path, flags: &[&str], stdout: impl Into<Stdio>) -> Server {
    let mut command = server();
    command
        .arg(bundle)
        .args(["--port", "0", "--access-log"])
        .args(flags)
        .stdout(stdout);
    Server::start(command)
}

#[test]
fn every_answer_has_the_name_of_its_request() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = start(&digits_bundle(folder.path()), &[]);
    let mut connection = Connection::open(server.address).expect("connected");
    let mut ask = |path: &str, headers: &str| {
        let answer = connection.request("GET", path, headers, b"").expect("answered");
        answer.header("x-request-id").expect("an id").to_owned()
    };
    assert_eq!(ask("/livez", "x-request-id: order-7/a\r\n"), "order-7/a");
    assert_eq!(ask("/nothing", "X-Request-ID: order-8\r\n"), "order-8");
    let long = format!("x-request-id: {}\r\n", "x".repeat(129));
    let made = [
        ask("/livez", ""),
        ask("/predict", ""),
        ask("/v2", "x-request-id: a\"b\r\n"),
        ask("/v2", &long),
    ];
    for (index, id) in made.iter().enumerate() {
        assert!(
            id.len() < 40 && id.bytes().all(|letter| letter.is_ascii_hexdigit() || letter == b'-'),
            "{id}"
        );
        assert!(!made[..index].contains(id), "{made:?}");
    }
}

#[test]
fn a_request_is_a_line_and_nothing_of_what_was_in_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let bundle = digits_bundle(folder.path());
    let key = tool::run(folder.path(), &["keys", "add", "phone"]).success().stdout;
    let keys = folder.path().join("emberline.keys");
    let log = folder.path().join("access.log");
    let out = File::create(&log).expect("a file");
    let mut server = logged(&bundle, &["--keys", keys.to_str().expect("a path")], out);
    let mut connection = Connection::open(server.address).expect("connected");
    let headers = format!(
        "x-api-key: {}\r\nx-request-id: order-7\r\nuser-agent: till \"4\"\r\n",
        key.trim_end()
    );
    let body = json!(image(7)).to_string();
    let answer = connection.request("POST", "/predict?token=hidden", &headers, body.as_bytes());
    let answer = answer.expect("answered");
    assert_eq!(answer.status, 200);
    assert_eq!(get(server.address, "/v2/models/digits").status, 401);
    drop(connection);
    server.signal(Signal::TERM);
    assert_eq!(server.exit_code(), Some(0));

    let text = fs::read_to_string(&log).expect("a log");
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(lines.len(), 2, "{text}");
    let told = |index: usize, name: &str| lines[index][name].clone();
    assert_eq!(told(0, "request_id"), "order-7");
    assert_eq!(told(0, "key"), "phone");
    assert_eq!((told(0, "method"), told(0, "path")), (json!("POST"), json!("/predict")));
    assert_eq!(told(0, "protocol"), "plain");
    assert_eq!(told(0, "status"), 200);
    assert_eq!(told(0, "bytes_in"), body.len());
    assert_eq!(told(0, "bytes_out"), answer.body.len());
    assert_eq!(told(0, "user_agent"), "till \"4\"");
    assert!(told(0, "client").as_str().expect("a client").starts_with("127.0.0.1:"));
    assert!(told(0, "duration_seconds").as_f64().expect("a time") > 0.0);
    let time = told(0, "time");
    let time = time.as_str().expect("a time");
    assert!(
        time.len() == "2026-11-23T17:05:09.042Z".len() && time.ends_with('Z'),
        "{time}"
    );
    assert_eq!((told(1, "status"), told(1, "key")), (json!(401), Value::Null));
    for secret in [key.trim_end(), "hidden", "127,164", &body[..40]] {
        assert!(!text.contains(secret), "{secret} is in {text}");
    }
}

#[test]
fn nobody_waits_for_whoever_reads_the_log() {
    let folder = tempfile::tempdir().expect("a folder");
    let bundle = digits_bundle(folder.path());
    // A pipe that nobody reads from, and one whose reader has gone.
    let (unread, write) = std::io::pipe().expect("a pipe");
    let (gone, broken) = std::io::pipe().expect("a pipe");
    drop(gone);
    for mut server in [logged(&bundle, &[], write), logged(&bundle, &[], broken)] {
        let mut connection = Connection::open(server.address).expect("connected");
        let mut pipelined = Vec::new();
        for _ in 0..500 {
            pipelined.extend_from_slice(b"GET /livez HTTP/1.1\r\nhost: test\r\n\r\n");
        }
        // More lines than the pipe and the channel hold.
        for _ in 0..30 {
            connection.send(&pipelined).expect("sent");
            for _ in 0..500 {
                assert_eq!(connection.receive().expect("answered").status, 200);
            }
        }
        server.says("lines lost");
        server.signal(Signal::TERM);
        drop(connection);
        assert_eq!(server.exit_code(), Some(0));
    }
    drop(unread);
}

#[test]
fn no_path_leads_to_a_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = start(&digits_bundle(folder.path()), &[]);
    let mut connection = Connection::open(server.address).expect("connected");
    for path in [
        "/../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/..%2f..%2fetc%2fpasswd",
        "/v1/models/../../../etc/passwd",
        "/v2/models/..%2f..%2fbundle.json",
        "/v2/models/digits/versions/../bundle.json",
        "//etc/passwd",
        "/bundle.json",
        "/model.safetensors",
        "/.emberline",
    ] {
        let answer = connection.get(path).expect("answered");
        assert_eq!(answer.status, 404, "{path}: {}", answer.text());
        assert!(answer.json()["error"].is_string());
    }
}
