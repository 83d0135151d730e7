//! `emberline tune` on this machine: what is tried, how it is ranked, what fails, and what an end in the middle leaves. The
//! cluster is in tests/kubernetes.

mod fixture;
mod tool;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use emberline::bundle::Store;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tool::trained::{bundles, json as read_json, names, project, text, train};
use tool::{emberline, run};

/// A project whose trials take a moment each.
fn quick(more: &str) -> String {
    format!(
        "name: quick\ndata: {{source: synthetic-digits, count: 600, test_count: 200}}\ntrain: {{epochs: 1}}\n{more}\n"
    )
}

const GRID: &str = "tune: {learning_rate: [0.001, 0.01], hidden: [[16], [32, 16]]}\nevaluate: {gate: {accuracy: 0.01}}";

fn tune(folder: &Path, arguments: &[&str]) -> Value {
    run(folder, &[&["tune", "-o", "json"], arguments].concat())
        .success()
        .json()
}

fn trials(report: &Value) -> &Vec<Value> {
    report["trials"].as_array().expect("trials")
}

fn latest(folder: &Path) -> String {
    fs::read_to_string(bundles(folder).join("latest")).expect("latest")
}

fn keys(value: &Value) -> Vec<&str> {
    value
        .as_object()
        .expect("an object")
        .keys()
        .map(String::as_str)
        .collect()
}

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

// ---- what it gives ----

#[test]
fn a_grid_is_ranked_and_the_best_is_the_newest() {
    let folder = project(&quick(GRID));
    let here = folder.path();
    let report = tune(here, &[]);
    assert_eq!(
        keys(&report),
        [
            "best", "failed", "metric", "results", "seconds", "sweep", "target", "trained", "trials"
        ]
    );
    assert_eq!(
        (&report["metric"], &report["target"]),
        (&json!("accuracy"), &json!("local"))
    );
    assert_eq!((&report["trained"], &report["failed"]), (&json!(4), &json!(0)));
    let all = trials(&report);
    assert_eq!(
        keys(&all[0]),
        [
            "bundle",
            "index",
            "log",
            "outcome",
            "parameters",
            "place",
            "rank",
            "reason",
            "reused",
            "seconds",
            "settings",
            "trial",
            "validation",
            "version"
        ]
    );
    assert_eq!(all[1]["settings"], json!({ "hidden": [16], "learning_rate": 0.01 }));
    assert_eq!(
        all[2]["settings"],
        json!({ "hidden": [32, 16], "learning_rate": 0.001 })
    );
    assert_eq!(all[0]["parameters"], 784 * 16 + 16 + 16 * 10 + 10);

    let mut ranked: Vec<&Value> = all.iter().collect();
    ranked.sort_by_key(|trial| trial["rank"].as_u64());
    let accuracies: Vec<f64> = ranked
        .iter()
        .map(|trial| trial["validation"]["accuracy"].as_f64().expect("a number"))
        .collect();
    assert!(accuracies.is_sorted_by(|a, b| a >= b), "{accuracies:?}");
    assert!(accuracies[0] > accuracies[3], "nothing was told apart: {accuracies:?}");

    let best = &report["best"];
    assert_eq!(
        keys(best),
        ["bundle", "evaluation", "index", "settings", "validation", "version"]
    );
    assert_eq!(keys(&best["evaluation"]), ["accuracy", "loss", "samples", "verdict"]);
    assert_eq!(
        (&best["index"], &best["version"]),
        (&ranked[0]["index"], &ranked[0]["version"])
    );
    assert_eq!(best["evaluation"]["samples"], 200);
    assert_eq!(latest(here), text(best, "version"));
    // The test set was for the best one alone, and what it gave travels with it.
    let evaluations: Vec<String> = names(&bundles(here))
        .into_iter()
        .filter(|name| name.ends_with(".evaluation.json"))
        .collect();
    assert_eq!(evaluations, [format!("{}.evaluation.json", text(best, "version"))]);
    assert_eq!(read_json(&here.join(text(&report, "results"))), report);

    // A trial is what `train` does, bundle for bundle.
    let same = project(&quick("model: {hidden: [32, 16]}"));
    let config = fs::read_to_string(same.path().join("emberline.yaml")).expect("a project");
    fs::write(
        same.path().join("emberline.yaml"),
        config.replace("epochs: 1", "epochs: 1, learning_rate: 0.01"),
    )
    .expect("a project");
    assert_eq!(train(same.path(), &[])["version"], all[3]["version"]);
}

