//! How a container is shut in, what it logs, and that it goes.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::fixture::digits_bundle;
use crate::running::{runs, wait};
use crate::setup::{Service, docker, engine, inspect};

#[test]
fn a_container_may_do_little() {
    if !engine() {
        return;
    }
    let service = Service::new();
    let version = service.bundle();
    let digest = emberline::bundle::Bundle::open(&service.path().join(".emberline/bundles").join(&version));
    let digest = digest.expect("a bundle").digest().to_owned();
    service.deploy(&[]);
    let found = inspect(&service.containers()[0]);
    let host = &found["HostConfig"];
    assert_eq!(host["ReadonlyRootfs"], true);
    assert_eq!(host["CapDrop"], json!(["ALL"]));
    assert_eq!((&host["CapAdd"], &host["Privileged"]), (&Value::Null, &json!(false)));
    assert_eq!(host["SecurityOpt"], json!(["no-new-privileges:true"]));
    // Twice what the largest request took when it was packaged, in whole steps of 8 MiB; and no swap besides.
    let file = format!(".emberline/bundles/{version}.footprint.json");
    let measured = fs::read(service.path().join(file)).expect("package has measured it");
    let measured: Value = serde_json::from_slice(&measured).expect("JSON");
    let most = measured["usage"]["memory_largest_request_bytes"]
        .as_u64()
        .expect("bytes");
    let memory = json!((2 * most).div_ceil(8 << 20) * (8 << 20));
    assert_eq!((&host["Memory"], &host["MemorySwap"]), (&memory, &memory));
    assert!(host["PidsLimit"].as_u64().is_some_and(|limit| limit > 0));
    assert_eq!(host["RestartPolicy"]["Name"], "unless-stopped");
    assert_eq!(host["LogConfig"]["Type"], "json-file");
    assert!(host["LogConfig"]["Config"]["max-size"].is_string());
    assert_eq!(host["PortBindings"]["5000/tcp"][0]["HostIp"], "127.0.0.1");
    let config = &found["Config"];
    assert_eq!(config["User"], "65532:65532");
    assert_eq!(config["StopTimeout"], 30);
    assert_eq!(
        config["Healthcheck"]["Test"],
        json!(["CMD", "/emberline-server", "--health"])
    );
    let label = |name: &str| config["Labels"][name].clone();
    assert_eq!(label("app.kubernetes.io/name"), service.name.as_str());
    assert_eq!(label("app.kubernetes.io/instance"), service.name.as_str());
    assert_eq!(label("app.kubernetes.io/version"), version.as_str());
    assert_eq!(label("app.kubernetes.io/managed-by"), "emberline");
    assert_eq!(label("emberline.revision"), "1");
    assert_eq!(label("emberline.replica"), "1");
    assert_eq!(label("emberline.bundle.digest"), digest.as_str());
    // Without a shell in the image, the engine asks the server itself.
    wait("the engine finds it healthy", || {
        inspect(&service.containers()[0])["State"]["Health"]["Status"] == "healthy"
    });
}

#[test]
fn logs_are_those_of_the_containers() {
    if !engine() {
        return;
    }
    let service = Service::new();
    service.bundle();
    service.deploy(&["--replicas", "2"]);
    let logs = service.ok(&["logs"]);
    let lines = logs["lines"].as_array().expect("lines");
    for replica in [1, 2] {
        assert!(
            lines.iter().any(|line| line["replica"] == replica
                && line["name"]
                    .as_str()
                    .is_some_and(|name| name.starts_with(&service.name))
                && line["line"].as_str().is_some_and(|line| line.starts_with("listening"))),
            "{logs}"
        );
    }
    assert!(
        service
            .run(&["logs", "--replica", "2"])
            .success()
            .stdout
            .starts_with("listening")
    );
    let errors = service.run(&["logs", "--replica", "7"]).code(1);
    errors.says(&["there are containers of: 1, 2"]);

    let mut follower = service
        .command(&["logs", "-f", "--replica", "3"])
        .stderr(Stdio::null())
        .spawn();
    assert!(
        !follower
            .as_mut()
            .expect("a follower")
            .wait()
            .expect("its end")
            .success()
    );
    let mut follower = service
        .command(&["logs", "-f"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("a follower");
    let mut lines = BufReader::new(follower.stdout.take().expect("its stdout")).lines();
    let mut next = || lines.next().expect("a line").expect("read");
    let mut names: Vec<String> = (0..2).map(|_| next()).collect();
    service.ok(&["scale", "--replicas", "3"]);
    names.push(next());
    names.sort();
    for (name, replica) in names.iter().zip(1..) {
        assert!(name.contains(&format!("-r1-{replica} | listening")), "{names:?}");
    }
    service.ok(&["delete", "--yes"]);
    assert!(follower.wait().expect("it ends with the service").success());
}

#[test]
fn every_command_of_the_guide_works() {
    if !engine() {
        return;
    }
    let service = Service::new();
    digits_bundle(service.path());
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    fs::copy(
        root.join("examples/digits/request.json"),
        service.path().join("request.json"),
    )
    .expect("a request");
    let guide = fs::read_to_string(root.join("docs/guide/deploying.md")).expect("the guide");
    let (_, part) = guide.split_once("\n## Docker\n").expect("the part");
    let part = part.split("\n## ").next().unwrap_or_default();
    let commands: Vec<String> = part
        .lines()
        .filter_map(|line| line.strip_prefix("    "))
        .filter(|line| !line.starts_with("sudo "))
        .map(|line| line.replace("localhost:5000", &format!("127.0.0.1:{}", service.port)))
        .map(|line| line.replace("name=digits", &format!("name={}", service.name)))
        .collect();
    assert!(commands.len() > 8, "{commands:?}");
    let said = service.shell(&commands.join("\n")).success().stdout;
    assert!(said.contains("{\"predictions\":[["), "{said}");
    assert!(
        said.contains("3 of 3 ready") && said.contains("-r1-3 | listening"),
        "{said}"
    );
    assert_eq!(service.containers(), Vec::<String>::new());
}

#[test]
fn delete_asks_and_then_leaves_nothing() {
    if !engine() {
        return;
    }
    let service = Service::new();
    let version = service.bundle();
    service.deploy(&["--replicas", "2"]);
    service.run(&["delete"]).code(2).says(&["--yes"]);
    assert_eq!(service.ask().expect("it answers still"), version);
    let nginx = service.nginx();
    assert_eq!(service.ok(&["delete", "--yes"])["deleted"], true);
    assert_eq!(service.containers(), Vec::<String>::new());
    assert!(!runs(nginx));
    TcpStream::connect(("127.0.0.1", service.port)).expect_err("nothing listens");
    service.run(&["status"]).code(1);
    service.run(&["history"]).code(1);
    // The image stays: it is not the deployment's.
    docker(&["image", "inspect", &service.image(&version)]);
    assert_eq!(service.deploy(&[])["revision"], 1);
}
