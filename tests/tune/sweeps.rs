//! Sweeps that come to their end: what is tried, how it is ranked, what fails, and what is refused.

use std::fs;

use serde_json::{Value, json};

use crate::setup::{latest, quick, trials, tune};
use crate::tool::run;
use crate::tool::trained::{bundles, json as read_json, names, project, text, train};

const GRID: &str = "tune: {learning_rate: [0.001, 0.01], hidden: [[16], [32, 16]]}\nevaluate: {gate: {accuracy: 0.01}}";

fn keys(value: &Value) -> Vec<&str> {
    value
        .as_object()
        .expect("an object")
        .keys()
        .map(String::as_str)
        .collect()
}

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
