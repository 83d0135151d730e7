//! Drift over the real `/metrics`.

mod fixture;

use std::net::SocketAddr;

use fixture::http::{get, post};
use fixture::process::start;
use fixture::region;
use serde_json::json;

/// The value of a sample in `/metrics`.
fn metric(address: SocketAddr, name: &str) -> Option<f64> {
    let page = get(address, "/metrics").text();
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map(|value| value.parse().expect("a number"))
}

const BRIGHTNESS: &str = "emberline_drift_psi{feature=\"brightness\"}";
const CONTRAST: &str = "emberline_drift_psi{feature=\"contrast\"}";
const PREDICTION: &str = "emberline_prediction_drift_psi";
const SAMPLES: &str = "emberline_drift_window_samples";

fn predict(address: SocketAddr, images: &[Vec<f32>]) {
    for images in images.chunks(100) {
        let answer = post(address, "/predict", &json!(images));
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
}

#[test]
fn inputs_like_those_of_training_do_not_drift_and_brighter_ones_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let bundle = region::bundle(folder.path());
    let server = start(&bundle, &[]);
    let told = |name| metric(server.address, name);
    assert_eq!(told(SAMPLES), Some(0.0));
    predict(server.address, &region::images(5000..5200, 0.0));
    assert_eq!(told(SAMPLES), Some(200.0));
    assert_eq!(told(BRIGHTNESS), None, "too few for ten bins");
    let missing = told("emberline_drift_missing_ratio{feature=\"brightness\"}");
    assert_eq!(missing, None, "nothing can be missing from an image");
    predict(server.address, &region::images(5200..5800, 0.0));
    for name in [BRIGHTNESS, CONTRAST, PREDICTION] {
        let index = told(name).expect("enough");
        assert!((0.0..0.1).contains(&index), "{name} {index}");
    }
    drop(server);

    let server = start(&bundle, &[]);
    let told = |name| metric(server.address, name);
    predict(server.address, &region::images(5000..5800, 50.0));
    for name in [BRIGHTNESS, PREDICTION] {
        let index = told(name).expect("enough");
        assert!(index > 0.25, "{name} {index}");
    }
    let index = told(CONTRAST).expect("enough");
    assert!(index < 0.1, "only the brightness has changed: {index}");
}

#[test]
fn what_has_left_the_window_is_forgotten() {
    let folder = tempfile::tempdir().expect("a folder");
    // A window of no time is as long as the index needs.
    let server = start(&region::bundle(folder.path()), &["--drift-window", "0"]);
    let told = |name| metric(server.address, name);
    predict(server.address, &region::images(5000..5800, 50.0));
    assert!(told(BRIGHTNESS).is_some_and(|index| index > 0.25));
    predict(server.address, &region::images(6000..6900, 0.0));
    assert!(told(SAMPLES).is_some_and(|samples| samples < 800.0));
    let index = told(BRIGHTNESS).expect("enough");
    assert!(index < 0.1, "{index}");
}

#[test]
fn missing_values_and_confidence_are_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = start(&fixture::table_bundle(folder.path()), &[]);
    let told = |name| metric(server.address, name);
    let age = "emberline_drift_missing_ratio{feature=\"age\"}";
    assert_eq!(told(age), None);
    let rows =
        json!([{"age": 31, "city": "rome"}, {"city": "rome"}, {"age": 7, "city": "oslo"}, {"age": 9, "city": "bonn"}]);
    let answer = post(server.address, "/predict", &rows).json();
    assert_eq!(told(age), Some(0.25));
    assert_eq!(told("emberline_drift_missing_ratio{feature=\"city\"}"), Some(0.25));
    let predictions = answer["predictions"].as_array().expect("an array");
    let confidences = predictions
        .iter()
        .map(|one| one["confidence"].as_f64().expect("a number"));
    let sum = told("emberline_prediction_confidence_sum").expect("a sum");
    assert!((confidences.sum::<f64>() - sum).abs() < 1e-4, "{sum}");
    assert_eq!(told("emberline_prediction_confidence_count"), Some(4.0));
}
