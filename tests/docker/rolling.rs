//! Deploying, scaling and going back, under load.

use serde_json::{Value, json};

use crate::fixture::port;
use crate::running::Load;
use crate::setup::{Service, engine};

pub fn ready(status: &Value, replicas: usize) -> bool {
    status["phase"] == "ready" && status["replicas"] == json!({"desired": replicas, "ready": replicas})
}

#[test]
fn no_request_fails_while_rolling_scaling_and_rolling_back() {
    if !engine() {
        return;
    }
    let service = Service::new();
    let first = service.bundle();
    let report = service.deploy(&[]);
    assert_eq!(report["name"], service.name.as_str());
    assert_eq!(report["target"], "docker");
    assert_eq!(report["version"], first.as_str());
    assert_eq!(report["revision"], 1);
    assert_eq!(report["image"], service.image(&first).as_str());
    assert_eq!(report["address"], format!("http://127.0.0.1:{}", service.port));
    assert!(ready(&report, 1), "{report}");
    assert_eq!(service.ask().expect("an answer"), first);

    let load = Load::through_nginx(service.port);
    assert!(ready(&service.ok(&["scale", "--replicas", "3"]), 3));
    assert_eq!(service.containers().len(), 3);
    let second = service.bundle();
    let report = service.deploy(&["--replicas", "3"]);
    assert_eq!((&report["version"], &report["revision"]), (&json!(second), &json!(2)));
    assert_eq!(service.ask().expect("an answer"), second);
    let report = service.ok(&["rollback"]);
    assert_eq!((&report["version"], &report["revision"]), (&json!(first), &json!(3)));
    assert!(ready(&report, 3), "{report}");
    assert_eq!(service.ask().expect("an answer"), first);
    assert!(ready(&service.ok(&["scale", "--replicas", "1"]), 1));
    let count = load.finish();
    assert_eq!(count.failures, Vec::<String>::new(), "of {}", count.answered);
    assert!(count.answered > 100, "{} requests are no load", count.answered);
    let mut versions = [first.as_str(), second.as_str()];
    versions.sort_unstable();
    assert_eq!(count.versions, versions);
    assert_eq!(service.containers().len(), 1);

    let history = service.ok(&["history"]);
    let revisions = history["revisions"].as_array().expect("revisions");
    let outcomes: Vec<&Value> = revisions.iter().map(|revision| &revision["outcome"]).collect();
    assert_eq!(outcomes, ["deployed"; 3]);
    assert_eq!(revisions[2]["rolled_back_to"], 1);
    assert_eq!(service.ok(&["rollback", "--revision", "2"])["version"], second.as_str());
}

#[test]
fn what_runs_already_is_left_alone() {
    if !engine() {
        return;
    }
    let mut service = Service::new();
    let version = service.bundle();
    service.deploy(&["--replicas", "2"]);
    let before = service.containers();
    let again = service.deploy(&["--replicas", "2"]);
    assert_eq!(again["revision"], 1);
    assert_eq!(service.containers(), before);
    let scaled = service.deploy(&["--replicas", "3"]);
    assert_eq!(scaled["revision"], 1);
    assert_eq!(service.containers()[..2], before);
    service.deploy(&["--replicas", "2"]);
    assert_eq!(service.containers(), before);

    // Another port is the address's matter, and no container's.
    let (old, new) = (service.port, port::free());
    let report = service.deploy(&["--replicas", "2", "--port", &new.to_string()]);
    assert_eq!(report["address"], format!("http://127.0.0.1:{new}"));
    assert_eq!(service.containers(), before);
    service.port = new;
    assert_eq!(service.ask().expect("an answer"), version);
    crate::running::wait("the old port is closed", || {
        std::net::TcpStream::connect(("127.0.0.1", old)).is_err()
    });

    // Settings of a container are a new revision.
    service.configure("  memory: 96Mi\n");
    let report = service.deploy(&["--replicas", "2"]);
    assert_eq!(report["revision"], 2);
    let after = service.containers();
    assert!(after.iter().all(|id| !before.contains(id)), "{after:?}");
    let host = &crate::setup::inspect(&after[0])["HostConfig"];
    assert_eq!(host["Memory"], 96 << 20);
}

#[test]
fn a_gateway_stands_in_front_of_the_containers() {
    if !engine() {
        return;
    }
    let service = Service::new();
    service.bundle();
    service.deploy(&["--replicas", "2"]);
    let listen = format!("127.0.0.1:{}", port::free());
    let report = service.ok(&["gateway", "up", "--listen", &listen]);
    let address: std::net::SocketAddr = listen.parse().expect("an address");
    let path = format!("/{}/v2/models/digits", service.name);
    let answer = crate::fixture::http::get(address, &path);
    service.run(&["gateway", "down"]).success();
    assert_eq!(report["upstreams"], json!([format!("127.0.0.1:{}", service.port)]));
    assert_eq!((answer.status, &answer.json()["name"]), (200, &json!("digits")));
}
