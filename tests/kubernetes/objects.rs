//! The objects of a release: compared before they are applied, taken away when they are no longer wanted, and keys.

use std::fs;

use serde_json::{Value, json};

use crate::fixture::http::Connection;
use crate::running::wait;
use crate::service::Service;
use crate::setup::cluster;

/// What `diff` says: the exit code, and each object with what would be done to it.
fn diff(service: &Service, version: &str, arguments: &[&str]) -> (Option<i32>, Vec<(String, String)>) {
    let asked = ["diff", "--allow-ungated", "--bundle", version, "-o", "json"];
    let ran = service.run(&[&asked, arguments].concat());
    let report = ran.json();
    let objects = report["objects"].as_array().expect("objects");
    let told = |object: &Value| {
        let text = |key: &str| object[key].as_str().expect("a text").to_owned();
        assert_eq!(text("diff").is_empty(), text("change") == "none", "{object}");
        (text("kind"), text("change"))
    };
    (ran.code, objects.iter().map(told).collect())
}

fn all(change: &str) -> Vec<(String, String)> {
    let kinds = [
        "ServiceAccount",
        "NetworkPolicy",
        "PodDisruptionBudget",
        "Service",
        "Deployment",
    ];
    kinds.map(|kind| (kind.to_owned(), change.to_owned())).to_vec()
}

#[test]
fn diff_tells_what_deploy_would_do_and_deploy_does_it() {
    let Some(cluster) = cluster() else { return };
    let service = Service::new(&cluster);
    let (first, second) = (service.bundle(), service.bundle());
    assert_eq!(diff(&service, &first, &[]), (Some(1), all("create")));
    assert_eq!(service.left(), Vec::<String>::new(), "a comparison changes nothing");

    service.deploy(&first, &[]);
    assert_eq!(diff(&service, &first, &[]), (Some(0), all("none")));
    // As a person sees it: nothing on stdout when nothing differs, and the line that does.
    let person = |version: &str, arguments: &[&str]| {
        let asked = ["diff", "--allow-ungated", "--bundle", version];
        let ran = service.run(&[&asked, arguments].concat());
        (ran.code, ran.stdout.clone())
    };
    assert_eq!(person(&first, &[]), (Some(0), String::new()));
    let (code, text) = person(&first, &["--replicas", "2"]);
    assert_eq!(code, Some(1));
    let changed: Vec<&str> = text.lines().filter(|line| line.starts_with(['-', '+'])).collect();
    let expected = [
        "--- Deployment/digits-deployment (now)",
        "+++ Deployment/digits-deployment (wanted)",
        "-  replicas: 1",
        "+  replicas: 2",
    ];
    assert_eq!(changed, expected, "{text}");
    assert_eq!(diff(&service, &second, &[]).0, Some(1));

    // What others have changed shows, and so does what an earlier release has left.
    let budget = "poddisruptionbudgets/digits-budget";
    let patch = r#"{"spec":{"maxUnavailable":3}}"#;
    let patched = service
        .namespace
        .kubectl(&["patch", budget, "--type=merge", "-p", patch]);
    assert!(patched.status.success());
    let make = |name: &str, manager: &str| {
        service.namespace.create(&json!({
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": { "name": name, "labels": {
                "app.kubernetes.io/name": "digits",
                "app.kubernetes.io/component": "server",
                "app.kubernetes.io/instance": "digits",
                "app.kubernetes.io/part-of": "digits",
                "app.kubernetes.io/managed-by": manager,
            }},
            "spec": { "podSelector": { "matchLabels": { "app.kubernetes.io/name": "nobody" } } },
        }));
    };
    make("of-old", "emberline");
    make("of-others", "others");
    let (code, told) = diff(&service, &first, &[]);
    assert_eq!(code, Some(1));
    let differing: Vec<&(String, String)> = told.iter().filter(|(_, change)| change != "none").collect();
    let expected = [("PodDisruptionBudget", "update"), ("NetworkPolicy", "delete")];
    let expected = expected.map(|(kind, change)| (kind.to_owned(), change.to_owned()));
    assert_eq!(differing, expected.iter().collect::<Vec<_>>());
    service.deploy(&first, &[]);
    assert_eq!(diff(&service, &first, &[]), (Some(0), all("none")));
    let policies = service.namespace.json(&["get", "networkpolicies"]);
    let names: Vec<&str> = policies["items"]
        .as_array()
        .expect("policies")
        .iter()
        .filter_map(|policy| policy["metadata"]["name"].as_str())
        .collect();
    assert_eq!(names, ["digits-policy", "of-others"]);

    // Not told by 1, which is an answer.
    let failed = service.run(&["diff", "--bundle", &first]);
    assert_eq!(failed.code, Some(2), "a gate that has not passed: {}", failed.stderr);
    service.ok(&["delete", "--yes"]);
    assert_eq!(service.left(), Vec::<String>::new());
}

