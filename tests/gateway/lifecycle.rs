//! Starting, reloading and ending, and the guide's commands.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::fixture;
use crate::fixture::http::{Connection, get, head, post};
use crate::fixture::process::{clean, start, until};
use crate::load::{Load, Stop};
use crate::setup::{Gateway, PREDICT, answered, body, free, nginx, three};
use crate::tool::{ran, run};

#[test]
fn a_reload_loses_no_request() {
    if !nginx() {
        return;
    }
    let gateway = Gateway::new();
    let servers = three(gateway.path());
    gateway.up(&servers[..2], &[]);
    let pid = gateway.pid();
    assert_eq!(gateway.up(&servers[..2], &[])["change"], "unchanged");
    let load = Load::new(gateway.address);
    thread::scope(|scope| {
        let _stop = Stop(&load.stop);
        for keep in [true, false, true, false] {
            let load = &load;
            scope.spawn(move || load.client(keep));
        }
        for (number, balance) in ["least_conn", "round_robin", "least_conn", "round_robin"]
            .iter()
            .enumerate()
        {
            load.goes_on(100);
            let report = gateway.up(&servers[number % 2..], &["--balance", balance]);
            assert_eq!(report["change"], "reloaded");
        }
        load.goes_on(100);
    });
    assert_eq!(gateway.pid(), pid, "it is the same nginx");
    assert!(answered(&servers[2]) > 0, "the new upstream is used");

    // To another port, and away from the old one.
    let before = gateway.address;
    let after = free();
    let report = gateway.up(&servers, &["--listen", &after.to_string()]);
    assert_eq!(report["change"], "reloaded");
    assert_eq!(post(after, PREDICT, &body()).status, 200);
    until("the old port is closed", || Connection::open(before).is_err());
}

#[test]
fn what_nginx_refuses_changes_nothing() {
    if !nginx() {
        return;
    }
    let gateway = Gateway::new();
    let servers = three(gateway.path());
    gateway
        .run(&["up", "--upstream", "no-such-host.invalid:5000"])
        .code(1)
        .says(&["error: nginx refuses the configuration: host not found in upstream \"no-such-host.invalid:5000\""]);
    assert!(Connection::open(gateway.address).is_err(), "nothing was started");
    gateway.up(&servers, &[]);
    gateway.run(&["up", "--upstream", "no-such-host.invalid:5000"]).code(1);
    assert_eq!(post(gateway.address, PREDICT, &body()).status, 200);

    // A port in use: for one that runs, and for a first one.
    let other = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = other.local_addr().expect("an address").to_string();
    let says = format!("cannot listen on `{taken}`: the port is in use");
    gateway
        .run(&["up", "--listen", &taken])
        .code(1)
        .says(&[&says, "hint: choose another one with `--listen`"]);
    assert_eq!(post(gateway.address, PREDICT, &body()).status, 200);
    gateway.run(&["down"]).success();
    gateway.run(&["up", "--listen", &taken]).code(1).says(&[&says]);
    gateway.run(&["down"]).code(1).says(&["no gateway runs"]);
}

#[test]
fn down_finishes_what_is_in_hand_and_leaves_no_process() {
    if !nginx() {
        return;
    }
    let gateway = Gateway::new();
    gateway
        .run(&["down"])
        .code(1)
        .says(&["no gateway runs", "hint: `emberline gateway up` starts one"]);
    let bundle = fixture::slow_bundle(gateway.path());
    let server = start(&bundle, &[]);
    gateway.up(std::slice::from_ref(&server), &[]);
    let master = gateway.pid();
    let group: Vec<i32> = children(master);
    assert_eq!(group.len(), 2, "two workers");
    let instances: Vec<Value> = (0..100).map(|seed| json!(fixture::image(seed))).collect();
    let mut slow = Connection::open(gateway.address).expect("connected");
    let request = json!({"instances": instances}).to_string();
    slow.send(&head("POST", "/digits/v1/models/slow:predict", "", request.len()))
        .expect("sent");
    slow.send(request.as_bytes()).expect("sent");
    until("it is at work", || {
        get(server.address, "/metrics")
            .text()
            .contains("emberline_requests_in_flight 1")
    });
    let report = gateway.run(&["down"]).success().json();
    assert_eq!(report["pid"], master.as_raw_nonzero().get());
    let response = slow.receive().expect("answered");
    assert_eq!(response.json()["predictions"].as_array().map(Vec::len), Some(100));
    for pid in group.into_iter().chain([master.as_raw_nonzero().get()]) {
        assert!(!runs(pid), "process {pid} is left");
    }
    assert!(Connection::open(gateway.address).is_err());
    gateway.run(&["down"]).code(1);
    // One that was killed leaves its file, which is nobody's.
    gateway.up(std::slice::from_ref(&server), &[]);
    let workers = children(gateway.pid());
    kill_process(gateway.pid(), Signal::KILL).expect("killed");
    for worker in workers {
        kill_process(Pid::from_raw(worker).expect("a process"), Signal::KILL).expect("killed");
    }
    until("it is dead", || Connection::open(gateway.address).is_err());
    assert!(gateway.state().join("nginx.pid").exists());
    gateway.run(&["down"]).code(1).says(&["no gateway runs"]);
    assert_eq!(gateway.up(std::slice::from_ref(&server), &[])["change"], "started");
}

