//! Arrows between the rooms point down only: this scans `use crate::` and every other path into the crate.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Each room with those that it may use. What stands above the line is the runtime.
const ROOMS: [(&str, &[&str]); 28] = [
    ("problem", &[]),
    ("files", &["problem"]),
    ("clock", &[]),
    ("usage", &[]),
    ("preprocess", &[]),
    ("model", &[]),
    ("bundle", &["problem", "files", "preprocess", "model"]),
    ("predict", &["problem", "preprocess", "model", "bundle"]),
    ("probe", &["problem", "preprocess", "bundle"]),
    (
        "serve",
        &[
            "problem",
            "files",
            "clock",
            "usage",
            "preprocess",
            "bundle",
            "predict",
            "probe",
        ],
    ),
    ("grpc", &["preprocess", "serve"]),
    // The command-line tool.
    ("project", &["problem", "preprocess", "model", "bundle"]),
    ("data", &["problem", "files", "preprocess", "predict", "project"]),
    (
        "train",
        &[
            "problem",
            "preprocess",
            "model",
            "bundle",
            "predict",
            "project",
            "data",
            "backends",
        ],
    ),
    ("evaluate", &["bundle", "predict", "project", "data"]),
    ("templates", &[]),
    ("engine", &["problem"]),
    ("cluster", &["problem"]),
    (
        "image",
        &["problem", "files", "clock", "bundle", "project", "templates", "engine"],
    ),
    (
        "tune",
        &[
            "problem",
            "files",
            "bundle",
            "project",
            "data",
            "train",
            "image",
            "templates",
            "cluster",
        ],
    ),
    ("ci", &["problem", "project", "templates"]),
    ("monitor", &["serve", "templates"]),
    ("canary", &["serve"]),
    (
        "gateway",
        &["problem", "files", "usage", "project", "templates", "cluster"],
    ),
    (
        "capacity",
        &["problem", "clock", "bundle", "probe", "project", "gateway"],
    ),
    (
        "deploy",
        &[
            "problem",
            "files",
            "clock",
            "bundle",
            "probe",
            "project",
            "templates",
            "engine",
            "cluster",
            "gateway",
            "monitor",
            "canary",
        ],
    ),
    ("trace", &["bundle", "image", "deploy"]),
    (
        "cli",
        &[
            "trace",
            "problem",
            "files",
            "clock",
            "preprocess",
            "bundle",
            "predict",
            "serve",
            "second_port",
            "project",
            "data",
            "train",
            "tune",
            "evaluate",
            "image",
            "deploy",
            "templates",
            "engine",
            "cluster",
            "ci",
            "monitor",
            "gateway",
            "capacity",
            "canary",
        ],
    ),
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of the source").flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn arrows_point_down() {
    let allowed: BTreeMap<&str, &[&str]> = ROOMS.into_iter().collect();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&source, &mut files);
    assert!(files.len() > 20, "the scan found only {} files", files.len());
    let mut wrong = Vec::new();
    for file in files {
        let inside = file.strip_prefix(&source).expect("inside src");
        let room = inside
            .components()
            .next()
            .and_then(|part| Path::new(part.as_os_str()).file_stem()?.to_str())
            .expect("a name");
        if ["lib", "main", "bin"].contains(&room) {
            continue;
        }
        let Some(allowed) = allowed.get(room) else {
            wrong.push(format!("`{room}` is no room of tests/layering.rs"));
            continue;
        };
        let text = fs::read_to_string(&file).expect("a source file");
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            for used in code.split("crate::").skip(1) {
                let used: String = used
                    .chars()
                    .take_while(|letter| letter.is_alphanumeric() || *letter == '_')
                    .collect();
                assert!(
                    !used.is_empty(),
                    "{}: `use crate::{{...}}` cannot be scanned",
                    inside.display()
                );
                if used != room && !allowed.contains(&used.as_str()) {
                    wrong.push(format!("{}:{}: `{room}` uses `{used}`", inside.display(), number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "arrows that point up:\n{}", wrong.join("\n"));
}

#[test]
fn features_are_asked_for_in_lib_rs_alone() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&source, &mut files);
    for file in files {
        let text = fs::read_to_string(&file).expect("a source file");
        if file != source.join("lib.rs") {
            assert!(!text.contains("feature ="), "{} asks for a feature", file.display());
        }
    }
}

#[test]
fn only_the_printer_prints() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&source, &mut files);
    for file in files {
        let text = fs::read_to_string(&file).expect("a source file");
        for printer in ["println!", "eprintln!", "print!(", "eprint!("] {
            assert!(
                !text.contains(printer),
                "{} prints; cli/output.rs does that",
                file.display()
            );
        }
    }
}
