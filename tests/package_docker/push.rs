//! An image on its way to a registry, from the engine and straight from the tool.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::setup::{Container, Project, Registry, docker, engine, inspect, nobody};
use crate::tool::trained::{self, QUICK};
use crate::tool::{Ran, emberline, found, ran};

const BUILDERS: [&str; 2] = ["docker", "oci"];

fn skopeo(arguments: &[&str]) -> Value {
    ran(Command::new("skopeo")
        .args(["inspect", "--tls-verify=false"])
        .args(arguments))
    .success()
    .json()
}

/// A project whose images go to `registry`.
fn project(registry: &str, test: &str) -> Project {
    let mut project = Project::new(test);
    project.repository = format!("{registry}/team/{}", project.repository);
    project
}

#[test]
fn a_registry_has_what_either_builder_pushes() {
    let Some(registry) = Registry::open() else { return };
    if !engine() || !found("skopeo", "apt-get install skopeo") {
        return;
    }
    for builder in BUILDERS {
        let project = project(&registry.host, "push");
        let report = project.package_json(&["--builder", builder, "--push"]);
        assert_eq!(report["pushed"], true);
        assert_eq!(report["builder"], builder);
        let digest = report["digest"].as_str().expect("a digest");
        let pinned = format!("{}@{digest}", project.repository);
        let tagged = skopeo(&[&format!("docker://{}", project.reference())]);
        assert_eq!(tagged["Digest"], digest);
        assert_eq!(tagged["Labels"]["emberline.bundle.digest"], project.bundle.digest());
        assert_eq!(tagged["Layers"].as_array().map(Vec::len), Some(2));

        // And what is pulled by that digest is the whole image, its health check with it.
        if builder == "oci" {
            docker(&["pull", "--quiet", &pinned]).success();
            let health = &inspect(&pinned)["Config"]["Healthcheck"];
            assert_eq!(health["Test"][1], "/emberline-server", "{health}");
            let container = Container::run(&pinned);
            container.healthy();
        }
        project.finish();
    }
}

#[test]
fn what_the_registry_has_is_not_sent_again() {
    let Some(registry) = Registry::open() else { return };
    let mut project = project(&registry.host, "once");
    let push = ["--builder", "oci", "--push"];
    let first = project.package(&push).success().stderr;
    for content in ["runtime", "model", "configuration"] {
        assert!(first.contains(&format!("{content}: pushed ")), "{first}");
    }
    let second = project.package(&push).success().stderr;
    for content in ["runtime", "model", "configuration"] {
        assert!(second.contains(&format!("{content}: is there already")), "{second}");
    }
    project.change_model();
    let third = project.package(&push).success().stderr;
    assert!(third.contains("runtime: is there already"), "{third}");
    assert!(third.contains("model: pushed "), "{third}");
}

#[test]
fn the_engine_sends_nothing_twice() {
    let Some(registry) = Registry::open() else { return };
    if !engine() {
        return;
    }
    let mut project = project(&registry.host, "twice");
    let count = |stderr: &str, status: &str| stderr.lines().filter(|line| *line == status).count();
    let first = project.package(&["--push"]).success().stderr;
    assert_eq!(count(&first, "Pushed"), 2, "{first}");
    project.change_model();
    let second = project.package(&["--push"]).success().stderr;
    assert_eq!(count(&second, "Layer already exists"), 1, "{second}");
    assert_eq!(count(&second, "Pushed"), 1, "{second}");
    project.finish();
}

