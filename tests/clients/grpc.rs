//! gRPC with the clients that others wrote.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

use rustix::process::Signal;

use crate::fixture::http::get;
use crate::fixture::process::{Server, server, start_with_grpc};
use crate::fixture::{digits_bundle, table_bundle};
use crate::tool::{certificate, ran, run};
use crate::{beside, python};

/// Runs a script against servers of images and of a table.
#[track_caller]
fn passes(script: &str, package: &str) {
    for bundle in [digits_bundle, table_bundle] {
        let Some(mut python) = python("python", package) else {
            return;
        };
        let folder = tempfile::tempdir().expect("a folder");
        let bundle = bundle(folder.path());
        let (_server, grpc) = start_with_grpc(&bundle, &[]);
        python.arg(beside(script)).arg(grpc.to_string()).arg(&bundle);
        ran(&mut python).success();
    }
}

#[test]
fn tritons_client_gets_the_golden_answers_over_grpc() {
    passes("triton_grpc.py", "tritonclient");
}

#[test]
fn kserves_client_gets_the_golden_answers_over_grpc() {
    passes("kserve_grpc.py", "kserve");
}

#[test]
fn keys_tls_request_ids_and_the_log_are_those_of_the_first_port() {
    let Some(mut python) = python("python", "grpc") else {
        return;
    };
    if !certificate::can_be_made() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let bundle = digits_bundle(folder.path());
    let key = run(folder.path(), &["keys", "add", "phone"]).success().stdout;
    let keys = folder.path().join("emberline.keys");
    let [certificate, private] = certificate::made(folder.path(), "server");
    let mut command = server();
    let log = folder.path().join("access.log");
    command
        .arg(&bundle)
        .args(["--port", "0", "--grpc-port", "0", "--access-log", "--keys"]);
    command
        .arg(keys)
        .arg("--tls-cert")
        .arg(&certificate)
        .arg("--tls-key")
        .arg(&private);
    command.stdout(fs::File::create(&log).expect("a file"));
    let (mut server, said) = Server::start_and_hear(command);
    let grpc = said.iter().find_map(|line| line.strip_prefix("gRPC on https://"));
    python
        .arg(beside("grpc_keys.py"))
        .arg(grpc.expect("an address"))
        .arg(&bundle);
    ran(python.arg(key.trim_end()).arg(&certificate)).success();
    server.signal(Signal::TERM);
    assert_eq!(server.exit_code(), Some(0));

    let log = fs::read_to_string(log).expect("a log");
    let line = |words: &str| {
        let line = log
            .lines()
            .find(|line| line.contains(words))
            .unwrap_or_else(|| panic!("{words}: {log}"));
        serde_json::from_str::<serde_json::Value>(line).expect("JSON")
    };
    let order = line("order-7");
    assert_eq!(
        (&order["key"], &order["status"]),
        (&"phone".into(), &200.into()),
        "{order}"
    );
    assert_eq!(order["path"], "/inference.GRPCInferenceService/ServerMetadata");
    assert_eq!(
        (&order["method"], &order["protocol"]),
        (&"POST".into(), &"other".into())
    );
    let refused = line("GRPCInferenceService/ModelInfer");
    assert_eq!(
        (&refused["protocol"], &refused["status"]),
        (&"grpc".into(), &401.into()),
        "{refused}"
    );
}

#[test]
fn told_to_go_the_server_loses_no_call() {
    let Some(mut python) = python("python", "tritonclient") else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let bundle = digits_bundle(folder.path());
    let (mut server, grpc) = start_with_grpc(&bundle, &["--idle-grace", "0.2"]);
    python.arg(beside("grpc_load.py")).arg(grpc.to_string()).arg(&bundle);
    let mut load = python.stdout(Stdio::piped()).spawn().expect("python");
    let mut said = BufReader::new(load.stdout.take().expect("stdout"));
    let mut line = String::new();
    said.read_line(&mut line).expect("a line");
    assert_eq!(line, "fifty\n");

    let page = get(server.address, "/metrics").text();
    let count = page
        .lines()
        .find_map(|line| line.strip_prefix("emberline_requests_total{protocol=\"grpc\",status=\"2xx\"} "));
    let count: u32 = count.and_then(|count| count.parse().ok()).expect("a count");
    assert!(count >= 50, "{page}");

    server.signal(Signal::TERM);
    assert_eq!(server.exit_code(), Some(0));
    let mut rest = String::new();
    said.read_to_string(&mut rest).expect("the rest");
    assert!(load.wait().expect("its end").success(), "{rest}");
    server.says("all connections are closed");
}
