//! The wall around the runtime: what `emberline-server` links stays free of the tool's dependencies.

use std::process::Command;

/// Crates of the tool that the runtime must not gain, by the beginning of their names.
const OUTSIDE: [&str; 14] = [
    "bollard",
    "clap",
    "csv",
    "indicatif",
    "kube",
    "k8s-openapi",
    "minijinja",
    "png",
    "serde-saphyr",
    "tar",
    "ureq",
    "wgpu",
    "burn-autodiff",
    "burn-train",
];

/// Lines of `cargo tree` that the runtime may have. Raise it deliberately: every crate is one more to patch.
const MOST_CRATES: usize = 190;

#[test]
fn the_runtime_stays_small() {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--no-default-features",
            "--edges",
            "normal",
            "--prefix",
            "none",
            "--no-dedupe",
            "--offline",
            "--locked",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo tree");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    let mut crates: Vec<&str> = text.lines().filter_map(|line| line.split(' ').next()).collect();
    crates.sort_unstable();
    crates.dedup();
    assert!(crates.contains(&"axum"), "cargo tree printed no tree:\n{text}");
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
