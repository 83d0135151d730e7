//! What every command has in common: help, environment, exit codes, and what goes to stdout and what to stderr.
//!
//! The help of each command is held in tests/snapshots/; `EMBERLINE_UPDATE=1 cargo test` writes it anew.

mod tool;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;
use tempfile::TempDir;
use tool::{Ran, emberline, ran, run};

/// A project that trains in a moment.
fn project() -> TempDir {
    let folder = tempfile::tempdir().expect("folder");
    fs::write(
        folder.path().join("emberline.yaml"),
        "name: quick\ndata: {source: synthetic-digits, count: 300, test_count: 100}\ntrain: {epochs: 2}\n",
    )
    .expect("project");
    folder
}

/// Every command that a person sees and that does something, with the words that call it: `["ci", "init"]`.
fn commands() -> Vec<(Vec<String>, clap::Command)> {
    let mut tree = emberline::cli::command();
    tree.build();
    parts_of(&tree, &[])
}

fn parts_of(command: &clap::Command, words: &[String]) -> Vec<(Vec<String>, clap::Command)> {
    let parts = command
        .get_subcommands()
        .filter(|part| !part.is_hide_set() && part.get_name() != "help");
    parts
        .flat_map(|part| {
            let words = [words, &[part.get_name().to_owned()]].concat();
            if part.has_subcommands() {
                parts_of(part, &words)
            } else {
                vec![(words, part.clone())]
            }
        })
        .collect()
}

#[track_caller]
fn assert_snapshot(name: &str, found: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots").join(name);
    if std::env::var_os("EMBERLINE_UPDATE").is_some() {
        fs::create_dir_all(path.parent().expect("a folder")).expect("folder");
        fs::write(&path, found).expect("snapshot");
    }
    let held = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        held == found,
        "{} is not what the tool says:\n{found}\nIf that is meant: EMBERLINE_UPDATE=1 cargo test --test command_line",
        path.display()
    );
}

// ---- help ----

#[test]
fn help_is_as_it_was() {
    let here = Path::new(".");
    assert_snapshot("help.txt", &run(here, &["--help"]).success().stdout);
    for (mut words, _) in commands() {
        let name = format!("help-{}.txt", words.join("-"));
        words.push("--help".to_owned());
        assert_snapshot(&name, &run(here, &words).success().stdout);
    }
}

#[test]
fn every_command_has_an_example_that_parses() {
    for (words, command) in commands() {
        let name = words.join(" ");
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        assert!(help.contains("Example"), "`{name}` has no example");
        let lines: Vec<&str> = help.lines().filter(|line| line.starts_with("  ")).collect();
        assert!(lines.iter().any(|line| line.contains(&name)), "{help}");
        for line in lines {
            let calls = line.split(['|', '&', '$', '(', ')', '>']).map(str::trim);
            for call in calls.filter(|call| call.starts_with("emberline ")) {
                let parsed = emberline::cli::command().try_get_matches_from(call.split_whitespace());
                assert!(parsed.is_ok(), "`{call}` of `{name}`: {parsed:?}");
            }
        }
    }
}

#[test]
fn the_command_tree_is_sound() {
    emberline::cli::command().debug_assert();
}

#[test]
fn no_arguments_show_the_help() {
    let ran = run(Path::new("."), &[] as &[&str]).code(2);
    assert!(ran.stderr.contains("Usage: emberline"), "{}", ran.stderr);
    assert!(ran.stderr.contains("Example:"), "{}", ran.stderr);
}

