//! `emberline.yaml`: its reference is complete and true, the examples load, and every mistake is told where it is.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use emberline::problem::Problem;
use emberline::project::{self, Config, Project};
use serde_json::Value;
use tempfile::TempDir;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn reference() -> String {
    fs::read_to_string(root().join("docs/reference/emberline.yaml")).expect("the reference")
}

/// A project with these files: `emberline.yaml` first, then `emberline.staging.yaml`.
fn project(files: &[&str]) -> TempDir {
    let folder = tempfile::tempdir().expect("folder");
    for (name, text) in ["emberline.yaml", "emberline.staging.yaml"].iter().zip(files) {
        fs::write(folder.path().join(name), text).expect("file");
    }
    folder
}

fn load(text: &str) -> anyhow::Result<Project> {
    project::load(project(&[text]).path(), None)
}

/// The error of these files, without the folder that they are in.
fn error(files: &[&str]) -> (String, Option<String>) {
    let folder = project(files);
    let destination = (files.len() > 1).then_some("staging");
    let error = project::load(folder.path(), destination).expect_err("a mistake");
    let problem = error.downcast_ref::<Problem>().expect("a problem");
    let message = problem
        .to_string()
        .replace(&format!("{}/", folder.path().display()), "");
    (message, problem.hint_text().map(str::to_owned))
}

/// A project file that is right but for what is added to it.
fn with(more: &str) -> String {
    format!("name: d\ndata: {{source: synthetic-digits}}\n{more}")
}

// ---- the reference ----

/// The reference with its commented-out keys as keys: `# key: value`, where the value is one word or a list, and `# key:`
/// with such keys below it.
fn uncommented() -> String {
    let mut text = String::new();
    for line in reference().lines() {
        let comment = line.trim_start().strip_prefix("# ").unwrap_or_default();
        let (key, value) = comment
            .trim_start()
            .split_once(':')
            .map(|(key, value)| (key, value.trim_start()))
            .unwrap_or_default();
        let is_key = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        let is_value = value.starts_with(['[', '{']) || !value.contains(' ');
        if is_key && is_value {
            text.push_str(&" ".repeat(line.len() - line.trim_start().len()));
            text.push_str(comment);
        } else {
            text.push_str(line);
        }
        text.push('\n');
    }
    text
}

/// The path of each key: `train.epochs`. What is in a list is not looked at.
fn keys(value: &Value, at: &str, found: &mut BTreeSet<String>) {
    if let Value::Object(map) = value {
        for (key, value) in map {
            let path = if at.is_empty() {
                key.clone()
            } else {
                format!("{at}.{key}")
            };
            keys(value, &path, found);
            found.insert(path);
        }
    }
}

#[test]
fn the_reference_loads() {
    let folder = project(&[&reference()]);
    let loaded = project::load(folder.path(), None)
        .expect("the reference is a project")
        .config;
    assert_eq!(loaded.name, "digits");
    assert_eq!(loaded.evaluate.gate.slices["real"], 0.85);
}

#[test]
fn the_reference_explains_every_key_and_no_other() {
    let text = uncommented();
    let typed: Config = serde_saphyr::from_str(&text).expect("every commented-out key is a key");
    let written: Value = serde_saphyr::from_str(&text).expect("YAML");
    let (mut known, mut explained) = (BTreeSet::new(), BTreeSet::new());
    keys(&serde_json::to_value(typed).expect("JSON"), "", &mut known);
    keys(&written, "", &mut explained);
    assert!(
        explained.contains("data.test_labels"),
        "nothing was uncommented:\n{text}"
    );
    let missing: Vec<_> = known.difference(&explained).collect();
    assert!(
        missing.is_empty(),
        "docs/reference/emberline.yaml does not explain {missing:?}"
    );
}

#[test]
fn the_reference_shows_the_defaults() {
    // What is not an example there is what happens without it.
    let shown: Config = serde_saphyr::from_str(&reference()).expect("the reference");
    let default = load(&with("")).expect("a project").config;
    assert_eq!(shown.preprocess, default.preprocess);
    assert_eq!(shown.train, default.train);
    assert_eq!(shown.tune.strategy, default.tune.strategy);
    assert_eq!(
        (shown.tune.memory, shown.tune.cpu),
        (default.tune.memory, default.tune.cpu)
    );
    assert_eq!(shown.deploy, default.deploy);
    assert_eq!(shown.gateway, default.gateway);
    assert_eq!(shown.package.builder, default.package.builder);
    assert_eq!(shown.package.output, default.package.output);
    let resolve = |config: &Config| config.model.resolve().expect("a network");
    assert_eq!(resolve(&shown), resolve(&default));
}

