//! A real Prometheus, configured by what is printed, scrapes real servers that want a key; it answers every expression of
//! the dashboard and of the alerts with what the servers tell.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::files::{monitor, project, promtool};
use crate::fixture;
use crate::fixture::http::Connection;
use crate::fixture::process::start;
use crate::prometheus::{Prometheus, hurried, prometheus, until_nothing_wants};
use crate::tool::run;

/// Ends the load, however the test ends.
struct AtTheEnd<'a>(&'a AtomicBool);

impl Drop for AtTheEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A little load, until it is told to end.
fn ask(server: SocketAddr, key: &str, path: &str, instances: impl Fn(u32) -> Value, end: &AtomicBool) {
    let mut connection = Connection::open(server).expect("connected");
    let headers = format!("authorization: Bearer {key}\r\ncontent-type: application/json\r\n");
    for number in 0.. {
        if end.load(Ordering::Relaxed) {
            return;
        }
        let body = json!({"instances": instances(number)}).to_string();
        let answer = connection
            .request("POST", path, &headers, body.as_bytes())
            .expect("answered");
        assert_eq!(answer.status, 200, "{}", answer.text());
        thread::sleep(Duration::from_millis(20));
    }
}

/// Twenty images, the first of which is the same each time: the cache knows it.
fn images(number: u32) -> Value {
    (0..20)
        .map(|place| fixture::image(if place == 0 { 0 } else { number * 20 + place }))
        .collect()
}

/// Twenty rows, of which some have no age.
fn people(number: u32) -> Value {
    let row = |place: u32| {
        let age = (!place.is_multiple_of(5)).then_some(place + number % 40);
        json!({"age": age, "city": "rome"})
    };
    (0..20).map(row).collect()
}

/// What is asked of Grafana's variables and of the panels, as Grafana would send it.
fn sent(expression: &str) -> String {
    expression
        .replace("$instance", ".+")
        .replace("$model", "digits")
        .replace("$__rate_interval", "5s")
}

/// The series that an expression is about, as they stand in it.
fn selectors(expression: &str) -> Vec<&str> {
    let starts = expression.match_indices("emberline_").map(|(start, _)| start);
    starts
        .map(|start| {
            let end = expression[start..].find('}').expect("a selector");
            &expression[start..=start + end]
        })
        .collect()
}

fn dashboard(folder: &Path) -> Value {
    monitor(folder, &["grafana"]).success().json()
}

#[test]
fn a_real_prometheus_answers_every_expression_with_what_real_servers_tell() {
    if !prometheus() {
        return;
    }
    let folder = project("");
    let path = folder.path();
    let key = run(path, &["keys", "add", "prometheus"]).success().stdout;
    fs::write(path.join("metrics.key"), &key).expect("written");
    let keys = path.join("emberline.keys");
    let keys = ["--keys", keys.to_str().expect("a path")];
    let digits = start(
        &fixture::digits_bundle(path),
        &[&keys[..], &["--cache", "lru:100"]].concat(),
    );
    let table = start(&fixture::table_bundle(path), &keys);

    let servers = format!("{},{}", digits.address, table.address);
    let configuration = monitor(path, &["prometheus", "--server", &servers]).success().stdout;
    // As the file itself says, for servers with keys.
    let configuration = hurried(&configuration).replace("# authorization:", "authorization:");
    fs::write(path.join("prometheus.yml"), configuration).expect("written");
    fs::write(path.join("alerts.yml"), monitor(path, &["alerts"]).success().stdout).expect("written");
    promtool(path, &["check", "config", "prometheus.yml"]).success();
    let prometheus = Prometheus::start(path);

    let end = AtomicBool::new(false);
    thread::scope(|scope| {
        let (key, end) = (key.trim(), &end);
        let (digits, table) = (digits.address, table.address);
        scope.spawn(move || ask(digits, key, "/v1/models/digits:predict", images, end));
        scope.spawn(move || ask(table, key, "/v1/models/table:predict", people, end));
        let _end = AtTheEnd(end);
        answers(&prometheus, path);
    });
}

fn answers(prometheus: &Prometheus, folder: &Path) {
    let dashboard = dashboard(folder);
    let panels = dashboard["panels"].as_array().expect("panels").iter();
    let asked: Vec<(&str, String)> = panels
        .flat_map(|panel| {
            let targets = panel["targets"].as_array().into_iter().flatten();
            targets.map(|target| {
                (
                    panel["title"].as_str().expect("a title"),
                    target["expr"].as_str().expect("PromQL"),
                )
            })
        })
        .map(|(title, expression)| (title, sent(expression)))
        .collect();
    assert!(asked.len() > 40, "{asked:?}");
    until_nothing_wants(|| {
        let silent = asked.iter().filter(|(_, expression)| {
            // Not a number is what a quantile of nothing is.
            !prometheus.query(expression).iter().any(|(_, value)| value.is_finite())
        });
        silent
            .map(|(title, expression)| format!("{title}: nothing from {expression}"))
            .collect()
    });

    let variables = dashboard["templating"]["list"].as_array().expect("variables");
    let choices = |name: &str| {
        let found = variables.iter().find(|variable| variable["name"] == name).expect(name);
        let query = sent(found["query"]["query"].as_str().expect("a query"));
        let (series, label) = query
            .strip_prefix("label_values(")
            .and_then(|query| query.strip_suffix(')')?.rsplit_once(", "))
            .expect("values of a label");
        let series = prometheus.query(series).into_iter();
        series
            .map(|(labels, _)| labels[label].as_str().unwrap_or_default().to_owned())
            .collect::<Vec<_>>()
    };
    let mut models = choices("model");
    models.sort();
    assert_eq!(models, ["digits", "table"]);
    assert_eq!(choices("instance").len(), 1, "the servers of one model");

    // The rules: every one evaluated, none that could not be, and none that a healthy server raises at once.
    until_nothing_wants(|| {
        let rules = rules(prometheus);
        let unwell = rules.iter().filter(|rule| rule["health"] != "ok");
        unwell
            .map(|rule| format!("{}: {} {}", rule["name"], rule["health"], rule["lastError"]))
            .collect()
    });
    let rules = rules(prometheus);
    assert!(rules.len() > 10, "{rules:?}");
    for rule in rules {
        assert_ne!(rule["state"], "firing", "{rule}");
        for selector in selectors(rule["query"].as_str().expect("PromQL")) {
            assert!(
                !prometheus.query(selector).is_empty(),
                "{}: no series {selector}",
                rule["name"]
            );
        }
    }
}

fn rules(prometheus: &Prometheus) -> Vec<Value> {
    let groups = prometheus.ask("rules", &[]).expect("rules");
    groups["groups"][0]["rules"].as_array().expect("rules").clone()
}
