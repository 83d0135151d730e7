//! `emberline doctor`: what is there, what is not, and what is to be done.

mod fixture;
mod running;
mod tool;

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use tool::{Ran, emberline, ran};

/// A project, and a folder with the programs that it finds.
fn project(deploy: &str) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let text = format!("name: digits\ndata: {{source: synthetic-digits}}\ndeploy: {{{deploy}}}\n");
    fs::write(folder.path().join("emberline.yaml"), text).expect("a project");
    fs::create_dir(folder.path().join("bin")).expect("a folder");
    folder
}

fn doctor(folder: &Path) -> Ran {
    let mut command = emberline(folder, &["doctor", "-o", "json"]);
    // Nothing of this machine: no engine, no cluster, no nginx.
    command
        .env("PATH", folder.join("bin"))
        .env("DOCKER_HOST", format!("unix://{}/docker.sock", folder.display()))
        .env("KUBECONFIG", folder.join("kubeconfig"));
    ran(&mut command)
}

fn verdict(ran: &Ran, name: &str) -> (String, String, String) {
    let report = ran.json();
    let checks = report["checks"].as_array().expect("checks");
    let check = checks.iter().find(|check| check["name"] == name);
    let text = |key: &str| check.expect(name)[key].as_str().unwrap_or_default().to_owned();
    (text("verdict"), text("message"), text("hint"))
}

#[test]
fn what_the_target_needs_fails_and_what_others_need_warns() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let folder = project(&format!("port: {port}"));
    // The port is taken, and by nobody of ours.
    let ran = doctor(folder.path());
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("port"), "{}", ran.stderr);
    assert_eq!(verdict(&ran, "project").0, "ok");
    let (found, message, hint) = verdict(&ran, "port");
    assert_eq!(found, "failed");
    assert!(
        message.contains(&port.to_string()) && hint.contains("deploy.port"),
        "{message} {hint}"
    );
    for name in ["engine", "nginx", "bundle"] {
        let (found, message, hint) = verdict(&ran, name);
        assert_eq!(found, "warning", "{message}");
        assert!(!hint.is_empty(), "{message}");
    }
    drop(listener);
    assert_eq!(verdict(&doctor(folder.path()), "port").0, "ok");

    let folder = project("target: docker");
    let ran = doctor(folder.path());
    assert_eq!(ran.code, Some(1));
    assert_eq!(verdict(&ran, "engine").0, "failed");
    assert_eq!(verdict(&ran, "nginx").0, "failed");
    let nginx = folder.path().join("bin/nginx");
    fs::write(&nginx, "#!/bin/sh\necho nginx version: nginx/1.2.3 >&2\n").expect("written");
    fs::set_permissions(&nginx, fs::Permissions::from_mode(0o755)).expect("executable");
    let (found, message, _) = verdict(&doctor(folder.path()), "nginx");
    assert_eq!((found.as_str(), message.as_str()), ("ok", "nginx version: nginx/1.2.3"));

    let folder = project("target: kubernetes");
    let ran = doctor(folder.path());
    assert_eq!(ran.code, Some(1));
    assert_eq!(verdict(&ran, "registry").0, "failed");
    let (found, message, hint) = verdict(&ran, "cluster");
    assert_eq!(found, "failed");
    assert!(
        message.contains("no cluster to work with") && hint.contains("KUBECONFIG"),
        "{message} {hint}"
    );
    assert_eq!(verdict(&ran, "nginx").0, "warning");
}

#[test]
fn a_project_that_cannot_be_read_is_the_only_finding() {
    let folder = tempfile::tempdir().expect("a folder");
    let ran = ran(&mut emberline(folder.path(), &["doctor", "-o", "json"]));
    assert_eq!(ran.code, Some(1));
    let report = ran.json();
    assert_eq!(report["checks"].as_array().map(Vec::len), Some(1));
    assert_eq!(report["checks"][0]["verdict"], Value::from("failed"));
}

#[test]
fn a_bundle_whose_gate_has_not_passed_is_told() {
    let folder = project("port: 5999");
    let bundle = fixture::digits_bundle(folder.path());
    let version = running::version_of(&bundle);
    let (found, message, _) = verdict(&doctor(folder.path()), "bundle");
    assert_eq!(found, "warning");
    assert!(message.contains(&version), "{message}");
}
