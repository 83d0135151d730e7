//! The pipelines that `ci init` writes, run to their end: the GitLab file by gitlab-ci-local, the Jenkinsfile's `sh` steps
//! as Jenkins runs them.

mod fixture;
mod tool;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use fixture::http;
use tool::{NPM_INSTALL, Ran, found, ran, run, skipped};

const STAGES: [&str; 4] = ["train", "evaluate", "package", "deploy"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The folder that gitlab-ci-local is in; none, and the test is skipped, where it or what it calls is not installed.
#[track_caller]
fn gitlab_ci_local() -> Option<PathBuf> {
    let bin = root().join("target/npm/node_modules/.bin");
    if !(found("rsync", "apt-get install rsync") && found("git", "apt-get install git")) {
        return None;
    }
    let local = Command::new(bin.join("gitlab-ci-local")).arg("--version").output();
    if local.is_ok_and(|output| output.status.success()) {
        return Some(bin);
    }
    skipped::for_want_of("gitlab-ci-local", NPM_INSTALL);
    None
}

/// A runner's machine: a home, a repository, the tool on the path. What was deployed is deleted, however the test ends.
struct Machine {
    folder: TempDir,
    port: u16,
}

impl Machine {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("home")).expect("a home");
        // What is in the image is tested elsewhere: here it is enough that there is one to put in.
        let runtime = fixture::static_executable(fixture::X86_64);
        fs::write(folder.path().join("runtime"), runtime).expect("a runtime");
        Self {
            folder,
            port: fixture::port::free(),
        }
    }

    /// With a project that trains in a moment, under git.
    fn with_project(accuracy: f64) -> Self {
        let machine = Self::new();
        fs::create_dir(machine.project()).expect("a project");
        let config = format!(
            "name: digits\ndata: {{source: synthetic-digits, count: 2000, test_count: 500}}\ntrain: {{epochs: 3}}\n\
             evaluate: {{gate: {{accuracy: {accuracy}}}}}\n"
        );
        fs::write(machine.project().join("emberline.yaml"), config).expect("a project");
        for system in ["gitlab", "jenkins"] {
            run(&machine.project(), &["ci", "init", system]).success();
        }
        let script = "git init -q -b main && git add . && git commit -q -m pipeline";
        ran(machine.command("bash", None).args(["-ec", script])).success();
        machine
    }

    fn project(&self) -> PathBuf {
        self.folder.path().join("digits")
    }

    /// Where the pipelines deploy from.
    fn deployed(&self) -> PathBuf {
        self.folder.path().join("home/emberline/digits")
    }

    /// A program in the project's folder, or where that will be.
    fn command(&self, program: &str, bin: Option<&Path>) -> Command {
        let emberline = Path::new(env!("CARGO_BIN_EXE_emberline")).parent();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = bin.into_iter().chain(emberline).map(Path::to_owned);
        let path = std::env::join_paths(folders.chain(std::env::split_paths(&path))).expect("a path");
        let project = self.project();
        let mut command = Command::new(program);
        command
            .current_dir(if project.exists() { &project } else { self.folder.path() })
            .env_clear()
            .env("PATH", path)
            .env("HOME", self.folder.path().join("home"))
            .env("EMBERLINE_PORT", self.port.to_string())
            .env("EMBERLINE_RUNTIME", self.folder.path().join("runtime"));
        for person in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{person}_NAME"), "a person");
            command.env(format!("GIT_{person}_EMAIL"), "person@example.com");
        }
        command
    }

    /// The report of a stage, if there is one.
    fn report(&self, stage: &str) -> Option<Value> {
        let text = fs::read(self.project().join(format!(".emberline/ci/{stage}.json"))).ok()?;
        Some(serde_json::from_slice(&text).expect("one JSON object"))
    }

    /// Asserts that each stage left its report, all of the same version, and gives that.
    fn version(&self) -> Value {
        let versions = STAGES.map(|stage| self.report(stage).expect(stage)["version"].clone());
        assert!(versions[0].is_string(), "{versions:?}");
        assert!(versions.iter().all(|version| *version == versions[0]), "{versions:?}");
        versions[0].clone()
    }

    /// Asserts that the service answers with this version.
    fn serves(&self, version: &Value) {
        let answer = http::get(SocketAddr::from(([127, 0, 0, 1], self.port)), "/v2/models/digits");
        assert_eq!(answer.json()["versions"], json!([version]));
    }

    /// Asserts that the gate has ended the pipeline, and the report tells why.
    fn stopped_at_the_gate(&self) {
        let report = self.report("evaluate").expect("the report is kept");
        assert_eq!(report["gate"]["verdict"], "fail", "{report}");
        for stage in ["package", "deploy"] {
            assert_eq!(self.report(stage), None, "{stage} ran");
        }
        assert!(!self.deployed().exists() && !self.project().join(".emberline/images").exists());
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if self.deployed().join(".emberline/local").exists() {
            let _ = tool::emberline(&self.deployed(), &["delete", "--yes"]).output();
        }
    }
}

