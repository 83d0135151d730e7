//! Each alert is raised by what it is about, and by nothing else: promtool runs the rules over invented series.

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};

use crate::files::{monitor, project, promtool};
use crate::prometheus::prometheus;

/// Minutes that a story lasts.
const LONG: u32 = 480;

/// A story: what differs from a healthy server under load, and the alerts at the end of it.
struct Story {
    name: &'static str,
    series: Vec<(&'static str, String)>,
    fires: &'static [&'static str],
}

/// A healthy server that answers 100 requests a minute; nobody minds its slow explanations, its readiness of 503 while it
/// drained, or another job that is in a bad way.
fn healthy() -> Vec<(&'static str, String)> {
    vec![
        (r#"up{job="digits",instance="a"}"#, constant(1.0)),
        (r#"emberline_ready{job="digits",instance="a"}"#, constant(1.0)),
        (
            r#"emberline_requests_total{job="digits",instance="a",protocol="plain",status="2xx"}"#,
            rising(100.0),
        ),
        (
            r#"emberline_requests_total{job="digits",instance="a",protocol="plain",status="4xx"}"#,
            rising(5.0),
        ),
        (
            r#"emberline_requests_total{job="digits",instance="a",protocol="plain",status="5xx"}"#,
            constant(0.0),
        ),
        (
            r#"emberline_requests_total{job="digits",instance="a",protocol="other",status="5xx"}"#,
            rising(50.0),
        ),
        (
            r#"emberline_request_duration_seconds_bucket{job="digits",instance="a",protocol="plain",le="0.1"}"#,
            rising(100.0),
        ),
        (
            r#"emberline_request_duration_seconds_bucket{job="digits",instance="a",protocol="plain",le="0.25"}"#,
            rising(100.0),
        ),
        (
            r#"emberline_request_duration_seconds_bucket{job="digits",instance="a",protocol="plain",le="0.5"}"#,
            rising(100.0),
        ),
        (
            r#"emberline_request_duration_seconds_bucket{job="digits",instance="a",protocol="plain",le="+Inf"}"#,
            rising(100.0),
        ),
        (
            r#"emberline_request_duration_seconds_bucket{job="digits",instance="a",protocol="explain",le="0.1"}"#,
            constant(0.0),
        ),
        (
            r#"emberline_request_duration_seconds_bucket{job="digits",instance="a",protocol="explain",le="+Inf"}"#,
            rising(100.0),
        ),
        (
            r#"emberline_requests_refused_total{job="digits",instance="a"}"#,
            constant(0.0),
        ),
        (r#"emberline_queue_depth{job="digits",instance="a"}"#, constant(20.0)),
        (
            r#"emberline_queue_capacity{job="digits",instance="a"}"#,
            constant(256.0),
        ),
        (
            r#"emberline_drift_window_samples{job="digits",instance="a"}"#,
            constant(1000.0),
        ),
        (
            r#"emberline_drift_psi{job="digits",instance="a",feature="brightness"}"#,
            constant(0.2),
        ),
        (
            r#"emberline_prediction_drift_psi{job="digits",instance="a"}"#,
            constant(0.2),
        ),
        (
            r#"emberline_drift_missing_ratio{job="digits",instance="a",feature="age"}"#,
            constant(0.1),
        ),
        (
            r#"emberline_reload_failures_total{job="digits",instance="a",file="keys"}"#,
            constant(1.0),
        ),
        (
            r#"emberline_access_log_lost_lines_total{job="digits",instance="a"}"#,
            constant(3.0),
        ),
        (
            r#"emberline_build_info{job="digits",instance="a",version="1"}"#,
            constant(1.0),
        ),
        (r#"up{job="other",instance="z"}"#, constant(0.0)),
        (r#"emberline_ready{job="other",instance="z"}"#, constant(0.0)),
        (
            r#"emberline_drift_psi{job="other",instance="z",feature="brightness"}"#,
            constant(9.0),
        ),
        (
            r#"emberline_build_info{job="other",instance="z",version="2"}"#,
            constant(1.0),
        ),
    ]
}

/// All that rises in [`healthy`] stands still.
fn idle(value: f64) -> Vec<(&'static str, String)> {
    let rises = healthy().into_iter().filter(|(_, values)| values.starts_with("0+"));
    rises.map(|(name, _)| (name, constant(value))).collect()
}

fn constant(value: f64) -> String {
    format!("{value}x{LONG}")
}

fn rising(by: f64) -> String {
    format!("0+{by}x{LONG}")
}

/// `before`, and in the last `minutes` something else.
fn lately(before: &str, then: &str, minutes: u32) -> String {
    format!("{before}x{} {then}x{minutes}", LONG - minutes - 1)
}

fn story(name: &'static str, series: &[(&'static str, String)], fires: &'static [&'static str]) -> Story {
    Story {
        name,
        series: series.to_vec(),
        fires,
    }
}

const READY: &str = r#"emberline_ready{job="digits",instance="a"}"#;
const UP: &str = r#"up{job="digits",instance="a"}"#;
const FAILED: &str = r#"emberline_requests_total{job="digits",instance="a",protocol="plain",status="5xx"}"#;
const ANSWERED: &str = r#"emberline_requests_total{job="digits",instance="a",protocol="plain",status="2xx"}"#;
const WRONG: &str = r#"emberline_requests_total{job="digits",instance="a",protocol="plain",status="4xx"}"#;
const REFUSED: &str = r#"emberline_requests_refused_total{job="digits",instance="a"}"#;
const DEPTH: &str = r#"emberline_queue_depth{job="digits",instance="a"}"#;
const SAMPLES: &str = r#"emberline_drift_window_samples{job="digits",instance="a"}"#;
const DRIFT: &str = r#"emberline_drift_psi{job="digits",instance="a",feature="brightness"}"#;
const PREDICTIONS: &str = r#"emberline_prediction_drift_psi{job="digits",instance="a"}"#;
const MISSING: &str = r#"emberline_drift_missing_ratio{job="digits",instance="a",feature="age"}"#;
const RELOADS: &str = r#"emberline_reload_failures_total{job="digits",instance="a",file="keys"}"#;
const LOST: &str = r#"emberline_access_log_lost_lines_total{job="digits",instance="a"}"#;
const VERSION: &str = r#"emberline_build_info{job="digits",instance="b",version="2"}"#;
const SECOND: &str = r#"emberline_ready{job="digits",instance="b"}"#;
const IN_TIME: [&str; 2] = [
    r#"emberline_request_duration_seconds_bucket{job="digits",instance="a",protocol="plain",le="0.1"}"#,
    r#"emberline_request_duration_seconds_bucket{job="digits",instance="a",protocol="plain",le="0.25"}"#,
];

fn stories() -> Vec<Story> {
    vec![
        story("all is well", &[], &[]),
        story("nobody asks anything any more", &idle(7.0), &[]),
        story(
            "nobody has asked anything yet",
            &[&idle(0.0)[..], &[(SAMPLES, constant(0.0))]].concat(),
            &[],
        ),
        story(
            "it is not ready",
            &[(READY, constant(0.0))],
            &["EmberlineUnavailable", "EmberlineReplicaDown"],
        ),
        story(
            "nobody reaches it",
            &[(UP, constant(0.0)), (READY, "_x480".into())],
            &["EmberlineUnavailable", "EmberlineReplicaDown"],
        ),
        story(
            "there is none",
            &[(UP, "_x480".into()), (READY, "_x480".into())],
            &["EmberlineUnavailable"],
        ),
        story(
            "one of two is not ready",
            &[(READY, constant(0.0)), (SECOND, constant(1.0))],
            &["EmberlineReplicaDown"],
        ),
        story(
            "one of two is not ready for two minutes",
            &[(READY, lately("1", "0", 2)), (SECOND, constant(1.0))],
            &[],
        ),
        story(
            "2 % fail",
            &[(FAILED, rising(2.2))],
            &["EmberlineErrors", "EmberlineErrorsPersist"],
        ),
        story("0.8 % fail", &[(FAILED, rising(0.85))], &["EmberlineErrorsPersist"]),
        story("0.4 % fail", &[(FAILED, rising(0.42))], &[]),
        story(
            "all of six an hour fail",
            &[(ANSWERED, constant(0.0)), (WRONG, constant(0.0)), (FAILED, rising(0.1))],
            &["EmberlineErrorsPersist"],
        ),
        story(
            "all of one an hour fail",
            &[
                (ANSWERED, constant(0.0)),
                (WRONG, constant(0.0)),
                (FAILED, rising(1.0 / 64.0)),
            ],
            &[],
        ),
        story(
            "10 % failed, until an hour ago",
            &[(FAILED, "0+10x419 4190x60".into())],
            &[],
        ),
        story(
            "one of 50 is slow",
            &IN_TIME.map(|series| (series, rising(98.0))),
            &["EmberlineSlow"],
        ),
        story("one of 200 is slow", &IN_TIME.map(|series| (series, rising(99.5))), &[]),
        story("3 % are refused", &[(REFUSED, rising(3.2))], &["EmberlineOverloaded"]),
        story("0.5 % are refused", &[(REFUSED, rising(0.5))], &[]),
        story(
            "the queue is nearly full",
            &[(DEPTH, constant(230.0))],
            &["EmberlineQueueCrowded"],
        ),
        story(
            "the queue was full for a moment",
            &[(DEPTH, lately("0", "256", 1))],
            &[],
        ),
        story("an input drifts", &[(DRIFT, constant(0.3))], &["EmberlineInputDrift"]),
        story(
            "answers drift",
            &[(PREDICTIONS, constant(0.3))],
            &["EmberlinePredictionDrift"],
        ),
        story(
            "values are missing",
            &[(MISSING, constant(0.3))],
            &["EmberlineMissingValues"],
        ),
        story(
            "a window of a few predictions says all of this",
            &[
                (DRIFT, constant(0.3)),
                (PREDICTIONS, constant(0.3)),
                (MISSING, constant(0.3)),
                (SAMPLES, constant(300.0)),
            ],
            &[],
        ),
        story(
            "a file could not be taken",
            &[(RELOADS, lately("1", "2", 20))],
            &["EmberlineReloadFailed"],
        ),
        story(
            "lines are lost",
            &[(LOST, lately("3", "90", 5))],
            &["EmberlineLogLinesLost"],
        ),
        story(
            "two versions for long",
            &[(VERSION, constant(1.0))],
            &["EmberlineVersionsDiffer"],
        ),
        story("two versions in a deploy", &[(VERSION, lately("_", "1", 10))], &[]),
    ]
}

/// A story for `promtool test rules`. That of failures is told with the words of its alert.
fn test(story: &Story, words: Option<&Value>) -> Value {
    let mut series = healthy();
    for (name, values) in &story.series {
        match series.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => known.clone_from(values),
            None => series.push((name, values.clone())),
        }
    }
    let series: Vec<Value> = series
        .iter()
        .map(|(name, values)| json!({"series": name, "values": values}))
        .collect();
    let firing: Vec<Value> = story
        .fires
        .iter()
        .map(|alert| json!({"labels": format!("{{alertname=\"{alert}\"}}"), "value": 1}))
        .collect();
    let mut test = json!({
        "name": story.name,
        "interval": "1m",
        "input_series": series,
        "promql_expr_test": [{
            "expr": "group by (alertname) (ALERTS{alertstate=\"firing\"})",
            "eval_time": format!("{}m", LONG - 1),
            "exp_samples": firing,
        }],
    });
    if let Some(description) = words {
        test["alert_rule_test"] = json!([{
            "alertname": "EmberlineErrors",
            "eval_time": format!("{}m", LONG - 1),
            "exp_alerts": [{
                "exp_labels": {"severity": "critical", "job": "digits"},
                "exp_annotations": {
                    "summary": "digits: 2.052% of the requests of 1h failed",
                    "description": description,
                },
            }],
        }]);
    }
    test
}

#[test]
fn each_alert_is_raised_when_it_should_be_and_only_then() {
    if !prometheus() {
        return;
    }
    let folder = project("");
    let path = folder.path();
    let rules = monitor(path, &["alerts"]).success().stdout;
    fs::write(path.join("alerts.yml"), &rules).expect("written");
    let rules: Value = serde_saphyr::from_str(&rules).expect("YAML");
    let rules = rules["groups"][0]["rules"].as_array().expect("rules");
    let of_errors = rules
        .iter()
        .find(|rule| rule["alert"] == "EmberlineErrors")
        .expect("the alert");

    let tests: Vec<Value> = stories()
        .iter()
        .map(|story| {
            test(
                story,
                (story.name == "2 % fail").then_some(&of_errors["annotations"]["description"]),
            )
        })
        .collect();
    let file = json!({"rule_files": ["alerts.yml"], "evaluation_interval": "1m", "tests": tests});
    // YAML reads JSON.
    fs::write(path.join("stories.yml"), file.to_string()).expect("written");
    promtool(path, &["test", "rules", "stories.yml"]).success();

    let stories = stories();
    let told: BTreeSet<&str> = stories.iter().flat_map(|story| story.fires).copied().collect();
    let all: BTreeSet<&str> = rules.iter().filter_map(|rule| rule["alert"].as_str()).collect();
    assert_eq!(told, all, "every alert has its story");
}
