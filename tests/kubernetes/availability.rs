//! Nothing that is done to a service on purpose loses a request: what `deploy`, `scale` and `rollback` prove themselves, and
//! what is done to its pods without them, each under a steady stream of requests.
//!
//! No request is tried again, on connections that are kept as on those that are not. A container that is killed answers
//! what it had taken to nobody: there the claim is that its neighbours lose nothing.
#![allow(clippy::print_stderr)] // what was counted is told

use std::process::Stdio;
use std::time::Instant;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::disruption::{delete, drain, evict, kill_one, settled};
use crate::requests::Requests;
use crate::running::{signal, wait};
use crate::service::Service;
use crate::setup::{cluster, succeeded};
use crate::tool::skipped;

#[track_caller]
fn assert_none_failed(what: &str, told: &Value) {
    eprintln!("{what}: {told}");
    assert_eq!(told["failed"], 0, "{what}: {told}");
    assert!(told["sent"].as_u64().is_some_and(|sent| sent > 50), "{what}: {told}");
}

/// An address of this machine that leads to the service's pods.
fn address(service: &Service) -> String {
    format!("127.0.0.1:{}", service.node_port())
}

/// Pods of any kind that are not on their way out.
fn probes(service: &Service) -> usize {
    let names = service.pods();
    names.iter().filter(|name| *name == "digits-probe").count()
}

#[test]
fn deploy_scale_and_rollback_prove_that_they_lose_no_request() {
    let Some(cluster) = cluster() else { return };
    let service = Service::new(&cluster);
    let (first, second) = (service.bundle(), service.bundle());
    let fresh = service.deploy(&first, &["--replicas", "3"]);
    assert_eq!(
        (&fresh["proof"], &fresh["proof_hint"]),
        (&Value::Null, &Value::Null),
        "{fresh}"
    );

    let start = Instant::now();
    let rolled = service.deploy(&second, &["--replicas", "3"]);
    eprintln!(
        "a rolling deploy of three replicas: {:.1} s",
        start.elapsed().as_secs_f64()
    );
    assert_none_failed("deploy", &rolled["proof"]);
    let versions = rolled["proof"]["versions"].as_object().expect("versions");
    assert!(
        versions.contains_key(&first) && versions.contains_key(&second),
        "{rolled}"
    );
    assert_eq!(probes(&service), 0);
    // The same again changes nothing, and so proves nothing.
    assert_eq!(service.deploy(&second, &["--replicas", "3"])["proof"], Value::Null);

    let down = service.ok(&["scale", "--replicas", "1"]);
    assert_none_failed("scale down", &down["proof"]);
    assert_none_failed("scale up", &service.ok(&["scale", "--replicas", "2"])["proof"]);
    let text = service.run(&["rollback"]).success().stdout;
    assert!(
        text.contains("requests through the Service during the change, 0 failed, p99 "),
        "{text}"
    );

    let history = service.ok(&["history"]);
    let revisions = history["revisions"].as_array().expect("revisions");
    assert_eq!(revisions[0]["proof"], Value::Null);
    assert_eq!(revisions[1]["proof"], rolled["proof"]);
    assert_none_failed("rollback", &revisions[2]["proof"]);
    let told = service.run(&["history"]).success().stdout;
    let sent = &rolled["proof"]["sent"];
    assert!(
        told.contains("FAILED REQUESTS") && told.contains(&format!("0 of {sent}")),
        "{told}"
    );

    // A version that does not arrive costs no request either.
    let broken = service.broken_bundle();
    service
        .run(&["deploy", "--allow-ungated", "--replicas", "2", "--bundle", &broken])
        .code(4)
        .says(&["availability: ", "0 failed"]);
    let history = service.ok(&["history"]);
    assert_none_failed("a version that fails", &history["revisions"][3]["proof"]);
    assert_eq!(probes(&service), 0);
    assert_eq!(
        service.ok(&["scale", "--replicas", "1", "--no-probe"])["proof"],
        Value::Null
    );
}

