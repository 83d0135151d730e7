//! `emberline init` and `train`, the real binary: what is written, and that the same training gives the same model.

mod tool;

use std::fs;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tool::trained::{QUICK, bundles, json, names, project, text, train};
use tool::{Ran, emberline, run};

// ---- what is written ----

#[test]
fn training_writes_a_bundle_and_says_where() {
    let folder = project(QUICK);
    let report = train(folder.path(), &[]);
    let keys: Vec<&String> = report.as_object().expect("an object").keys().collect();
    let documented = [
        "best_epoch",
        "bundle",
        "data_digest",
        "epochs",
        "run",
        "seconds",
        "validation",
        "version",
        "weights_digest",
    ];
    assert_eq!(keys, documented);
    assert_eq!(report["epochs"], 2);
    assert!(report["seconds"].as_f64().is_some_and(|seconds| seconds > 0.0));
    assert!(
        report["validation"]["accuracy"]
            .as_f64()
            .is_some_and(|share| (0.0..=1.0).contains(&share))
    );
    assert!(report["validation"]["loss"].as_f64().is_some_and(|loss| loss > 0.0));

    let bundle = folder.path().join(text(&report, "bundle"));
    let version = text(&report, "version");
    assert!(bundle.ends_with(version) && version.len() == 12);
    assert_eq!(
        names(&bundle),
        ["bundle.json", "golden.json", "model.safetensors", "profile.json"]
    );
    assert_eq!(
        fs::read_to_string(bundles(folder.path()).join("latest")).expect("latest"),
        version
    );

    let manifest = json(&bundle.join("bundle.json"));
    assert_eq!(manifest["name"], "quick");
    assert_eq!(manifest["files"]["model.safetensors"], report["weights_digest"]);
    assert_eq!(manifest["data"]["digest"], report["data_digest"]);
    assert_eq!(manifest["training"]["best_epoch"], report["best_epoch"]);
    assert_eq!(
        manifest["metrics"]["validation_accuracy"],
        report["validation"]["accuracy"]
    );
    assert_eq!(manifest["source_revision"], Value::Null, "no repository");

    let run = folder.path().join(text(&report, "run"));
    assert_eq!(json(&run.join("run.json")), report);
    let metrics = fs::read_to_string(run.join("metrics.jsonl")).expect("metrics");
    let epochs: Vec<Value> = metrics
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(
        epochs.iter().map(|epoch| epoch["epoch"].clone()).collect::<Vec<_>>(),
        [1, 2]
    );
    let best = report["best_epoch"].as_u64().expect("number") as usize - 1;
    assert_eq!(epochs[best]["validation_accuracy"], report["validation"]["accuracy"]);
}

#[test]
fn the_same_training_gives_the_same_model() {
    let (here, there) = (project(QUICK), project(QUICK));
    let first = train(here.path(), &[]);
    let again = train(here.path(), &[]);
    let elsewhere = train(there.path(), &[]);
    for other in [&again, &elsewhere] {
        assert_eq!(first["weights_digest"], other["weights_digest"]);
        assert_eq!(first["version"], other["version"]);
        assert_eq!(first["data_digest"], other["data_digest"]);
    }
    assert_ne!(first["run"], again["run"], "each run keeps its metrics");
    let seeded = train(here.path(), &["--seed", "43"]);
    assert_ne!(first["weights_digest"], seeded["weights_digest"]);
    assert_ne!(first["version"], seeded["version"]);
    assert_ne!(
        first["data_digest"], seeded["data_digest"],
        "the digits are drawn with the seed"
    );
    assert_eq!(names(&bundles(here.path())).len(), 3, "two bundles and `latest`");
}

#[test]
fn trainings_at_the_same_time_do_not_meet() {
    let folder = project(QUICK);
    let started: Vec<Child> = (0..4)
        .map(|seed| {
            emberline(folder.path(), &["train", "-o", "json", "--seed", &seed.to_string()])
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .expect("runs")
        })
        .collect();
    let mut runs: Vec<String> = started
        .into_iter()
        .map(|child| Ran::from(child.wait_with_output().expect("its end")).success().json())
        .map(|report| text(&report, "run").to_owned())
        .collect();
    runs.sort();
    runs.dedup();
    assert_eq!(runs.len(), 4, "{runs:?}");
    run(folder.path(), &["evaluate"]).success();
}

#[test]
fn a_small_cnn_learns_too() {
    let folder = project(
        "name: quick\ndata: {source: synthetic-digits, count: 300, test_count: 100}\ntrain: {epochs: 1}\n\
         model: {kind: cnn, filters: [2, 4], hidden: [8]}\n",
    );
    let own = train(folder.path(), &["--model", "cnn"]);
    let manifest = json(&folder.path().join(text(&own, "bundle")).join("bundle.json"));
    assert_eq!(
        manifest["architecture"]["model"]["filters"],
        serde_json::json!([2, 4]),
        "{manifest}"
    );
    run(folder.path(), &["evaluate"]).success();
    // Another kind than the project's takes its default sizes.
    let other = train(folder.path(), &["--model", "mlp"]);
    let manifest = json(&folder.path().join(text(&other, "bundle")).join("bundle.json"));
    assert_eq!(
        manifest["architecture"]["model"]["hidden"],
        serde_json::json!([64, 64]),
        "{manifest}"
    );
}

