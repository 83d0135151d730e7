//! `emberline train` when it is interrupted, killed, or the disk is full: nothing is lost, and nothing half-written.

mod tool;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use tool::background::Background;
use tool::trained::{QUICK, bundles, json, names, project, text, train};
use tool::{emberline, run};

/// Longer than any test waits: it is always ended from outside.
const ENDLESS: &str = "name: quick\ndata: {source: synthetic-digits, count: 600}\ntrain: {epochs: 1000000}\n";
/// A first epoch of many small steps.
const SLOW: &str =
    "name: quick\ndata: {source: synthetic-digits, count: 3000}\ntrain: {batch_size: 1}\nmodel: {kind: cnn}\n";

// ---- interrupted ----

/// A training in the background.
fn start(folder: &Path) -> Background {
    Background::start(&mut emberline(folder, &["train", "--progress", "json"]))
}

#[test]
fn ctrl_c_keeps_the_best_weights_so_far() {
    for with in [Signal::INT, Signal::TERM] {
        let folder = project(ENDLESS);
        let mut training = start(folder.path());
        training.tells("epoch");
        let metrics = folder.path().join(".emberline/runs/0001/metrics.jsonl");
        assert!(
            fs::read_to_string(metrics)
                .expect("metrics")
                .starts_with("{\"epoch\":1,"),
            "written as it comes"
        );
        let (code, said) = training.end_with(with);
        assert_eq!(code, Some(130), "{said}");
        assert!(said.contains("the best weights are kept in bundle"), "{said}");
        let version = fs::read_to_string(bundles(folder.path()).join("latest")).expect("latest");
        let manifest = json(&bundles(folder.path()).join(&version).join("bundle.json"));
        assert_eq!(manifest["training"]["epochs"], 1_000_000);
        assert!(
            manifest["training"]["epochs_done"]
                .as_u64()
                .is_some_and(|done| (1..1_000_000).contains(&done))
        );
        // It opens, and it answers.
        fs::write(folder.path().join("emberline.yaml"), QUICK).expect("project");
        assert_eq!(
            run(folder.path(), &["evaluate", "-o", "json"]).success().json()["version"],
            version
        );
    }
}

#[test]
fn ctrl_c_before_the_first_epoch_is_whole_writes_no_bundle() {
    let folder = project(SLOW);
    let mut training = start(folder.path());
    training.tells("started");
    let (code, said) = training.end_with(Signal::INT);
    assert_eq!(code, Some(130), "{said}");
    assert!(
        said.contains("before the first epoch was whole: no bundle was written"),
        "{said}"
    );
    assert!(!bundles(folder.path()).exists());
}

#[test]
fn a_killed_training_leaves_nothing_in_the_way() {
    let folder = project(ENDLESS);
    let mut training = start(folder.path());
    training.tells("epoch");
    let (code, _) = training.end_with(Signal::KILL);
    assert_eq!(code, None, "killed");
    assert_eq!(names(&bundles(folder.path())), [] as [&str; 0], "no half bundle");
    // One that was killed while it wrote its bundle leaves this.
    let half = bundles(folder.path()).join(".0123456789ab.1.tmp");
    fs::create_dir_all(&half).expect("folder");
    fs::write(half.join("model.safetensors"), "half").expect("file");
    fs::write(folder.path().join("emberline.yaml"), QUICK).expect("project");
    run(folder.path(), &["evaluate"])
        .code(1)
        .says(&["no bundle in", "`emberline train` makes one"]);
    let report = train(folder.path(), &[]);
    assert!(text(&report, "run").ends_with("0002"), "{report}");
    run(folder.path(), &["evaluate", "--bundle", "0123"])
        .code(1)
        .says(&["no bundle `0123`", text(&report, "version")]);
    run(folder.path(), &["evaluate"]).success();
}

// ---- disk full ----

const INSIDE: &str = "EMBERLINE_TEST_MAY_MOUNT";

/// Runs the named test of this file again, as root of a namespace where it may mount, and says whether it is there now.
fn may_mount(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let allowed = Command::new("unshare").args(["-rm", "true"]).output();
    if !allowed.is_ok_and(|output| output.status.success()) {
        assert!(
            !std::env::var("CI").is_ok_and(|value| value == "true"),
            "`unshare -rm` is not allowed here, and in CI this test must run"
        );
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED {test}: `unshare -rm` is not allowed here, so there is no small disk to fill"
        );
        return false;
    }
    let itself = std::env::current_exe().expect("this test");
    let output = Command::new("unshare")
        .arg("-rm")
        .arg(itself)
        .args([test, "--exact", "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .expect("runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    false
}

/// A disk of `kilobytes` at the folder; it goes with the namespace.
fn mount(folder: &Path, kilobytes: usize) {
    let size = format!("size={kilobytes}k");
    let mut command = Command::new("mount");
    command.args(["-t", "tmpfs", "-o", &size, "none"]).arg(folder);
    assert!(command.status().expect("mount runs").success());
}

/// Leaves `bytes` free on the disk of `folder`, in whole pages.
fn fill(folder: &Path, bytes: u64) {
    let disk = rustix::fs::statvfs(folder).expect("disk");
    let size = (disk.f_bavail * disk.f_frsize).saturating_sub(bytes);
    fs::write(folder.join("filler"), vec![0; size as usize]).expect("filled");
}

#[test]
fn a_full_disk_loses_nothing() {
    if !may_mount("a_full_disk_loses_nothing") {
        return;
    }
    let folder = tempfile::tempdir().expect("folder");
    let folder = folder.path();
    mount(folder, 1024);
    fs::write(folder.join("emberline.yaml"), QUICK).expect("project");
    let kept = train(folder, &[]);
    let before = names(&bundles(folder));
    let unharmed = || {
        assert_eq!(names(&bundles(folder)), before, "nothing half-written");
        let latest = fs::read_to_string(bundles(folder).join("latest")).expect("latest");
        assert_eq!(latest, text(&kept, "version"));
    };

    // Room for the metrics, and not for the bundle.
    fill(folder, 100 << 10);
    let ran = run(folder, &["train", "-q", "--seed", "43"]).code(1);
    assert_eq!(ran.stderr.matches("error:").count(), 1, "{}", ran.stderr);
    ran.says(&[
        "cannot write `",
        ".emberline/bundles/",
        "No space left",
        "hint: free some space there",
    ]);
    unharmed();

    // No room for anything.
    fs::remove_file(folder.join("filler")).expect("removed");
    fill(folder, 0);
    let ran = run(folder, &["train", "-q", "--seed", "43"]).code(1);
    assert_eq!(ran.stderr.matches("error:").count(), 1, "{}", ran.stderr);
    ran.says(&[
        "cannot write `",
        ".emberline/runs/",
        "No space left",
        "hint: free some space there",
    ]);
    unharmed();
    let ran = run(folder, &["evaluate", "-q"]).code(1);
    ran.says(&["evaluation.json`", "No space left", "hint: free some space there"]);
    unharmed();

    // With room again all of it works, from where it was.
    fs::remove_file(folder.join("filler")).expect("removed");
    run(folder, &["evaluate"]).success();
    assert_ne!(train(folder, &["--seed", "43"])["version"], kept["version"]);
}
