//! A service from its first deployment to its end, under load.

use serde_json::Value;

use crate::running::{Load, wait};
use crate::service::Service;
use crate::setup::cluster;

fn numbers(report: &Value) -> (u64, u64) {
    let number = |key: &str| report["replicas"][key].as_u64().expect("a number");
    (number("desired"), number("ready"))
}

#[test]
fn a_service_is_deployed_rolled_scaled_rolled_back_and_deleted_without_a_failed_request() {
    let Some(cluster) = cluster() else { return };
    let service = Service::new(&cluster);
    let (first, second) = (service.bundle(), service.bundle());

    let report = service.deploy(&first, &["--replicas", "3"]);
    assert_eq!(report["name"], "digits");
    assert_eq!(report["target"], "kubernetes");
    assert_eq!(report["namespace"], service.namespace.name());
    assert_eq!(report["version"], *first);
    assert_eq!(report["image"], format!("digits:{first}"));
    assert_eq!(report["revision"], 1);
    assert_eq!(report["phase"], "ready");
    assert_eq!(numbers(&report), (3, 3));
    assert_eq!(report["address"], Value::Null);
    let hint = report["address_hint"].as_str().expect("a hint");
    assert!(
        hint.contains("port-forward") && hint.contains("service/digits-service"),
        "{hint}"
    );
    assert_eq!(service.pods().len(), 3);

    // The same again changes nothing.
    let before = service.pods();
    assert_eq!(service.deploy(&first, &["--replicas", "3"])["revision"], 1);
    assert_eq!(service.pods(), before);

    let port = service.node_port();
    let load = Load::on(port);
    assert_eq!(service.deploy(&second, &["--replicas", "3"])["revision"], 2);
    assert_eq!(numbers(&service.ok(&["scale", "--replicas", "1"])), (1, 1));
    assert_eq!(numbers(&service.ok(&["scale", "--replicas", "3"])), (3, 3));
    let back = service.ok(&["rollback"]);
    assert_eq!(
        (&back["version"], &back["revision"]),
        (&Value::from(first.clone()), &Value::from(3))
    );
    assert_eq!(numbers(&back), (3, 3));
    let count = load.finish();
    assert_eq!(count.failures, Vec::<String>::new(), "of {} requests", count.answered);
    assert!(count.answered > 100, "only {} requests", count.answered);
    let mut versions = vec![first.clone(), second.clone()];
    versions.sort();
    assert_eq!(count.versions, versions);

    let history = service.ok(&["history"]);
    let told: Vec<(&Value, &Value, &Value)> = history["revisions"]
        .as_array()
        .expect("revisions")
        .iter()
        .map(|revision| (&revision["version"], &revision["outcome"], &revision["rolled_back_to"]))
        .collect();
    let (one, two, deployed, to) = (
        Value::from(first),
        Value::from(second),
        Value::from("deployed"),
        Value::from(1),
    );
    assert_eq!(
        told,
        [
            (&one, &deployed, &Value::Null),
            (&two, &deployed, &Value::Null),
            (&one, &deployed, &to)
        ]
    );

    let status = service.run(&["status"]).success().stdout;
    for pod in service.pods() {
        assert!(status.contains(&pod), "{status}");
    }
    let logs = service.ok(&["logs", "--replica", "1"]);
    let line = &logs["lines"][0];
    assert!(line["line"].as_str().expect("a line").contains("listening"), "{logs}");
    assert!(
        line["name"].as_str().expect("a pod").starts_with("digits-deployment-"),
        "{logs}"
    );

    assert_eq!(service.ok(&["delete", "--yes"])["deleted"], true);
    assert_eq!(service.left(), Vec::<String>::new());
    service
        .run(&["status"])
        .code(1)
        .says(&["`digits` is not deployed in namespace", "hint: `emberline deploy"]);
    service.run(&["delete", "--yes"]).code(1).says(&["is not deployed"]);
}