#[test]
fn the_examples_load() {
    let mut count = 0;
    for entry in fs::read_dir(root().join("examples")).expect("examples").flatten() {
        if entry.path().join(project::FILE).exists() {
            let loaded = project::load(&entry.path(), None).expect("an example");
            assert_eq!(loaded.config.name, entry.file_name().to_string_lossy());
            count += 1;
        }
    }
    assert!(count >= 3, "{count} examples");
}

// ---- mistakes ----

#[test]
fn an_unknown_key_is_shown_with_the_nearest_one() {
    let (message, hint) = error(&[&with("trian: {epochs: 3}\n")]);
    assert_eq!(
        message,
        "emberline.yaml:3:1: unknown key `trian`, expected one of name, data, preprocess, model, train, evaluate, \
         package, deploy, gateway\n  |\n  | trian: {epochs: 3}\n  | ^"
    );
    assert_eq!(hint.as_deref(), Some("did you mean `train`?"));

    let (message, hint) = error(&[&with("train:\n  epoch: 3\n")]);
    assert!(
        message.starts_with("emberline.yaml:4:3: unknown key `epoch`"),
        "{message}"
    );
    assert_eq!(hint.as_deref(), Some("did you mean `epochs`?"));

    let (message, hint) = error(&[&with("zzz: 1\n")]);
    assert!(
        message.starts_with("emberline.yaml:3:1: unknown key `zzz`"),
        "{message}"
    );
    assert_eq!(hint, None, "nothing is like it");
}

#[test]
fn an_unknown_value_is_shown_with_the_nearest_one() {
    let (message, hint) = error(&["name: d\ndata:\n  source: synthetic-digit\n"]);
    assert_eq!(
        message,
        "emberline.yaml:3:11: unknown value `synthetic-digit`, expected one of synthetic-digits, mnist, idx, csv\n  \
         |\n  |   source: synthetic-digit\n  |           ^"
    );
    assert_eq!(hint.as_deref(), Some("did you mean `synthetic-digits`?"));
}

#[test]
fn a_wrong_type_is_told_in_words_at_its_place() {
    let message = |more: &str| {
        let (message, _) = error(&[&with(more)]);
        message.lines().next().unwrap_or_default().to_owned()
    };
    for (more, expected) in [
        ("train: {epochs: many}", "3:17: expected a whole number, 0 or more"),
        ("train: {epochs: -3}", "3:17: expected a whole number, 0 or more"),
        ("train: {epochs: 1.5}", "3:17: expected a whole number, 0 or more"),
        ("train: {learning_rate: fast}", "3:24: expected a number"),
        ("train: {learning_rate: .nan}", "3:24: `.nan` is no finite number"),
        ("train:\n  - epochs: 1", "4:3: expected keys with values, `key: value`"),
        ("deploy: {port: 99999}", "3:16: expected a whole number from 0 to 65535"),
        ("model: {hidden: 64}", "3:17: expected a list, `[a, b]`"),
        (
            "model: {kind: cnn, filters: [1, 2, 3]}",
            "3:20: 3 values, expected a list of 2",
        ),
        ("name: e", "3:1: key `name` is there twice"),
        ("train: {epochs: 1, epochs: 2}", "3:20: key `epochs` is there twice"),
        (
            "---\nname: e",
            "4:1: a second document begins here, and a project has one",
        ),
        ("model: {hidden: [64}", "3:"),
    ] {
        let message = message(more);
        assert!(
            message.starts_with(&format!("emberline.yaml:{expected}")),
            "{more}: {message}"
        );
    }
    let alias = "train: &a {learning_rate: 1}\nmodel: *a";
    assert!(
        message(alias).contains("unknown key `learning_rate`"),
        "{}",
        message(alias)
    );
}

#[test]
fn a_file_with_nothing_in_it_misses_its_name() {
    for nothing in ["", "\n", "# name: d\n", "---\n"] {
        assert_eq!(error(&[nothing]).0, "emberline.yaml: `name` is missing");
    }
    for other in ["- a\n- b\n", "hello\n", "3\n"] {
        assert_eq!(
            error(&[other]).0,
            "emberline.yaml: expected keys with values, `key: value`"
        );
    }
    assert!(
        error(&["name: d\n"])
            .0
            .starts_with("emberline.yaml: `data.source` is missing")
    );
}

