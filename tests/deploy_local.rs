//! `deploy`, `scale`, `status`, `history`, `rollback`, `logs` and `delete` on this machine, over the real binary.

mod fixture;
mod running;

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::Stdio;

use emberline::bundle::{Bundle, Evaluation, Verdict};
use emberline::project::GateConfig;
use fixture::port;
use fixture::{digits_bundle, digits_bundle_with_wrong_golden};
use running::{Connection, Deployment, Load, pids, runs, signal, version_of, wait};
use rustix::process::{Pid, Signal, getsid, kill_process_group};
use serde_json::{Value, json};

fn ready(status: &Value, replicas: usize) -> bool {
    status["phase"] == "ready" && status["replicas"] == json!({"desired": replicas, "ready": replicas})
}

#[test]
fn no_request_fails_while_rolling_scaling_and_rolling_back() {
    let deployment = Deployment::new();
    let first = version_of(&digits_bundle(deployment.path()));
    let report = deployment.ok(&["deploy", "--allow-ungated"]);
    assert_eq!(report["name"], "digits");
    assert_eq!(report["target"], "local");
    assert_eq!(report["version"], first.as_str());
    assert_eq!(report["revision"], 1);
    assert_eq!(report["address"], format!("http://127.0.0.1:{}", deployment.port));
    assert!(ready(&report, 1), "{report}");
    assert_eq!(deployment.ask().expect("an answer"), first);

    let load = Load::on(deployment.port);
    assert!(ready(&deployment.ok(&["scale", "--replicas", "3"]), 3));
    let second = version_of(&digits_bundle(deployment.path()));
    assert_ne!(first, second);
    let report = deployment.ok(&["deploy", "--allow-ungated", "--replicas", "3"]);
    assert_eq!((&report["version"], &report["revision"]), (&json!(second), &json!(2)));
    assert_eq!(deployment.ask().expect("an answer"), second);
    let report = deployment.ok(&["rollback"]);
    assert_eq!((&report["version"], &report["revision"]), (&json!(first), &json!(3)));
    assert!(ready(&report, 3), "{report}");
    assert!(ready(&deployment.ok(&["scale", "--replicas", "1"]), 1));
    let count = load.finish();
    assert_eq!(count.failures, Vec::<String>::new(), "of {}", count.answered);
    assert!(count.answered > 100, "{} requests are no load", count.answered);
    let mut versions = [first.as_str(), second.as_str()];
    versions.sort_unstable();
    assert_eq!(count.versions, versions);

    let history = deployment.ok(&["history"]);
    let revisions = history["revisions"].as_array().expect("revisions");
    let outcomes: Vec<&Value> = revisions.iter().map(|revision| &revision["outcome"]).collect();
    assert_eq!(outcomes, ["deployed"; 3]);
    assert_eq!(revisions[2]["rolled_back_to"], 1);
    assert_eq!(
        deployment.ok(&["rollback", "--revision", "2"])["version"],
        second.as_str()
    );
}

#[test]
fn a_killed_replica_is_started_again_while_the_others_answer() {
    let deployment = Deployment::new();
    digits_bundle(deployment.path());
    let before = pids(&deployment.ok(&["deploy", "--allow-ungated", "--replicas", "2"]));
    signal(before[0], Signal::KILL);
    wait("the replica is dead", || !runs(before[0]));
    for _ in 0..20 {
        deployment.ask().expect("the other one answers, or the new one");
    }
    let restarts = |status: &Value| {
        let instances = status["instances"].as_array().expect("instances").iter();
        instances
            .filter_map(|instance| instance["restarts"].as_u64())
            .sum::<u64>()
    };
    let status = deployment.wait_for("two replicas again, one of them restarted", |status| {
        ready(status, 2) && restarts(status) == 1
    });
    assert!(!pids(&status).contains(&before[0]) && pids(&status).contains(&before[1]));
    let reason = status["trouble"]["reason"].as_str().expect("a reason");
    assert!(reason.contains("signal 9"), "{reason}");
}

