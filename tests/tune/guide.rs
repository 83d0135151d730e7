//! The part of docs/guide/tuning.md about this machine: its commands.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::fixture;
use crate::tool::run;

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