// ---- the files ----

#[test]
fn a_file_is_not_written_over_unless_that_is_asked_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let project = "name: digits\ndata: {source: synthetic-digits}\nevaluate: {gate: {accuracy: 0.5}}\n";
    fs::write(folder.path().join("emberline.yaml"), project).expect("a project");
    for (system, file) in [("gitlab", ".gitlab-ci.yml"), ("jenkins", "Jenkinsfile")] {
        let init = |arguments: &[&str]| run(folder.path(), &[&["ci", "init", system], arguments].concat());
        let held = || fs::read_to_string(folder.path().join(file)).expect(file);
        let printed = init(&[".", "--stdout"]).success().stdout;
        assert!(!folder.path().join(file).exists(), "--stdout writes nothing");
        let report = init(&["-o", "json"]).success().json();
        assert_eq!(report, json!({ "file": file, "stages": STAGES, "written": true }));
        assert_eq!(held(), printed);
        assert_eq!(init(&["-o", "json"]).success().json()["written"], false);
        fs::write(folder.path().join(file), "mine").expect("changed");
        init(&[]).code(1).says(&[file, "differs", "hint: --force"]);
        assert_eq!(held(), "mine");
        init(&["--force"]).success();
        assert_eq!(held(), printed);
    }
    run(folder.path(), &["ci", "init", "travis"])
        .code(2)
        .says(&["'travis'", "jenkins, gitlab"]);
}

#[test]
fn a_project_without_a_gate_is_warned_of_its_end() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(
        folder.path().join("emberline.yaml"),
        "name: digits\ndata: {source: synthetic-digits}\n",
    )
    .expect("a project");
    let ran = run(folder.path(), &["ci", "init", "gitlab"]).success();
    assert!(
        ran.stderr.contains("warning: `evaluate.gate` has no threshold"),
        "{}",
        ran.stderr
    );
}

// ---- GitLab ----

#[test]
fn the_guide_ends_with_a_service_that_gitlab_s_file_has_deployed() {
    let Some(bin) = gitlab_ci_local() else {
        return;
    };
    let guide = fs::read_to_string(root().join("docs/guide/pipelines.md")).expect("the guide");
    let commands: Vec<&str> = guide.lines().filter_map(|line| line.strip_prefix("    ")).collect();
    // It is installed already; and what is served is looked at before it is deleted.
    let (until, after): (Vec<&str>, Vec<&str>) = commands
        .into_iter()
        .filter(|command| !command.starts_with("npm install"))
        .partition(|command| !command.contains("~/"));
    assert!(
        until
            .last()
            .is_some_and(|command| command.starts_with("gitlab-ci-local"))
    );
    let machine = Machine::new();
    let script = |commands: &[&str]| ["set -euo pipefail", &commands.join("\n")].join("\n");
    let ended = ran(machine.command("bash", Some(&bin)).args(["-c", &script(&until)])).success();
    machine.serves(&machine.version());
    assert_eq!(
        machine.report("evaluate").expect("evaluated")["gate"]["verdict"],
        "pass"
    );
    assert!(
        ended.stderr.contains("epoch 10/10"),
        "the log is for people: {}",
        ended.stderr
    );
    assert!(machine.project().join(".emberline/images").exists());
    let ended = ran(machine.command("bash", Some(&bin)).args(["-c", &script(&after)])).success();
    assert!(ended.stdout.contains("2 of 2 ready"), "{ended:?}");
    assert!(!machine.deployed().join(".emberline/local/status.json").exists());
}

