//! `emberline-server --probe` against real servers, and against none.

mod fixture;

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use fixture::http::{get, post};
use fixture::process::{Server, run, server, start};
use fixture::{digits_bundle, image, table_bundle};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

/// A probe that runs.
struct Probe {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Probe {
    fn start(bundle: &Path, address: SocketAddr, flags: &[&str]) -> Self {
        let mut command = server();
        command.arg(bundle).arg(format!("--probe=http://{address}")).args(flags);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the probe starts");
        let lines = BufReader::new(child.stdout.take().expect("stdout"));
        Self { child, lines }
    }

    /// The next line.
    fn says(&mut self) -> Value {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("a line");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"))
    }

    /// The first line of which something holds.
    fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let told = self.says();
            if wanted(&told) {
                return told;
            }
            assert_eq!(told["final"], false, "it ended before: {told}");
        }
    }

    /// Tells it to go: its last line.
    fn end(mut self) -> Value {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM).expect("sent");
        let told = self.until(|told| told["final"] == true);
        assert!(self.child.wait().expect("it ended").success());
        told
    }
}

fn number(told: &Value, key: &str) -> u64 {
    told[key].as_u64().unwrap_or_else(|| panic!("no `{key}`: {told}"))
}

fn version(bundle: &Path) -> &str {
    bundle.file_name().and_then(|name| name.to_str()).expect("a name")
}

fn metric(server: &Server, name: &str) -> f64 {
    let page = get(server.address, "/metrics").text();
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no `{name}`:\n{page}"))
        .parse()
        .expect("a number")
}

#[test]
fn every_request_is_counted_and_the_pace_is_steady() {
    let folder = tempfile::tempdir().expect("a folder");
    for bundle in [digits_bundle(folder.path()), table_bundle(folder.path())] {
        let server = start(&bundle, &[]);
        let mut probe = Probe::start(&bundle, server.address, &["--rate", "100", "--for", "2.5"]);
        let first = probe.says();
        assert_eq!(
            (number(&first, "answered"), number(&first, "failed")),
            (1, 0),
            "{first}"
        );
        let last = probe.until(|told| told["final"] == true);
        // 2.5 s at 100 a second; each at its time, and none beyond the end.
        assert_eq!(number(&last, "sent"), 250, "{last}");
        assert_eq!((number(&last, "answered"), number(&last, "failed")), (250, 0), "{last}");
        assert_eq!(last["versions"], json!({ version(&bundle): 250 }));
        assert_eq!(last["reasons"], json!({}));
        let seconds = |key: &str| last[key].as_f64().unwrap_or_else(|| panic!("{last}"));
        assert!((2.5..10.0).contains(&seconds("seconds")), "{last}");
        assert!(seconds("p50_seconds") <= seconds("p99_seconds") && seconds("p99_seconds") < 5.0);
        assert!(probe.child.wait().expect("it ended").success());

        // They are requests like any other, and nobody's predictions.
        assert_eq!(metric(&server, "emberline_drift_window_samples"), 0.0);
        assert_eq!(
            metric(&server, "emberline_requests_total{protocol=\"plain\",status=\"2xx\"}"),
            250.0
        );
    }
}

#[test]
fn what_is_not_a_probe_counts_as_drift() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = start(&digits_bundle(folder.path()), &[]);
    assert_eq!(post(server.address, "/predict", &json!([image(1)])).status, 200);
    assert_eq!(metric(&server, "emberline_drift_window_samples"), 1.0);
}

#[test]
fn a_server_that_dies_is_seen_to_and_sigterm_gives_the_last_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let bundle = digits_bundle(folder.path());
    let mut server = start(&bundle, &[]);
    let mut probe = Probe::start(&bundle, server.address, &[]);
    probe.until(|told| number(told, "answered") > 20);
    server.signal(Signal::KILL);
    server.exit_code();
    let seen = probe.until(|told| number(told, "failed") > 20);
    assert!(number(&seen["reasons"], "connection refused") > 0, "{seen}");
    let last = probe.end();
    assert!(number(&last, "failed") >= number(&seen, "failed"));
    assert_eq!(
        number(&last, "sent"),
        number(&last, "answered") + number(&last, "failed"),
        "{last}"
    );
    let reasons: u64 = last["reasons"]
        .as_object()
        .expect("reasons")
        .values()
        .filter_map(Value::as_u64)
        .sum();
    assert_eq!(reasons, number(&last, "failed"));
}

#[test]
fn a_server_that_is_told_to_go_fails_nothing_that_it_has_accepted() {
    let folder = tempfile::tempdir().expect("a folder");
    let bundle = digits_bundle(folder.path());
    let mut server = start(&bundle, &["--drain", "3"]);
    let mut probe = Probe::start(&bundle, server.address, &["--rate", "200"]);
    probe.until(|told| number(told, "answered") > 20);
    server.signal(Signal::TERM);
    // While it drains it answers, over connections that are kept and over new ones.
    let before = probe.says();
    let after = probe.says();
    assert!(
        number(&after, "answered") > number(&before, "answered") + 100,
        "{before} {after}"
    );
    assert_eq!(number(&after, "failed"), 0, "{after}");
    probe.end();
    assert_eq!(server.exit_code(), Some(0));
}

#[test]
fn another_version_may_answer_otherwise_and_the_same_may_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let (other, asked) = (digits_bundle(folder.path()), digits_bundle(folder.path()));
    assert_ne!(other, asked);
    let server = start(&other, &[]);
    let mut probe = Probe::start(&asked, server.address, &["--for", "0.5"]);
    let last = probe.until(|told| told["final"] == true);
    assert_eq!((number(&last, "answered"), number(&last, "failed")), (25, 0), "{last}");
    assert_eq!(last["versions"], json!({ version(&other): 25 }));

    // What no model of this version gives.
    let liar = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = liar.local_addr().expect("an address");
    let wrong = json!({ "version": version(&asked), "predictions": [{ "probabilities": { "0": 0.5 } }] }).to_string();
    std::thread::spawn(move || {
        use std::io::{Read, Write};
        for mut stream in liar.incoming().map_while(Result::ok) {
            let _ = stream.read(&mut vec![0; 65536]);
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{wrong}",
                wrong.len()
            );
        }
    });
    let mut probe = Probe::start(&asked, address, &["--for", "0.5"]);
    let last = probe.until(|told| told["final"] == true);
    assert!(number(&last["reasons"], "not the golden answer") > 0, "{last}");
    assert_eq!(number(&last, "answered"), 0, "{last}");
}

#[test]
fn a_server_that_says_nothing_is_not_waited_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let bundle = digits_bundle(folder.path());
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = silent.local_addr().expect("an address");
    let probe = Probe::start(&bundle, address, &["--rate", "10"]);
    // Its requests end when their time is over, 5 s after they were due, and so does the probe.
    std::thread::sleep(Duration::from_millis(500));
    let last = probe.end();
    assert_eq!(number(&last["reasons"], "timeout"), number(&last, "sent"), "{last}");
    assert!(last["seconds"].as_f64().is_some_and(|seconds| seconds < 15.0), "{last}");
}

#[test]
fn a_probe_that_cannot_begin_says_why() {
    let folder = tempfile::tempdir().expect("a folder");
    let bundle = digits_bundle(folder.path());
    let bundle = bundle.to_str().expect("a path");
    let output = run(&[bundle, "--probe", "https://a:1"]);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("is no `http://HOST:PORT`") && said.contains("hint: "),
        "{said}"
    );
    let output = run(&["/nowhere", "--probe", "http://127.0.0.1:1"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("is no bundle"));
}
