//! The walls around what is linked: the runtime stays free of the tool's dependencies, tests ask for no further features,
//! and every licence is one that deny.toml allows.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

/// Crates of the tool that the runtime must not gain, by the beginning of their names.
const OUTSIDE: [&str; 13] = [
    "bollard",
    "burn-autodiff",
    "burn-train",
    "clap",
    "csv",
    "indicatif",
    "k8s-openapi",
    "kube",
    "minijinja",
    "serde-saphyr",
    "tar",
    "ureq",
    "wgpu",
];

/// Crates that the runtime may have. Raise it deliberately: every one more is one more to patch.
const MOST_CRATES: usize = 222;

/// Crates that the feature `grpc` brings.
const GRPC: [&str; 4] = ["h2", "prost", "tonic", "tonic-prost"];

fn cargo(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO"))
        .args(arguments)
        .args(["--offline", "--locked"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// The crates that a server links which is built with these flags.
fn linked(flags: &[&str]) -> BTreeSet<String> {
    let tree = ["tree", "--no-default-features"];
    let form = ["--edges", "normal", "--prefix", "none", "--no-dedupe"];
    let text = cargo(&[&tree, flags, &form].concat());
    let names = text.lines().filter_map(|line| line.split(' ').next());
    let crates: BTreeSet<String> = names.map(str::to_owned).collect();
    assert!(crates.contains("hyper"), "cargo tree printed no tree:\n{text}");
    crates
}

#[test]
fn the_runtime_stays_small() {
    let crates = linked(&["--features", "grpc"]);
    for outside in OUTSIDE {
        let found: Vec<_> = crates
            .iter()
            .filter(|name| **name == outside || name.starts_with(&format!("{outside}-")))
            .collect();
        assert!(found.is_empty(), "the runtime links {found:?}");
    }
    assert!(
        crates.len() <= MOST_CRATES,
        "the runtime links {} crates, and {MOST_CRATES} are allowed",
        crates.len()
    );
}

#[test]
fn without_the_feature_nothing_of_grpc_is_linked() {
    let (with, without) = (linked(&["--features", "grpc"]), linked(&[]));
    for name in GRPC {
        assert!(with.contains(name) && !without.contains(name), "{name}");
    }
}

/// Otherwise `cargo build` and `cargo test` each compile all of burn: docs/decisions/0006.
#[test]
fn tests_ask_for_no_further_features() {
    let features = |edges: &str| -> BTreeMap<String, String> {
        cargo(&["tree", "--edges", edges, "--prefix", "none", "--format", "{p}|{f}"])
            .lines()
            .filter_map(|line| line.trim_end_matches(" (*)").split_once('|'))
            .map(|(package, features)| (package.to_owned(), features.to_owned()))
            .collect()
    };
    let without = features("normal,build");
    let with = features("normal,build,dev");
    assert!(without.len() > 100, "cargo tree printed {} crates", without.len());
    let more: Vec<_> = without
        .iter()
        .filter(|(package, features)| with.get(*package) != Some(features))
        .collect();
    assert!(more.is_empty(), "development dependencies change features of {more:?}");
}

#[test]
fn every_licence_is_allowed() {
    let deny = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("deny.toml")).expect("deny.toml");
    let (_, list) = deny.split_once("allow = [").expect("a list of licences");
    let (list, _) = list.split_once(']').expect("its end");
    let allowed: BTreeSet<&str> = list
        .split(',')
        .map(|name| name.trim().trim_matches('"'))
        .filter(|name| !name.is_empty())
        .collect();
    let text = cargo(&[
        "tree",
        "--all-features",
        "--target",
        "all",
        "--edges",
        "normal,build",
        "--prefix",
        "none",
        "--format",
        "{p}|{l}",
    ]);
    let packages: BTreeMap<&str, &str> = text
        .lines()
        .filter_map(|line| line.trim_end_matches(" (*)").split_once('|'))
        .collect();
    assert!(packages.len() > 200, "cargo tree printed {} crates", packages.len());
    let refused: Vec<_> = packages
        .iter()
        .filter(|(_, licence)| !is_allowed(licence, &allowed))
        .collect();
    assert!(refused.is_empty(), "deny.toml does not allow {refused:?}");
}

/// An SPDX expression: one of the alternatives of each part must be allowed. Old crates write `/` for OR.
fn is_allowed(expression: &str, allowed: &BTreeSet<&str>) -> bool {
    expression
        .replace('/', " OR ")
        .replace(['(', ')'], "")
        .split(" AND ")
        .all(|part| part.split(" OR ").any(|licence| allowed.contains(licence.trim())))
}