#[test]
fn nothing_is_trained_twice() {
    let folder = project(&quick(GRID));
    let here = folder.path();
    let first = tune(here, &[]);
    let again = tune(here, &["--parallel", "1"]);
    assert_eq!(again["trained"], 0);
    assert!(trials(&again).iter().all(|trial| trial["reused"] == true));
    assert_eq!(again["sweep"], first["sweep"]);
    assert_eq!(again["best"]["version"], first["best"]["version"]);

    // The gate names another metric: another order of the same bundles.
    let config = quick(&GRID.replace("accuracy: 0.01", "loss: 9"));
    fs::write(here.join("emberline.yaml"), config).expect("a project");
    let by_loss = tune(here, &[]);
    assert_eq!((&by_loss["metric"], &by_loss["trained"]), (&json!("loss"), &json!(0)));
    let loss = |trial: &Value| trial["validation"]["loss"].as_f64().expect("a number");
    let least = trials(&by_loss)
        .iter()
        .min_by(|a, b| loss(a).total_cmp(&loss(b)))
        .expect("a trial");
    assert_eq!(by_loss["best"]["version"], least["version"]);

    // A longer list costs what is new in it.
    let config = quick(&GRID.replace("[0.001, 0.01]", "[0.001, 0.01, 0.1]"));
    fs::write(here.join("emberline.yaml"), config).expect("a project");
    let longer = tune(here, &[]);
    assert_eq!((&longer["trained"], trials(&longer).len()), (&json!(2), 6));
    assert_ne!(longer["sweep"], first["sweep"]);

    // A bundle that is gone is trained again.
    let gone = text(&trials(&longer)[0], "version").to_owned();
    fs::remove_dir_all(bundles(here).join(&gone)).expect("removed");
    let back = tune(here, &[]);
    assert_eq!(back["trained"], 1);
    assert_eq!(trials(&back)[0]["version"], gone);

    // Other data are other trials.
    let config = quick(GRID).replace("count: 600", "count: 610");
    fs::write(here.join("emberline.yaml"), config).expect("a project");
    assert_eq!(tune(here, &[])["trained"], 4);
}

#[test]
fn draws_are_repeatable_and_a_larger_one_goes_on() {
    let folder = project(&quick(
        "tune: {learning_rate: [0.001, 0.01, 0.1], batch_size: [32, 64, 128]}",
    ));
    let here = folder.path();
    let settings =
        |report: &Value| -> Vec<Value> { trials(report).iter().map(|trial| trial["settings"].clone()).collect() };
    let two = tune(here, &["--trials", "2", "--seed", "5"]);
    assert_eq!((settings(&two).len(), &two["trained"]), (2, &json!(2)));
    let three = tune(here, &["--trials", "3", "--seed", "5"]);
    assert_eq!(settings(&three)[..2], settings(&two));
    assert_eq!(three["trained"], 1);
    // The seed is that of the trainings as well.
    let bundle = here.join(text(&trials(&two)[0], "bundle"));
    assert_eq!(read_json(&bundle.join("bundle.json"))["training"]["seed"], 5);
}

// ---- what fails ----

