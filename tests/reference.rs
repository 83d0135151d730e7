//! docs/reference/cli.md, alerts.md, exit-codes.md and metrics.md are what the tool generates, and so are man pages and
//! completions.
//!
//! `EMBERLINE_UPDATE=1 cargo test --test reference` writes the four anew.

mod tool;

use std::fs;
use std::path::Path;

use tool::run;

/// What `emberline generate` writes, in a folder of its own.
fn generated() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("folder");
    run(folder.path(), &["generate", "."]).success();
    folder
}

#[test]
fn the_reference_is_what_the_tool_says() {
    let folder = generated();
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference");
    for name in ["cli.md", "alerts.md", "exit-codes.md", "metrics.md"] {
        let says = fs::read_to_string(folder.path().join(name)).expect("generated");
        if std::env::var_os("EMBERLINE_UPDATE").is_some() {
            fs::write(docs.join(name), &says).expect("written");
        }
        let held = fs::read_to_string(docs.join(name)).unwrap_or_default();
        let stale = held.lines().zip(says.lines()).find(|(held, says)| held != says);
        assert!(
            held == says,
            "docs/reference/{name} is stale: {stale:?}\nEMBERLINE_UPDATE=1 cargo test --test reference writes it anew"
        );
    }
}

#[test]
fn there_is_a_man_page_for_every_command() {
    let folder = generated();
    let mut count = 0;
    let mut groups = vec![Vec::new()];
    while let Some(group) = groups.pop() {
        let help = run(Path::new("."), &[&group[..], &["--help".to_owned()]].concat())
            .success()
            .stdout;
        let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1);
        for line in commands.take_while(|line| !line.is_empty()) {
            let name = line.split_whitespace().next().expect("a name");
            if name != "help" {
                let words = [&group[..], &[name.to_owned()]].concat();
                let name = words.join("-");
                let path = folder.path().join(format!("man/emberline-{name}.1"));
                let page = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                assert!(page.contains(&format!(".TH emberline-{name} 1")), "{page}");
                count += 1;
                groups.push(words);
            }
        }
    }
    let page = fs::read_to_string(folder.path().join("man/emberline.1")).expect("the tool's own page");
    assert!(page.contains("emberline\\-train(1)"), "{page}");
    assert_eq!(
        fs::read_dir(folder.path().join("man")).expect("pages").count(),
        count + 1,
        "no hidden command"
    );
}

#[test]
fn every_shell_gets_its_completions() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = run(Path::new("."), &["completions", shell]).success().stdout;
        assert!(!script.contains("supervise"), "{shell} completes a hidden command");
        assert!(
            script.contains("evaluate") && script.contains("allow-ungated"),
            "{shell}: {script}"
        );
        let report = run(Path::new("."), &["completions", shell, "-o", "json"])
            .success()
            .json();
        assert_eq!(report["script"].as_str().expect("script").trim_end(), script.trim_end());
    }
    // bash itself reads what is for bash.
    let script = run(Path::new("."), &["completions", "bash"]).stdout;
    let read = std::process::Command::new("bash")
        .args(["-nc", &script])
        .status()
        .expect("bash runs");
    assert!(read.success());
    run(Path::new("."), &["completions", "tcsh"]).code(2).says(&["'tcsh'"]);
}
