//! Projects to tune, and what a sweep says and leaves.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::tool::run;
use crate::tool::trained::bundles;

/// A project whose trials take a moment each.
pub fn quick(more: &str) -> String {
    format!(
        "name: quick\ndata: {{source: synthetic-digits, count: 600, test_count: 200}}\ntrain: {{epochs: 1}}\n{more}\n"
    )
}

pub fn tune(folder: &Path, arguments: &[&str]) -> Value {
    run(folder, &[&["tune", "-o", "json"], arguments].concat())
        .success()
        .json()
}

pub fn trials(report: &Value) -> &Vec<Value> {
    report["trials"].as_array().expect("trials")
}

pub fn latest(folder: &Path) -> String {
    fs::read_to_string(bundles(folder).join("latest")).expect("latest")
}
