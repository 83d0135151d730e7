//! What happens to the containers while the tool is not there, and how it takes them on again.

use std::collections::BTreeSet;
use std::fs;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::rolling::ready;
use crate::running::{pids, runs, signal, wait};
use crate::setup::{Service, docker, engine, inspect};
use crate::tool::skipped;

#[test]
fn a_crashed_replica_comes_back_while_the_others_answer() {
    if !engine() {
        return;
    }
    let service = Service::new();
    let version = service.bundle();
    let before = service.deploy(&["--replicas", "2"]);
    let ids = service.containers();
    let pid = pids(&before)[0];
    if !rustix::process::geteuid().is_root() {
        // The process is another user's.
        skipped::for_want_of("right to end a container's process", "sudo -E cargo test --test docker");
        return;
    }
    signal(pid, Signal::KILL);
    wait("the replica is dead", || !runs(pid));
    for _ in 0..20 {
        assert_eq!(service.ask().expect("the other one answers, or the new one"), version);
    }
    let status = service.wait_for("two replicas again, one of them restarted", |status| {
        let restarts = status["instances"].as_array().expect("instances").iter();
        ready(status, 2)
            && restarts
                .filter_map(|instance| instance["restarts"].as_u64())
                .sum::<u64>()
                == 1
    });
    assert!(!pids(&status).contains(&pid));
    assert_eq!(service.containers(), ids);
}

#[test]
fn containers_that_were_restarted_answer_again_and_are_adopted() {
    if !engine() {
        return;
    }
    let service = Service::new();
    let version = service.bundle();
    service.deploy(&["--replicas", "2"]);
    let before = service.containers();
    let ports = |ids: &[String]| -> BTreeSet<String> {
        let port = |id: &String| inspect(id)["NetworkSettings"]["Ports"]["5000/tcp"][0]["HostPort"].to_string();
        ids.iter().map(port).collect()
    };
    let published = ports(&before);
    docker(&["restart", &before[0], &before[1]]);
    service.wait_for("both are ready", |status| ready(status, 2));
    assert_eq!(ports(&before), published);
    assert_eq!(service.ask().expect("an answer"), version);
    service.deploy(&["--replicas", "2"]);
    assert_eq!(service.containers(), before);

    // One that somebody has taken away, and one that somebody has stopped, are replaced, and no other.
    service.ok(&["scale", "--replicas", "3"]);
    let before = service.containers();
    docker(&["rm", "--force", &before[0]]);
    assert_eq!(service.ask().expect("the others answer"), version);
    docker(&["stop", &before[1]]);
    let status = service.status();
    assert_eq!(
        (&status["phase"], &status["replicas"]["ready"]),
        (&json!("progressing"), &json!(1))
    );
    assert!(
        status["instances"][0]["waiting"]
            .as_str()
            .is_some_and(|why| why.contains("exit code 0")),
        "{status}"
    );
    assert!(ready(&service.deploy(&["--replicas", "3"]), 3));
    let after = service.containers();
    assert_eq!(after[2], before[2]);
    assert!(!before.contains(&after[0]) && !before.contains(&after[1]));
}

#[test]
fn a_service_without_its_address_is_stopped_and_deploy_brings_it_back() {
    if !engine() {
        return;
    }
    let service = Service::new();
    let version = service.bundle();
    service.deploy(&["--replicas", "2"]);
    let before = service.containers();
    let nginx = service.nginx();
    let workers = fs::read_to_string(format!("/proc/{nginx}/task/{nginx}/children")).expect("children");
    signal(nginx, Signal::KILL);
    for worker in workers.split_whitespace() {
        signal(worker.parse().expect("a number"), Signal::KILL);
    }
    wait("nginx is gone", || !runs(nginx));
    let status = service.status();
    assert_eq!(
        (&status["phase"], &status["address"]),
        (&json!("stopped"), &Value::Null)
    );
    assert!(
        status["address_hint"]
            .as_str()
            .is_some_and(|hint| hint.contains("emberline deploy"))
    );
    assert!(ready(&service.deploy(&["--replicas", "2"]), 2));
    assert_eq!(service.containers(), before);
    assert_eq!(service.ask().expect("an answer"), version);

    // And without its containers.
    docker(&["kill", &before[0], &before[1]]);
    assert_eq!(service.status()["phase"], "stopped");
    assert!(ready(&service.deploy(&["--replicas", "2"]), 2));
    assert_eq!(service.ask().expect("an answer"), version);
}

#[test]
fn a_front_that_lost_its_master_answers_until_the_next_command_replaces_or_ends_it() {
    if !engine() {
        return;
    }
    let service = Service::new();
    let version = service.bundle();
    service.deploy(&["--replicas", "2"]);
    let before = service.containers();
    let kill_master = || {
        let nginx = service.nginx();
        signal(nginx, Signal::KILL);
        wait("nginx is gone", || !runs(nginx));
        assert_eq!(service.ask().expect("its workers answer"), version);
        assert!(ready(&service.status(), 2));
    };
    kill_master();
    assert!(ready(&service.deploy(&["--replicas", "2"]), 2));
    assert_eq!(service.containers(), before);
    assert_eq!(service.ask().expect("an answer"), version);
    kill_master();
    assert!(ready(&service.ok(&["scale", "--replicas", "1"]), 1));
    assert_eq!(service.ask().expect("an answer"), version);
    let nginx = service.nginx();
    signal(nginx, Signal::KILL);
    wait("nginx is gone", || !runs(nginx));
    service.ok(&["delete", "--yes"]);
    std::net::TcpListener::bind(("127.0.0.1", service.port)).expect("the port is free");
}

#[test]
fn neither_a_namesake_nor_a_destination_is_touched() {
    if !engine() {
        return;
    }
    let one = Service::new();
    let version = one.bundle();
    let other = Service::named(&one.name);
    other.bundle();
    let overlay = format!("deploy:\n  port: {}\n", crate::fixture::port::free());
    fs::write(one.path().join("emberline.staging.yaml"), overlay).expect("an overlay");
    one.deploy(&[]);
    let staging = one.deploy(&["-d", "staging"]);
    other.deploy(&["--replicas", "2"]);
    assert_eq!(one.containers().len(), 4);
    assert_ne!(one.status()["address"], staging["address"]);
    other.ok(&["delete", "--yes"]);
    assert_eq!(one.containers().len(), 2);
    one.ok(&["delete", "--yes", "-d", "staging"]);
    one.run(&["status", "-d", "staging"]).code(1);
    assert!(ready(&one.status(), 1));
    assert_eq!(one.ask().expect("an answer"), version);
    one.ok(&["delete", "--yes"]);
}