#[test]
fn a_missed_gate_ends_the_gitlab_pipeline_and_leaves_its_report() {
    let Some(bin) = gitlab_ci_local() else {
        return;
    };
    let machine = Machine::with_project(0.9999);
    let gitlab = |arguments: &[&str]| ran(machine.command("gitlab-ci-local", Some(&bin)).args(arguments));
    let ended = gitlab(&["--shell-isolation", "--color=false"]);
    assert_ne!(ended.code, Some(0), "{ended:?}");
    let told = format!("{}{}", ended.stdout, ended.stderr);
    assert!(told.contains("The gate failed: version"), "{told}");
    assert!(told.contains("`accuracy` is 0."), "{told}");
    machine.stopped_at_the_gate();

    let jobs = |ran: Ran| -> Vec<String> {
        let rows = ran.stdout.lines().skip(1);
        rows.filter_map(|row| Some(row.split(';').next()?.to_owned())).collect()
    };
    assert_eq!(jobs(gitlab(&["--list-csv"]).success()), STAGES);
    ran(machine.command("git", None).args(["checkout", "-q", "-b", "an-idea"])).success();
    assert_eq!(
        jobs(gitlab(&["--list-csv"]).success()),
        STAGES[..3],
        "another branch is not deployed"
    );
}

#[test]
fn ci_has_what_these_tests_need() {
    let ci = fs::read_to_string(root().join(".ci/run")).expect(".ci/run");
    assert!(ci.contains(NPM_INSTALL), ".ci/run does not say `{NPM_INSTALL}`");
    let guide = fs::read_to_string(root().join("docs/guide/pipelines.md")).expect("the guide");
    let mut words = NPM_INSTALL.split(' ');
    let package = words
        .find(|word| word.starts_with("gitlab-ci-local@"))
        .expect("the package");
    assert!(guide.contains(package), "the guide does not install {package}");
}

// ---- Jenkins ----

/// The `sh '''...'''` steps of a Jenkinsfile, each with the stage that it is in.
fn steps(jenkinsfile: &str) -> Vec<(&str, String)> {
    let mut steps = Vec::new();
    let mut stage = "";
    let mut lines = jenkinsfile.lines();
    while let Some(line) = lines.next().map(str::trim) {
        if let Some(name) = line.strip_prefix("stage('") {
            stage = name.split('\'').next().unwrap_or_default();
        } else if line == "sh '''" {
            let script: Vec<&str> = lines.by_ref().take_while(|line| line.trim() != "'''").collect();
            steps.push((stage, script.join("\n")));
        }
    }
    steps
}

impl Machine {
    /// Runs the steps as Jenkins does, up to the first that fails: the stages that ran, and how the last one ended.
    fn jenkins(&self) -> (Vec<String>, Ran) {
        let file = fs::read_to_string(self.project().join("Jenkinsfile")).expect("a Jenkinsfile");
        let steps = steps(&file);
        assert_eq!(steps.iter().map(|(stage, _)| *stage).collect::<Vec<_>>(), STAGES);
        let mut stages = Vec::new();
        for (stage, script) in steps {
            let ended = ran(self.command("sh", None).args(["-xec", &script]));
            stages.push(stage.to_owned());
            if ended.code != Some(0) || stages.len() == STAGES.len() {
                return (stages, ended);
            }
        }
        unreachable!("there are stages")
    }
}

