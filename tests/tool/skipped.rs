//! What tests skip for want of something that this machine has not: noted by each as it is skipped, and listed once at the
//! end of the run, by `tests/zz_skipped.rs`. It knows nothing of what is wanted.
#![allow(dead_code)] // a test notes, and the last binary reads

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::process::parent_id;
use std::path::{Path, PathBuf};

/// Notes that the running test is skipped, for want of `what`, which `command` provides. In CI the test fails instead.
#[track_caller]
pub fn for_want_of(what: &str, command: &str) {
    let ci = std::env::var_os("CI").is_some_and(|ci| ci == "true");
    assert!(
        !ci,
        "CI skips nothing, and this is in want of {what}; `{command}` provides it"
    );
    let binary = std::env::current_exe().expect("a path");
    let binary = binary.file_stem().unwrap_or_default().to_string_lossy();
    let binary = binary.rsplit_once('-').map_or(&*binary, |(name, _)| name);
    let thread = std::thread::current();
    let line = format!("{what}\t{command}\t{binary} {}\n", thread.name().unwrap_or_default());
    let notes = File::options().append(true).create(true).open(notes());
    notes
        .and_then(|mut file| file.write_all(line.as_bytes()))
        .expect("a note of what is skipped");
}

/// What this run has skipped, as a list to print; empty if nothing was. The notes are gone afterwards.
pub fn list() -> String {
    let text = fs::read_to_string(notes()).unwrap_or_default();
    let _ = fs::remove_file(notes());
    let mut wants: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for line in text.lines() {
        let mut parts = line.splitn(3, '\t');
        let mut part = || parts.next().unwrap_or_default();
        wants.entry((part(), part())).or_default().push(part());
    }
    let mut list = String::new();
    for ((what, command), mut tests) in wants {
        tests.sort_unstable();
        tests.dedup();
        let tests = tests.join("\n    ");
        let _ = writeln!(
            list,
            "\nSKIPPED for want of {what}; `{command}` provides it:\n    {tests}"
        );
    }
    list
}

/// The notes of this run: all of its test binaries are children of the same cargo. A process id comes again, its start
/// time does not: what an interrupted run has left is never taken for ours.
fn notes() -> PathBuf {
    let parent = parent_id();
    let stat = fs::read_to_string(format!("/proc/{parent}/stat")).unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let started = fields.split_whitespace().nth(19).unwrap_or("0");
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("skipped-{parent}-{started}"))
}
