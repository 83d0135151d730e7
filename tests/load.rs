//! `emberline-server --load` against real servers.

mod fixture;

use std::net::TcpListener;

use fixture::http::get;
use fixture::process::{Server, run, start};
use fixture::{digits_bundle, slow_bundle, table_bundle};
use serde_json::Value;

/// The lines of a load that ends well.
fn load(bundle: &std::path::Path, server: &Server, flags: &[&str]) -> Vec<Value> {
    let url = format!("http://{}", server.address);
    let bundle = bundle.to_str().expect("a path");
    let output = run(&[&[bundle, "--load", &url], flags].concat());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let text = String::from_utf8(output.stdout).expect("text");
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line:?}: {error}")))
        .collect()
}

fn steps(lines: &[Value]) -> Vec<&Value> {
    lines.iter().filter_map(|line| line.get("step")).collect()
}

fn number(value: &Value, key: &str) -> f64 {
    value[key].as_f64().unwrap_or_else(|| panic!("no `{key}`: {value}"))
}

fn metric(server: &Server, name: &str) -> f64 {
    let page = get(server.address, "/metrics").text();
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no `{name}`:\n{page}"))
        .parse()
        .expect("a number")
}

#[test]
fn each_rate_is_told_with_what_became_of_it_and_what_it_took() {
    let folder = tempfile::tempdir().expect("a folder");
    for bundle in [digits_bundle(folder.path()), table_bundle(folder.path())] {
        let server = start(&bundle, &[]);
        let flags = ["--slo", "p99=2s", "--each", "1", "--from", "50", "--to", "200"];
        let lines = load(&bundle, &server, &flags);
        assert!(number(&lines[0]["machine"], "cores") >= 1.0, "{lines:?}");
        assert_eq!(lines.last().expect("an end")["end"], "rate");
        let steps = steps(&lines);
        let rates: Vec<f64> = steps.iter().map(|step| number(step, "rate")).collect();
        assert_eq!(rates, [50.0, 200.0]);
        for step in steps {
            let sent = number(step, "sent");
            assert_eq!(sent, number(step, "rate"), "one second of it: {step}");
            assert_eq!(
                (number(step, "answered"), number(step, "failed")),
                (sent, 0.0),
                "{step}"
            );
            let times = ["p50_seconds", "p90_seconds", "p99_seconds"].map(|key| number(step, key));
            assert!(0.0 < times[0] && times.is_sorted() && times[2] < 2.0, "{step}");
            assert!(number(step, "seconds") > 0.9, "{step}");
            // A head, and an input; a head, and an answer.
            assert!(number(step, "sent_bytes") > 100.0 * sent && number(step, "received_bytes") > 100.0 * sent);
            assert!(number(step, "memory_bytes") > 1e6, "{step}");
            assert!(number(step, "cpu_seconds") >= 0.0, "{step}");
        }
        // 25 to warm up. They are requests like any other, and nobody's predictions.
        assert_eq!(
            metric(&server, "emberline_requests_total{protocol=\"plain\",status=\"2xx\"}"),
            275.0
        );
        assert_eq!(metric(&server, "emberline_drift_window_samples"), 0.0);
        assert!(metric(&server, "process_cpu_seconds_total") > 0.0);
    }
}

#[test]
fn a_server_that_is_at_its_end_is_told_from_one_that_is_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let bundle = slow_bundle(folder.path());
    let server = start(&bundle, &["--queue", "8"]);
    // 10 ms and more for each: it cannot answer 2000 a second, and says so when its queue is full.
    let flags = ["--slo", "p99=1s", "--each", "1", "--from", "5", "--to", "2000"];
    let lines = load(&bundle, &server, &flags);
    assert_eq!(lines.last().expect("an end")["end"], "slo", "{lines:?}");
    let steps = steps(&lines);
    assert_eq!(number(steps[0], "failed"), 0.0, "{}", steps[0]);
    assert!(
        steps
            .iter()
            .any(|step| step["reasons"]["status 429"].as_u64().is_some()),
        "{lines:?}"
    );
}

#[test]
fn an_objective_that_nothing_keeps_ends_it_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let bundle = digits_bundle(folder.path());
    let server = start(&bundle, &[]);
    let lines = load(&bundle, &server, &["--slo", "p50=1us", "--each", "0.2"]);
    let rates: Vec<f64> = steps(&lines).iter().map(|step| number(step, "rate")).collect();
    assert_eq!(rates, [20.0, 20.0]);
}

#[test]
fn a_load_goes_to_this_machine_alone_and_says_why_it_cannot_begin() {
    let folder = tempfile::tempdir().expect("a folder");
    let bundle = digits_bundle(folder.path());
    let bundle = bundle.to_str().expect("a path");
    let fails = |code: i32, arguments: &[&str], words: &str| {
        let output = run(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains(words), "{said}");
        assert!(output.stdout.is_empty());
    };
    // Nothing is sent there: it is refused before a connection is opened.
    let slo = ["--slo", "p99=20ms"];
    fails(
        1,
        &[&[bundle, "--load", "http://192.0.2.1:5000"], &slo[..]].concat(),
        "`192.0.2.1` is another machine",
    );
    fails(2, &[bundle, "--load", "http://127.0.0.1:5000"], "no `--slo`");
    fails(
        2,
        &[&[bundle, "--load", "nowhere"], &slo[..]].concat(),
        "hint: emberline-server BUNDLE --load",
    );
    let nobody = TcpListener::bind("127.0.0.1:0")
        .expect("a port")
        .local_addr()
        .expect("an address");
    let url = format!("http://{nobody}");
    fails(1, &[&["/nowhere", "--load", &url], &slo[..]].concat(), "is no bundle");
}