#[test]
fn a_hung_replica_is_killed_and_started_again() {
    let deployment = Deployment::new();
    digits_bundle(deployment.path());
    let before = pids(&deployment.ok(&["deploy", "--allow-ungated"]));
    signal(before[0], Signal::STOP);
    let status = deployment.wait_for("a new process", |status| ready(status, 1) && pids(status) != before);
    let reason = status["trouble"]["reason"].as_str().expect("a reason");
    assert!(reason.contains("did not answer its health check"), "{reason}");
    deployment.ask().expect("it answers");
}

#[test]
fn a_first_deployment_that_fails_leaves_nothing_behind() {
    let deployment = Deployment::new();
    digits_bundle_with_wrong_golden(deployment.path());
    let errors = deployment.fails(5, &["deploy", "--allow-ungated", "--replicas", "2"]);
    assert!(errors.contains("golden case 0"), "{errors}");
    let (supervisor, replicas) = deployment.processes();
    wait("the supervisor has ended", || !runs(supervisor));
    assert_eq!(replicas, [0; 0]);
    TcpStream::connect(("127.0.0.1", deployment.port)).expect_err("nothing listens");
    let status = deployment.status();
    assert_eq!((&status["phase"], &status["address"]), (&json!("failed"), &Value::Null));
    assert!(status["address_hint"].is_string());
    deployment.fails(1, &["scale", "--replicas", "2"]);

    digits_bundle(deployment.path());
    assert_eq!(deployment.ok(&["deploy", "--allow-ungated"])["revision"], 2);
    let history = deployment.ok(&["history"]);
    assert_eq!(history["revisions"][0]["outcome"], "failed");
}

#[test]
fn a_later_deployment_that_fails_leaves_the_former_version_serving() {
    let deployment = Deployment::new();
    let good = version_of(&digits_bundle(deployment.path()));
    let before = pids(&deployment.ok(&["deploy", "--allow-ungated", "--replicas", "2"]));
    digits_bundle_with_wrong_golden(deployment.path());
    let load = Load::on(deployment.port);
    let errors = deployment.fails(4, &["deploy", "--allow-ungated"]);
    let count = load.finish();
    assert_eq!(count.failures, Vec::<String>::new());
    assert_eq!(count.versions, [good.as_str()]);
    assert!(errors.contains("golden case 0"), "{errors}");
    assert!(errors.contains("hint:"), "{errors}");
    let status = deployment.status();
    assert_eq!(
        (&status["phase"], &status["version"]),
        (&json!("rolled_back"), &json!(good))
    );
    assert_eq!(pids(&status), before, "the former replicas were left alone");
    assert_eq!(deployment.ok(&["history"])["revisions"][1]["outcome"], "rolled_back");

    // What serves is what is scaled, and what is rolled back from.
    assert!(ready(&deployment.ok(&["scale", "--replicas", "1"]), 1));
    let errors = deployment.fails(1, &["rollback"]);
    assert!(errors.contains("no bundle before revision 1"), "{errors}");
    let errors = deployment.fails(1, &["rollback", "--revision", "2"]);
    assert!(errors.contains("never served"), "{errors}");
    let errors = deployment.fails(1, &["rollback", "2"]);
    assert!(errors.contains("hint: `--revision 2` names a revision"), "{errors}");
}

#[test]
fn a_replica_that_is_not_ready_in_time_fails_the_deployment() {
    let deployment = Deployment::new();
    digits_bundle(deployment.path());
    let errors = deployment.fails(5, &["deploy", "--allow-ungated", "--timeout", "1ms"]);
    assert!(errors.contains("was not ready within 0.001 s"), "{errors}");
}

#[test]
fn a_port_in_use_is_told_and_leaves_nothing_behind() {
    let deployment = Deployment::new();
    digits_bundle(deployment.path());
    let other = TcpListener::bind(("127.0.0.1", deployment.port)).expect("the port");
    let errors = deployment.fails(5, &["deploy", "--allow-ungated"]);
    assert!(
        errors.contains(&format!(
            "cannot listen on `127.0.0.1:{}`: the port is in use",
            deployment.port
        )),
        "{errors}"
    );
    assert!(errors.contains("--port"), "{errors}");
    let (supervisor, _) = deployment.processes();
    wait("the supervisor has ended", || !runs(supervisor));

    // A service that runs goes on when the port that it should move to is in use.
    let free = port::free().to_string();
    deployment.ok(&["deploy", "--allow-ungated", "--port", &free]);
    deployment.fails(4, &["deploy", "--allow-ungated"]);
    assert!(ready(&deployment.ok(&["scale", "--replicas", "2"]), 2));
    drop(other);
}

