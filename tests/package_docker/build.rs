//! What the engine builds: an image that answers, the same as the one that is written without it.

use serde_json::{Value, json};

use crate::fixture;
use crate::fixture::http::{get, post};
use crate::fixture::process::until;
use crate::setup::{Container, Project, docker, engine, inspect};
use crate::tool::{emberline, ran};

#[test]
fn the_image_answers_and_the_engine_sees_that_it_is_well() {
    if !engine() {
        return;
    }
    let project = Project::new("answers");
    let report = project.package_json(&[]);
    assert_eq!(report["image"], project.reference());
    assert_eq!(report["builder"], "docker");
    assert_eq!(report["digest"], inspect(&project.reference())["Id"]);
    assert_eq!(report["version"], project.bundle.version());
    assert_eq!(report["pushed"], false);
    assert_eq!((&report["path"], &report["output"]), (&Value::Null, &Value::Null));
    assert!(!project.path().join(".emberline/images").exists());

    let container = Container::run(&project.reference());
    let address = container.address();
    until("the model is ready", || {
        std::net::TcpStream::connect(address).is_ok() && get(address, "/readyz").status == 200
    });
    let case = project.bundle.golden().expect("golden cases").cases.remove(0);
    let answer = post(
        address,
        "/v1/models/digits:predict",
        &json!({"instances": [case.input]}),
    );
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer = answer.json()["predictions"][0].take();
    let answer: Vec<f32> = serde_json::from_value(answer).expect("probabilities");
    let difference = |(one, other): (&f32, &f32)| (one - other).abs();
    let furthest = answer
        .iter()
        .zip(&case.probabilities)
        .map(difference)
        .fold(0.0, f32::max);
    assert!(furthest < 1e-4, "{answer:?} is not {:?}", case.probabilities);

    let shown = inspect(&container.0);
    let process = format!("/proc/{}/status", shown["State"]["Pid"]);
    let status = std::fs::read_to_string(process).expect("the server's process");
    for line in ["Uid:\t65532\t65532", "Gid:\t65532\t65532", "CapEff:\t0000000000000000"] {
        assert!(status.contains(line), "no `{line}` in {status}");
    }
    container.healthy();
    docker(&["stop", &container.0]).success();
    assert_eq!(inspect(&container.0)["State"]["ExitCode"], 0, "it ends by itself");
    drop(container);
    project.finish();
}

#[test]
fn both_builders_give_the_same_image() {
    if !engine() {
        return;
    }
    let project = Project::new("same");
    let report = project.package_json(&["--builder", "docker"]);
    let written = project.path().join("image.tar");
    let other = format!("{}-oci", project.repository);
    let to = written.to_str().expect("a path");
    let oci = project.package_json(&["--output", "tar", "--to", to, "--repository", &other]);
    assert_eq!(oci["builder"], "oci");
    docker(&["load", "--input", to]).success();

    let one = inspect(&project.reference());
    let other = inspect(&format!("{other}:{}", project.bundle.version()));
    for key in [
        "User",
        "Env",
        "ExposedPorts",
        "Entrypoint",
        "Cmd",
        "Labels",
        "Healthcheck",
        "StopSignal",
        "WorkingDir",
        "Volumes",
    ] {
        assert_eq!(one["Config"][key], other["Config"][key], "{key}");
    }
    assert_eq!(one["Config"]["User"], "65532:65532");
    assert_eq!(
        one["Config"]["Healthcheck"]["Test"],
        json!(["CMD", "/emberline-server", "--health"])
    );
    assert_eq!(one["Architecture"], other["Architecture"]);
    for image in [&one, &other] {
        assert_eq!(image["RootFS"]["Layers"].as_array().map(Vec::len), Some(2), "{image}");
    }
    for (shown, told) in [(&one, &report), (&other, &oci)] {
        for index in [0, 1] {
            assert_eq!(shown["RootFS"]["Layers"][index], told["layers"][index]["diff_id"]);
        }
    }
    assert_eq!(report["layers"][0]["content"], "runtime");
    let runtime = std::fs::metadata(project.path().join("runtime"))
        .expect("the runtime")
        .len();
    assert_eq!(report["layers"][0]["size_bytes"], runtime);
    assert_eq!(report["size_bytes"], one["Size"]);

    // The health check of the one that was loaded is the engine's to run as well.
    let container = Container::run(&format!("{}-oci:{}", project.repository, project.bundle.version()));
    container.healthy();
    drop(container);
    project.finish();
}

