//! `emberline evaluate`, the real binary: the gate and its exit code, and which bundle is measured on what.

mod tool;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;
use tool::{Ran, emberline, ran, run};

const DIGITS: &str = "name: quick\ndata: {source: synthetic-digits, count: 600, test_count: 200}\ntrain: {epochs: 2}\n";

fn project(more: &str) -> TempDir {
    let folder = tempfile::tempdir().expect("folder");
    configure(folder.path(), more);
    folder
}

fn configure(folder: &Path, more: &str) {
    fs::write(folder.join("emberline.yaml"), format!("{DIGITS}{more}")).expect("project");
}

/// Trains, and gives the version.
fn train(folder: &Path, arguments: &[&str]) -> String {
    let report = ran(emberline(folder, &["train", "-o", "json"]).args(arguments))
        .success()
        .json();
    report["version"].as_str().expect("version").to_owned()
}

fn evaluate(folder: &Path, arguments: &[&str]) -> Ran {
    ran(emberline(folder, &["evaluate", "-o", "json"]).args(arguments))
}

fn bundle(folder: &Path, version: &str) -> PathBuf {
    folder.join(".emberline/bundles").join(version)
}

/// The verdict of the evaluation that lies beside a bundle.
fn verdict(folder: &Path, version: &str) -> Value {
    let path = bundle(folder, &format!("{version}.evaluation.json"));
    let evaluation: Value = serde_json::from_slice(&fs::read(path).expect("evaluation")).expect("JSON");
    assert_eq!(evaluation["bundle"]["version"], version);
    evaluation["verdict"].clone()
}

#[test]
fn the_gate_decides_on_the_exit_code() {
    let folder = project("");
    let folder = folder.path();
    let version = train(folder, &[]);

    let report = evaluate(folder, &[]).success().json();
    assert_eq!(report["gate"]["verdict"], "none");
    assert_eq!(verdict(folder, &version), "none");
    for key in ["version", "accuracy", "loss", "samples", "gate", "test", "slices"] {
        assert!(!report[key].is_null(), "no `{key}` in {report}");
    }
    assert_eq!(report["samples"], 200);

    // An overlay's gate is stricter than the project's, and only where it is asked for.
    configure(folder, "evaluate: {gate: {accuracy: 0.05}}\n");
    fs::write(
        folder.join("emberline.strict.yaml"),
        "evaluate: {gate: {accuracy: 0.999, loss: 0.001}}\n",
    )
    .expect("overlay");
    assert_eq!(evaluate(folder, &[]).success().json()["gate"]["verdict"], "pass");
    assert_eq!(verdict(folder, &version), "pass");

    let missed = evaluate(folder, &["-d", "strict"]).code(3);
    assert_eq!(missed.json()["gate"]["verdict"], "fail");
    assert_eq!(missed.json()["gate"]["checks"].as_array().map(Vec::len), Some(2));
    assert_eq!(verdict(folder, &version), "fail");
    assert!(
        missed.stderr.contains("error: gate failed: `accuracy` is 0."),
        "{}",
        missed.stderr
    );
    assert!(
        missed.stderr.contains("`loss` is ") && missed.stderr.contains("at most 0.001"),
        "{}",
        missed.stderr
    );

    let text = run(folder, &["evaluate", "-d", "strict"]).code(3).stdout;
    assert!(text.contains("gate      fail") && text.contains("✗ accuracy"), "{text}");
}

#[test]
fn a_bundle_is_named_by_its_version_its_beginning_or_its_path() {
    let folder = project("");
    let folder = folder.path();
    let first = train(folder, &[]);
    let newest = train(folder, &["--seed", "43"]);
    let version = |arguments: &[&str]| evaluate(folder, arguments).success().json()["version"].clone();
    assert_eq!(version(&[]), newest.as_str());
    assert_eq!(version(&["--bundle", &first]), first.as_str());
    assert_eq!(version(&["--bundle", &first[..8]]), first.as_str());
    assert_eq!(
        version(&["--bundle", &format!(".emberline/bundles/{first}")]),
        first.as_str()
    );
    assert_eq!(
        version(&["--bundle", bundle(folder, &first).to_str().expect("path")]),
        first.as_str()
    );

    let refused = |reference: &str, texts: &[&str]| {
        evaluate(folder, &["--bundle", reference]).code(1).says(texts);
    };
    refused("zz", &["no bundle `zz`", "hint: there are: ", &first, &newest]);
    refused("", &["no bundle ``", "hint: there are: "]);
    refused("no/where", &["`no/where` is no bundle"]);
    // Two that begin alike.
    let twin = format!("{}ffffff", &first[..6]);
    fs::create_dir(bundle(folder, &twin)).expect("folder");
    fs::copy(
        bundle(folder, &first).join("bundle.json"),
        bundle(folder, &twin).join("bundle.json"),
    )
    .expect("copy");
    refused(&first[..6], &["fits several bundles", "hint: give more digits", &twin]);
    assert_eq!(version(&["--bundle", &first]), first.as_str());
}