#[test]
fn a_service_moves_to_another_port() {
    let mut deployment = Deployment::new();
    digits_bundle(deployment.path());
    deployment.ok(&["deploy", "--allow-ungated"]);
    let (before, after) = (deployment.port, port::free());
    let report = deployment.ok(&["deploy", "--allow-ungated", "--port", &after.to_string()]);
    assert_eq!(report["address"], format!("http://127.0.0.1:{after}"));
    assert_eq!(report["revision"], 2);
    deployment.port = after;
    deployment.ask().expect("it answers there");
    wait("the old port is closed", || {
        TcpStream::connect(("127.0.0.1", before)).is_err()
    });
}

#[test]
fn what_runs_already_is_left_alone() {
    let deployment = Deployment::new();
    digits_bundle(deployment.path());
    let first = deployment.ok(&["deploy", "--allow-ungated"]);
    let again = deployment.ok(&["deploy", "--allow-ungated"]);
    assert_eq!(first["revision"], again["revision"]);
    assert_eq!(pids(&first), pids(&again));
    let scaled = deployment.ok(&["deploy", "--allow-ungated", "--replicas", "2"]);
    assert_eq!(scaled["revision"], 1);
    assert!(ready(&scaled, 2) && pids(&scaled).contains(&pids(&first)[0]));
    let output = deployment.run(&["deploy", "--allow-ungated"]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("2 replicas become 1"), "{errors}");
}

#[test]
fn only_one_command_at_a_time_changes_a_deployment() {
    let deployment = Deployment::new();
    digits_bundle(deployment.path());
    deployment.ok(&["deploy", "--allow-ungated"]);
    let lock = File::options()
        .write(true)
        .open(deployment.state().join("lock"))
        .expect("the lock");
    lock.lock().expect("it is free");
    let errors = deployment.fails(6, &["scale", "--replicas", "2"]);
    assert!(errors.contains("another deploy holds the lock of `digits`"), "{errors}");
    deployment.status();
    drop(lock);
    deployment.ok(&["scale", "--replicas", "2"]);
}

