//! `emberline templates`: a project's own stand in the place of the embedded ones, and are held to the same.

mod fixture;
mod tool;

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;
use tool::{Ran, run};

fn project() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let text = "name: digits\ndata: {source: synthetic-digits}\ndeploy: {target: kubernetes}\n";
    fs::write(folder.path().join("emberline.yaml"), text).expect("a project");
    fixture::digits_bundle(folder.path());
    folder
}

fn dry_run(folder: &Path) -> Ran {
    run(
        folder,
        &["deploy", "--dry-run", "client", "--allow-ungated", "-o", "json"],
    )
}

/// Changes the project's own template.
fn change(folder: &Path, name: &str, from: &str, to: &str) {
    let path = folder.join("templates").join(name);
    let text = fs::read_to_string(&path).expect("it was ejected");
    assert!(text.contains(from), "{text}");
    fs::write(path, text.replacen(from, to, 1)).expect("written");
}

fn sources(ran: &Ran) -> Vec<(String, String)> {
    let report = ran.json();
    let templates = report["templates"].as_array().expect("templates").clone();
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let sources = templates
        .iter()
        .map(|template| (text(&template["name"]), text(&template["source"])));
    sources.collect()
}

#[test]
fn what_was_ejected_is_rendered_and_stays_as_it_was_changed() {
    let folder = project();
    let folder = folder.path();
    let before = dry_run(folder).success().json();
    let listed = sources(&run(folder, &["templates", "list", "-o", "json"]).success());
    assert!(
        listed.len() > 20 && listed.iter().all(|(_, source)| source == "embedded"),
        "{listed:?}"
    );

    let ejected = run(
        folder,
        &["templates", "eject", "kubernetes", "gateway/nginx.conf", "-o", "json"],
    )
    .success();
    let ejected = sources(&ejected);
    assert!(
        ejected.contains(&("gateway/nginx.conf".into(), "project".into())),
        "{ejected:?}"
    );
    assert!(!folder.join("templates/ci").exists());
    assert_eq!(
        dry_run(folder).success().json(),
        before,
        "the same as the embedded ones"
    );

    change(
        folder,
        "kubernetes/deployment.yaml",
        "periodSeconds: 2",
        "periodSeconds: 7",
    );
    let after = dry_run(folder).success().json();
    let objects = after["objects"].as_array().expect("objects");
    let deployment = objects
        .iter()
        .find(|object| object["kind"] == "Deployment")
        .expect("one");
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["readinessProbe"]["periodSeconds"], json!(7));
    let rendered = run(folder, &["gateway", "render", "--target", "local"])
        .success()
        .stdout;
    change(
        folder,
        "gateway/nginx.conf",
        "worker_connections 1024",
        "worker_connections 2048",
    );
    let changed = run(folder, &["gateway", "render", "--target", "local"])
        .success()
        .stdout;
    assert!(!rendered.contains("worker_connections 2048") && changed.contains("worker_connections 2048"));

    let again = run(folder, &["templates", "eject", "-o", "json"]).success();
    assert!(
        again.stderr.contains("deployment.yaml` is there already, and stays"),
        "{}",
        again.stderr
    );
    assert_eq!(dry_run(folder).success().json(), after);
    fs::write(folder.join("templates/kubernetes/deploymant.yaml"), "").expect("written");
    let listed = sources(&run(folder, &["templates", "list", "-o", "json"]).success());
    for (name, source) in [
        ("kubernetes/deployment.yaml", "changed"),
        ("kubernetes/service.yaml", "project"),
        ("kubernetes/deploymant.yaml", "unknown"),
    ] {
        assert!(listed.contains(&(name.into(), source.into())), "{listed:?}");
    }
}

#[test]
fn a_mistake_in_one_is_told_with_its_file_and_line() {
    let folder = project();
    let folder = folder.path();
    run(folder, &["templates", "eject", "kubernetes/service.yaml"]).success();
    let line = |text: &str| {
        let file = fs::read_to_string(folder.join("templates/kubernetes/service.yaml")).expect("a file");
        1 + file.lines().position(|line| line.contains(text)).expect("the line")
    };
    change(
        folder,
        "kubernetes/service.yaml",
        "port: {{ port | tojson }}",
        "port: {{ prot | tojson }}",
    );
    let place = format!("templates/kubernetes/service.yaml:{}", line("prot |"));
    dry_run(folder)
        .code(1)
        .says(&["`templates/kubernetes/service.yaml` cannot be rendered", &place]);
    change(
        folder,
        "kubernetes/service.yaml",
        "port: {{ prot | tojson }}",
        "prot: {{ port | tojson }}",
    );
    let place = format!("at line {}", line("prot:"));
    dry_run(folder)
        .code(1)
        .says(&["`templates/kubernetes/service.yaml`", "spec.ports[0].prot`", &place]);
    run(folder, &["templates", "eject", "kubernetes/services.yaml"])
        .code(1)
        .says(&[
            "there is no template `kubernetes/services.yaml`",
            "hint: `emberline templates list` names them",
        ]);
}

#[test]
fn the_commands_of_the_guide_work() {
    let folder = project();
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/guide/templates.md");
    let guide = fs::read_to_string(guide).expect("the guide");
    let commands: Vec<&str> = guide
        .lines()
        .filter_map(|line| line.strip_prefix("    emberline "))
        .collect();
    assert_eq!(commands.len(), 3);
    for command in commands {
        let arguments: Vec<&str> = command.split(' ').collect();
        run(folder.path(), &arguments).success();
    }
    assert!(folder.path().join("templates/kubernetes/deployment.yaml").is_file());
}
