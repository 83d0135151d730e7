//! A deployment that was left half-way: what is told of it, and the ways on.

use rustix::process::Signal;
use serde_json::json;

use crate::failing::{instances, piped};
use crate::rolling::ready;
use crate::running::signal;
use crate::setup::{Service, docker, engine};

/// Deploys an image that never answers, and ends the client while it waits.
fn leave_half_way(service: &Service, version: &str, silent: &str, how: Signal) {
    let before = service.containers().len();
    let client = piped(
        service,
        &format!("deploy --allow-ungated --bundle {version} --image {silent} --replicas 2"),
    );
    service.wait_for("a container that does not answer", |status| {
        instances(status) == before + 1 && status["trouble"].is_null()
    });
    signal(client.id(), how);
    client.wait_with_output().expect("it ends");
}

#[test]
fn a_rollback_goes_back_from_what_was_left_half_way() {
    if !engine() {
        return;
    }
    let service = Service::new();
    let old = service.bundle();
    let serving = service.bundle();
    let silent = service.silent_image(&old);
    service.deploy(&["--bundle", &serving, "--replicas", "2"]);
    for (how, revision) in [(Signal::KILL, 2), (Signal::INT, 4)] {
        leave_half_way(&service, &old, &silent, how);
        let status = service.status();
        assert_eq!(
            (&status["revision"], &status["phase"]),
            (&json!(revision), &json!("progressing"))
        );
        let again = format!("`emberline deploy --target docker --bundle {old} --image {silent}` completes it");
        let says = format!("revision {revision} (version {old}) was left half-way, and nobody works on it");
        let told = service.run(&["status"]).success().stdout;
        for part in [
            &says,
            &again,
            "`emberline rollback` goes back",
            &format!("2 of 2 ready, 0 of them of revision {revision}"),
        ] {
            assert!(told.contains(part), "{part}: {told}");
        }
        service
            .run(&["scale", "--replicas", "3"])
            .code(1)
            .says(&[&says, "hint: ", &again]);
        assert_eq!(service.ask().expect("an answer"), serving);

        let report = service.ok(&["rollback"]);
        assert_eq!(
            (&report["version"], &report["revision"]),
            (&json!(serving), &json!(revision + 1))
        );
        assert!(ready(&report, 2), "{report}");
        assert_eq!(report["trouble"], json!(null));
        assert_eq!(service.ask().expect("an answer"), serving);
    }
}

#[test]
fn a_first_deployment_that_was_left_half_way_has_nothing_to_go_back_to() {
    if !engine() {
        return;
    }
    let service = Service::new();
    let version = service.bundle();
    let silent = service.silent_image(&version);
    let mut client = piped(&service, &format!("deploy --allow-ungated --image {silent}"));
    crate::running::wait("a container", || service.containers().len() == 1);
    client.kill().expect("it was there");
    client.wait().expect("it is gone");
    service.run(&["rollback"]).code(1).says(&[
        "revision 1 has not arrived, and none before it has",
        &format!("hint: `emberline deploy --bundle {version}`"),
    ]);
    service.run(&["scale", "--replicas", "2"]).code(1).says(&["half-way"]);
    service.deploy(&[]);
    assert_eq!(service.ask().expect("an answer"), version);
}

#[test]
fn a_replica_that_was_killed_may_have_wanted_more_memory() {
    if !engine() {
        return;
    }
    let service = Service::new();
    service.configure("  memory: 128Mi\n");
    let version = service.bundle();
    let silent = service.silent_image(&version);
    let client = piped(&service, &format!("deploy --allow-ungated --image {silent}"));
    crate::running::wait("a container that runs", || {
        let containers = service.containers();
        containers.len() == 1 && crate::setup::inspect(&containers[0])["State"]["Running"] == true
    });
    docker(&["kill", &service.containers()[0]]);
    let output = client.wait_with_output().expect("it ends");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(5), "{errors}");
    assert!(errors.contains("replica 1 ended with exit code 137"), "{errors}");
    assert!(
        errors.contains("hint: it was killed, maybe because `128Mi`"),
        "{errors}"
    );
}
