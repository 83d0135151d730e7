//! Sweeps that end in the middle: nothing goes on alone, and what was done is kept.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::setup::{latest, quick, trials, tune};
use crate::tool::background::Background;
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

/// A sweep in the background, whose second trial has begun.
fn second_begun(folder: &Path) -> Background {
    let mut command = emberline(folder, &["tune", "--progress", "json", "--parallel", "1"]);
    let mut sweep = Background::start(&mut command);
    while sweep.tells("trial_started")["index"] != 2 {}
    sweep
}

/// The project of a sweep that was ended, with one that has an end.
fn shorten(folder: &Path) {
    fs::write(folder.join("emberline.yaml"), quick("tune: {epochs: [1, 2]}")).expect("a project");
}

/// One trial of a moment, and one that never ends.
const ENDLESS: &str = "tune: {epochs: [1, 1000000]}";

#[test]
fn ctrl_c_keeps_what_is_done_and_the_same_command_goes_on() {
    let folder = project(&quick(ENDLESS));
    let here = folder.path();
    let sweep = second_begun(here);
    // One at a time works in a project.
    run(here, &["tune"])
        .code(1)
        .says(&["another `emberline tune` works in", "hint: wait for its end"]);
    let (code, said) = sweep.end_with(Signal::INT);
    assert_eq!(code, Some(130), "{said}");
    assert!(said.contains("1 of 2 trials are told of"), "{said}");
    none_is_left(here);
    assert!(!bundles(here).join("latest").exists(), "the sweep is not whole");
    let results = fs::read_dir(here.join(".emberline/tune")).expect("results").flatten();
    let mut results = results.map(|entry| entry.path()).filter(|path| path.is_file());
    let written = read_json(&results.next().expect("results"));
    assert_eq!(trials(&written)[0]["outcome"], "done");
    assert_eq!(trials(&written)[1]["outcome"], "missing");

    shorten(here);
    let report = tune(here, &[]);
    assert_eq!(report["trained"], 1);
    assert_eq!(trials(&report)[0]["version"], trials(&written)[0]["version"]);
    assert_eq!(latest(here), text(&report["best"], "version"));
}

#[test]
fn trials_end_with_a_tool_that_is_killed() {
    let folder = project(&quick(ENDLESS));
    let here = folder.path();
    let (code, _) = second_begun(here).end_with(Signal::KILL);
    assert_eq!(code, None, "killed");
    none_is_left(here);
    shorten(here);
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
