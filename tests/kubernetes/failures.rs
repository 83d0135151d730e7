//! What goes wrong on the way: each is told with its cause and what to do about it, and leaves what served before.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::fixture;
use crate::gateway::{IMAGE, nginx_image};
use crate::running::{version_of, wait};
use crate::service::Service;
use crate::setup::cluster;
use crate::tool::ran;

#[test]
fn a_version_that_never_gets_ready_is_taken_back_and_says_why() {
    let Some(cluster) = cluster() else { return };
    let service = Service::new(&cluster);
    let (good, broken) = (service.bundle(), service.broken_bundle());
    service.deploy(&good, &["--replicas", "2"]);
    let before = service.pods();
    let deploy = |version: &str, more: &[&str]| {
        let arguments = ["deploy", "--allow-ungated", "--replicas", "2", "--bundle", version];
        service.run(&[&arguments, more].concat())
    };

    // Its golden answers are not those of the model: the server ends, and its log says so.
    deploy(&broken, &[]).code(4).says(&[
        "deploy failed and was rolled back: pod `digits-deployment-",
        "failed its golden check: golden case 0 is off",
        "log ends with:",
        "hint: train again on this kind of machine",
    ]);
    assert_eq!(service.pods(), before, "the former pods serve on");

    // An image that no node can get. It is known in seconds, not at the end of a timeout.
    let start = Instant::now();
    deploy(&good, &["--image", "emberline.test/absent:1", "--timeout", "5m"])
        .code(4)
        .says(&[
            "cannot get the image `emberline.test/absent:1`",
            "hint: `emberline package --push`",
        ]);
    assert!(start.elapsed() < Duration::from_mins(1), "{:?}", start.elapsed());
    assert_eq!(service.pods(), before);

    // One whose container ends again and again: nginx finds no configuration in its own image.
    let ends = nginx_image(&cluster);
    if ends {
        let start = Instant::now();
        deploy(&good, &["--image", IMAGE, "--timeout", "5m"]).code(4).says(&[
            "deploy failed and was rolled back: pod `digits-deployment-",
            "ended with code 1",
            "log ends with:",
            "nginx.conf",
        ]);
        assert!(start.elapsed() < Duration::from_mins(1), "{:?}", start.elapsed());
        assert_eq!(service.pods(), before);
    }

    // One that fits on no node: that may change while something makes room, and nothing does.
    service.configure_deploy(", cpu: 500");
    let start = Instant::now();
    deploy(&good, &["--timeout", "5m"]).code(4).says(&[
        "fits on no node",
        "Insufficient cpu",
        "hint: ask for less by `deploy.memory`",
    ]);
    assert!(start.elapsed() < Duration::from_mins(1), "{:?}", start.elapsed());
    assert_eq!(service.pods(), before);

    let status = service.ok(&["status"]);
    assert_eq!(
        (&status["version"], &status["phase"]),
        (&json!(good), &json!("rolled_back"))
    );
    let reason = status["trouble"]["reason"].as_str().expect("a reason");
    // The pods are those of the first revision, whatever was tried with its version since.
    for instance in status["instances"].as_array().expect("instances") {
        assert_eq!(
            (&instance["revision"], &instance["ready"]),
            (&json!(1), &json!(true)),
            "{instance}"
        );
    }
    // A change that works is told as one, though one before it has failed.
    assert_eq!(service.ok(&["scale", "--replicas", "2"])["phase"], "ready");
    assert!(reason.contains("fits on no node"), "{reason}");
    let outcomes: Vec<Value> = service.ok(&["history"])["revisions"]
        .as_array()
        .expect("revisions")
        .iter()
        .map(|revision| revision["outcome"].clone())
        .collect();
    assert_eq!(outcomes[0], "deployed");
    assert_eq!(outcomes[1..], vec!["rolled_back"; 3 + usize::from(ends)]);
    service
        .run(&["rollback", "--revision", "2"])
        .code(1)
        .says(&["revision 2 never served", "hint: `emberline history`"]);
}

