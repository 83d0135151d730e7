//! Small projects, trained by the real binary, and what they leave on the disk.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use super::{emberline, ran};

/// A project that trains in a fraction of a second.
pub const QUICK: &str =
    "name: quick\ndata: {source: synthetic-digits, count: 600, test_count: 200}\ntrain: {epochs: 2}\n";

pub fn project(config: &str) -> TempDir {
    let folder = tempfile::tempdir().expect("folder");
    fs::write(folder.path().join("emberline.yaml"), config).expect("project");
    folder
}

pub fn train(folder: &Path, arguments: &[&str]) -> Value {
    ran(emberline(folder, &["train", "-o", "json"]).args(arguments))
        .success()
        .json()
}

/// Names in a folder, sorted; none when there is no such folder.
pub fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mut names: Vec<String> = entries
        .map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

pub fn bundles(folder: &Path) -> PathBuf {
    folder.join(".emberline/bundles")
}

pub fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).expect("file")).expect("JSON")
}

pub fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("no `{key}` in {value}"))
}
