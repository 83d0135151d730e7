//! What stands between a request and the model, over the real server: the queue and its batches, as the metrics tell
//! them, and the cache.

mod fixture;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use fixture::http::{Connection, get, head, post};
use fixture::process::{start, until};
use serde_json::{Value, json};
use tempfile::TempDir;

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

/// The value of a sample; none when the page has no such line.
fn metric(address: SocketAddr, sample: &str) -> Option<f64> {
    let page = get(address, "/metrics").text();
    let line = page
        .lines()
        .find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    line.map(|value| value.parse().expect("a number"))
}

fn dispatches(address: SocketAddr, reason: &str) -> f64 {
    metric(address, &format!("emberline_dispatches_total{{reason=\"{reason}\"}}")).expect("a count")
}

/// Inputs that keep the slow model busy for a second and more.
fn many() -> Value {
    json!((0..150).map(fixture::image).collect::<Vec<_>>())
}

#[test]
fn a_slow_model_keeps_nobody_else_waiting() {
    let folder = folder();
    let server = start(&fixture::slow_bundle(folder.path()), &["--threads", "1"]);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            assert_eq!(post(server.address, "/predict", &many()).status, 200);
            done.store(true, Ordering::SeqCst);
        });
        until("the model is at work", || dispatches(server.address, "full") > 0.0);
        for _ in 0..20 {
            // Each on a connection of its own, so that accepting is seen to go on, too.
            assert_eq!(get(server.address, "/livez").status, 200);
        }
        assert!(!done.load(Ordering::SeqCst), "twenty answers took as long as the model");
    });
}

#[test]
fn every_batch_has_a_reason() {
    let folder = folder();
    let server = start(&fixture::slow_bundle(folder.path()), &["--max-batch", "8"]);
    let address = server.address;
    let one = json!({"instances": [fixture::image(1)]});
    post(address, "/v1/models/slow:predict", &one);
    assert_eq!(dispatches(address, "idle"), 1.0, "the model was free");
    thread::scope(|scope| {
        scope.spawn(|| post(address, "/predict", &many()));
        until("a full batch", || dispatches(address, "full") > 0.0);
        for _ in 0..3 {
            scope.spawn(|| post(address, "/v1/models/slow:predict", &one));
        }
    });
    assert_eq!(dispatches(address, "idle"), 1.0);
    assert!(dispatches(address, "busy") >= 1.0, "they waited for the model");
    let waited = metric(address, "emberline_queue_duration_seconds_count");
    assert_eq!(waited, Some(5.0), "each request waits once");
}

#[test]
fn what_nobody_waits_for_is_not_computed() {
    let folder = folder();
    let server = start(&fixture::slow_bundle(folder.path()), &[]);
    let address = server.address;
    thread::scope(|scope| {
        scope.spawn(|| post(address, "/predict", &many()));
        until("the model is at work", || dispatches(address, "full") > 0.0);
        let body = json!([fixture::image(1)]).to_string();
        let mut impatient = Connection::open(address).expect("connected");
        let mut request = head("POST", "/predict", "", body.len());
        request.extend(body.as_bytes());
        impatient.send(&request).expect("sent");
        until("it waits", || metric(address, "emberline_queue_depth") == Some(1.0));
        drop(impatient);
    });
    until("it is given up", || {
        metric(address, "emberline_requests_abandoned_total") == Some(1.0)
    });
    let predicted: f64 = (0..10)
        .filter_map(|class| metric(address, &format!("emberline_predictions_total{{class=\"{class}\"}}")))
        .sum();
    assert_eq!(predicted, 150.0);
}

#[test]
fn an_answer_that_was_given_is_given_again() {
    for policy in ["lru:2", "lfu:2"] {
        let folder = folder();
        let server = start(&fixture::digits_bundle(folder.path()), &["--cache", policy]);
        let address = server.address;
        let ask = |images: &[u32]| {
            let images: Vec<_> = images.iter().map(|image| fixture::image(*image)).collect();
            post(address, "/v1/models/digits:predict", &json!({"instances": images})).json()
        };
        let batches = || metric(address, "emberline_batch_size_sum").expect("a sum");
        let first = ask(&[1, 2]);
        assert_eq!(metric(address, "emberline_cache_hit_ratio"), Some(0.0));
        assert_eq!(batches(), 2.0);
        // To the last bit, whichever batch it would have been in.
        assert_eq!(ask(&[1, 2]), first);
        assert_eq!(ask(&[2])["predictions"][0], first["predictions"][1]);
        assert_eq!(batches(), 2.0, "the model had nothing to do");
        assert_eq!(
            metric(address, "emberline_cache_lookups_total{outcome=\"hit\"}"),
            Some(3.0)
        );
        assert_eq!(
            metric(address, "emberline_cache_lookups_total{outcome=\"miss\"}"),
            Some(2.0)
        );
        assert_eq!(metric(address, "emberline_cache_hit_ratio"), Some(0.6));
        // What is new is computed beside what is known, each in its place.
        let mixed = ask(&[3, 1]);
        assert_eq!(batches(), 3.0, "{policy}");
        assert_eq!(mixed["predictions"][1], first["predictions"][0]);
        assert!(metric(address, "emberline_cache_entries") <= Some(2.0));
        // A kept answer is a prediction as any other.
        let predicted: f64 = (0..10)
            .filter_map(|class| metric(address, &format!("emberline_predictions_total{{class=\"{class}\"}}")))
            .sum();
        assert_eq!(predicted, 7.0);
        // An input that is wrong is wrong each time.
        for _ in 0..2 {
            let wrong = json!({"instances": [vec![256; 784]]});
            assert!(
                post(address, "/v1/models/digits:predict", &wrong)
                    .error(400)
                    .contains("256")
            );
        }
    }
    let without = TempDir::new().expect("a folder");
    let server = start(&fixture::digits_bundle(without.path()), &[]);
    assert_eq!(metric(server.address, "emberline_cache_hit_ratio"), None);
}
