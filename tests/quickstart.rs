//! The quickstart, command by command as it stands in docs/guide/quickstart.md, in a real shell.

mod fixture;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use fixture::process::clean;

/// Lines of the guide that are indented by four spaces are commands.
fn commands(guide: &str) -> Vec<&str> {
    guide
        .lines()
        .filter_map(|line| line.strip_prefix("    "))
        .filter(|line| !line.trim().is_empty())
        .collect()
}

/// Ends the service, however the test ends.
struct Cleanup {
    project: PathBuf,
}

impl Drop for Cleanup {
    fn drop(&mut self) {
        let _ = clean(env!("CARGO_BIN_EXE_emberline"))
            .args(["delete", "--yes"])
            .arg(&self.project)
            .output();
    }
}

#[test]
fn every_command_does_what_the_guide_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let guide = fs::read_to_string(root.join("docs/guide/quickstart.md")).expect("the guide");
    let commands = commands(&guide);
    for needed in [
        "init", "train", "evaluate", "predict", "package", "deploy", "scale", "rollback", "ship",
    ] {
        let wanted = format!("emberline {needed}");
        assert!(
            commands.iter().any(|command| command.starts_with(&wanted)),
            "the guide has no `{wanted}`"
        );
    }
    let folder = tempfile::tempdir().expect("a folder");
    let _cleanup = Cleanup {
        project: folder.path().join("digits"),
    };
    // What is in the image is tested elsewhere: here it is enough that there is one to put in.
    let runtime = folder.path().join("runtime");
    fs::write(&runtime, fixture::static_executable(fixture::X86_64)).expect("a runtime");
    let port = fixture::port::free();
    // The tool is on the path already, and nobody's port 5000 is ours.
    let script: Vec<String> = commands
        .iter()
        .filter(|command| !command.starts_with("cargo install"))
        .map(|command| command.replace("localhost:5000", &format!("127.0.0.1:{port}")))
        .collect();
    let bin = Path::new(env!("CARGO_BIN_EXE_emberline")).parent().expect("a folder");
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    let output = clean("bash")
        .args(["-euxo", "pipefail", "-c", &script.join("\n")])
        .current_dir(folder.path())
        .env("PATH", path)
        .env("EMBERLINE_PORT", port.to_string())
        .env("EMBERLINE_RUNTIME", &runtime)
        // An image in the machine's engine would outlive the test.
        .env("DOCKER_HOST", "unix:///nowhere")
        .output()
        .expect("bash");
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stdout}\n{stderr}");
    // The answers themselves, where a command could end with 0 and be wrong.
    assert!(
        stdout.contains("seven.png\t7\t"),
        "predict does not read the seven:\n{stdout}"
    );
    assert!(
        stdout.contains("{\"predictions\":[["),
        "curl got no prediction:\n{stdout}"
    );
    assert!(
        stdout.contains("emberline_requests_total"),
        "curl got no metrics:\n{stdout}"
    );
    assert!(!folder.path().join("digits/.emberline/local/status.json").exists());
}

#[test]
fn the_readme_begins_with_the_commands_that_ci_runs() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(root.join("README.md")).expect("the readme");
    let commands = commands(&readme);
    assert_eq!(
        commands,
        [
            "cargo run --release -- ship examples/digits",
            "curl -s localhost:5000/v1/models/digits:predict -d @examples/digits/request.json",
            "cargo test",
        ]
    );
    // They are really run there, by reading them from the same place.
    let ci = fs::read_to_string(root.join(".ci/run")).expect(".ci/run");
    assert!(
        ci.contains("README.md"),
        ".ci/run does not read the commands of the README"
    );
    assert!(
        Command::new("bash")
            .arg("-n")
            .arg(root.join(".ci/run"))
            .status()
            .expect("bash")
            .success()
    );
}