#[test]
fn a_probe_that_cannot_start_or_was_left_behind_is_in_nobodys_way() {
    let Some(cluster) = cluster() else { return };
    let service = Service::new(&cluster);
    let (first, second) = (service.bundle(), service.bundle());
    service.deploy(&first, &[]);

    // Somebody else's pod of that name stays, and the change goes on without a proof.
    let mut pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": "digits-probe" },
        "spec": {
            "restartPolicy": "Never",
            "securityContext": {
                "runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": { "type": "RuntimeDefault" },
            },
            "containers": [{
                "name": "probe",
                "image": format!("digits:{first}"),
                "args": ["--probe", "http://digits-service:5000"],
                "securityContext": { "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } },
            }],
        },
    });
    service.namespace.create(&pod);
    let ran = service
        .run(&["deploy", "--allow-ungated", "--bundle", &second, "-o", "json"])
        .success();
    let report = ran.json();
    assert_eq!((&report["version"], &report["proof"]), (&json!(second), &Value::Null));
    let hint = report["proof_hint"].as_str().expect("a reason");
    assert!(hint.contains("that emberline has not made"), "{hint}");
    assert!(
        ran.stderr.contains("nothing proves that no request was lost"),
        "{}",
        ran.stderr
    );
    assert_eq!(probes(&service), 1);
    succeeded(service.namespace.kubectl(&["delete", "pod", "digits-probe", "--now"]));

    // What a client has left behind is replaced.
    pod["metadata"]["labels"] = json!({ "app.kubernetes.io/managed-by": "emberline" });
    service.namespace.create(&pod);
    assert_none_failed("over a left-over probe", &service.ok(&["rollback"])["proof"]);
    assert_eq!(probes(&service), 0);

    // One that is taken away before it has begun is made again, once.
    let probe = |arguments: &[&str]| {
        service
            .namespace
            .kubectl(&[arguments, &["pod", "digits-probe"]].concat())
    };
    for (times, replicas) in [(1, "2"), (2, "3")] {
        wait("the probe before it goes", || !probe(&["get"]).status.success());
        let mut command = service.command(&["scale", "--replicas", replicas, "-o", "json"]);
        let client = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let client = client.expect("it starts");
        let mut taken = Vec::new();
        wait("the probe is there, and is taken away", || {
            let found = probe(&["get", "-o=jsonpath={.metadata.uid}"]);
            if found.status.success() && !taken.contains(&found.stdout) {
                succeeded(probe(&["delete", "--grace-period=0", "--force"]));
                taken.push(found.stdout);
            }
            taken.len() == times
        });
        let output = succeeded(client.wait_with_output().expect("it ends"));
        let report: Value = serde_json::from_slice(&output.stdout).expect("one JSON value");
        assert_eq!(report["replicas"]["ready"].to_string(), replicas);
        if times == 1 {
            assert_none_failed("over a probe that was taken away", &report["proof"]);
        } else {
            assert_eq!(report["proof_hint"], "somebody has deleted it, twice", "{report}");
        }
    }

    // Ctrl-C takes it away; a client that was killed leaves it to the next change, or to its deadline.
    for (end, left) in [(Signal::INT, 0), (Signal::KILL, 1)] {
        let mut command = service.command(&["deploy", "--allow-ungated", "--replicas", "3", "--bundle", &second]);
        let mut client = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        wait("the probe", || probes(&service) == 1);
        signal(client.id(), end);
        client.wait().expect("it ended");
        assert_eq!(probes(&service), left);
        if left == 0 {
            continue;
        }
        let pod = service.namespace.json(&["get", "pod", "digits-probe"]);
        assert!(
            pod["spec"]["activeDeadlineSeconds"]
                .as_u64()
                .is_some_and(|seconds| seconds < 1000),
            "{pod}"
        );
        // Its lock ends by itself.
        wait("the next deploy", || {
            let next = service.run(&["deploy", "--allow-ungated", "--bundle", &second, "-o", "json"]);
            next.code != Some(6) && next.success().json()["version"] == second
        });
        assert!(settled(&service, 1));
    }
    succeeded(
        service
            .namespace
            .kubectl(&["delete", "pod", "digits-probe", "--ignore-not-found", "--now"]),
    );
    service.namespace.create(&{
        let labels = &mut pod["metadata"]["labels"];
        labels["app.kubernetes.io/name"] = json!("digits");
        labels["app.kubernetes.io/instance"] = json!("digits");
        labels["app.kubernetes.io/part-of"] = json!("digits");
        labels["app.kubernetes.io/component"] = json!("probe");
        pod
    });
    service.ok(&["delete", "--yes"]);
    assert_eq!(probes(&service), 0);
}

