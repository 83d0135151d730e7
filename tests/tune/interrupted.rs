//! Sweeps that end in the middle: nothing goes on alone, and what was done is kept.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::setup::{latest, quick, trials, tune};
use crate::tool::trained::{bundles, json as read_json, project, text};
use crate::tool::{emberline, run};

/// Processes that work in a folder.
fn processes(folder: &Path) -> Vec<PathBuf> {
    let folder = fs::canonicalize(folder).expect("a folder");
    let all = fs::read_dir("/proc").expect("processes").flatten();
    all.map(|entry| entry.path())
        .filter(|process| fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd == folder))
        .collect()
}

/// Waits until no process works in a folder.
fn none_is_left(folder: &Path) {
    let start = Instant::now();
    while !processes(folder).is_empty() {
        assert!(start.elapsed() < Duration::from_mins(1), "a trial goes on alone");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A sweep in the background, and its events.
fn start(folder: &Path) -> (Child, BufReader<impl Read + use<>>) {
    let mut child = emberline(folder, &["tune", "--progress", "json", "--parallel", "1"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("runs");
    let stderr = BufReader::new(child.stderr.take().expect("stderr"));
    (child, stderr)
}

/// Waits until the trial with this number has begun.
fn begins(stderr: &mut impl BufRead, index: u64) {
    let mut line = String::new();
    loop {
        line.clear();
        assert_ne!(
            stderr.read_line(&mut line).expect("a line"),
            0,
            "it ended before trial {index}"
        );
        let event: Value = serde_json::from_str(&line).expect("JSON");
        if event["event"] == "trial_started" && event["index"] == index {
            return;
        }
    }
}

fn signal(child: &Child, signal: Signal) {
    let id = Pid::from_raw(child.id().cast_signed()).expect("a process");
    kill_process(id, signal).expect("signalled");
}

/// One trial of a moment, and one that never ends.
const ENDLESS: &str = "tune: {epochs: [1, 1000000]}";

#[test]
fn ctrl_c_keeps_what_is_done_and_the_same_command_goes_on() {
    let folder = project(&quick(ENDLESS));
    let here = folder.path();
    let (mut child, mut stderr) = start(here);
    begins(&mut stderr, 2);
    // One at a time works in a project.
    run(here, &["tune"])
        .code(1)
        .says(&["another `emberline tune` works in", "hint: wait for its end"]);
    signal(&child, Signal::INT);
    let mut said = String::new();
    stderr.read_to_string(&mut said).expect("stderr");
    assert_eq!(child.wait().expect("its end").code(), Some(130), "{said}");
    assert!(said.contains("1 of 2 trials are told of"), "{said}");
    none_is_left(here);
    assert!(!bundles(here).join("latest").exists(), "the sweep is not whole");
    let results = fs::read_dir(here.join(".emberline/tune")).expect("results").flatten();
    let mut results = results.map(|entry| entry.path()).filter(|path| path.is_file());
    let written = read_json(&results.next().expect("results"));
    assert_eq!(trials(&written)[0]["outcome"], "done");
    assert_eq!(trials(&written)[1]["outcome"], "missing");

    fs::write(here.join("emberline.yaml"), quick("tune: {epochs: [1, 2]}")).expect("a project");
    let report = tune(here, &[]);
    assert_eq!(report["trained"], 1);
    assert_eq!(trials(&report)[0]["version"], trials(&written)[0]["version"]);
    assert_eq!(latest(here), text(&report["best"], "version"));
}

#[test]
fn trials_end_with_a_tool_that_is_killed() {
    let folder = project(&quick(ENDLESS));
    let here = folder.path();
    let (mut child, mut stderr) = start(here);
    begins(&mut stderr, 2);
    signal(&child, Signal::KILL);
    assert_eq!(child.wait().expect("its end").code(), None, "killed");
    none_is_left(here);
    fs::write(here.join("emberline.yaml"), quick("tune: {epochs: [1, 2]}")).expect("a project");
    assert_eq!(tune(here, &[])["trained"], 1);
}

#[test]
fn a_sweep_ends_with_its_deadline() {
    let folder = project(&quick(ENDLESS));
    let here = folder.path();
    run(here, &["tune", "--timeout", "3s"])
        .code(1)
        .says(&["the sweep took longer than --timeout", "hint: the same command"]);
    none_is_left(here);
}