#[test]
fn a_device_that_this_build_has_not_is_refused_before_any_data_is_read() {
    let folder = project(QUICK);
    let ran = run(folder.path(), &["train", "--device", "wgpu"]);
    if ran.stderr.contains("has no device") {
        ran.code(1).says(&[
            "no device `wgpu`",
            "hint: build it with `cargo build --release --features wgpu`",
        ]);
        assert!(!folder.path().join(".emberline").exists());
    } else {
        panic!("this test is for a build without the feature `wgpu`: {}", ran.stderr);
    }
}

#[test]
fn what_is_not_read_is_told() {
    let folder = project(QUICK);
    let ran = run(folder.path(), &["train", "--data-dir", "elsewhere"]).success();
    assert!(
        ran.stderr.contains("warning: `elsewhere` is not read"),
        "{}",
        ran.stderr
    );
}

#[test]
fn the_source_revision_is_recorded() {
    let folder = project(QUICK);
    let git = |arguments: &[&str]| {
        let identity = ["-c", "user.name=t", "-c", "user.email=t@example.com"];
        let output = Command::new("git")
            .args(identity)
            .args(arguments)
            .current_dir(folder.path())
            .output();
        let output = output.expect("git runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text").trim().to_owned()
    };
    git(&["init", "-q"]);
    fs::write(folder.path().join(".gitignore"), ".emberline/\n").expect("file");
    git(&["add", "."]);
    git(&["commit", "-q", "-m", "project"]);
    let revision = git(&["rev-parse", "HEAD"]);
    let recorded = || {
        let report = train(folder.path(), &[]);
        let manifest = json(&folder.path().join(text(&report, "bundle")).join("bundle.json"));
        text(&manifest, "source_revision").to_owned()
    };
    assert_eq!(recorded(), revision);
    fs::write(folder.path().join("more"), "").expect("file");
    assert_eq!(recorded(), format!("{revision}-dirty"));
}

// ---- init ----

#[test]
fn what_init_writes_trains() {
    let folder = tempfile::tempdir().expect("folder");
    let here = folder.path();
    let report = run(here, &["init", "deep/penguins", "--template", "tabular", "-o", "json"])
        .success()
        .json();
    assert_eq!(report["name"], "penguins");
    let files: Vec<&str> = report["files"]
        .as_array()
        .expect("list")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    assert!(
        files.iter().all(|file| here.join("deep/penguins").join(file).exists()),
        "{files:?}"
    );
    assert_eq!(train(here, &["deep/penguins", "--epochs", "1"])["epochs"], 1);

    run(here, &["init", "digits"]).success();
    let config = here.join("digits/emberline.yaml");
    let text = fs::read_to_string(&config).expect("project");
    let fewer = text.replace(
        "source: synthetic-digits",
        "source: synthetic-digits\n  count: 600\n  test_count: 200",
    );
    fs::write(&config, fewer).expect("project");
    train(here, &["digits", "--epochs", "1"]);
    // Far too little training for its gate, but every slice is there and measured.
    let evaluated = run(here, &["evaluate", "digits", "-o", "json"]).code(3).json();
    assert_eq!(evaluated["slices"]["real"]["samples"], 1000);
}

#[test]
fn init_takes_the_name_of_the_folder_that_it_is_called_in() {
    let folder = tempfile::tempdir().expect("folder");
    let here = folder.path().join("my-model");
    fs::create_dir(&here).expect("folder");
    assert_eq!(
        run(&here, &["init", ".", "-o", "json"]).success().json()["name"],
        "my-model"
    );
    let config = fs::read_to_string(here.join("emberline.yaml")).expect("project");
    assert!(config.contains("name: \"my-model\""), "{config}");
}

#[test]
fn init_overwrites_nothing_and_names_nothing_badly() {
    let folder = tempfile::tempdir().expect("folder");
    let here = folder.path();
    fs::create_dir(here.join("taken")).expect("folder");
    fs::write(here.join("taken/emberline.yaml"), "mine").expect("file");
    run(here, &["init", "taken"])
        .code(1)
        .says(&["taken/emberline.yaml` is there already", "hint: "]);
    assert_eq!(
        fs::read_to_string(here.join("taken/emberline.yaml")).expect("file"),
        "mine"
    );
    assert_eq!(names(&here.join("taken")), ["emberline.yaml"]);
    for name in ["Digits", "1st", "a_b", "ends-", "a b", &"x".repeat(41)] {
        run(here, &["init", name])
            .code(1)
            .says(&[&format!("`name` is `{name}`"), "hint: "]);
    }
    assert_eq!(names(here), ["taken"]);
}