#[test]
fn a_section_with_nothing_in_it_is_as_by_default() {
    let sections = "preprocess:\nmodel:\ntrain:\n  # epochs: 3\nevaluate:\n  gate:\n  slices:\npackage:\ndeploy:\n";
    assert_eq!(
        load(&with(sections)).expect("a project").config,
        load(&with("")).expect("a project").config
    );
}

#[test]
fn a_name_that_looks_like_a_number_is_a_name() {
    let text = "name: d\ndata: {source: csv, file: t.csv, label: 2020, ignore: [1, yes]}\n";
    let data = load(text).expect("a project").config.data;
    assert_eq!(data.label.as_deref(), Some("2020"));
    assert_eq!(data.ignore, Some(vec!["1".into(), "yes".into()]));
}

#[test]
fn what_no_single_key_can_get_wrong_is_checked() {
    for (text, expected) in [
        (
            with("model: {filters: [1, 2]}"),
            "`model.filters` is read by `kind: cnn` only, and this is a `mlp`",
        ),
        (
            with("model: {kind: cnn, hidden: [1, 2]}"),
            "`model.hidden` has 2 sizes, and a `cnn` has one hidden layer",
        ),
        (
            with("model: {hidden: [8, 0]}"),
            "`model.hidden` has a size of 0, and takes 1 or more",
        ),
        (
            with("model: {kind: cnn, filters: [0, 2]}"),
            "`model.filters` has a size of 0, and takes 1 or more",
        ),
        (with("model: {dropout: 1}"), "`model.dropout` is `1`"),
        (with("train: {epochs: 0}"), "`train.epochs` is 0"),
        (with("train: {batch_size: 0}"), "`train.batch_size` is 0"),
        (with("train: {learning_rate: 0}"), "`train.learning_rate` is `0`"),
        (with("train: {validation_split: 1}"), "`train.validation_split` is `1`"),
        (with("deploy: {replicas: 0}"), "`deploy.replicas` is 0"),
        (
            with("deploy: {ingress: {class: nginx}}"),
            "`deploy.ingress.hosts` is missing",
        ),
        (
            with("deploy: {ingress: {hosts: [d.example.com], path: /d/}}"),
            "`deploy.ingress.path` is `/d/`, and the server answers at `/`",
        ),
        (
            with("deploy: {ingress: {hosts: [d.example.com], path: d}}"),
            "`deploy.ingress.path` is `d`, and must begin with `/`",
        ),
        (
            with("deploy: {http_route: {hostnames: [d.example.com]}}"),
            "`deploy.http_route.gateway` is missing",
        ),
        (
            with("deploy: {http_route: {gateway: public, path: d}}"),
            "`deploy.http_route.path` is `d`, and must begin with `/`",
        ),
        (
            with("evaluate: {gate: {accuracy: 95}}"),
            "`evaluate.gate` asks for `accuracy: 95`",
        ),
        (
            with("evaluate: {gate: {loss: -1}}"),
            "`evaluate.gate` asks for `loss: -1`",
        ),
        (
            with("evaluate: {gate: {slices: {real: 0.9}}}"),
            "`evaluate.gate.slices.real` is a threshold for a slice",
        ),
        (
            with("evaluate: {slices: [{data: {source: mnist}}]}"),
            "`evaluate.slices[0].name` is missing",
        ),
        (
            with("evaluate: {slices: [{name: a}]}"),
            "`evaluate.slices[0].data.source` is missing",
        ),
        (
            with("evaluate: {slices: [{name: a, data: {source: mnist}}, {name: a, data: {source: mnist}}]}"),
            "`evaluate.slices` has two slices named `a`",
        ),
        (
            "name: D\ndata: {source: mnist}".into(),
            "`name` is `D`, and takes up to 40 lower-case letters",
        ),
        (
            "name: d\ndata: {source: mnist, count: 5}".into(),
            "`data.count` is read by source `synthetic-digits` only",
        ),
        (
            "name: d\ndata: {source: synthetic-digits, count: 0}".into(),
            "`data.count` is 0",
        ),
        (
            "name: d\ndata: {source: idx, images: i}".into(),
            "`data.labels` is missing: source `idx` needs it",
        ),
        (
            "name: d\ndata: {source: csv, file: f}".into(),
            "`data.label` is missing: source `csv` needs it",
        ),
        (
            "name: d\ndata: {source: idx, images: i, labels: l, test_images: t}".into(),
            "`data.test_images` and `data.test_labels` go together",
        ),
        (
            "name: d\ndata: {source: csv, file: f, label: l, test_file: t, test_split: 0.5}".into(),
            "`data.test_split` has nothing to split",
        ),
        (
            "name: d\ndata: {source: mnist, test_split: 0.5}".into(),
            "`data.test_split` has nothing to split",
        ),
        (
            "name: d\ndata: {source: csv, file: f, label: l, test_split: 1}".into(),
            "`data.test_split` is `1`",
        ),
    ] {
        let (message, _) = error(&[&text]);
        assert!(
            message.starts_with(&format!("emberline.yaml: {expected}")),
            "{text}: {message}"
        );
    }
}