#[test]
fn a_client_that_is_killed_in_the_middle_blocks_nothing() {
    let deployment = Deployment::new();
    digits_bundle(deployment.path());
    deployment.ok(&["deploy", "--allow-ungated"]);
    let mut idle = Connection::open(deployment.port).expect("a connection");
    idle.predict(false).expect("an answer");

    let second = version_of(&digits_bundle(deployment.path()));
    let mut client = deployment
        .command(&["deploy", "--allow-ungated"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("a client");
    deployment.wait_for("the roll has begun", |status| status["revision"] == 2);
    client.kill().expect("it was there");
    client.wait().expect("it is gone");

    let status = deployment.wait_for("the roll goes on", |status| status["revision"] == 2 && ready(status, 1));
    assert_eq!(status["version"], second.as_str());
    assert!(ready(&deployment.ok(&["scale", "--replicas", "2"]), 2));
    assert_eq!(deployment.ok(&["history"])["revisions"][1]["outcome"], "deployed");
}

#[test]
fn an_interrupted_client_stops_waiting_and_the_change_goes_on() {
    let deployment = Deployment::new();
    digits_bundle(deployment.path());
    deployment.ok(&["deploy", "--allow-ungated"]);
    let mut idle = Connection::open(deployment.port).expect("a connection");
    idle.predict(false).expect("an answer");

    digits_bundle(deployment.path());
    let client = deployment
        .command(&["deploy", "--allow-ungated"])
        .spawn()
        .expect("a client");
    deployment.wait_for("the roll has begun", |status| status["revision"] == 2);
    signal(client.id(), Signal::INT);
    let output = client.wait_with_output().expect("it ends");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{errors}");
    assert!(errors.contains("emberline status"), "{errors}");
    deployment.wait_for("the roll goes on", |status| status["revision"] == 2 && ready(status, 1));
}

#[test]
fn a_supervisor_that_is_killed_takes_its_replicas_along_and_deploy_brings_them_back() {
    let deployment = Deployment::new();
    digits_bundle(deployment.path());
    deployment.ok(&["deploy", "--allow-ungated", "--replicas", "2"]);
    let (supervisor, replicas) = deployment.processes();
    signal(supervisor, Signal::KILL);
    let status = deployment.wait_for("it is noticed", |status| status["phase"] == "stopped");
    assert_eq!(
        (&status["address"], &status["replicas"]["ready"]),
        (&Value::Null, &json!(0))
    );
    let errors = deployment.fails(1, &["scale", "--replicas", "3"]);
    assert!(errors.contains("emberline deploy"), "{errors}");
    // At once, while the replicas still hold the port.
    assert!(ready(&deployment.ok(&["deploy", "--allow-ungated"]), 1));
    deployment.ask().expect("it answers");
    for pid in replicas {
        wait("the old replicas have ended", || !runs(pid));
    }
}

#[test]
fn a_service_outlives_the_terminal() {
    let deployment = Deployment::new();
    digits_bundle(deployment.path());
    let mut client = deployment
        .command(&["deploy", "--allow-ungated"])
        .process_group(0)
        .spawn()
        .expect("a client");
    let group = Pid::from_child(&client);
    assert!(client.wait().expect("it ends").success());
    let (supervisor, replicas) = deployment.processes();
    // A terminal that goes signals the groups of its session; nobody of the service is left there.
    kill_process_group(group, Signal::HUP).expect_err("the group is empty");
    let supervisor = Pid::from_raw(supervisor.cast_signed());
    assert_eq!(getsid(supervisor).ok(), supervisor);
    assert_eq!(getsid(Pid::from_raw(replicas[0].cast_signed())).ok(), supervisor);
    signal(deployment.processes().0, Signal::HUP);
    deployment.ask().expect("it answers");
    assert_eq!(deployment.processes().1, replicas);
}

#[test]
fn delete_asks_and_then_leaves_no_process() {
    let deployment = Deployment::new();
    let errors = deployment.fails(1, &["status"]);
    assert!(
        errors.contains("not deployed") && errors.contains("hint: `emberline deploy`"),
        "{errors}"
    );
    deployment.fails(1, &["delete", "--yes"]);
    digits_bundle(deployment.path());
    deployment.ok(&["deploy", "--allow-ungated", "--replicas", "2"]);
    let errors = deployment.fails(2, &["delete"]);
    assert!(errors.contains("--yes"), "{errors}");
    deployment.ask().expect("it answers still");

    let (supervisor, replicas) = deployment.processes();
    assert_eq!(deployment.ok(&["delete", "--yes"])["deleted"], true);
    for pid in [vec![supervisor], replicas].concat() {
        wait("its processes have ended", || !runs(pid));
    }
    TcpStream::connect(("127.0.0.1", deployment.port)).expect_err("nothing listens");
    deployment.fails(1, &["status"]);
    deployment.fails(1, &["history"]);
    assert_eq!(deployment.ok(&["deploy", "--allow-ungated"])["revision"], 1);
}

#[test]
fn a_project_that_is_removed_takes_its_service_along() {
    let deployment = Deployment::new();
    digits_bundle(deployment.path());
    deployment.ok(&["deploy", "--allow-ungated"]);
    let (supervisor, replicas) = deployment.processes();
    fs::remove_dir_all(deployment.path().join(".emberline")).expect("removed");
    for pid in [supervisor, replicas[0]] {
        wait("its processes have ended", || !runs(pid));
    }
    assert!(!deployment.state().exists(), "the state came back");
}

#[test]
fn two_projects_run_side_by_side() {
    let (one, other) = (Deployment::new(), Deployment::new());
    let version = version_of(&digits_bundle(one.path()));
    digits_bundle(other.path());
    one.ok(&["deploy", "--allow-ungated"]);
    other.ok(&["deploy", "--allow-ungated"]);
    other.ok(&["delete", "--yes"]);
    assert_eq!(one.ask().expect("an answer"), version);
}

#[test]
fn only_a_bundle_whose_gate_has_passed_is_deployed() {
    let deployment = Deployment::new();
    let path = digits_bundle(deployment.path());
    let errors = deployment.fails(3, &["deploy"]);
    assert!(errors.contains("--allow-ungated"), "{errors}");
    assert!(!deployment.state().exists());
    let bundle = Bundle::open(&path).expect("a bundle");
    let report = json!({ "gate": { "thresholds": GateConfig::default() } });
    Evaluation::new(&bundle, Verdict::Pass, report)
        .write(&bundle)
        .expect("an evaluation");
    deployment.ok(&["deploy"]);
    assert_eq!(deployment.ok(&["history"])["revisions"][0]["gate"], "pass");

    // A verdict on other thresholds than those of today is none.
    let config = deployment.path().join("emberline.yaml");
    let text = fs::read_to_string(&config).expect("the project");
    fs::write(&config, format!("{text}\nevaluate: {{gate: {{accuracy: 0.999}}}}\n")).expect("a higher threshold");
    let errors = deployment.fails(3, &["deploy"]);
    assert!(errors.contains("`evaluate.gate` has changed"), "{errors}");
}

#[test]
fn each_destination_has_its_own_service() {
    let deployment = Deployment::new();
    digits_bundle(deployment.path());
    let port = port::free();
    let overlay = format!("deploy: {{port: {port}}}\n");
    fs::write(deployment.path().join("emberline.staging.yaml"), overlay).expect("an overlay");
    let first = deployment.ok(&["deploy", "--allow-ungated"]);
    let staging = deployment.ok(&["deploy", "--allow-ungated", "-d", "staging"]);
    assert_eq!(staging["address"], format!("http://127.0.0.1:{port}"));
    assert_ne!(first["address"], staging["address"]);
    assert_eq!(deployment.ok(&["status"])["address"], first["address"]);
    deployment.ok(&["delete", "--yes", "-d", "staging"]);
    assert_eq!(deployment.ok(&["status"])["replicas"]["ready"], 1);
    deployment.fails(1, &["status", "-d", "staging"]);
}

#[test]
fn arguments_that_make_no_service_are_refused() {
    let deployment = Deployment::new();
    digits_bundle(deployment.path());
    let errors = deployment.fails(1, &["deploy", "--allow-ungated", "--host", "0.0.0.0"]);
    assert!(errors.contains("--allow-public"), "{errors}");
    deployment.fails(1, &["deploy", "--allow-ungated", "--replicas", "0"]);
    deployment.fails(2, &["deploy", "--allow-ungated", "--port", "0"]);
    deployment.fails(2, &["deploy", "--allow-ungated", "--timeout", "soon"]);
    assert!(!deployment.state().exists());
}

#[test]
fn logs_are_those_of_the_replicas() {
    let deployment = Deployment::new();
    digits_bundle(deployment.path());
    deployment.ok(&["deploy", "--allow-ungated", "--replicas", "2"]);
    let logs = deployment.ok(&["logs"]);
    let lines = logs["lines"].as_array().expect("lines");
    for replica in [1, 2] {
        assert!(
            lines.iter().any(|line| line["replica"] == replica
                && line["line"].as_str().is_some_and(|line| line.contains("listening"))),
            "{logs}"
        );
    }
    let output = deployment.run(&["logs", "--replica", "2"]);
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("listening"));
    let mut follower = deployment.command(&["logs", "-f"]).spawn().expect("a follower");
    let mut lines = BufReader::new(follower.stdout.take().expect("its stdout")).lines();
    deployment.ok(&["scale", "--replicas", "3"]);
    for replica in [1, 2, 3] {
        let line = lines.next().expect("a line").expect("read");
        assert!(line.starts_with(&format!("replica-{replica} | listening")), "{line}");
    }
    let errors = deployment.fails(1, &["logs", "--replica", "7"]);
    assert!(errors.contains("there are logs of: 1, 2, 3"), "{errors}");
    deployment.ok(&["delete", "--yes"]);
    assert!(follower.wait().expect("it ends with the service").success());
}
