//! The whole chain to containers: from data to a prediction.

use std::fs;

use crate::setup::{Service, engine};

#[test]
fn ship_trains_builds_and_deploys_and_the_service_answers() {
    if !engine() {
        return;
    }
    let service = Service::new();
    let configure = |accuracy| {
        fs::write(
            service.path().join("emberline.yaml"),
            format!(
                "name: {}\ndata: {{source: synthetic-digits, count: 2000, test_count: 500}}\ntrain: {{epochs: 4}}\n\
                 evaluate: {{gate: {{accuracy: {accuracy}}}}}\ndeploy: {{target: docker, port: {}, replicas: 2}}\n",
                service.name, service.port
            ),
        )
        .expect("a project");
    };
    configure("0.5");
    let report = service.ok(&["ship"]);
    let version = report["train"]["version"].as_str().expect("a version");
    assert_eq!(report["package"]["builder"], "docker");
    assert_eq!(report["deploy"]["image"], service.image(version).as_str());
    assert_eq!(report["deploy"]["replicas"]["ready"], 2);
    assert!(report["prediction"]["label"].is_string(), "{report}");
    assert_eq!(service.ask().expect("an answer"), version);
    let before = service.containers();
    assert_eq!(before.len(), 2);

    // The same again changes nothing; a gate that is missed ends it before anything is built.
    assert_eq!(service.ok(&["ship"])["deploy"]["revision"], 1);
    assert_eq!(service.containers(), before);
    configure("0.999");
    service.run(&["ship"]).code(3);
    assert_eq!(service.containers(), before);
}
