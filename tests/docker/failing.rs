//! What goes wrong, what is told of it, and what serves afterwards.

use std::fs::{self, File};
use std::net::{TcpListener, TcpStream};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::fixture::{digits_bundle, digits_bundle_with_wrong_golden, slow_bundle};
use crate::rolling::ready;
use crate::running::{Load, signal};
use crate::setup::{Service, docker, engine};
use crate::tool::ran;

const NONE: [&str; 0] = [];
const DEPLOY: [&str; 2] = ["deploy", "--allow-ungated"];

#[test]
fn a_first_deployment_that_fails_leaves_nothing_behind() {
    if !engine() {
        return;
    }
    let service = Service::new();
    service.load(&digits_bundle_with_wrong_golden(service.path()));
    service
        .run(&[&DEPLOY[..], &["--replicas", "2"]].concat())
        .code(5)
        .says(&[
            "error: deploy failed: replica 1 ended with exit code 1 before it was ready",
            "golden case 0",
            "hint: `docker run --rm ",
        ]);
    assert_eq!(service.containers(), NONE);
    TcpStream::connect(("127.0.0.1", service.port)).expect_err("nothing listens");
    let status = service.status();
    assert_eq!((&status["phase"], &status["address"]), (&json!("failed"), &Value::Null));
    assert!(status["address_hint"].is_string());
    service
        .run(&["scale", "--replicas", "2"])
        .code(1)
        .says(&["nothing of", "hint: `emberline deploy"]);

    service.bundle();
    assert_eq!(service.deploy(&[])["revision"], 2);
    assert_eq!(service.ok(&["history"])["revisions"][0]["outcome"], "failed");
}

#[test]
fn a_later_deployment_that_fails_leaves_the_former_version_serving() {
    if !engine() {
        return;
    }
    let service = Service::new();
    let good = service.bundle();
    service.deploy(&["--replicas", "2"]);
    let before = service.containers();
    service.load(&digits_bundle_with_wrong_golden(service.path()));
    let load = Load::through_nginx(service.port);
    let failed = service
        .run(&DEPLOY)
        .code(4)
        .says(&["rolled back", "golden case 0", "hint:"]);
    let count = load.finish();
    assert_eq!(count.failures, Vec::<String>::new(), "{}", failed.stderr);
    assert_eq!(count.versions, [good.as_str()]);
    let status = service.status();
    assert_eq!(
        (&status["phase"], &status["version"]),
        (&json!("rolled_back"), &json!(good))
    );
    assert_eq!(service.containers(), before, "the former containers were left alone");
    assert_eq!(service.ok(&["history"])["revisions"][1]["outcome"], "rolled_back");

    // What serves is what is scaled, and what is rolled back from.
    assert!(ready(&service.ok(&["scale", "--replicas", "1"]), 1));
    service
        .run(&["rollback"])
        .code(1)
        .says(&["no bundle before revision 1"]);
    service
        .run(&["rollback", "--revision", "2"])
        .code(1)
        .says(&["never served"]);
}

#[test]
fn without_an_engine_of_this_machine_it_says_so() {
    let service_folder = tempfile::tempdir().expect("a folder");
    let config = "name: digits\ndata: {source: synthetic-digits}\ndeploy: {target: docker}\n";
    fs::write(service_folder.path().join("emberline.yaml"), config).expect("a project");
    digits_bundle(service_folder.path());
    let socket = format!("unix://{}/no.sock", service_folder.path().display());
    let deploy = |host: &str| ran(crate::tool::emberline(service_folder.path(), &DEPLOY).env("DOCKER_HOST", host));
    deploy(&socket)
        .code(1)
        .says(&["no container engine answers at", "hint: DOCKER_HOST"]);
    deploy("tcp://192.0.2.1:2375")
        .code(1)
        .says(&["another machine's", "hint:"]);
    deploy("garbage")
        .code(1)
        .says(&["DOCKER_HOST is `garbage`, which is no address", "hint:"]);
    assert!(!service_folder.path().join(".emberline/docker").exists());
}

#[test]
fn what_could_not_be_served_is_refused_before_anything_is_made() {
    if !engine() {
        return;
    }
    let service = Service::new();
    let first = version(&digits_bundle(service.path()));
    let refused = |arguments: &[&str], says: &[&str]| {
        service.run(&[&DEPLOY[..], arguments].concat()).code(1).says(says);
        assert_eq!(service.containers(), NONE);
        TcpStream::connect(("127.0.0.1", service.port)).expect_err("nothing listens");
    };
    let image = service.image(&first);
    refused(
        &[],
        &[
            &format!("there is no image `{image}` in the engine"),
            &format!("hint: `emberline package --builder docker --bundle {first}` makes it"),
            "docker pull",
        ],
    );

    service.load(&service.path().join(".emberline/bundles").join(&first));
    let second = version(&digits_bundle(service.path()));
    docker(&["tag", &image, &service.image(&second)]);
    refused(
        &[],
        &[
            &format!("holds bundle `{first}`, and bundle `{second}` is to be deployed"),
            &format!("hint: `emberline package --builder docker --bundle {second}` makes it anew"),
        ],
    );
    refused(
        &["--bundle", &second, "--image", &image],
        &["holds bundle", &format!("--bundle {second} --image REFERENCE`")],
    );
    refused(
        &["--image", "nope.invalid/nope:1"],
        &["there is no image", "hint: `docker pull nope.invalid/nope:1`"],
    );
    refused(&["--bundle", &first, "--replicas", "0"], &["`0` replicas"]);

    let other = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = other.local_addr().expect("an address").port().to_string();
    refused(
        &["--bundle", &first, "--port", &taken],
        &[
            &format!("cannot listen on `127.0.0.1:{taken}`: the port is in use"),
            "hint: choose another one with `--port`",
        ],
    );

    let empty = service.path().join("empty");
    fs::create_dir(&empty).expect("a folder");
    let arguments = [&DEPLOY[..], &["--bundle", &first]].concat();
    ran(service.command(&arguments).env("PATH", &empty))
        .code(1)
        .says(&["there is no `nginx` on the path", "hint: `apt-get install nginx`"]);
    assert_eq!(service.containers(), NONE);
    service
        .run(&["status"])
        .code(1)
        .says(&["is not deployed", "hint: `emberline deploy --target docker`"]);
    service.run(&["delete", "--yes"]).code(1);
}

