//! Prometheus finds the pods of a namespace.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use crate::prometheus::Discovery;
use crate::service::Service;
use crate::setup::cluster;

#[test]
fn prometheus_finds_every_pod_as_they_come_and_go() {
    let Some(cluster) = cluster() else { return };
    let service = Service::new(&cluster);
    // Prometheus is outside the cluster here.
    let kubeconfig = cluster.kubeconfig().to_str().expect("a path");
    let printed = service
        .run(&["monitor", "prometheus", "--kubeconfig", kubeconfig])
        .success();
    fs::write(service.path().join("prometheus.yml"), printed.stdout).expect("written");
    let Some(discovery) = Discovery::start(service.path()) else {
        return;
    };

    let version = service.bundle();
    service.deploy(&version, &["--replicas", "2"]);
    let names = |found: &[BTreeMap<String, String>]| -> BTreeSet<String> {
        found.iter().map(|server| server["instance"].clone()).collect()
    };
    let pods: BTreeSet<String> = service.pods().into_iter().collect();
    assert_eq!(pods.len(), 2);
    for server in discovery.finds(|found| names(found) == pods) {
        assert_eq!(server["job"], "digits");
        assert_eq!(server["namespace"], service.namespace.name());
        let metrics = ureq::get(&server["url"])
            .call()
            .expect("metrics")
            .body_mut()
            .read_to_string();
        assert!(metrics.expect("text").contains("\nemberline_ready 1\n"));
    }
    service.ok(&["scale", "--replicas", "1"]);
    let pods: BTreeSet<String> = service.pods().into_iter().collect();
    discovery.finds(|found| names(found) == pods);
}
