//! The files themselves, for each kind of target, and what is refused.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::prometheus::prometheus;
use crate::tool::{PIP_INSTALL, Ran, found, ran, run, skipped};

/// A project that `deploy` says more of.
pub fn project(deploy: &str) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let text = format!("name: digits\ndata: {{source: synthetic-digits}}\ndeploy: {{{deploy}}}\n");
    fs::write(folder.path().join("emberline.yaml"), text).expect("a project");
    folder
}

/// What `monitor` prints.
pub fn monitor(folder: &Path, arguments: &[&str]) -> Ran {
    run(folder, &[&["monitor"], arguments].concat())
}

pub fn promtool(folder: &Path, arguments: &[&str]) -> Ran {
    ran(Command::new("promtool").args(arguments).current_dir(folder))
}

/// Debian's promtool knows no Kubernetes: `tests/kubernetes` has Prometheus' own code read that.
#[test]
fn promtool_accepts_the_files() {
    if !prometheus() {
        return;
    }
    let folder = project("port: 5001");
    let path = folder.path();
    fs::write(path.join("alerts.yml"), monitor(path, &["alerts"]).success().stdout).expect("written");
    promtool(path, &["check", "rules", "alerts.yml"]).success();
    for (arguments, says) in [
        (&[][..], r#"["127.0.0.1:5001"]"#),
        (
            &["--server", "10.0.0.1:5000,[::1]:5000"],
            r#"["10.0.0.1:5000", "[::1]:5000"]"#,
        ),
        (&["--target", "docker"], r#"host: "unix:///var/run/docker.sock""#),
        (&["-d", "live"], r#"job_name: "digits-live""#),
    ] {
        fs::write(path.join("emberline.live.yaml"), "{}\n").expect("an overlay");
        let printed = monitor(path, &[&["prometheus"], arguments].concat()).success();
        assert!(printed.stdout.contains(says), "{}", printed.stdout);
        assert_eq!(printed.stderr, "");
        fs::write(path.join("prometheus.yml"), printed.stdout).expect("written");
        promtool(path, &["check", "config", "prometheus.yml"]).success();
    }
}

#[test]
fn json_holds_the_same_file() {
    let folder = project("");
    for (what, file) in [
        ("prometheus", "prometheus.yml"),
        ("alerts", "alerts.yml"),
        ("grafana", "dashboard.json"),
    ] {
        let text = monitor(folder.path(), &[what]).success().stdout;
        let report = monitor(folder.path(), &[what, "-o", "json"]).success().json();
        assert_eq!(report["content"].as_str().expect("a file").trim_end(), text.trim_end());
        assert_eq!(report["file"], file);
        assert_eq!(report["job"], "digits");
    }
}

#[test]
fn what_would_be_ignored_is_refused() {
    let folder = project("replicas: 2");
    let path = folder.path();
    for (arguments, says) in [
        (&["prometheus", "-n", "models"][..], "`--namespace` is about a cluster"),
        (
            &["prometheus", "--target", "kubernetes", "--server", "a:1"],
            "say one or the other",
        ),
        (
            &["prometheus", "--target", "kubernetes", "--context", "c"],
            "`--context` says nothing to Prometheus",
        ),
    ] {
        monitor(path, arguments).code(2).says(&[says]);
    }
    monitor(path, &["prometheus", "--server", "a b:1"])
        .code(2)
        .says(&["is no HOST:PORT"]);
    // Replicas that share an address are scraped, and a person is told what that is worth.
    let shared = monitor(path, &["prometheus"]).success();
    assert!(
        shared
            .stderr
            .contains("warning: the replicas on this machine share one address"),
        "{}",
        shared.stderr
    );
}

/// Grafana's own types, for Python: what they do not know is lost when they read and write the dashboard.
#[test]
fn grafanas_types_know_every_field_of_the_dashboard() {
    if !found("python3", "apt-get install python3-venv") {
        return;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join("target/python/bin/python");
    let there = Command::new(&python)
        .args(["-c", "import grafana_foundation_sdk"])
        .output();
    if !there.is_ok_and(|output| output.status.success()) {
        skipped::for_want_of("grafana_foundation_sdk", PIP_INSTALL);
        return;
    }
    let folder = project("");
    let dashboard = monitor(folder.path(), &["grafana"]).success();
    let file = folder.path().join("dashboard.json");
    fs::write(&file, &dashboard.stdout).expect("written");
    let known = ran(Command::new(&python)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .arg(root.join("tests/monitor/dashboard.py"))
        .arg(&file))
    .success()
    .json();
    if let Some(lost) = lost(&dashboard.json(), &known, "") {
        panic!("Grafana knows no {lost}");
    }
}

/// The first value of `given` that `known` has not.
fn lost(given: &Value, known: &Value, path: &str) -> Option<String> {
    match (given, known) {
        (Value::Object(given), Value::Object(known)) => given.iter().find_map(|(key, value)| {
            let path = format!("{path}.{key}");
            match known.get(key) {
                Some(known) => lost(value, known, &path),
                // Nothing, said in other words.
                None => (!value.is_null()).then_some(path),
            }
        }),
        (Value::Array(given), Value::Array(known)) if given.len() == known.len() => {
            let pairs = given.iter().zip(known).enumerate();
            pairs
                .into_iter()
                .find_map(|(index, (given, known))| lost(given, known, &format!("{path}[{index}]")))
        }
        _ => (given != known).then(|| format!("{path}: {given}, which becomes {known}")),
    }
}