#[test]
fn a_first_version_that_fails_leaves_nothing_behind_but_its_history() {
    let Some(cluster) = cluster() else { return };
    let service = Service::new(&cluster);
    let broken = service.broken_bundle();
    service
        .run(&["deploy", "--allow-ungated", "--bundle", &broken])
        .code(5)
        .says(&["deploy failed: pod", "golden"]);
    wait("the pods go", || service.left().len() == 1);
    assert_eq!(service.left(), ["\"ConfigMap\" \"digits-history\""]);
    assert_eq!(service.ok(&["history"])["revisions"][0]["outcome"], "failed");

    // A quota that has no room: told at once.
    service.namespace.create(&json!({
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": { "name": "small" },
        "spec": { "hard": { "requests.memory": "64Mi" } },
    }));
    service
        .run(&["deploy", "--allow-ungated", "--bundle", &broken, "--timeout", "5m"])
        .code(5)
        .says(&[
            "the cluster makes no pod",
            "exceeded quota: small",
            "hint: ask for less",
        ]);
}

#[test]
fn a_place_that_is_none_is_told_before_anything_is_changed() {
    let Some(cluster) = cluster() else { return };
    let service = Service::new(&cluster);
    let version = version_of(&fixture::digits_bundle(service.path()));
    let deploy = |more: &[&str]| {
        let arguments = ["deploy", "--allow-ungated", "--bundle", &version];
        service.run(&[&arguments, more].concat()).code(1)
    };
    deploy(&["--context", "nowhere"]).says(&[
        "there is no context `nowhere`",
        "hint: the kubeconfig has these contexts: local",
    ]);
    deploy(&["-n", "absent"]).says(&[
        "namespaces \"absent\" not found",
        "hint: `kubectl --context local create namespace absent`",
    ]);
    deploy(&["--kubeconfig", "absent.yaml"]).says(&[
        "there is no cluster to work with",
        "absent.yaml",
        "hint: name a kubeconfig",
    ]);
    let nowhere = service.kubeconfig("nowhere", &["set-cluster", "local", "--server=https://127.0.0.1:1"]);
    deploy(&["--kubeconfig", nowhere.to_str().expect("a path")]).says(&[
        "no cluster answers at https://127.0.0.1:1",
        "(context `local`)",
        "hint: start it, or choose another one with --context",
    ]);
    let mut without = service.command(&["status"]);
    without.env_remove("KUBECONFIG").env("HOME", service.path());
    ran(&mut without)
        .code(1)
        .says(&["there is no cluster to work with", "hint: name a kubeconfig"]);
    // A line of a kubeconfig may be a secret, also where it is no YAML.
    let leak = service.path().join("leak");
    std::fs::write(
        &leak,
        "apiVersion: v1\nkind: Config\nusers: [{name: a, user: {token: sup3rs3cret}]\n",
    )
    .expect("written");
    let said =
        deploy(&["--kubeconfig", leak.to_str().expect("a path")]).says(&["the kubeconfig is no YAML of its kind"]);
    assert!(!said.stderr.contains("sup3rs3cret"), "{}", said.stderr);

    // What nobody needs a cluster to see.
    deploy(&["-n", "Bad_NS"]).says(&["`Bad_NS` is no name of a namespace", "hint: it takes up to 63"]);
    deploy(&["--image", "Not Valid", "--dry-run", "client"])
        .says(&["`Not Valid` is no reference of an image", "hint:"]);
    for replicas in ["0", "100000"] {
        deploy(&["--replicas", replicas, "--dry-run", "client"]).says(&["replicas: a service has 1 to 1000 of them"]);
    }
    service
        .run(&["status", "--target", "local", "-n", "models"])
        .code(2)
        .says(&["`--namespace` is about a cluster, and the target is `local`"]);

    // An account that may do nothing.
    service.namespace.json(&["create", "serviceaccount", "nobody"]);
    let token = service.namespace.kubectl(&["create", "token", "nobody"]).stdout;
    let token = String::from_utf8(token).expect("a token");
    let nobody = service.account("nobody", token.trim());
    let mut command = service.command(&["deploy", "--allow-ungated", "--bundle", &version, "--kubeconfig"]);
    let refused = ran(command.arg(&nobody))
        .code(1)
        .says(&["is forbidden", "hint: your account lacks this right in namespace"]);
    assert!(!refused.stderr.contains(token.trim()), "the token is told");
    assert_eq!(service.left(), Vec::<String>::new());
}