#[test]
fn a_trial_that_fails_does_not_end_the_sweep() {
    let folder = project(&quick("tune: {hidden: [[20000, 6000], [8]]}"));
    let here = folder.path();
    let ran = run(here, &["tune", "-o", "json"]).code(1);
    for words in [
        "warning: trial 1 of 2 (hidden [20000, 6000]) failed: this network cannot be built",
        "error: 1 of 2 trials failed: the newest bundle stays as it was",
        "--allow-failed",
    ] {
        assert!(ran.stderr.contains(words), "no `{words}` in:\n{}", ran.stderr);
    }
    let report = ran.json();
    let [failed, done] = &trials(&report)[..] else {
        panic!("{report}")
    };
    assert_eq!((&failed["outcome"], &failed["rank"]), (&json!("failed"), &Value::Null));
    assert!(text(failed, "reason").contains("135766010 weights"), "{failed}");
    assert!(failed["log"].to_string().contains("cannot be built"), "{failed}");
    assert_eq!((&done["outcome"], &done["rank"]), (&json!("done"), &json!(1)));
    assert_eq!(report["best"], Value::Null);
    assert!(!bundles(here).join("latest").exists());
    let table = run(here, &["tune"]).code(1).stdout;
    assert!(
        table.contains("trial 1 failed: this network cannot be built"),
        "{table}"
    );

    let chosen = tune(here, &["--allow-failed"]);
    assert_eq!((&chosen["trained"], &chosen["failed"]), (&json!(0), &json!(1)));
    assert_eq!(latest(here), text(done, "version"));
}

#[test]
fn a_best_trial_that_misses_the_gate_ends_with_3() {
    let folder = project(&quick("tune: {seed: [1, 2]}\nevaluate: {gate: {accuracy: 0.999}}"));
    let ran = run(folder.path(), &["tune", "-o", "json"]).code(3);
    assert!(ran.stderr.contains("gate failed: `accuracy` is"), "{}", ran.stderr);
    let report = ran.json();
    assert_eq!(report["best"]["evaluation"]["verdict"], "fail");
    // It is the best there is all the same, and `package` refuses it.
    assert_eq!(latest(folder.path()), text(&report["best"], "version"));
}

#[test]
fn spaces_and_flags_that_cannot_be_tried_are_refused() {
    for (more, arguments, code, words) in [
        (
            "",
            &[][..],
            1,
            &["no `tune` section", "hint: add one to emberline.yaml"][..],
        ),
        ("tune: {strategy: grid}", &[], 1, &["no `tune` section"]),
        (
            "tune: {learning_rates: [1]}",
            &[],
            1,
            &["unknown key `learning_rates`", "hint: did you mean `learning_rate`?"],
        ),
        (
            "tune: {strategy: gird}",
            &[],
            1,
            &["unknown value `gird`", "did you mean `grid`?"],
        ),
        ("tune: {learning_rate: 0.1}", &[], 1, &["expected a list"]),
        ("tune: {seed: []}", &[], 1, &["`tune.seed` is an empty list"]),
        ("tune: {dropout: [0.5, 1.5]}", &[], 1, &["`tune.dropout` lists `1.5`"]),
        (
            "tune: {kind: [mlp, cnn], hidden: [[8, 8]]}",
            &[],
            1,
            &["{hidden: [8, 8], kind: cnn}: `model.hidden` has 2 sizes"],
        ),
        ("tune: {seed: [1, 2]}", &["--trials", "0"], 2, &["'--trials <"]),
        ("tune: {seed: [1, 2]}", &["--parallel", "0"], 2, &["'--parallel <"]),
        (
            "tune: {seed: [1, 2]}",
            &["--trials", "3"],
            1,
            &["the lists of `tune` have 2 combinations"],
        ),
        (
            "tune: {seed: [1, 2]}",
            &["--target", "docker"],
            2,
            &["`local` or `kubernetes`"],
        ),
        (
            "tune: {seed: [1, 2]}",
            &["--cancel"],
            2,
            &["`--cancel` is about a cluster"],
        ),
        (
            "tune: {seed: [1, 2]}",
            &["--worker-image", "x:1"],
            2,
            &["`--worker-image x:1` is for the pods"],
        ),
        (
            "tune: {seed: [1, 2]}",
            &["-n", "models"],
            2,
            &["`--namespace` is about a cluster"],
        ),
        (
            "tune: {seed: [1, 2]}",
            &["--target", "kubernetes"],
            1,
            &[
                "`quick:tune` names no registry",
                "`package.repository`",
                "--worker-image",
            ],
        ),
    ] {
        let folder = project(&quick(more));
        run(folder.path(), &[&["tune"], arguments].concat())
            .code(code)
            .says(words);
        assert!(!folder.path().join(".emberline").exists(), "{more}: something was done");
    }
}