#[test]
fn a_second_build_is_the_same_image_and_another_model_is_another() {
    if !engine() {
        return;
    }
    let mut project = Project::new("again");
    let first = project.package_json(&[]);
    // Its configuration holds the time of its build: the same id is the same build.
    assert_eq!(project.package_json(&[])["digest"], first["digest"]);
    let former = project.reference();
    project.change_model();
    let second = project.package_json(&[]);
    assert_eq!(first["layers"][0], second["layers"][0]);
    assert_ne!(first["layers"][1], second["layers"][1]);
    assert_ne!(inspect(&former)["Id"], inspect(&project.reference())["Id"]);
    project.finish();
}

#[test]
fn what_is_in_an_image_can_be_traced_from_the_engine_alone() {
    if !engine() {
        return;
    }
    let project = Project::new("trace");
    project.package_json(&[]);
    let elsewhere = tempfile::tempdir().expect("a folder");
    let mut trace = emberline(elsewhere.path(), &["trace", &project.reference(), "-o", "json"]);
    if let Some(host) = std::env::var_os("DOCKER_HOST") {
        trace.env("DOCKER_HOST", host);
    }
    let report = ran(&mut trace).success().json();
    let manifest = project.bundle.manifest();
    let facts = report["facts"].as_array().expect("facts");
    for (name, value, from) in [
        (
            "bundle_digest",
            project.bundle.digest(),
            "the bundle in the image in the engine",
        ),
        (
            "weights_digest",
            &manifest.files["model.safetensors"],
            "the weights in the image in the engine",
        ),
        (
            "data_digest",
            &manifest.data.digest,
            "the bundle in the image in the engine",
        ),
        ("evaluation", "pass", "the bundle in the image in the engine"),
        ("source_revision", "5ca1ab1e", "the bundle in the image in the engine"),
    ] {
        let fact = facts.iter().find(|fact| fact["name"] == name);
        let fact = fact.unwrap_or_else(|| panic!("{name}: {report:#}"));
        assert_eq!(
            (&fact["value"], &fact["from"]),
            (&json!(value), &json!(from)),
            "{report:#}"
        );
    }
    assert_eq!(report["contradictions"], json!([]), "{report:#}");
    project.finish();
}

#[test]
fn an_image_that_loses_its_name_goes_unless_a_container_needs_it() {
    if !engine() {
        return;
    }
    let project = Project::new("sweep");
    let id = |report: Value| report["digest"].as_str().expect("an id").to_owned();
    let first = id(project.package_json(&[]));
    project.change_runtime();
    let second = id(project.package_json(&[]));
    assert_ne!(first, second);
    assert_ne!(docker(&["image", "inspect", &first]).code, Some(0), "{first} is left");
    let container = Container::run(&second);
    project.change_runtime();
    let third = id(project.package_json(&[]));
    assert_ne!(second, third);
    inspect(&second);
    // And one with another name is not ours to delete.
    let kept = format!("{}:kept", project.repository);
    docker(&["tag", &third, &kept]).success();
    project.change_runtime();
    project.package_json(&[]);
    assert_eq!(inspect(&kept)["Id"], third);
    drop(container);
    project.finish();
}

#[test]
fn the_steps_are_shown_and_stdout_is_the_reference_alone() {
    if !engine() {
        return;
    }
    let project = Project::new("steps");
    let built = project.package(&[]).success();
    assert_eq!(built.stdout, format!("{}\n", project.reference()));
    assert!(
        built.stderr.contains("COPY [\"runtime/\", \"/\"]\n"),
        "{}",
        built.stderr
    );
    let events = project.package(&["--progress", "json"]).success().stderr;
    let mut events: Vec<Value> = events
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    // The runtime of these tests is none that could be measured, which is told once.
    assert_eq!(events.remove(0)["event"], "warning");
    assert!(events.iter().all(|event| event["event"] == "image_build"), "{events:?}");
    assert!(events.len() > 5, "{events:?}");
    assert_eq!(project.package(&["--quiet"]).success().stderr, "");
    project.finish();
}

#[test]
fn an_image_for_another_processor_says_so() {
    if !engine() {
        return;
    }
    let project = Project::new("arm");
    let mut runtime = fixture::static_executable(fixture::AARCH64);
    runtime.extend(project.repository.as_bytes());
    std::fs::write(project.path().join("runtime"), runtime).expect("a runtime");
    assert_eq!(project.package_json(&[])["architecture"], "arm64");
    assert_eq!(inspect(&project.reference())["Architecture"], "arm64");
    project.finish();
}