#[test]
fn the_version_is_the_package_s() {
    let expected = format!("emberline {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(run(Path::new("."), &["--version"]).success().stdout, expected);
}

// ---- environment ----

#[test]
fn every_flag_has_its_variable() {
    for (words, command) in commands() {
        for argument in command.get_arguments() {
            let Some(long) = argument.get_long().filter(|long| !["help", "version"].contains(long)) else {
                continue;
            };
            let expected = format!("EMBERLINE_{}", long.to_uppercase().replace('-', "_"));
            let found = argument.get_env().map(|name| name.to_string_lossy().into_owned());
            assert_eq!(found, Some(expected), "--{long} of `{}`", words.join(" "));
        }
    }
}

#[test]
fn a_flag_wins_over_the_environment_and_that_over_the_file() {
    let folder = project();
    let epochs = |arguments: &[&str], variable: Option<&str>| {
        let mut command = emberline(folder.path(), &["train", "-o", "json"]);
        command
            .args(arguments)
            .envs(variable.map(|value| ("EMBERLINE_EPOCHS", value)));
        ran(&mut command).success().json()["epochs"].clone()
    };
    assert_eq!(epochs(&[], None), 2);
    assert_eq!(epochs(&[], Some("3")), 3);
    assert_eq!(epochs(&["--epochs", "1"], Some("3")), 1);
    assert_eq!(epochs(&[], Some("")), 2, "an empty variable says nothing");
}

#[test]
fn the_environment_says_what_flags_say() {
    let folder = project();
    fs::write(folder.path().join("emberline.two.yaml"), "name: other\n").expect("overlay");
    let status = ran(emberline(Path::new("."), &["train"])
        .env("EMBERLINE_PROJECT", folder.path())
        .env("EMBERLINE_DESTINATION", "two")
        .env("EMBERLINE_FORMAT", "json")
        .env("EMBERLINE_QUIET", "1"))
    .success();
    assert_eq!(status.stderr, "");
    let bundle = status.json()["bundle"].as_str().expect("a path").to_owned();
    let manifest = fs::read(Path::new(&bundle).join("bundle.json")).expect("manifest");
    assert_eq!(
        serde_json::from_slice::<Value>(&manifest).expect("JSON")["name"],
        "other"
    );
}

#[test]
fn a_switch_is_off_when_its_variable_says_no() {
    let folder = project();
    for (value, silent) in [
        ("0", false),
        ("false", false),
        ("", false),
        ("1", true),
        ("true", true),
        ("yes", true),
    ] {
        let ran = ran(emberline(folder.path(), &["train"]).env("EMBERLINE_QUIET", value)).success();
        assert_eq!(ran.stderr.is_empty(), silent, "EMBERLINE_QUIET={value}: {}", ran.stderr);
    }
}

#[test]
fn a_wrong_value_in_the_environment_is_a_usage_error() {
    let folder = project();
    let ran = ran(emberline(folder.path(), &["train"]).env("EMBERLINE_EPOCHS", "many")).code(2);
    ran.says(&["'many'", "--epochs"]);
}

// ---- exit codes ----

#[test]
fn usage_errors_end_with_2() {
    let folder = project();
    let code = |arguments: &[&str]| run(folder.path(), arguments).code(2);
    code(&["trian"]).says(&["'train'"]);
    code(&["train", "--epoch", "1"]).says(&["'--epochs'"]);
    code(&["train", "--epochs", "many"]).says(&["'many'"]);
    code(&["train", "--device", "tpu"]).says(&["cpu, wgpu, ndarray"]);
    code(&["train", "-o", "yaml"]).says(&["text, json"]);
    code(&["train", ".", "twice"]).says(&["'twice'"]);
    code(&["predict"]).says(&["<FILES>..."]);
    code(&["scale"]).says(&["--replicas"]);
    // Values that clap takes and training cannot use.
    code(&["train", "--epochs", "0"]).says(&["error: `train.epochs` is 0"]);
    assert!(!folder.path().join(".emberline").exists());
}

#[test]
fn other_errors_end_with_1_and_a_hint() {
    let folder = tempfile::tempdir().expect("folder");
    run(folder.path(), &["train"])
        .code(1)
        .says(&["error: no `emberline.yaml` in `.`", "hint: `emberline init NAME`"]);
    let folder = project();
    run(folder.path(), &["evaluate"])
        .code(1)
        .says(&["error: no bundle in `", "hint: `emberline train` makes one"]);
}

// ---- stdout and stderr ----

/// Whether `text` has escape sequences.
fn coloured(text: &str) -> bool {
    text.contains('\u{1b}')
}

fn train(folder: &Path, arguments: &[&str]) -> Ran {
    ran(emberline(folder, &["train"]).args(arguments)).success()
}

#[test]
fn json_is_one_object_on_stdout_and_nothing_else() {
    let folder = project();
    let trained = train(folder.path(), &["-o", "json"]).json();
    assert!(trained.is_object());
    let version = trained["version"].as_str().expect("version");
    let evaluated = run(folder.path(), &["evaluate", "-o", "json"]).success().json();
    assert_eq!(evaluated["version"], version);
    let made = run(folder.path(), &["init", "other", "-o", "json"]).success().json();
    assert_eq!(made["name"], "other");
}

#[test]
fn the_result_is_on_stdout_and_the_rest_on_stderr() {
    let folder = project();
    let ran = train(folder.path(), &[]);
    assert!(ran.stdout.starts_with("bundle "), "{}", ran.stdout);
    assert!(!ran.stdout.contains("epoch 1/2"), "{}", ran.stdout);
    assert!(!ran.stderr.contains("weights_digest"), "{}", ran.stderr);
    assert!(
        !coloured(&ran.stdout) && !coloured(&ran.stderr),
        "no terminal, no colour"
    );
}

#[test]
fn quiet_leaves_only_errors_on_stderr() {
    let folder = project();
    let ran = train(folder.path(), &["-q"]);
    assert_eq!(ran.stderr, "");
    assert!(ran.stdout.starts_with("bundle "));
    run(folder.path(), &["predict", "-q", "nothing.png"])
        .code(1)
        .says(&["error: "]);
}

#[test]
fn plain_progress_is_a_line_for_each_epoch() {
    let folder = project();
    // Bars that nobody can see become lines as well.
    for mode in ["plain", "auto", "tty"] {
        let ran = train(folder.path(), &["--progress", mode]);
        let epochs: Vec<&str> = ran.stderr.lines().filter(|line| line.starts_with("epoch ")).collect();
        assert_eq!(epochs.len(), 2, "{mode}: {}", ran.stderr);
        assert!(epochs[0].starts_with("epoch 1/2  loss "), "{}", epochs[0]);
    }
    assert_eq!(
        train(folder.path(), &["--progress", "quiet"])
            .stderr
            .matches("epoch ")
            .count(),
        0
    );
}

#[test]
fn json_progress_is_one_object_a_line() {
    let folder = project();
    let events = |ran: &Ran| -> Vec<Value> {
        ran.stderr
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
            .collect()
    };
    let trained = train(folder.path(), &["--progress", "json"]);
    let kinds: Vec<String> = events(&trained)
        .iter()
        .map(|event| event["event"].as_str().expect("a kind").to_owned())
        .collect();
    assert_eq!(kinds, ["drawing", "drawing", "started", "epoch", "epoch"]);
    let epoch = &events(&trained)[3];
    assert_eq!(epoch["epoch"], 1);
    assert!(epoch["validation_loss"].is_f64(), "{epoch}");

    let failed = run(folder.path(), &["predict", "nothing.png", "--progress", "json"]).code(1);
    let [error] = &events(&failed)[..] else {
        panic!("{}", failed.stderr);
    };
    assert_eq!(error["event"], "error");
    assert!(
        error["message"]
            .as_str()
            .is_some_and(|message| message.contains("nothing.png")),
        "{error}"
    );
}

#[test]
fn colour_is_for_terminals_and_those_who_ask() {
    let folder = tempfile::tempdir().expect("folder");
    let error = |variables: &[(&str, &str)]| {
        let mut command = emberline(folder.path(), &["train"]);
        command.envs(variables.iter().copied());
        ran(&mut command).code(1).stderr
    };
    assert!(!coloured(&error(&[])));
    assert!(coloured(&error(&[("CLICOLOR_FORCE", "1")])));
    assert!(!coloured(&error(&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")])));
}

#[test]
fn a_reader_that_goes_is_no_error() {
    let folder = project();
    train(folder.path(), &[]);
    for arguments in [&["evaluate"][..], &["--help"], &["train", "--help"]] {
        // The pipe's reading end is closed before the tool writes.
        let (reader, writer) = std::io::pipe().expect("pipe");
        drop(reader);
        let output = emberline(folder.path(), arguments)
            .stdout(writer)
            .stderr(Stdio::piped())
            .output()
            .expect("runs");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {stderr}");
        assert!(!stderr.contains("error"), "{arguments:?}: {stderr}");
    }
}

#[test]
fn a_full_stdout_is_an_error() {
    let folder = project();
    train(folder.path(), &[]);
    let full = PathBuf::from("/dev/full");
    if !full.exists() {
        return; // Linux has it
    }
    let stdout = fs::OpenOptions::new().write(true).open(full).expect("/dev/full");
    let output = emberline(folder.path(), &["evaluate"])
        .stdout(stdout)
        .stderr(Stdio::piped())
        .output()
        .expect("runs");
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("error: cannot write to stdout"), "{stderr}");
}
