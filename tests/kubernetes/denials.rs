//! What the cluster itself forbids, by policies, limits and quotas: told with whose rule it is, and taken back; and a version
//! that failed and is left to be looked at.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::running::wait;
use crate::service::Service;
use crate::setup::{cluster, succeeded};
use crate::tool::Ran;
use crate::webhook::Webhook;

/// A policy of the cluster for one namespace; it goes with the test, however that ends.
struct Policy<'a> {
    service: &'a Service,
    name: String,
}

impl<'a> Policy<'a> {
    /// Forbids what `expression` says no to, of what is created or changed of a kind.
    fn new(service: &'a Service, group: &str, kind: &str, expression: &str) -> Self {
        let name = format!("{}-{kind}", service.namespace.name());
        let policy = Self { service, name };
        let name = &policy.name;
        service.namespace.create(&json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicy",
            "metadata": { "name": name },
            "spec": {
                "failurePolicy": "Fail",
                "matchConstraints": { "resourceRules": [{
                    "apiGroups": [group], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": [kind],
                }]},
                "validations": [{ "expression": expression, "message": "not on a Friday" }],
            },
        }));
        service.namespace.create(&json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": { "name": name },
            "spec": {
                "policyName": name,
                "validationActions": ["Deny"],
                "matchResources": { "namespaceSelector": {
                    "matchLabels": { "kubernetes.io/metadata.name": service.namespace.name() },
                }},
            },
        }));
        policy
    }
}

impl Drop for Policy<'_> {
    fn drop(&mut self) {
        let kinds = ["validatingadmissionpolicybinding", "validatingadmissionpolicy"];
        for kind in kinds {
            self.service
                .cluster
                .kubectl(&["delete", kind, &self.name, "--wait=false"]);
        }
    }
}

/// Everything but one version.
fn all_but(version: &str) -> String {
    let label = "object.metadata.labels['app.kubernetes.io/version']";
    format!(
        "!has(object.metadata.labels) || !('app.kubernetes.io/version' in object.metadata.labels) || {label} != '{version}'"
    )
}

/// A pod that the namespace admits, of a version.
fn pod_of(version: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": "asked", "labels": { "app.kubernetes.io/version": version } },
        "spec": {
            "securityContext": { "runAsNonRoot": true, "seccompProfile": { "type": "RuntimeDefault" } },
            "containers": [{
                "name": "asked",
                "image": "emberline.test/none:1",
                "securityContext": { "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } },
            }],
        },
    })
}

/// Deploys a version that the cluster forbids: the one that serves goes on, and nobody waits for what will not come.
#[track_caller]
fn deploy_forbidden(service: &Service, version: &str, timeout: &str) -> Ran {
    let before = service.pods();
    let start = Instant::now();
    let arguments = ["deploy", "--allow-ungated", "--no-probe", "--bundle", version];
    let ran = service.run(&[&arguments[..], &["--timeout", timeout]].concat());
    assert!(start.elapsed() < Duration::from_mins(1), "{:?}", start.elapsed());
    assert_eq!(service.pods(), before, "{}", ran.stderr);
    ran
}

#[test]
fn what_the_cluster_forbids_is_told_with_whose_rule_it_is() {
    let Some(cluster) = cluster() else { return };
    let service = Service::new(&cluster);
    let (first, second) = (service.bundle(), service.bundle());
    service.deploy(&first, &[]);
    let deploy = || deploy_forbidden(&service, &second, "5m");

    // The Deployment itself: known before anything is changed.
    let policy = Policy::new(&service, "apps", "deployments", &all_but(&second));
    let name = policy.name.clone();
    let dry_run = ["deploy", "--allow-ungated", "--bundle", &second, "--dry-run", "server"];
    wait("the policy holds", || service.run(&dry_run).code == Some(1));
    deploy().code(1).says(&[
        "cannot apply Deployment `digits-deployment`",
        "not on a Friday",
        &format!("hint: the cluster's policy `{name}` forbids it, whatever this account may do"),
    ]);
    drop(policy);
    wait("the policy has gone", || service.run(&dry_run).code == Some(0));

    // Its pods: the Deployment is taken, and nothing comes of it.
    let policy = Policy::new(&service, "", "pods", &all_but(&second));
    let pod = service.path().join("pod.json");
    std::fs::write(&pod, pod_of(&second).to_string()).expect("written");
    let is_refused = || {
        let file = pod.to_str().expect("a path");
        let asked = service.namespace.kubectl(&["create", "--dry-run=server", "-f", file]);
        !asked.status.success()
    };
    wait("the policy holds", is_refused);
    deploy().code(4).says(&[
        "deploy failed and was rolled back: the cluster makes no pod",
        "not on a Friday",
        &format!("hint: the cluster's policy `{}` forbids it", policy.name),
    ]);
    drop(policy);
    wait("the policy has gone", || !is_refused());

    let namespace = service.namespace.name();
    service.namespace.create(&json!({
        "apiVersion": "v1",
        "kind": "LimitRange",
        "metadata": { "name": "small" },
        "spec": { "limits": [{ "type": "Container", "max": { "memory": "32Mi" } }] },
    }));
    deploy().code(4).says(&[
        "the cluster makes no pod",
        "maximum memory usage per Container is 32Mi",
        "hint: `deploy.memory` and `deploy.cpu` say what a replica asks for",
        &format!("kubectl describe limitrange -n {namespace}"),
    ]);
    succeeded(service.namespace.kubectl(&["delete", "limitrange", "small"]));

    service.namespace.create(&json!({
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": { "name": "small" },
        "spec": { "hard": { "pods": "1" } },
    }));
    wait("the quota knows what is used", || {
        let quota = service.namespace.json(&["get", "resourcequota", "small"]);
        quota["status"]["used"]["pods"] == "1"
    });
    deploy().code(4).says(&[
        "the cluster makes no pod",
        "exceeded quota: small",
        &format!("kubectl describe quota -n {namespace}"),
    ]);
    let outcomes = service.ok(&["history"]);
    let outcomes = outcomes["revisions"].as_array().expect("revisions").iter();
    let outcomes: Vec<&Value> = outcomes.map(|revision| &revision["outcome"]).collect();
    assert_eq!(outcomes, ["deployed", "rolled_back", "rolled_back", "rolled_back"]);
}