#[test]
fn an_object_of_somebody_else_is_left_alone() {
    let Some(cluster) = cluster() else { return };
    let service = Service::new(&cluster);
    let version = service.bundle();
    service.namespace.create(&json!({
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": { "name": "digits-budget" },
        "spec": { "maxUnavailable": 0, "selector": { "matchLabels": { "app": "other" } } },
    }));
    let ran = service.run(&["deploy", "--allow-ungated", "--bundle", &version]);
    assert_eq!(ran.code, Some(1));
    assert!(
        ran.stderr.contains("a PodDisruptionBudget `digits-budget`") && ran.stderr.contains("has not made"),
        "{}",
        ran.stderr
    );
    assert_eq!(service.left(), Vec::<String>::new());
    let budget = service.namespace.json(&["get", "poddisruptionbudget", "digits-budget"]);
    assert_eq!(budget["spec"]["maxUnavailable"], 0);
}

/// What the server says to a request with this key, once there is one.
fn status(port: u16, key: Option<&str>) -> Option<u16> {
    let mut open = Connection::open(([127, 0, 0, 1], port).into()).ok()?;
    let header = key.map(|key| format!("X-API-Key: {key}\r\n")).unwrap_or_default();
    let answer = open.request("GET", "/v2/models/digits", &header, b"").ok()?;
    Some(answer.status)
}

#[test]
fn clients_need_a_key_of_the_file() {
    let Some(cluster) = cluster() else { return };
    let service = Service::new(&cluster);
    let (first, second) = (service.bundle(), service.bundle());
    service.deploy(&first, &[]);
    let ran = service.run(&["keys", "add", "phone"]).success();
    let key = ran.stdout.trim().to_owned();
    service.deploy(&second, &["--keys", "emberline.keys"]);

    let port = service.node_port();
    let status = |key: Option<&str>| status(port, key);
    assert_eq!(status(None), Some(401));
    assert_eq!(status(Some("wrong")), Some(401));
    assert_eq!(status(Some(&key)), Some(200));
    assert!(!service.namespace.json(&["get", "all"]).to_string().contains(&key));

    // What the Secret holds is not shown, and whether it differs is.
    service.run(&["keys", "add", "tablet"]).success();
    let ran = service.run(&[
        "diff",
        "--allow-ungated",
        "--bundle",
        &second,
        "--keys",
        "emberline.keys",
    ]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stdout.contains("*** (after)"), "{}", ran.stdout);
    assert!(!ran.stdout.contains("Deployment/"), "{}", ran.stdout);
    // Another file is no other release: the kubelet brings it to the servers in its own time, and they read it again.
    let report = service.deploy(&second, &["--keys", "emberline.keys"]);
    assert_eq!(report["revision"], 2);
    let template = "go-template={{index .data \"emberline.keys\" | base64decode}}";
    let secret = service
        .namespace
        .kubectl(&["get", "secret", "digits-keys", "-o", template]);
    let file = fs::read(service.path().join("emberline.keys")).expect("the key file");
    assert_eq!(secret.stdout, file);

    // A rollback would let everybody in.
    let ran = service.run(&["rollback"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("revision 1 answers without keys"), "{}", ran.stderr);
    assert_eq!(status(None), Some(401));
    // A deployment without keys is said in so many words, and leaves the Secret to those who may come back to it.
    assert_eq!(service.deploy(&first, &[])["revision"], 3);
    wait("no key is asked for", || status(None) == Some(200));
    assert_eq!(service.ok(&["rollback"])["version"], *second);
    wait("a key is asked for again", || status(None) == Some(401));
    service.ok(&["delete", "--yes"]);
    assert_eq!(service.left(), Vec::<String>::new());
}

#[test]
fn a_key_file_that_is_none_changes_nothing() {
    let Some(cluster) = cluster() else { return };
    let service = Service::new(&cluster);
    let version = service.bundle();
    let refused = |content: &str, words: &str| {
        fs::write(service.path().join("some.keys"), content).expect("written");
        let ran = service.run(&["deploy", "--allow-ungated", "--bundle", &version, "--keys", "some.keys"]);
        assert_eq!(ran.code, Some(1), "{}", ran.stderr);
        assert!(ran.stderr.contains(words), "{}", ran.stderr);
    };
    refused("", "holds no key");
    refused("phone secret\n", "some.keys:1:");
    assert_eq!(service.left(), Vec::<String>::new());
}