#[test]
fn what_others_have_made_is_left_alone() {
    let Some(cluster) = cluster() else { return };
    let service = Service::new(&cluster);
    let version = version_of(&fixture::digits_bundle(service.path()));
    service.namespace.create(&json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "name": "digits-deployment" },
        "spec": {
            "replicas": 0,
            "selector": { "matchLabels": { "app": "theirs" } },
            "template": {
                "metadata": { "labels": { "app": "theirs" } },
                "spec": { "containers": [{ "name": "theirs", "image": "theirs:1" }] },
            },
        },
    }));
    let told = [
        "there is a Deployment `digits-deployment`",
        "that emberline has not made",
        "hint: give the project another",
    ];
    for arguments in [
        &["deploy", "--allow-ungated", "--bundle", &version][..],
        &["status"],
        &["scale", "--replicas", "2"],
        &["delete", "--yes"],
    ] {
        service.run(arguments).code(1).says(&told);
    }
    let theirs = service.namespace.json(&["get", "deployment", "digits-deployment"]);
    assert_eq!(theirs["metadata"]["generation"], 1);
}

#[test]
fn one_change_at_a_time_and_a_client_that_was_killed_blocks_nobody() {
    let Some(cluster) = cluster() else { return };
    let service = Service::new(&cluster);
    let (first, second) = (service.bundle(), service.bundle());
    service.deploy(&first, &[]);
    let lease = |since: &str| {
        json!({
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": { "name": "digits-lock" },
            "spec": {
                "holderIdentity": "someone@elsewhere, emberline deploy, process 7",
                "leaseDurationSeconds": 30,
                "renewTime": since,
            },
        })
    };
    let now = String::from_utf8(
        std::process::Command::new("date")
            .args(["-u", "+%Y-%m-%dT%H:%M:%S.000000Z"])
            .output()
            .expect("date runs")
            .stdout,
    )
    .expect("text");
    service.namespace.create(&lease(now.trim()));
    service.run(&["scale", "--replicas", "2"]).code(6).says(&[
        "another deploy holds the lock of `digits` (someone@elsewhere, emberline deploy, process 7)",
        "hint: try again; a lock whose client has died ends by itself after 30 s",
    ]);
    assert!(
        service
            .namespace
            .kubectl(&["delete", "lease", "digits-lock"])
            .status
            .success()
    );
    service.namespace.create(&lease("2026-01-01T00:00:00.000000Z"));
    assert_eq!(service.ok(&["scale", "--replicas", "2"])["replicas"]["ready"], 2);

    // Killed in the middle of a roll: the cluster goes on with it, and the lock ends by itself.
    let mut client = service
        .command(&["deploy", "--allow-ungated", "--bundle", &second, "--replicas", "2"])
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("the binary runs");
    wait("the roll begins", || {
        service.namespace.json(&["get", "deployment", "digits-deployment"])["metadata"]["labels"]["app.kubernetes.io/version"]
            == *second
    });
    client.kill().expect("killed");
    client.wait().expect("its end");
    wait("the roll ends without its client", || {
        service.ok(&["status"])["phase"] == "ready"
    });
    assert_eq!(service.ok(&["history"])["revisions"][1]["outcome"], "deployed");
    // It is what the next one that fails goes back to, though no client has seen it arrive.
    wait("the lock of the dead client ends", || {
        let arguments = [
            "deploy",
            "--allow-ungated",
            "--bundle",
            &first,
            "--image",
            "emberline.test/absent:1",
        ];
        let failed = service.run(&[&arguments[..], &["--replicas", "2"]].concat());
        assert!(matches!(failed.code, Some(4 | 6)), "{}", failed.stderr);
        failed.code == Some(4)
    });
    assert_eq!(service.ok(&["status"])["version"], *second);

    // Nor is anything lost with the history.
    let gone = service.namespace.kubectl(&["delete", "configmap", "digits-history"]);
    assert!(gone.status.success());
    for arguments in [&["history"][..], &["rollback"]] {
        service
            .run(arguments)
            .code(1)
            .says(&["its history is gone", "hint: the next `emberline deploy`"]);
    }
    let arguments = ["deploy", "--allow-ungated", "--bundle", &first, "--replicas", "2"];
    service
        .run(&[&arguments[..], &["--image", "emberline.test/absent:1"]].concat())
        .code(4);
    assert_eq!(service.ok(&["status"])["version"], *second);
    service.deploy(&first, &["--replicas", "2"]);
    service.deploy(&second, &["--replicas", "2"]);
    assert_eq!(service.ok(&["rollback"])["version"], *first);
}