#[test]
fn the_credentials_are_those_of_docker_login() {
    let Some(registry) = Registry::with_password() else {
        return;
    };
    if !engine() {
        return;
    }
    let project = project(&registry.host, "login");
    let home = tempfile::tempdir().expect("a home");
    let push = |builder: &str| -> Ran {
        let mut command = project.command(&["--builder", builder, "--push"]);
        ran(command.env("HOME", home.path()))
    };
    let login = |credentials: &str| {
        let text = format!(r#"{{"auths": {{"{}": {{"auth": "{credentials}"}}}}}}"#, registry.host);
        fs::create_dir_all(home.path().join(".docker")).expect("a folder");
        fs::write(home.path().join(".docker/config.json"), text).expect("credentials");
    };
    let refused = format!("`{}` does not let you push `{}`", registry.host, project.reference());
    let command = format!("`docker login {}`", registry.host);
    for builder in BUILDERS {
        push(builder)
            .code(1)
            .says(&[&refused, "no credentials are stored", &command]);
    }
    // reader:wrong
    login("cmVhZGVyOndyb25n");
    for builder in BUILDERS {
        push(builder).code(1).says(&[&refused, "are not enough", &command]);
    }
    // reader:right
    login("cmVhZGVyOnJpZ2h0");
    for builder in BUILDERS {
        push(builder).success();
    }
    login("not base64");
    for builder in BUILDERS {
        push(builder).code(1).says(&["cannot read the credentials", &command]);
    }
    project.finish();
}

#[test]
fn a_registry_that_is_not_there_is_told() {
    if !engine() {
        return;
    }
    let host = nobody().to_string();
    let project = project(&host, "absent");
    for builder in BUILDERS {
        project.package(&["--builder", builder, "--push"]).code(1).says(&[
            &format!("no registry answers at `{host}`: "),
            "efused",
            "hint: `package.repository`",
        ]);
    }
    project.finish();
}

#[test]
fn a_repository_without_a_registry_is_not_pushed() {
    let project = Project::new("nowhere");
    for builder in BUILDERS {
        project.package(&["--builder", builder, "--push"]).code(1).says(&[
            &format!("`{}` names no registry", project.reference()),
            "hint: begin `package.repository`",
        ]);
    }
    assert!(!project.path().join(".emberline/images").exists());
}

// ---- ship ----

fn ship(folder: &std::path::Path, arguments: &[&str]) -> Ran {
    let mut command = emberline(folder, &["ship"]);
    // What is in the image is tested elsewhere: here it is enough that there is one to put in.
    let runtime = folder.join("runtime");
    fs::write(&runtime, crate::fixture::static_executable(crate::fixture::X86_64)).expect("a runtime");
    ran(command
        .args(arguments)
        .env("EMBERLINE_RUNTIME", runtime)
        .env("DOCKER_HOST", "unix:///nowhere"))
}

#[test]
fn ship_warns_of_an_image_that_a_cluster_cannot_pull() {
    let folder = trained::project(QUICK);
    let kubeconfig = folder.path().join("no-kubeconfig");
    let kubeconfig = kubeconfig.to_str().expect("a path");
    ship(folder.path(), &["--target", "kubernetes", "--kubeconfig", kubeconfig])
        .code(1)
        .says(&[
            "warning: `quick:VERSION` names no registry",
            "the cluster must have it already",
            "there is no cluster to work with",
        ]);
    assert!(!trained::bundles(folder.path()).exists());
}

#[test]
fn ship_to_containers_needs_the_engine_before_it_trains() {
    let folder = trained::project(&format!("{QUICK}package: {{builder: oci}}\n"));
    ship(folder.path(), &["--target", "docker"])
        .code(2)
        .says(&["`package.builder: oci` leaves it in a file"]);
    let folder = trained::project(&format!("{QUICK}package: {{output: tar}}\n"));
    ship(folder.path(), &["--target", "docker"])
        .code(2)
        .says(&["`package.output` in emberline.yaml asks for a file"]);
    let folder = trained::project(QUICK);
    ship(folder.path(), &["--target", "docker"])
        .code(1)
        .says(&["no container engine answers"]);
    assert!(!trained::bundles(folder.path()).exists());
}

// ---- the guide ----

#[test]
fn the_commands_of_the_guide_do_what_it_says() {
    let Some(registry) = Registry::open() else { return };
    if !engine() || !found("curl", "apt-get install curl") {
        return;
    }
    let guide = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/guide/packaging.md");
    let guide = fs::read_to_string(guide).expect("the guide");
    let commands: Vec<&str> = guide.lines().filter_map(|line| line.strip_prefix("    ")).collect();
    assert!(commands.len() > 8, "{commands:?}");
    let project = Project::new("guide");
    let port = nobody().port();
    // Nobody's registry, nobody's port 5000 and nobody's container `digits` are ours.
    let script = commands
        .join("\n")
        .replace(
            "registry.example.com/team/digits",
            &format!("{}/{}", registry.host, project.repository),
        )
        .replace("localhost:5000", &format!("127.0.0.1:{port}"))
        .replace("127.0.0.1:5000", &format!("127.0.0.1:{port}"))
        .replace("--name digits", &format!("--name {}", project.repository))
        .replace("}}' digits)", &format!("}}}}' {})", project.repository))
        .replace("rm --force digits", &format!("rm --force {}", project.repository));
    let _container = Container(project.repository.clone());
    let tool = std::path::Path::new(env!("CARGO_BIN_EXE_emberline"))
        .parent()
        .expect("a folder");
    let path = format!("{}:{}", tool.display(), std::env::var("PATH").unwrap_or_default());
    let ran = ran(Command::new("bash")
        .args(["-euxo", "pipefail", "-c", &script])
        .current_dir(project.path())
        .env("PATH", path)
        .env("EMBERLINE_REPOSITORY", &project.repository)
        .env("EMBERLINE_RUNTIME", project.path().join("runtime")))
    .success();
    assert!(ran.stdout.contains(r#""name":"digits""#), "{}", ran.stdout);
    assert_eq!(ran.stderr.matches("\npushed `").count(), 2, "{}", ran.stderr);
    project.finish();
}