// ---- the middle ----

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

// ---- what comes from elsewhere ----

/// A bundle's files by their names.
type Files = BTreeMap<String, Vec<u8>>;

#[test]
fn a_bundle_that_was_changed_on_its_way_is_not_taken_in() {
    let (there, here) = (
        tempfile::tempdir().expect("a folder"),
        tempfile::tempdir().expect("a folder"),
    );
    let bundle = fixture::digits_bundle(there.path());
    let files: Files = names(&bundle)
        .into_iter()
        .map(|name| (name.clone(), fs::read(bundle.join(name)).expect("a file")))
        .collect();
    let store = Store::of_project(here.path());
    let refused = |change: &dyn Fn(&mut Files), words: &str| {
        let mut changed = files.clone();
        change(&mut changed);
        let error = format!("{:#}", store.receive(&changed).expect_err(words));
        assert!(error.contains(words), "{error}");
        assert_eq!(names(store.folder()), [] as [&str; 0]);
    };
    refused(
        &|files| files.get_mut("model.safetensors").expect("weights")[9] ^= 1,
        "was changed",
    );
    refused(&|files| drop(files.remove("golden.json")), "cannot be read");
    refused(&|files| drop(files.remove("bundle.json")), "no bundle");
    refused(
        &|files| drop(files.insert("../outside".into(), Vec::new())),
        "no file name",
    );

    let received = store.receive(&files).expect("a bundle");
    assert_eq!(
        Some(received.version()),
        bundle.file_name().and_then(|name| name.to_str())
    );
    assert!(!store.folder().join("latest").exists(), "the newest stays the newest");
}

// ---- the guide ----

#[test]
fn every_command_of_the_guide_does_what_it_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let guide = fs::read_to_string(root.join("docs/guide/tuning.md")).expect("the guide");
    let (local, _) = guide
        .split_once("\n## In a cluster\n")
        .expect("the part about this machine");
    let script: Vec<&str> = local.lines().filter_map(|line| line.strip_prefix("    ")).collect();
    assert!(script.iter().filter(|line| line.starts_with("emberline tune")).count() >= 3);
    let sections: Vec<&str> = local
        .split("```yaml\n")
        .skip(1)
        .map(|block| block.split("```").next().expect("its end"))
        .collect();
    let folder = tempfile::tempdir().expect("a folder");
    run(folder.path(), &["init", "digits"]).success();
    let here = folder.path().join("digits");
    let config = here.join("emberline.yaml");
    let whole = fs::read_to_string(&config).expect("a project");
    let mut text = whole.replace(
        "source: synthetic-digits\n",
        "source: synthetic-digits\n  count: 1500\n",
    );
    let gate = text.find("  gate:").expect("a gate");
    text.truncate(gate);
    text.push_str("  gate: {accuracy: 0.3}\n");
    fs::write(&config, [&text, sections[0]].concat()).expect("a project");

    // What is in the image is tested elsewhere.
    let runtime = folder.path().join("runtime");
    fs::write(&runtime, fixture::static_executable(fixture::X86_64)).expect("a runtime");
    let bin = Path::new(env!("CARGO_BIN_EXE_emberline")).parent().expect("a folder");
    let output = Command::new("bash")
        .args(["-euxo", "pipefail", "-c", &script.join("\n")])
        .current_dir(&here)
        .env_clear()
        .env(
            "PATH",
            format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default()),
        )
        .env("EMBERLINE_RUNTIME", &runtime)
        .output()
        .expect("bash");
    let (stdout, stderr) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{stdout}\n{stderr}");
    assert!(stdout.contains("best by validation accuracy: trial"), "{stdout}");
    // The other sections load as well.
    fs::write(&config, [&text, sections[1]].concat()).expect("a project");
    run(&here, &["tune", "--target", "docker"])
        .code(2)
        .says(&["`local` or `kubernetes`"]);
}