#[test]
fn webhooks_that_forbid_add_or_are_silent_are_named() {
    let Some(cluster) = cluster() else { return };
    let service = Service::new(&cluster);
    let (first, second) = (service.bundle(), service.bundle());
    service.deploy(&first, &[]);
    let deploy = |timeout| deploy_forbidden(&service, &second, timeout);

    let Some(mut asked) = Webhook::Forbids.asked(&service, &second) else {
        return;
    };
    asked.wait(&pod_of(&second));
    deploy("5m").code(4).says(&[
        "deploy failed and was rolled back: the cluster makes no pod",
        "not on a Friday",
        &format!("hint: the cluster's webhook `{}` forbids it", asked.name),
    ]);

    // One that does not answer may answer yet: that is waited for, and what was waited for is told.
    asked.fall_silent();
    deploy("15s").code(4).says(&[
        "deploy failed and was rolled back",
        &format!(
            "the cluster asks the webhook `{}` first, which does not answer",
            asked.name
        ),
    ]);
    drop(asked);

    // What it adds, the namespace's own standard refuses.
    let Some(asked) = Webhook::AddsSidecar.asked(&service, &second) else {
        return;
    };
    asked.wait(&pod_of(&second));
    deploy("5m").code(4).says(&[
        "deploy failed and was rolled back: the cluster makes no pod",
        "violates PodSecurity \"restricted",
        "hint: what emberline makes keeps to the standard `restricted`: something else adds to its pods",
    ]);
}

#[test]
fn a_version_that_failed_can_be_left_to_be_looked_at() {
    let Some(cluster) = cluster() else { return };
    let service = Service::new(&cluster);
    let (good, broken) = (service.bundle(), service.broken_bundle());
    service.deploy(&good, &[]);
    let before = service.pods();
    let keep = |version: &str| {
        let arguments = ["deploy", "--allow-ungated", "--bundle", version, "--no-probe"];
        service.run(&[&arguments[..], &["--rollback-on-failure=false"]].concat())
    };
    keep(&broken).code(5).says(&[
        "deploy failed: pod `digits-deployment-",
        "failed its golden check: golden case 0",
        "revision 2 is left as it is",
        "`emberline rollback` goes back",
    ]);
    let status = service.ok(&["status"]);
    assert_eq!(
        (&status["version"], &status["revision"], &status["phase"]),
        (&json!(broken), &json!(2), &json!("failed")),
        "{status}"
    );
    assert!(
        status["trouble"]["reason"]
            .as_str()
            .is_some_and(|reason| reason.contains("golden check")),
        "{status}"
    );
    // The one that failed is there, beside the one that serves.
    let pods = service.pods();
    assert!(pods.len() == 2 && pods.contains(&before[0]), "{pods:?}");
    let kept = service.ok(&["history"])["revisions"][1].clone();
    assert_eq!((&kept["outcome"], &kept["kept"]), (&json!("failed"), &json!(true)));

    // It is what a rollback undoes, and what the next deploy takes the place of.
    let back = service.ok(&["rollback", "--no-probe"]);
    assert_eq!(
        (&back["version"], &back["revision"], &back["phase"]),
        (&json!(good), &json!(3), &json!("ready"))
    );
    keep(&broken).code(5);
    let next = service.deploy(&good, &["--no-probe"]);
    assert_eq!(
        (&next["version"], &next["revision"], &next["phase"]),
        (&json!(good), &json!(5), &json!("ready"))
    );
    wait("the one that failed goes", || service.pods().len() == 1);

    let local = [
        "deploy",
        "--allow-ungated",
        "--target",
        "local",
        "--rollback-on-failure=no",
    ];
    service
        .run(&[&local[..], &["--bundle", &good]].concat())
        .code(2)
        .says(&["`--rollback-on-failure=false` leaves the pods", "the target is `local`"]);
}