#[test]
fn workers_that_outlive_their_master_are_ended_by_up_and_by_down() {
    if !nginx() {
        return;
    }
    let gateway = Gateway::new();
    let servers = three(gateway.path());
    gateway.up(&servers, &[]);
    let kill_master = || {
        let (master, workers) = (gateway.pid(), children(gateway.pid()));
        kill_process(master, Signal::KILL).expect("killed");
        until("it is dead", || !runs(master.as_raw_nonzero().get()));
        assert_eq!(
            post(gateway.address, PREDICT, &body()).status,
            200,
            "its workers answer"
        );
        workers
    };
    let workers = kill_master();
    assert_eq!(gateway.up(&servers, &[])["change"], "started");
    assert_eq!(post(gateway.address, PREDICT, &body()).status, 200);
    until("the former workers have ended", || {
        !workers.iter().any(|pid| runs(*pid))
    });

    let workers = kill_master();
    let report = gateway.run(&["down"]).success().json();
    assert!(workers.iter().any(|pid| report["pid"] == *pid), "{report}");
    assert!(!workers.iter().any(|pid| runs(*pid)));
    TcpListener::bind(gateway.address).expect("the port is free");
    gateway.run(&["down"]).code(1).says(&["no gateway runs"]);
}

#[test]
fn each_destination_has_an_nginx_of_its_own() {
    if !nginx() {
        return;
    }
    let gateway = Gateway::new();
    let servers = three(gateway.path());
    gateway.up(&servers[..1], &[]);
    let other = free();
    let overlay = gateway.path().join("emberline.staging.yaml");
    let listen = |address| fs::write(&overlay, format!("gateway: {{listen: '{address}'}}\n")).expect("an overlay");
    let upstream = servers[1].address.to_string();
    let staging = ["up", "--upstream", &upstream, "-d", "staging"];
    listen(gateway.address);
    gateway.run(&staging).code(1).says(&["the port is in use"]);
    listen(other);
    let report = gateway.run(&staging).success().json();
    let folder = gateway.path().join(".emberline/gateway.staging");
    let (address, found) = (other.to_string(), folder.join("nginx.pid").exists());
    let answers = [gateway.address, other].map(|address| post(address, PREDICT, &body()).status);
    let first = answered(&servers[0]);
    gateway.run(&["down", "-d", "staging"]).success();
    assert_eq!(
        (&report["change"], &report["listen"]),
        (&json!("started"), &json!(address))
    );
    assert!(found, "{} is its folder", folder.display());
    assert_eq!((answers, first), ([200, 200], 1));
    assert_eq!(
        post(gateway.address, PREDICT, &body()).status,
        200,
        "the other one stays"
    );
}

#[test]
fn without_nginx_it_says_where_to_get_it() {
    let gateway = Gateway::new();
    let empty = gateway.path().join("empty");
    fs::create_dir(&empty).expect("a folder");
    ran(gateway.command(&["up"]).env("PATH", &empty)).code(1).says(&[
        "error: there is no `nginx` on the path",
        "hint: `apt-get install nginx`",
    ]);
}

fn children(pid: Pid) -> Vec<i32> {
    let pid = pid.as_raw_nonzero();
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).expect("children");
    text.split_whitespace()
        .map(|pid| pid.parse().expect("a number"))
        .collect()
}

/// Whether a process runs; one that has ended and was not waited for does not.
fn runs(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z")))
}

#[test]
fn every_command_of_the_guide_works() {
    if !nginx() {
        return;
    }
    let gateway = Gateway::new();
    let project = gateway.path();
    let service = free();
    let config = format!(
        "name: digits\ndata: {{source: synthetic-digits}}\ndeploy: {{port: {}}}\ngateway: {{listen: '{}'}}\n",
        service.port(),
        gateway.address
    );
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    fs::write(project.join("emberline.yaml"), config).expect("a project");
    fs::copy(root.join("examples/digits/request.json"), project.join("request.json")).expect("a request");
    fixture::digits_bundle(project);
    let guide = fs::read_to_string(root.join("docs/guide/gateway.md")).expect("the guide");
    let commands: Vec<String> = guide
        .lines()
        .filter_map(|line| line.strip_prefix("    "))
        .filter(|line| !line.starts_with("sudo "))
        .map(|line| line.replace("localhost:8080", &gateway.address.to_string()))
        .collect();
    assert!(commands.len() > 8, "{commands:?}");
    let bin = Path::new(env!("CARGO_BIN_EXE_emberline")).parent().expect("a folder");
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    let ran = ran(clean("bash")
        .args(["-euxo", "pipefail", "-c", &commands.join("\n")])
        .current_dir(project)
        .env("PATH", path)
        .env("EMBERLINE_ALLOW_UNGATED", "1"));
    run(project, &["delete", "--yes"]);
    let ran = ran.success();
    assert!(ran.stdout.contains("{\"predictions\":[["), "{}", ran.stdout);
    assert!(ran.stdout.contains("\"upstream\":"), "{}", ran.stdout);
    assert!(Connection::open(gateway.address).is_err() && Connection::open(service).is_err());
}
