//! The gateway in a cluster: nginx in pods, in front of the Service.

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::fixture::http::get;
use crate::service::Service;
use crate::setup::{Cluster, cluster, kit, reached, succeeded};
use crate::tool::found;

/// This machine's nginx as an image that the cluster has.
pub const IMAGE: &str = "emberline.test/nginx:1";

/// Loads it; not where there is no nginx.
pub fn nginx_image(cluster: &Cluster) -> bool {
    static LOADED: OnceLock<()> = OnceLock::new();
    if !found("nginx", "apt-get install nginx-light") {
        return false;
    }
    LOADED.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let archive = folder.path().join("nginx.tar");
        succeeded(
            Command::new(kit("nginx-image"))
                .arg(&archive)
                .output()
                .expect("the kit runs"),
        );
        cluster.load(&archive);
    });
    true
}

fn configure(service: &Service, gateway: &str) {
    service.configure(&format!(
        "name: digits\ndata: {{source: synthetic-digits}}\ndeploy: {{target: kubernetes, namespace: {}}}\n\
         gateway: {{image: '{IMAGE}'{gateway}}}\n",
        service.namespace.name()
    ));
}

#[test]
fn requests_reach_every_replica_through_the_gateway_and_go_on_while_they_are_replaced() {
    let Some(cluster) = cluster() else { return };
    if !nginx_image(&cluster) {
        return;
    }
    let service = Service::new(&cluster);
    configure(&service, ", service_type: NodePort");
    let (first, second) = (service.bundle(), service.bundle());
    service.run(&["gateway", "up", "--allow-public"]).code(1).says(&[
        "there is no Service `digits-service`",
        "hint: `emberline deploy --target kubernetes`",
    ]);
    service.deploy(&first, &["--replicas", "3"]);
    service
        .run(&["gateway", "up"])
        .code(1)
        .says(&["beyond the cluster", "hint: if that is what you want"]);

    let up = service.ok(&["gateway", "up", "--allow-public"]);
    assert_eq!(up["upstreams"], json!(["digits-service:5000"]));
    assert_eq!(
        (&up["address"], &up["namespace"]),
        (&Value::Null, &json!(service.namespace.name()))
    );
    let gateway = service.namespace.json(&["get", "service", "digits-gateway"]);
    let port = gateway["spec"]["ports"][0]["nodePort"].as_u64().expect("a port") as u16;
    let hint = up["address_hint"].as_str().expect("a hint");
    assert!(
        hint.contains(&format!("port {port}")) && hint.contains("port-forward"),
        "{hint}"
    );
    reached(port);
    let address = ([127, 0, 0, 1], port).into();
    let model = get(address, "/digits/v2/models/digits");
    assert_eq!(model.status, 200);
    assert!(
        get(address, "/elsewhere")
            .error(404)
            .contains("this gateway serves /digits/")
    );

    // The pods of the gateway stay as they are when nothing is to be changed.
    let pods = || {
        service
            .namespace
            .json(&["get", "pods", "--selector", "app.kubernetes.io/component=gateway"])
    };
    let names = |pods: &Value| -> Vec<Value> {
        pods["items"]
            .as_array()
            .expect("pods")
            .iter()
            .map(|pod| pod["metadata"]["name"].clone())
            .collect()
    };
    let before = names(&pods());
    assert_eq!(before.len(), 2);
    service.ok(&["gateway", "up", "--allow-public"]);
    assert_eq!(names(&pods()), before);

    // A roll behind it: every request is answered, by both versions.
    let mut asked = 0;
    let mut failures = Vec::new();
    let mut versions = Vec::new();
    let mut roll = service
        .command(&["deploy", "--allow-ungated", "--bundle", &second, "--replicas", "3"])
        .spawn()
        .expect("the binary runs");
    let mut after = 0;
    while after < 60 {
        if roll.try_wait().expect("a state").is_some() {
            after += 1;
        }
        let answer = get(address, "/digits/v2/models/digits");
        asked += 1;
        if answer.status != 200 {
            failures.push(answer.status);
        }
        let version = answer.json()["versions"][0].as_str().unwrap_or_default().to_owned();
        if !versions.contains(&version) {
            versions.push(version);
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert!(roll.wait().expect("its end").success());
    assert_eq!(failures, Vec::<u16>::new(), "of {asked} requests");
    assert_eq!(versions, [first, second]);

    // Its log is JSON on its output, and tells which replica answered.
    let logs = service
        .namespace
        .kubectl(&["logs", "--selector", "app.kubernetes.io/component=gateway", "--tail=-1"]);
    let logs = String::from_utf8_lossy(&logs.stdout).into_owned();
    let line = logs.lines().find(|line| line.contains("/digits/v2")).expect("a line");
    let line: Value = serde_json::from_str(line).expect("JSON");
    assert_eq!(
        (&line["status"], &line["upstream_status"]),
        (&json!(200), &json!("200"))
    );

    service.ok(&["gateway", "down"]);
    service
        .run(&["gateway", "down"])
        .code(1)
        .says(&["there is no gateway of `digits`", "hint: `emberline gateway up"]);
}

#[test]
fn the_objects_are_printed_and_accepted_and_a_wrong_image_is_told() {
    let Some(cluster) = cluster() else { return };
    let service = Service::new(&cluster);
    configure(&service, "");
    let text = service.run(&["gateway", "render"]).success().stdout;
    let file = service.path().join("gateway.yaml");
    std::fs::write(&file, &text).expect("written");
    let apply = |path: &Path| {
        let path = path.to_str().expect("a path");
        service
            .namespace
            .kubectl(&["apply", "--server-side", "--dry-run=server", "-f", path])
    };
    let said = succeeded(apply(&file));
    let said = String::from_utf8_lossy(&said.stdout).into_owned() + &String::from_utf8_lossy(&said.stderr);
    for object in [
        "configmap/digits-gateway",
        "deployment.apps/digits-gateway",
        "service/digits-gateway",
    ] {
        assert!(said.contains(object), "{said}");
    }
    assert!(!said.contains("Warning"), "{said}");

    service
        .run(&["gateway", "render", "--listen", "127.0.0.1:8080"])
        .code(2)
        .says(&["`--listen` is about this machine"]);
    service
        .run(&["gateway", "render", "--balance", "ip_hash"])
        .code(1)
        .says(&["cannot balance by `ip_hash`", "hint: leave `gateway.balance`"]);

    service.deploy(&service.bundle(), &[]);
    service.configure(&format!(
        "name: digits\ndata: {{source: synthetic-digits}}\ndeploy: {{target: kubernetes, namespace: {}}}\n\
         gateway: {{image: 'emberline.test/absent:1'}}\n",
        service.namespace.name()
    ));
    service.run(&["gateway", "up"]).code(1).says(&[
        "the gateway does not get ready",
        "cannot get the image `emberline.test/absent:1`",
        "hint: `gateway.image` names an image",
    ]);
}
