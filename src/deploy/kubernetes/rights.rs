//! What an account needs to be allowed in its namespace. The Role in docs/guide/deploying.md says the same, and a test
//! holds the two together.

use std::collections::BTreeSet;

use k8s_openapi::Resource;
use k8s_openapi::api::networking::v1::Ingress;

use super::custom::{HttpRoute, ServiceMonitor};
use super::routes::Extra;
use crate::cluster::Right;

/// Group, kind, and what is done to it.
const NEEDED: [(&str, &str, &[&str]); 14] = [
    ("", "serviceaccounts", &["get", "create", "patch", "delete"]),
    ("", "services", &["get", "create", "patch", "delete"]),
    ("", "configmaps", &["get", "create", "patch", "delete"]),
    ("apps", "deployments", &["get", "create", "patch", "delete"]),
    ("apps", "deployments/scale", &["patch"]),
    ("apps", "replicasets", &["list"]),
    (
        "policy",
        "poddisruptionbudgets",
        &["get", "list", "create", "patch", "delete"],
    ),
    (
        "networking.k8s.io",
        "networkpolicies",
        &["get", "list", "create", "patch", "delete"],
    ),
    (
        "autoscaling",
        "horizontalpodautoscalers",
        &["get", "create", "patch", "delete"],
    ),
    ("coordination.k8s.io", "leases", &["get", "create", "update", "delete"]),
    // `create` and `delete` are for the probe.
    ("", "pods", &["get", "list", "create", "delete"]),
    ("", "pods/log", &["get"]),
    // Whether a node is on its way for a pod that fits on none.
    ("", "events", &["list"]),
    // What a canary has counted.
    ("", "pods/proxy", &["get"]),
];
/// What `ship` needs besides, for its last question.
const ASKING: (&str, &str, &[&str]) = ("", "services/proxy", &["create"]);
/// And a service whose clients need keys.
const KEYS: (&str, &str, &[&str]) = ("", "secrets", &["get", "create", "patch", "delete"]);

/// What is done to an object that not every service has.
const EXTRA: &[&str] = &["get", "list", "create", "patch", "delete"];

/// The rights that every command about a service needs, together, `ship` among them; those for `keys`, and for what else
/// the project asks for.
pub fn rights(keys: bool, extras: &BTreeSet<Extra>) -> impl Iterator<Item = Right> {
    let extras = extras.iter().map(|extra| match extra {
        Extra::Ingress => (Ingress::GROUP, Ingress::URL_PATH_SEGMENT, EXTRA),
        Extra::HttpRoute => (HttpRoute::GROUP, HttpRoute::URL_PATH_SEGMENT, EXTRA),
        Extra::ServiceMonitor => (ServiceMonitor::GROUP, ServiceMonitor::URL_PATH_SEGMENT, EXTRA),
    });
    let kinds = NEEDED
        .into_iter()
        .chain([ASKING])
        .chain(keys.then_some(KEYS))
        .chain(extras);
    kinds.flat_map(|(group, resource, verbs)| verbs.iter().map(move |verb| Right { group, resource, verb }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::named_by;

    #[test]
    fn the_guide_names_the_same_rights() {
        let extras = Extra::ALL.into();
        let needed = rights(true, &extras).map(|right| format!("{} {} {}", right.group, right.resource, right.verb));
        assert_eq!(named_by("docs/guide/deploying.md"), needed.collect());
    }
}
