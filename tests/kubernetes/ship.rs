//! The whole chain to a cluster: from data to a prediction through the Service, with the image pulled from a registry.

use crate::service::{Service, with_runtime};
use crate::setup::{cluster, registry};
use crate::tool::ran;

#[test]
fn ship_trains_pushes_and_deploys_and_the_service_answers() {
    let Some(cluster) = cluster() else { return };
    let Some(registry) = registry() else { return };
    let service = Service::new(&cluster);
    let repository = format!("{registry}/{}/digits", service.namespace.name());
    service.configure(&format!(
        "name: digits\ndata: {{source: synthetic-digits, count: 2000, test_count: 500}}\ntrain: {{epochs: 4}}\n\
         evaluate: {{gate: {{accuracy: 0.5}}}}\npackage: {{repository: '{repository}', builder: oci}}\n\
         deploy: {{target: kubernetes, namespace: {}, replicas: 3}}\n",
        service.namespace.name()
    ));
    let mut ship = service.command(&["ship", "-o", "json"]);
    with_runtime(&mut ship);
    let report = ran(&mut ship).success().json();
    let version = report["train"]["version"].as_str().expect("a version");
    let digest = report["package"]["digest"].as_str().expect("a digest");
    assert_eq!(report["package"]["pushed"], true);
    assert_eq!(report["evaluate"]["gate"]["verdict"], "pass");
    assert_eq!(report["deploy"]["replicas"]["ready"], 3);
    assert!(report["prediction"]["label"].is_string(), "{report}");

    // What runs is pinned to what was pushed, in a namespace that admits restricted pods alone.
    assert_eq!(report["deploy"]["image"], format!("{repository}:{version}@{digest}"));
    let pods = service.namespace.json(&["get", "pods"]);
    for pod in pods["items"].as_array().expect("pods") {
        let id = pod["status"]["containerStatuses"][0]["imageID"]
            .as_str()
            .expect("an image");
        assert!(id.ends_with(digest), "{id} is not {digest}");
    }

    // The same again trains the same bundle, finds its image pushed, and changes nothing in the cluster.
    let before = service.pods();
    let again = ran(&mut ship).success().json();
    assert_eq!(again["train"]["version"], version);
    assert_eq!(again["deploy"]["revision"], 1);
    assert_eq!(service.pods(), before);

    // A service with keys, and a key that is none of them: what the last link is told by the service is told here.
    service.run(&["keys", "add", "phone"]).success();
    let mut locked = service.command(&["ship", "--keys", "emberline.keys"]);
    with_runtime(&mut locked);
    locked.env("EMBERLINE_KEY", "none-of-them");
    ran(&mut locked).code(1).says(&[
        "Service `digits-service` wants a key, and was asked with none that it lets in",
        "hint: `EMBERLINE_KEY` is the key that it is asked with",
    ]);
    let before = service.pods();

    // A gate that is missed ends it before anything is pushed or applied.
    service.configure(&format!(
        "name: digits\ndata: {{source: synthetic-digits, count: 2000, test_count: 500}}\ntrain: {{epochs: 1}}\n\
         evaluate: {{gate: {{accuracy: 0.999}}}}\npackage: {{repository: '{repository}', builder: oci}}\n\
         deploy: {{target: kubernetes, namespace: {}}}\n",
        service.namespace.name()
    ));
    let mut ship = service.command(&["ship"]);
    with_runtime(&mut ship);
    ran(&mut ship).code(3);
    assert_eq!(service.pods(), before);
}