#[test]
fn a_service_with_keys_answers_a_probe_that_has_one() {
    let Some(cluster) = cluster() else { return };
    let service = Service::new(&cluster);
    let (first, second) = (service.bundle(), service.bundle());
    let key = service.run(&["keys", "add", "probe"]).success().stdout;
    let deploy = |version: &str| service.deploy(version, &["--keys", "emberline.keys"]);
    deploy(&first);
    let without = deploy(&second);
    assert_eq!(without["proof"], Value::Null);
    assert!(
        without["proof_hint"]
            .as_str()
            .is_some_and(|hint| hint.contains("status 401")),
        "{without}"
    );
    let key = format!("--from-literal=key={}", key.trim());
    succeeded(
        service
            .namespace
            .kubectl(&["create", "secret", "generic", "digits-probe", &key]),
    );
    assert_none_failed("with keys", &deploy(&first)["proof"]);
}

#[test]
fn pods_that_are_deleted_or_evicted_lose_no_request() {
    let Some(cluster) = cluster() else { return };
    let service = Service::new(&cluster);
    let version = service.bundle();
    let bundle = service.path().join(".emberline/bundles").join(&version);
    service.deploy(&version, &["--replicas", "3"]);
    let address = address(&service);
    let requests = Requests::to(&bundle, &address);
    delete(&service, &service.pods()[0]);
    wait("another pod", || settled(&service, 3));
    assert_none_failed("a pod is deleted", &requests.end());

    // As a drain of its node does it, pod by pod.
    let requests = Requests::to(&bundle, &address);
    for pod in service.pods() {
        evict(&service, &pod);
        wait("another pod", || settled(&service, 3));
    }
    assert_none_failed("each pod is evicted", &requests.end());
}

#[test]
fn a_drained_node_loses_no_request() {
    let Some(cluster) = cluster() else { return };
    let service = Service::new(&cluster);
    let version = service.bundle();
    let bundle = service.path().join(".emberline/bundles").join(&version);
    service.deploy(&version, &["--replicas", "3"]);
    let before = service.pods();
    let requests = Requests::to(&bundle, &address(&service));
    drain(&service);
    wait("other pods", || settled(&service, 3));
    assert_none_failed("a drain", &requests.end());
    let after = service.pods();
    assert!(before.iter().all(|pod| !after.contains(pod)), "{before:?} {after:?}");
}

#[test]
fn a_killed_container_costs_its_neighbours_nothing() {
    let Some(cluster) = cluster() else { return };
    let service = Service::new(&cluster);
    let version = service.bundle();
    let bundle = service.path().join(".emberline/bundles").join(&version);
    service.deploy(&version, &["--replicas", "3"]);
    let Some(killed) = kill_one(&service, &bundle, &address(&service)) else {
        skipped::for_want_of("the processes of the node", "sudo tests/cluster/up");
        return;
    };
    for told in &killed.neighbours {
        assert_none_failed("a neighbour of a killed container", told);
    }
    // Through the Service some were for the killed one, until the cluster knew that it had gone; they were told so at once.
    let told = killed.through;
    eprintln!("through the Service: {told}");
    for reason in told["reasons"].as_object().expect("reasons").keys() {
        assert!(reason.starts_with("connection "), "{told}");
    }
    let (sent, failed) = (
        told["sent"].as_u64().expect("sent"),
        told["failed"].as_u64().expect("failed"),
    );
    assert!(failed * 2 < sent, "{told}");
}
