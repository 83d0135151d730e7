//! Prometheus finds the containers themselves, as they come and go.

use std::collections::BTreeSet;
use std::fs;

use crate::fixture::port;
use crate::prometheus::{Prometheus, hurried, prometheus, until_nothing_wants};
use crate::setup::{Service, engine};

/// That of another destination is one more, and none of its own.
#[test]
fn prometheus_finds_every_container_of_its_destination() {
    if !(engine() && prometheus()) {
        return;
    }
    let service = Service::new();
    service.bundle();
    let overlay = format!("deploy:\n  port: {}\n", port::free());
    fs::write(service.path().join("emberline.staging.yaml"), overlay).expect("an overlay");
    service.deploy(&["--replicas", "2"]);
    service.deploy(&["-d", "staging"]);

    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, what: &str| {
        let printed = service.run(&["monitor", what]).success().stdout;
        fs::write(folder.path().join(name), hurried(&printed)).expect("written");
    };
    file("prometheus.yml", "prometheus");
    let prometheus = Prometheus::start(folder.path());
    for replicas in [2, 3] {
        service.ok(&["scale", "--replicas", &replicas.to_string()]);
        until_nothing_wants(|| {
            let series = prometheus.query("emberline_ready == 1");
            let servers: BTreeSet<String> = series
                .iter()
                .map(|(labels, _)| labels["instance"].to_string())
                .collect();
            let there = servers.len() == replicas && servers.iter().all(|server| server.contains(&service.name));
            (!there)
                .then(|| format!("{replicas} replicas: {servers:?}"))
                .into_iter()
                .collect()
        });
    }
    service.ok(&["delete", "--yes", "-d", "staging"]);
}
