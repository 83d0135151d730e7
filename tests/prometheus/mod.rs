//! A real Prometheus on a free port, with a configuration that the tool has printed; gone at the end of the test.
#![allow(dead_code)] // each test binary uses its part

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::tool::{found, skipped};

/// How long a test waits for Prometheus on a busy machine.
const PATIENCE: Duration = Duration::from_secs(50);

/// Whether there is a Prometheus, with its promtool.
#[track_caller]
pub fn prometheus() -> bool {
    found("prometheus", "apt-get install prometheus") && found("promtool", "apt-get install prometheus")
}

/// What provides the tests with [`Discovery`].
const BUILD_DISCOVERY: &str = "go build -C tests/prometheus/discover -o ../../../target/discover .";

/// What Prometheus' own code finds by a configuration, and goes on finding. Debian's program knows no Kubernetes.
pub struct Discovery {
    child: Child,
    lines: Receiver<String>,
}

impl Discovery {
    /// Starts it in `folder`, which holds a prometheus.yml. Where it was not built, the test is skipped; in CI it fails.
    #[track_caller]
    pub fn start(folder: &Path) -> Option<Self> {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/discover");
        if !program.is_file() {
            skipped::for_want_of("Prometheus' discovery", BUILD_DISCOVERY);
            return None;
        }
        let mut child = Command::new(program)
            .arg("prometheus.yml")
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let stdout = BufReader::new(child.stdout.take().expect("stdout"));
        let (say, lines) = channel();
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if say.send(line).is_err() {
                    return;
                }
            }
        });
        Some(Self { child, lines })
    }

    /// Waits until the servers that are found are as `wanted`: the labels of each, and its `url`.
    #[track_caller]
    pub fn finds(&self, wanted: impl Fn(&[BTreeMap<String, String>]) -> bool) -> Vec<BTreeMap<String, String>> {
        let end = Instant::now() + PATIENCE;
        let mut found = Vec::new();
        loop {
            let line = self.lines.recv_timeout(end.saturating_duration_since(Instant::now()));
            let line = line.unwrap_or_else(|error| panic!("{error}; found last: {found:?}"));
            found = serde_json::from_str(&line).expect("servers");
            if wanted(&found) {
                return found;
            }
        }
    }
}

impl Drop for Discovery {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A configuration as it is printed, that scrapes and evaluates often enough for a test.
#[track_caller]
pub fn hurried(configuration: &str) -> String {
    let mut hurried = configuration.to_owned();
    for key in ["scrape_interval", "evaluation_interval"] {
        assert!(hurried.contains(&format!("{key}: 15s")), "{configuration}");
        hurried = hurried.replace(&format!("{key}: 15s"), &format!("{key}: 500ms"));
    }
    hurried.replace("refresh_interval: 15s", "refresh_interval: 1s")
}

/// A Prometheus that runs.
pub struct Prometheus {
    child: Child,
    url: String,
}

impl Prometheus {
    /// Starts one in `folder`, which holds its prometheus.yml, and waits until it answers.
    pub fn start(folder: &Path) -> Self {
        let address = format!("127.0.0.1:{}", crate::fixture::port::free());
        let log = File::create(folder.join("prometheus.log")).expect("a log");
        let child = Command::new("prometheus")
            .args([
                "--config.file=prometheus.yml",
                "--storage.tsdb.path=data",
                "--log.level=warn",
            ])
            .arg(format!("--web.listen-address={address}"))
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("prometheus starts");
        let url = format!("http://{address}");
        let prometheus = Self { child, url };
        let end = Instant::now() + PATIENCE;
        while ureq::get(format!("{}/-/ready", prometheus.url)).call().is_err() {
            let log = fs::read_to_string(folder.join("prometheus.log")).unwrap_or_default();
            assert!(Instant::now() < end, "Prometheus did not get ready:\n{log}");
            thread::sleep(Duration::from_millis(50));
        }
        prometheus
    }

    /// `data` of what an endpoint of its interface answers; what is wrong with an expression.
    pub fn ask(&self, path: &str, parameters: &[(&str, &str)]) -> Result<Value, String> {
        let mut request = ureq::get(format!("{}/api/v1/{path}", self.url))
            .config()
            .http_status_as_error(false)
            .build();
        for (name, value) in parameters {
            request = request.query(name, value);
        }
        let text = request
            .call()
            .and_then(|mut response| response.body_mut().read_to_string())
            .expect("Prometheus answers");
        let mut answer: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        match answer["status"].as_str() {
            Some("success") => Ok(answer["data"].take()),
            _ => Err(answer["error"].to_string()),
        }
    }

    /// The series that an expression gives now, each with its labels and its value.
    #[track_caller]
    pub fn query(&self, expression: &str) -> Vec<(Value, f64)> {
        let data = self
            .ask("query", &[("query", expression)])
            .unwrap_or_else(|error| panic!("{expression}: {error}"));
        let series = data["result"].as_array().expect("series");
        series
            .iter()
            .map(|series| {
                let value = series["value"][1].as_str().expect("a value");
                (series["metric"].clone(), value.parse().expect("a number"))
            })
            .collect()
    }
}

/// Waits until there is nothing left in a list of what is wanting.
#[track_caller]
pub fn until_nothing_wants(mut wanting: impl FnMut() -> Vec<String>) {
    let end = Instant::now() + PATIENCE;
    loop {
        let left = wanting();
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < end, "waited in vain:\n{}", left.join("\n"));
        thread::sleep(Duration::from_millis(250));
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
