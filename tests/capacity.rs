//! `plan` from what was measured on this machine, and what `scale --slo` says where there is no cluster.

mod fixture;
mod tool;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

use fixture::digits_bundle;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tool::{emberline, found, run};

fn project() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(
        folder.path().join("emberline.yaml"),
        "name: digits\ndata: {source: synthetic-digits}\ngateway: {replicas: 3}\n",
    )
    .expect("a project");
    folder
}

fn number(value: &Value, path: &str) -> f64 {
    let found = value.pointer(path).and_then(Value::as_f64);
    found.unwrap_or_else(|| panic!("no number at `{path}`: {value}"))
}

/// Processes of nginx in a folder.
fn gateways(folder: &Path) -> usize {
    let processes = fs::read_dir("/proc").expect("/proc").flatten();
    let here = |entry: &fs::DirEntry| fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(folder));
    processes.filter(here).count()
}

#[test]
fn a_plan_follows_from_what_was_measured_here() {
    if !found("nginx", "apt-get install nginx-light") {
        return;
    }
    let folder = project();
    let bundle = digits_bundle(folder.path());
    let version = bundle.file_name().and_then(|name| name.to_str()).expect("a name");
    // Nothing is told that was not measured.
    run(folder.path(), &["plan", "--rps", "1000000"])
        .code(1)
        .says(&["nobody has measured", "`emberline plan --rps 1000000 --measure`"]);

    let arguments = ["plan", "--rps", "1000000", "--slo", "p99=500ms", "--measure"];
    let ran = run(folder.path(), &[&arguments[..], &["-o", "json"]].concat()).success();
    assert!(ran.stderr.contains("requests/s: p99 "), "{}", ran.stderr);
    assert!(ran.stderr.contains("through nginx: "), "{}", ran.stderr);
    let plan = ran.json();
    assert_eq!(
        (&plan["version"], &plan["needs"]["replicas"]["slo"]),
        (&json!(version), &json!("p99=500ms"))
    );
    let carries = number(&plan, "/needs/replicas/replica_rps");
    let replicas = number(&plan, "/needs/replicas/replicas");
    assert!(carries >= 20.0);
    assert!((replicas - (1e6 / (carries * 0.7)).ceil()).abs() <= 1.0, "{plan}");
    assert_eq!(number(&plan, "/needs/memory_bytes"), replicas * f64::from(128 << 20));
    let cpu = number(&plan, "/needs/replicas/cpu_seconds_per_request");
    assert!((number(&plan, "/needs/replicas/processors") - cpu * 1e6).abs() < 1.0);
    let gateway = number(&plan, "/needs/gateway/cpu_seconds_per_request");
    assert!(0.0 < gateway && gateway < 0.1, "{plan}");
    assert!((number(&plan, "/needs/gateway/saturates_at_rps") - 6.0 / gateway).abs() < 1.0);
    assert_eq!(plan["replica"]["place"], "local");
    assert_eq!(plan["gateway"]["of"], "gateway");
    assert_eq!(gateways(folder.path()), 0, "nginx has ended");

    // It lies beside the bundle, which is as it was, and the next plan reads it.
    let kept = bundle.with_file_name(format!("{version}.capacity.json"));
    let kept: Value = serde_json::from_slice(&fs::read(kept).expect("kept")).expect("JSON");
    assert_eq!(kept["bundle"]["version"], version);
    assert_eq!(kept["measurements"], json!([plan["replica"], plan["gateway"]]));
    let again = run(folder.path(), &["plan", "--rps", "1000000", "-o", "json"])
        .success()
        .json();
    assert_eq!(again, plan);
    let half = run(
        folder.path(),
        &["plan", "--rps", "500000", "--headroom", "0", "-o", "json"],
    )
    .success();
    assert!(number(&half.json(), "/needs/replicas/replicas") < replicas);
    let text = run(folder.path(), &["plan", "--rps", "1000000"]).success().stdout;
    for words in [
        "for 1,000,000 requests/s, 30 % in hand",
        "keeps p99=500ms up to ",
        "measured on this machine at 20",
        "`gateway.replicas: 3` is saturated at ",
        "bit/s in and ",
    ] {
        assert!(text.contains(words), "no `{words}`:\n{text}");
    }
    // Another objective is read off the same curve, if the curve has it.
    run(folder.path(), &["plan", "--rps", "10", "--slo", "p99=1us"])
        .code(1)
        .says(&[
            "does not keep p99=1us at the lowest rate",
            "hint: ask for a slower objective",
        ]);

    // It vouches for no other bundle.
    let other = digits_bundle(folder.path());
    let other = other.file_name().and_then(|name| name.to_str()).expect("a name");
    fs::copy(
        bundle.with_file_name(format!("{version}.capacity.json")),
        bundle.with_file_name(format!("{other}.capacity.json")),
    )
    .expect("copied");
    run(folder.path(), &["plan", "--rps", "10"])
        .code(1)
        .says(&[&format!("was measured of bundle `{version}`")]);
}