#[test]
fn the_steps_of_the_jenkinsfile_deploy_what_they_have_measured() {
    let machine = Machine::with_project(0.3);
    let (stages, last) = machine.jenkins();
    last.success();
    assert_eq!(stages, STAGES);
    let first = machine.version();
    machine.serves(&first);
    // Neither the files of the pipeline nor the state of the tool make the revision a changed one.
    let bundle = machine
        .deployed()
        .join(".emberline/bundles")
        .join(first.as_str().expect("text"));
    let manifest = fs::read(bundle.join("bundle.json")).expect("a manifest");
    let manifest: Value = serde_json::from_slice(&manifest).expect("JSON");
    let revision = ran(machine.command("git", None).args(["rev-parse", "HEAD"])).success();
    assert_eq!(manifest["source_revision"], revision.stdout.trim(), "{manifest}");
    // Again, with other data: the same workspace, and a service that is there already.
    let config = fs::read_to_string(machine.project().join("emberline.yaml")).expect("a project");
    let config = config.replace("count: 2000", "count: 2001");
    fs::write(machine.project().join("emberline.yaml"), config).expect("changed");
    machine.jenkins().1.success();
    let second = machine.version();
    assert_ne!(first, second);
    machine.serves(&second);
    // The former bundle is still there to go back to.
    ran(machine
        .command("emberline", None)
        .arg("rollback")
        .arg(machine.deployed()))
    .success();
    machine.serves(&first);
}

#[test]
fn a_missed_gate_ends_the_steps_of_the_jenkinsfile() {
    let machine = Machine::with_project(0.9999);
    // A former build's reports are not this one's.
    let reports = machine.project().join(".emberline/ci");
    fs::create_dir_all(&reports).expect("a folder");
    fs::write(reports.join("deploy.json"), "{}").expect("a report");
    let (stages, last) = machine.jenkins();
    let last = last.code(3);
    assert_eq!(stages, STAGES[..2]);
    assert!(last.stdout.contains("The gate failed: version"), "{last:?}");
    machine.stopped_at_the_gate();
}

#[test]
fn the_deploy_stage_ends_as_deploy_does_and_waits_for_the_lock() {
    let machine = Machine::with_project(0.3);
    let file = fs::read_to_string(machine.project().join("Jenkinsfile")).expect("a Jenkinsfile");
    let (_, script) = steps(&file).pop().expect("a deploy");
    let ci = machine.project().join(".emberline/ci");
    fs::create_dir_all(&ci).expect("a folder");
    fs::write(ci.join("version"), "0123\n").expect("a version");
    fs::create_dir_all(machine.project().join(".emberline/bundles/0123")).expect("a bundle");
    // What the tool itself ends with is tested elsewhere: here it ends as the test says, time after time.
    let deploy = |codes: &str| {
        let stand_ins = "emberline() { echo >> tries; return \"$(echo $CODES | cut -d ' ' -f \"$(wc -l < tries)\")\"; }\n\
                         sleep() { echo \"slept $1\"; }\nrm -f tries\n";
        let script = format!("{stand_ins}{script}");
        ran(machine.command("sh", None).args(["-ec", &script]).env("CODES", codes))
    };
    for (codes, code, told, slept) in [
        ("0", 0, "", 0),
        ("1", 1, "", 0),
        ("3", 3, "", 0),
        (
            "4",
            4,
            "The deploy failed and was rolled back: the former version serves.",
            0,
        ),
        ("5", 5, "NOTHING TO GO BACK TO", 0),
        ("6 6 0", 0, "Another deploy holds the lock: try 2 of 10", 2),
        ("6 4", 4, "the former version serves", 1),
        ("6 6 6 6 6 6 6 6 6 6 0", 6, "version 0123 was not deployed", 9),
    ] {
        let ended = deploy(codes).code(code);
        assert!(ended.stdout.contains(told), "{codes}: {ended:?}");
        assert_eq!(ended.stdout.matches("slept 30").count(), slept, "{codes}: {ended:?}");
    }
}