#[test]
fn what_cannot_be_read_is_named() {
    let folder = tempfile::tempdir().expect("folder");
    let error = project::load(folder.path(), None).expect_err("no file");
    let problem = error.downcast_ref::<Problem>().expect("a problem");
    assert!(problem.to_string().starts_with("no `emberline.yaml` in `"), "{problem}");
    assert!(
        problem.hint_text().is_some_and(|hint| hint.contains("emberline init")),
        "{problem}"
    );

    fs::write(folder.path().join("emberline.yaml"), b"name: \xff\n").expect("file");
    let error = project::load(folder.path(), None).expect_err("no text");
    assert!(error.to_string().contains("emberline.yaml`: "), "{error}");
}

#[test]
fn the_file_itself_may_be_given() {
    let folder = project(&[&with("")]);
    let loaded = project::load(&folder.path().join("emberline.yaml"), None).expect("a project");
    assert_eq!(loaded.folder, folder.path());
    assert_eq!(loaded.path(Path::new("x")), folder.path().join("x"));
}

// ---- overlays ----

#[test]
fn an_overlay_is_laid_over_key_by_key() {
    let base = with(
        "model: {hidden: [8, 8], dropout: 0.5}\ntrain: {epochs: 3, seed: 1}\npackage: {repository: here}\n\
         evaluate:\n  slices: [{name: a, data: {source: mnist}}, {name: b, data: {source: mnist}}]\n  \
         gate: {accuracy: 0.5, loss: 1, slices: {a: 0.5, b: 0.5}}\n",
    );
    let overlay = "model: {hidden: [4]}\ntrain: {epochs: 5}\npackage: {repository: null}\ndeploy:\n\
                   evaluate: {gate: {accuracy: 0.9, slices: {a: 0.75}}}\n";
    let folder = project(&[&base, overlay]);
    let config = project::load(folder.path(), Some("staging")).expect("a project").config;
    assert_eq!(config.train.epochs, 5);
    assert_eq!(config.train.seed, 1, "the base's, not the default");
    assert_eq!(config.model.hidden, Some(vec![4]), "a list is replaced as a whole");
    assert_eq!(config.model.dropout, Some(0.5));
    assert_eq!(config.package.repository, None, "null takes a value back");
    assert_eq!(config.evaluate.gate.accuracy, Some(0.9));
    assert_eq!(config.evaluate.gate.loss, Some(1.0));
    assert_eq!(config.evaluate.gate.slices["a"], 0.75);
    assert_eq!(config.evaluate.gate.slices["b"], 0.5);
    assert_eq!(config.evaluate.slices.len(), 2);
    // Without -d the overlay is not read.
    assert_eq!(
        project::load(folder.path(), None)
            .expect("a project")
            .config
            .train
            .epochs,
        3
    );
}

#[test]
fn an_overlay_may_be_empty() {
    let folder = project(&[&with("train: {epochs: 3}"), "# nothing differs\n"]);
    assert_eq!(
        project::load(folder.path(), Some("staging"))
            .expect("a project")
            .config
            .train
            .epochs,
        3
    );
}

#[test]
fn a_mistake_in_an_overlay_is_told_at_its_own_line() {
    let (message, hint) = error(&[&with(""), "deploy:\n  replica: 2\n"]);
    assert!(
        message.starts_with("emberline.staging.yaml:2:3: unknown key `replica`"),
        "{message}"
    );
    assert!(message.contains("  |   replica: 2"), "{message}");
    assert_eq!(hint.as_deref(), Some("did you mean `replicas`?"));
    // Each is right alone, and together they are not.
    let (message, _) = error(&[&with("model: {hidden: [8, 8]}"), "model: {kind: cnn}\n"]);
    assert_eq!(
        message,
        "emberline.yaml with emberline.staging.yaml: `model.hidden` has 2 sizes, and a `cnn` has one hidden layer"
    );
}

#[test]
fn a_missing_overlay_is_named() {
    let folder = project(&[&with("")]);
    let error = project::load(folder.path(), Some("production")).expect_err("no overlay");
    assert!(
        error
            .to_string()
            .contains("emberline.production.yaml` for destination `production`"),
        "{error}"
    );
}