#[test]
fn whoever_interrupts_a_measurement_is_left_with_nothing_of_it() {
    let folder = project();
    let bundle = digits_bundle(folder.path());
    let version = bundle.file_name().and_then(|name| name.to_str()).expect("a name");
    let servers = || {
        let processes = fs::read_dir("/proc").expect("/proc").flatten();
        let serves = |entry: &fs::DirEntry| {
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).into_owned();
            line.contains("--inherit") && line.contains(version)
        };
        processes.filter(serves).count()
    };
    for (signal, code) in [(Signal::INT, Some(130)), (Signal::KILL, None)] {
        let mut command = emberline(folder.path(), &["plan", "--rps", "10", "--slo", "p99=1s", "--measure"]);
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut lines = BufReader::new(child.stderr.take().expect("stderr")).lines();
        let measured = lines.any(|line| line.expect("a line").contains("20 requests/s: p99 "));
        assert!(measured && servers() == 1);
        kill_process(Pid::from_child(&child), signal).expect("sent");
        assert_eq!(child.wait().expect("it ended").code(), code);
        // A server whose tool was killed finds out by itself.
        let end = std::time::Instant::now() + std::time::Duration::from_mins(1);
        while servers() > 0 {
            assert!(std::time::Instant::now() < end, "the server goes on");
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }
    let left = fs::read_dir(bundle.parent().expect("a folder"))
        .expect("the store")
        .flatten();
    let left: Vec<_> = left
        .filter(|entry| entry.file_name().to_string_lossy().contains("capacity"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn what_does_not_go_together_is_refused_before_anything_is_measured() {
    let folder = project();
    let scale = |arguments: &[&str]| run(folder.path(), &[&["scale"], arguments].concat());
    scale(&["--slo", "p99=20ms", "--rps", "2000"]).code(1).says(&[
        "the target is `local`",
        "`emberline plan --slo p99=20ms --rps 2000 --measure`",
        "`--target kubernetes`",
    ]);
    scale(&["--slo", "p99=20ms"]).code(2).says(&["--rps <RATE>"]);
    scale(&["--replicas", "2", "--rps", "10"]).code(2);
    scale(&["--slo", "p99=20ms", "--rps", "10", "--replicas", "2"]).code(2);
    scale(&["--slo", "20ms", "--rps", "10"])
        .code(2)
        .says(&["such as `p99=20ms`"]);
    scale(&["--slo", "p99=20ms", "--rps", "0"]).code(2);
    scale(&["--slo", "p99=20ms", "--rps", "1", "--headroom", "99"]).code(2);
    run(folder.path(), &["plan"]).code(2).says(&["--rps <RATE>"]);
    run(folder.path(), &["plan", "--rps", "10"])
        .code(1)
        .says(&["no bundle in", "`emberline train`"]);
}