#[test]
fn what_would_be_applied_is_printed_and_nothing_is_changed() {
    let Some(cluster) = cluster() else { return };
    let service = Service::with(&cluster, ", replicas: 2, port: 8000");
    let version = service.bundle();
    let dry_run = |place| {
        let arguments = ["deploy", "--allow-ungated", "--bundle", &version, "--dry-run", place];
        service.run(&arguments).success().stdout
    };
    // Nobody is asked: there is no cluster at that address.
    let nowhere = service.kubeconfig("nowhere", &["set-cluster", "local", "--server=https://127.0.0.1:1"]);
    let arguments = [
        "deploy",
        "--allow-ungated",
        "--bundle",
        &version,
        "--dry-run",
        "client",
        "--kubeconfig",
    ];
    let mut offline = service.command(&arguments);
    let client = crate::tool::ran(offline.arg(nowhere)).success().stdout;
    assert_eq!(client, dry_run("client"));
    let file = service.path().join("objects.yaml");
    std::fs::write(&file, &client).expect("written");
    let checked = service.namespace.kubectl(&[
        "apply",
        "--server-side",
        "--dry-run=server",
        "-f",
        file.to_str().expect("a path"),
    ]);
    let said = String::from_utf8_lossy(&checked.stdout).into_owned() + &String::from_utf8_lossy(&checked.stderr);
    assert!(checked.status.success(), "{said}");
    for object in [
        "serviceaccount/digits",
        "service/digits-service",
        "deployment.apps/digits-deployment",
    ] {
        assert!(said.contains(object), "{said}");
    }
    assert!(!said.contains("Warning"), "{said}");

    // The cluster's defaults show that it was asked.
    let server = dry_run("server");
    assert!(server.contains("dnsPolicy: ClusterFirst"), "{server}");
    assert!(
        !server.contains("managedFields") && !client.contains("dnsPolicy"),
        "{server}"
    );
    assert_eq!(service.left(), Vec::<String>::new());
}

#[test]
fn the_number_of_replicas_follows_the_load_when_it_is_told_to() {
    let Some(cluster) = cluster() else { return };
    let service = Service::new(&cluster);
    let (first, second) = (service.bundle(), service.bundle());
    service.deploy(&first, &[]);
    // 2 % of 100 thousandths of a processor: what the load below takes is more.
    let report = service.ok(&["scale", "--autoscale", "2..4", "--cpu", "2", "--timeout", "120s"]);
    assert_eq!(report["autoscale"], serde_json::json!({ "min": 2, "max": 4, "cpu": 2 }));
    let (desired, ready) = numbers(&report);
    assert!((2..=4).contains(&desired) && ready >= 2, "{report}");
    let autoscaler = service.namespace.json(&["get", "hpa", "digits-autoscaler"]);
    let measured = &autoscaler["status"]["currentMetrics"][0]["resource"]["current"]["averageUtilization"];
    assert!(measured.is_u64(), "it reads no metrics: {autoscaler}");

    let load = Load::on(service.node_port());
    wait("the load makes it four", || {
        service.namespace.json(&["get", "deployment", "digits-deployment"])["status"]["readyReplicas"] == 4
    });
    // A deployment leaves the number alone, and refuses one of its own.
    let rolled = service.deploy(&second, &[]);
    assert_eq!(numbers(&rolled), (4, 4));
    service
        .run(&["deploy", "--allow-ungated", "--replicas", "2"])
        .code(2)
        .says(&["follows the load", "emberline scale --replicas N"]);
    load.finish();

    service
        .run(&["scale", "--replicas", "1", "--cpu", "50"])
        .code(2)
        .says(&["cannot be used with", "--cpu <PERCENT>"]);
    let fixed = service.ok(&["scale", "--replicas", "1"]);
    assert_eq!((numbers(&fixed), &fixed["autoscale"]), ((1, 1), &Value::Null));
    assert!(
        !service
            .namespace
            .kubectl(&["get", "hpa", "digits-autoscaler"])
            .status
            .success()
    );
}

#[test]
fn each_replica_is_told_as_it_goes_and_once() {
    let Some(cluster) = cluster() else { return };
    let service = Service::new(&cluster);
    let (first, second) = (service.bundle(), service.bundle());
    service.deploy(&first, &["--replicas", "2"]);
    let before = service.pods();
    let arguments = [
        "deploy",
        "--allow-ungated",
        "--replicas",
        "2",
        "--bundle",
        &second,
        "--no-probe",
    ];
    let told = service.run(&arguments).success().stderr;
    let lines: Vec<&str> = told.lines().collect();
    let count = |line: &str| lines.iter().filter(|told| **told == line).count();
    for pod in service.pods() {
        assert_eq!(count(&format!("  {pod} (version {second}): ready")), 1, "{told}");
    }
    for pod in &before {
        // What served when it began is no news, and the last of them may go when nobody looks any more.
        assert_eq!(count(&format!("  {pod} (version {first}): ready")), 0, "{told}");
        assert!(count(&format!("  {pod} (version {first}): ending")) <= 1, "{told}");
    }
    assert!(lines.len() < 25, "{told}");

    let mut events = service.command(&["rollback", "--no-probe", "--progress", "json"]);
    let events = crate::tool::ran(&mut events).success().stderr;
    let last: Value = serde_json::from_str(events.lines().last().expect("an event")).expect("JSON");
    let instances = last["instances"].as_array().expect("instances");
    let ready = instances.iter().filter(|instance| instance["stage"] == "ready").count();
    assert_eq!(ready, 2, "{last}");
}