#[test]
fn a_rollback_needs_its_image() {
    if !engine() {
        return;
    }
    let service = Service::new();
    let first = service.bundle();
    service.deploy(&[]);
    let second = service.bundle();
    service.deploy(&[]);
    docker(&["rmi", &service.image(&first)]);
    service.run(&["rollback"]).code(1).says(&[
        "cannot go back to revision 1",
        &format!("there is no image `{}`", service.image(&first)),
        &format!("hint: `emberline package --builder docker --bundle {first}` makes it"),
    ]);
    docker(&["tag", &service.image(&second), &service.image(&first)]);
    let refused = service.run(&["rollback"]).code(1).says(&[
        &format!("holds bundle `{second}`"),
        &format!("hint: `emberline package --builder docker --bundle {first}` makes it anew"),
    ]);
    assert!(!refused.stderr.contains("--image"), "{}", refused.stderr);
    assert_eq!(service.ask().expect("an answer"), second);
}

#[test]
fn a_replica_that_never_answers_is_given_up_or_interrupted() {
    if !engine() {
        return;
    }
    let service = Service::new();
    let version = service.bundle();
    service.deploy(&["--replicas", "2"]);
    let before = service.containers();
    let silent = service.silent_image(&version);
    let deploy = |more: &[&'static str]| {
        [&DEPLOY[..], &["--image", &silent, "--replicas", "2"], more]
            .concat()
            .join(" ")
    };
    let arguments = deploy(&["--timeout", "300ms"]);
    service.run(&arguments.split(' ').collect::<Vec<_>>()).code(4).says(&[
        "replica 1 was not ready within 0.3 s",
        "hint: `--timeout` gives it longer",
    ]);
    assert_eq!(service.containers(), before);

    // Ctrl-C: what is not ready goes, what serves is told.
    let arguments = deploy(&[]);
    let client = piped(&service, &arguments);
    service.wait_for("a third container", |status| instances(status) == 3);
    signal(client.id(), Signal::INT);
    let output = client.wait_with_output().expect("it ends");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{errors}");
    assert!(
        errors.contains("error: interrupted; what serves now: 2 of revision 1"),
        "{errors}"
    );
    assert!(errors.contains("hint: the same command goes on from there"), "{errors}");
    assert_eq!(service.containers(), before);
    assert_eq!(service.status()["phase"], "progressing");
    assert_eq!(service.ask().expect("an answer"), version);

    // A client that is killed leaves a container, which the next one takes away.
    let mut client = piped(&service, &arguments);
    service.wait_for("a third container", |status| instances(status) == 3);
    client.kill().expect("it was there");
    client.wait().expect("it is gone");
    assert_eq!(service.containers().len(), 3);
    assert!(ready(&service.deploy(&["--replicas", "2"]), 2));
    assert_eq!(service.containers().len(), 2);
    assert_eq!(service.ask().expect("an answer"), version);
}

#[test]
fn a_replica_that_needs_more_memory_than_it_may_have_is_told_apart() {
    if !engine() {
        return;
    }
    let service = Service::new();
    // Its weights alone are more.
    service.load(&slow_bundle(service.path()));
    service.configure("  memory: 6Mi\n");
    // The engine of a busy machine may say later than that it has ended why it has: then it is said to be likely.
    service
        .run(&DEPLOY)
        .code(5)
        .says(&["replica 1 ", "`6Mi` of memory is not enough", "`deploy.memory`"]);
    assert_eq!(service.containers(), NONE);
}

#[test]
fn a_number_of_replicas_that_does_not_work_leaves_those_that_do() {
    if !engine() {
        return;
    }
    let service = Service::new();
    let version = service.bundle();
    service.deploy(&[]);
    let before = service.containers();
    let held = File::options()
        .write(true)
        .open(service.state().join("lock"))
        .expect("the lock");
    held.lock().expect("it is free");
    service
        .run(&["scale", "--replicas", "2"])
        .code(6)
        .says(&["another deploy holds the lock"]);
    service.status();
    drop(held);

    service
        .run(&["scale", "--replicas", "20", "--timeout", "1ms"])
        .code(4)
        .says(&["was not ready within"]);
    assert_eq!(service.containers(), before);
    let status = service.status();
    assert_eq!(
        (&status["phase"], &status["replicas"]["desired"]),
        (&json!("ready"), &json!(1))
    );
    assert_eq!(service.ok(&["history"])["revisions"][0]["outcome"], "deployed");
    assert_eq!(service.ask().expect("an answer"), version);
    service
        .run(&["scale", "--autoscale", "1..3"])
        .code(1)
        .says(&["by themselves", "hint:"]);
}

pub fn piped(service: &Service, arguments: &str) -> std::process::Child {
    let arguments: Vec<&str> = arguments.split(' ').collect();
    let mut command = service.command(&arguments);
    command.stderr(std::process::Stdio::piped());
    command.spawn().expect("a client")
}

pub fn instances(status: &Value) -> usize {
    status["instances"].as_array().map_or(0, Vec::len)
}

fn version(path: &std::path::Path) -> String {
    crate::running::version_of(path)
}