#[test]
fn one_changed_byte_is_found() {
    let folder = project("");
    let folder = folder.path();
    let version = train(folder, &[]);
    let image = folder.join("image.json");
    fs::write(&image, format!("{:?}", vec![0; 784])).expect("image");
    for (name, says) in [
        ("model.safetensors", "`model.safetensors` has SHA-256"),
        ("golden.json", "`golden.json` has SHA-256"),
        ("profile.json", "`profile.json` has SHA-256"),
        ("bundle.json", "bundle.json says"),
    ] {
        let path = bundle(folder, &version).join(name);
        let whole = fs::read(&path).expect("file");
        let mut changed = whole.clone();
        // A digit for another one, so that JSON stays JSON.
        let place = changed
            .iter()
            .rposition(|byte| (b'1'..b'9').contains(byte))
            .expect("a digit");
        changed[place] += 1;
        fs::write(&path, changed).expect("changed");
        for arguments in [&["evaluate"][..], &["predict", "image.json"], &["package"]] {
            run(folder, arguments)
                .code(1)
                .says(&["error: bundle `", "was changed: ", says]);
        }
        fs::write(&path, whole).expect("as it was");
    }
    let weights = bundle(folder, &version).join("model.safetensors");
    fs::remove_file(weights).expect("removed");
    run(folder, &["evaluate"])
        .code(1)
        .says(&["`model.safetensors` cannot be read"]);
}

#[test]
fn a_table_is_learned_from_end_to_end() {
    let folder = tempfile::tempdir().expect("folder");
    let folder = folder.path();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/tabular");
    for file in ["emberline.yaml", "penguins.csv"] {
        fs::copy(example.join(file), folder.join(file)).expect("copy");
    }
    train(folder, &[]);
    let report = evaluate(folder, &[]).success().json();
    assert_eq!(report["gate"]["verdict"], "pass", "{report}");

    let csv = "bill_length_mm,bill_depth_mm,flipper_length_mm,body_mass_g,island,sex\n\
               39.1,18.7,181,3750,Torgersen,male\n50,16,,5700,Biscoe,\n";
    fs::write(folder.join("rows.csv"), csv).expect("rows");
    let rows = serde_json::json!([
        {"bill_length_mm": 39.1, "bill_depth_mm": 18.7, "flipper_length_mm": 181, "body_mass_g": 3750,
         "island": "Torgersen", "sex": "male"},
        {"bill_length_mm": 50, "bill_depth_mm": 16, "body_mass_g": 5700, "island": "Biscoe"},
    ]);
    fs::write(folder.join("rows.json"), rows.to_string()).expect("rows");
    let answers = run(folder, &["predict", "rows.csv", "rows.json", "-o", "json"])
        .success()
        .json();
    let answers = answers["predictions"].as_array().expect("list").clone();
    let names: Vec<&str> = answers.iter().filter_map(|answer| answer["input"].as_str()).collect();
    assert_eq!(names, ["rows.csv[0]", "rows.csv[1]", "rows.json[0]", "rows.json[1]"]);
    let labels: Vec<&str> = answers.iter().filter_map(|answer| answer["label"].as_str()).collect();
    assert_eq!(labels, ["Adelie", "Gentoo", "Adelie", "Gentoo"]);
    assert_eq!(answers[0]["probabilities"], answers[2]["probabilities"], "one way in");

    fs::write(folder.join("image.png"), b"\x89PNG\r\n\x1a\n").expect("image");
    run(folder, &["predict", "image.png"])
        .code(1)
        .says(&["image.png", "table"]);
    fs::write(folder.join("other.csv"), "bill_length_mm\n39\n").expect("rows");
    run(folder, &["predict", "other.csv"])
        .code(1)
        .says(&["other.csv", "the header has no column `island`"]);
    run(folder, &["predict", "rows.csv", "--invert"])
        .code(1)
        .says(&["`--invert` is for images"]);
}

/// Otherwise `train --seed` would be measured on rows that it learned.
#[test]
fn the_held_out_rows_do_not_depend_on_the_seed() {
    let report = |in_file: bool| {
        let folder = tempfile::tempdir().expect("folder");
        let folder = folder.path();
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/tabular");
        fs::copy(example.join("penguins.csv"), folder.join("penguins.csv")).expect("copy");
        let mut config = fs::read_to_string(example.join("emberline.yaml")).expect("project");
        if in_file {
            config = config.replace("train:\n", "train:\n  seed: 7\n");
        }
        fs::write(folder.join("emberline.yaml"), config).expect("project");
        train(folder, if in_file { &[] } else { &["--seed", "7"] });
        evaluate(folder, &[]).json()
    };
    let (file, flag) = (report(true), report(false));
    assert_eq!(file["version"], flag["version"]);
    assert_eq!(file["test"], flag["test"]);
}

/// A test set that is cut from the data is another one when the data is: what was trained on would be among it.
#[test]
fn data_that_has_changed_since_the_training_is_refused() {
    let folder = tempfile::tempdir().expect("folder");
    let folder = folder.path();
    let row = |at: usize| format!("{},{}\n", at % 7, if at % 7 > 3 { "high" } else { "low" });
    let table: String = (0..60).map(row).collect();
    fs::write(folder.join("t.csv"), format!("x,level\n{table}")).expect("table");
    let config = "name: levels\ndata: {source: csv, file: t.csv, label: level}\ntrain: {epochs: 1}\n";
    fs::write(folder.join("emberline.yaml"), config).expect("project");
    train(folder, &[]);
    evaluate(folder, &[]).success();

    fs::write(folder.join("t.csv"), format!("x,level\n{table}{}", row(4))).expect("one more row");
    evaluate(folder, &[])
        .code(1)
        .says(&["t.csv", "has changed since the bundle was trained", "hint: train again"]);
    fs::write(folder.join("t.csv"), format!("x,level\n{table}")).expect("as it was");
    evaluate(folder, &[]).success();
    fs::write(
        folder.join("emberline.yaml"),
        config.replace("label: level", "label: level, test_split: 0.3"),
    )
    .expect("another cut");
    evaluate(folder, &[])
        .code(1)
        .says(&["has changed since the bundle was trained"]);
}
