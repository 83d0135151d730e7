//! What a replica asks for and may take follows from what `package` has measured, and is enough.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::fixture::http::Connection;
use crate::fixture::{bundle_of, digits_bundle};
use crate::service::Service;
use crate::setup::{Cluster, cluster};

/// What `package` has measured of a version.
fn footprint(service: &Service, version: &str) -> (PathBuf, Value) {
    let path = service
        .path()
        .join(format!(".emberline/bundles/{version}.footprint.json"));
    let text = fs::read(&path).expect("package has measured it");
    (path, serde_json::from_slice(&text).expect("JSON"))
}

/// A service whose project says nothing of memory or processor time, so that it gets what was measured.
fn measured_service(cluster: &Cluster) -> Service {
    let service = Service::new(cluster);
    service.configure_deploy("");
    service
}

/// What the containers of the Deployment ask for and may take.
fn resources(service: &Service) -> Value {
    let deployment = service.namespace.json(&["get", "deployment", "digits-deployment"]);
    deployment["spec"]["template"]["spec"]["containers"][0]["resources"].clone()
}

/// Twice as much, in whole steps of 8 MiB, and 32 at least.
fn mebibytes(measured: &Value) -> u64 {
    let step = 8 << 20;
    (2 * measured.as_u64().expect("bytes")).div_ceil(step).max(4) * 8
}

#[test]
fn replicas_get_what_was_measured_and_it_is_enough() {
    let Some(cluster) = cluster() else { return };
    let service = measured_service(&cluster);
    let folder = digits_bundle(service.path());
    let version = service.load(&folder);
    let (path, measured) = footprint(&service, &version);
    let usage = &measured["usage"];
    let (steady, largest) = (&usage["memory_bytes"], &usage["memory_largest_request_bytes"]);
    // A request of 16 MiB is held whole, and its numbers beside it.
    assert!(
        largest.as_u64() > steady.as_u64().map(|bytes| bytes + (16 << 20)),
        "{measured}"
    );
    assert!(usage["predictions"].as_u64() > Some(10), "{measured}");

    let ran = service
        .run(&["deploy", "--allow-ungated", "--bundle", &version])
        .success();
    let (request, limit) = (mebibytes(steady), mebibytes(largest));
    let told = format!("each replica gets {request}Mi to {limit}Mi of memory and 100m of processor time, by what");
    assert!(ran.stderr.contains(&told), "{}", ran.stderr);
    let expected = json!({
        "requests": { "cpu": "100m", "memory": format!("{request}Mi") },
        "limits": { "memory": format!("{limit}Mi") },
    });
    assert_eq!(resources(&service), expected);

    // Load from this machine: predictions one after the other, and the largest request that a server takes.
    let address = ([127, 0, 0, 1], service.node_port()).into();
    let golden = fs::read(folder.join("golden.json")).expect("golden inputs");
    let golden: Value = serde_json::from_slice(&golden).expect("JSON");
    let input = &golden["cases"][0]["input"];
    let ask = |body: &[u8]| {
        let mut open = Connection::open(address)?;
        let answer = open.request("POST", "/v1/models/digits:predict", "", body)?;
        std::io::Result::Ok(answer.status)
    };
    let one = json!({ "instances": [input] }).to_string();
    for _ in 0..200 {
        assert_eq!(ask(one.as_bytes()).expect("an answer"), 200);
    }
    let input = input.to_string();
    let times = (16 << 20) / (input.len() + 1) - 1;
    let body = format!("{{\"instances\":[{}]}}", vec![input; times].join(","));
    assert_eq!(ask(body.as_bytes()).expect("an answer"), 200);
    assert_eq!(ask(one.as_bytes()).expect("an answer"), 200);
    let pods = service
        .namespace
        .json(&["get", "pods", "--selector=app.kubernetes.io/component=server"]);
    let status = &pods["items"][0]["status"]["containerStatuses"][0];
    assert_eq!(
        (&status["restartCount"], &status["lastState"]),
        (&json!(0), &json!({})),
        "{status}"
    );

    // Measured once: packaged again it asks for the same, and nothing changes.
    let before = fs::read(&path).expect("the footprint");
    service.load(&folder);
    assert_eq!(fs::read(&path).expect("the footprint"), before);
    assert_eq!(service.deploy(&version, &[])["revision"], 1);
    assert_eq!(
        service.run(&["diff", "--allow-ungated", "--bundle", &version]).code,
        Some(0)
    );

    // What the project says stands above it, and nobody is told what they have said.
    service.configure_deploy(", memory: 96Mi, cpu: 50m");
    let ran = service
        .run(&["deploy", "--allow-ungated", "--bundle", &version])
        .success();
    assert!(!ran.stderr.contains("each replica gets"), "{}", ran.stderr);
    let expected = json!({ "requests": { "cpu": "50m", "memory": "96Mi" }, "limits": { "memory": "96Mi" } });
    assert_eq!(resources(&service), expected);
    service.ok(&["delete", "--yes"]);
}

#[test]
fn what_is_not_known_is_said_and_fixed_and_a_slower_network_is_promised_more() {
    let Some(cluster) = cluster() else { return };
    let service = measured_service(&cluster);
    let wanted = |version: &str| {
        let ran = service.run(&["deploy", "--allow-ungated", "--bundle", version, "--dry-run", "client"]);
        (ran.code, ran.stdout.clone(), ran.stderr)
    };
    // What never gets ready cannot be measured, and has an image all the same.
    let broken = service.broken_bundle();
    let (code, objects, told) = wanted(&broken);
    assert_eq!(code, Some(0), "{told}");
    assert!(
        objects.contains("memory: 128Mi") && objects.contains("cpu: 100m"),
        "{objects}"
    );
    let words = "each replica gets 128Mi of memory and 100m of processor time, which nobody has measured";
    assert!(told.contains(words), "{told}");

    let hidden = vec![2048, 2048, 2048];
    let model = emberline::model::ModelConfig::Mlp { hidden, dropout: 0.0 };
    let large = service.load(&bundle_of(service.path(), "digits", model));
    let (_, measured) = footprint(&service, &large);
    let steady = &measured["usage"]["memory_bytes"];
    // Its 10 million weights are 40 MB.
    assert!(steady.as_u64() > Some(40_000_000), "{measured}");
    let (_, objects, _) = wanted(&large);
    assert!(
        objects.contains(&format!("memory: {}Mi", mebibytes(steady))),
        "{objects}"
    );
    let seconds = measured["usage"]["cpu_seconds_per_prediction"]
        .as_f64()
        .expect("seconds");
    let expected = (((seconds * 1e5).ceil() / 10.0).ceil() * 10.0).clamp(100.0, 1000.0);
    let expected = if expected == 1000.0 {
        "cpu: '1'".to_owned()
    } else {
        format!("cpu: {expected}m")
    };
    assert!(objects.contains(&expected), "no {expected} in {objects}");

    // A file of another bundle's is not believed.
    let (path, _) = footprint(&service, &large);
    fs::copy(&path, path.with_file_name(format!("{broken}.footprint.json"))).expect("copied");
    let (code, _, told) = wanted(&broken);
    assert_eq!(code, Some(1));
    assert!(told.contains("lies beside another"), "{told}");
}
