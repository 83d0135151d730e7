//! `scale --slo`: a replica measured in the cluster, and as many as the rate takes.
#![allow(clippy::print_stderr)] // what was measured is told

use std::process::Stdio;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::running::{signal, wait};
use crate::service::Service;
use crate::setup::{cluster, succeeded};

/// The pod that measures, if it is there and not on its way out.
fn measures(service: &Service) -> bool {
    service.pods().iter().any(|name| name == "digits-measure")
}

/// What may not change: the replicas, and that nobody else decides on them.
fn replicas(service: &Service) -> (Value, Value) {
    let status = service.ok(&["status"]);
    (status["replicas"].clone(), status["autoscale"].clone())
}

#[test]
fn a_service_is_scaled_to_what_one_replica_was_measured_to_carry() {
    let Some(cluster) = cluster() else { return };
    let service = Service::new(&cluster);
    let version = service.bundle();
    service.deploy(&version, &[]);
    let arguments = ["--slo", "p99=500ms", "--rps", "300"];
    let measured = service.ok(&[&["scale"], &arguments[..], &["--timeout", "180s"]].concat());
    let capacity = &measured["capacity"];
    eprintln!("measured: {capacity}");
    let sizing = &capacity["sizing"];
    let number = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("no number: {capacity}"));
    let carries = number(&sizing["replica_rps"]);
    let wanted = (300.0 / (carries * 0.7)).ceil();
    assert!((number(&sizing["replicas"]) - wanted).abs() < 0.5, "{sizing}");
    assert!(number(&sizing["cpu_seconds_per_request"]) > 0.0);
    assert_eq!(
        measured["autoscale"],
        json!({ "min": wanted as u64, "max": 2 * wanted as u64, "cpu": sizing["cpu_percent"] })
    );
    assert!(number(&measured["replicas"]["ready"]) >= wanted, "{measured}");
    // The container of a replica, in a pod that has gone.
    let deployment = service.namespace.json(&["get", "deployment", "digits-deployment"]);
    let promised = &deployment["spec"]["template"]["spec"]["containers"][0]["resources"];
    assert_eq!(
        capacity["measurement"]["resources"],
        json!({ "cpu": promised["requests"]["cpu"], "memory": promised["limits"]["memory"] })
    );
    assert_eq!(capacity["measurement"]["place"], "kubernetes");
    assert!(!measures(&service));
    let path = service
        .path()
        .join(format!(".emberline/bundles/{version}.capacity.json"));
    let kept: Value = serde_json::from_slice(&std::fs::read(path).expect("kept")).expect("JSON");
    assert_eq!(kept["measurements"], json!([capacity["measurement"]]));
    // It is what a plan rests on.
    let plan = service.ok(&["plan", "--rps", "1000000"]);
    assert_eq!(plan["replica"], capacity["measurement"]);
    assert_eq!(
        (&plan["gateway"], &plan["needs"]["gateway"]),
        (&Value::Null, &Value::Null)
    );

    // The same as a fixed number, with its curve for a person.
    let text = service
        .run(&["scale", "--slo", "p99=500ms", "--rps", "1", "--fixed"])
        .success()
        .stdout;
    for words in [
        "requests/s  ",
        "└ 500 ms",
        "1 replica for 1.0 requests/s, 30 % in hand",
        "capacity.json",
    ] {
        assert!(text.contains(words), "no `{words}`:\n{text}");
    }
    assert_eq!(replicas(&service), (json!({ "desired": 1, "ready": 1 }), Value::Null));
}

#[test]
fn an_objective_that_is_missed_and_a_client_that_dies_change_nothing() {
    let Some(cluster) = cluster() else { return };
    let service = Service::new(&cluster);
    let version = service.bundle();
    service.deploy(&version, &["--replicas", "2"]);
    let before = replicas(&service);
    let impossible = ["scale", "--slo", "p99=1us", "--rps", "10"];
    service.run(&impossible).code(1).says(&[
        "one replica does not keep p99=1us at the lowest rate",
        "20 requests/s: p99 ",
        "nothing was changed",
    ]);
    assert_eq!(replicas(&service), before);
    assert!(!measures(&service));

    for (end, left) in [(Signal::INT, false), (Signal::KILL, true)] {
        let mut command = service.command(&["scale", "--slo", "p99=1s", "--rps", "10"]);
        let mut client = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        wait("the measurement", || measures(&service));
        signal(client.id(), end);
        let code = client.wait().expect("it ended").code();
        assert_eq!(measures(&service), left);
        assert_eq!(code, (!left).then_some(130));
    }
    let pod = service.namespace.json(&["get", "pod", "digits-measure"]);
    let deadline = pod["spec"]["activeDeadlineSeconds"].as_u64();
    assert!(deadline.is_some_and(|seconds| seconds <= 600), "{pod}");
    // The Service does not lead to it.
    let endpoints = service.namespace.json(&[
        "get",
        "endpointslices",
        "--selector=kubernetes.io/service-name=digits-service",
    ]);
    assert!(!endpoints.to_string().contains("digits-measure"), "{endpoints}");
    // Its lock ends by itself, and the next measurement takes its place.
    wait("the next measurement", || {
        let next = service.run(&impossible);
        next.code != Some(6) && next.code(1).stderr.contains("nothing was changed")
    });
    assert!(!measures(&service));
    assert_eq!(replicas(&service), before);

    // What is left behind goes with the service; and what somebody else has made does not.
    let mut pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": "digits-measure" },
        "spec": pod["spec"].clone(),
    });
    pod["spec"].as_object_mut().expect("a spec").remove("nodeName");
    service.namespace.create(&pod);
    service
        .run(&impossible)
        .code(1)
        .says(&["a Pod `digits-measure`", "that emberline has not made"]);
    assert!(measures(&service));
    let label = |name: &str, value: &str| {
        let label = format!("app.kubernetes.io/{name}={value}");
        succeeded(service.namespace.kubectl(&["label", "pod", "digits-measure", &label]));
    };
    for (name, value) in [
        ("managed-by", "emberline"),
        ("name", "digits"),
        ("instance", "digits"),
        ("part-of", "digits"),
        ("component", "measure"),
    ] {
        label(name, value);
    }
    service.ok(&["delete", "--yes"]);
    assert!(!measures(&service));
}

#[test]
fn a_service_with_keys_is_measured_with_the_probes() {
    let Some(cluster) = cluster() else { return };
    let service = Service::new(&cluster);
    let version = service.bundle();
    let key = service.run(&["keys", "add", "probe"]).success().stdout;
    service.deploy(&version, &["--keys", "emberline.keys"]);
    let measure = ["scale", "--slo", "p99=1us", "--rps", "10", "--measure-only"];
    service
        .run(&measure)
        .code(1)
        .says(&["status 401", "the Secret `digits-probe`"]);
    let key = format!("--from-literal=key={}", key.trim());
    succeeded(
        service
            .namespace
            .kubectl(&["create", "secret", "generic", "digits-probe", &key]),
    );
    let before = replicas(&service);
    let measure = [
        "scale",
        "--slo",
        "p99=500ms",
        "--rps",
        "200000",
        "--measure-only",
        "-o",
        "json",
    ];
    let ran = service.run(&measure).success();
    let report = ran.json();
    let sizing = &report["capacity"]["sizing"];
    assert!(
        sizing["replicas"].as_u64().is_some_and(|replicas| replicas > 1),
        "{sizing}"
    );
    assert_eq!(replicas(&service), before);
    // What is known to be in the way is said.
    let nodes = service.namespace.json(&["get", "nodes"]);
    let nodes = nodes["items"].as_array().expect("nodes");
    let processors = nodes.iter().map(|node| {
        let amount = node["status"]["allocatable"]["cpu"].as_str().expect("an amount");
        let (number, unit) = amount.strip_suffix('m').map_or((amount, 1.0), |number| (number, 1e-3));
        number.parse::<f64>().expect("a number") * unit
    });
    let short = sizing["processors"].as_f64().expect("a number") > processors.sum();
    assert_eq!(
        ran.stderr.contains("so many replicas will not carry them"),
        short,
        "{}",
        ran.stderr
    );
    let above = sizing["cpu_percent"].as_u64().expect("a target") > 100;
    assert_eq!(
        ran.stderr.contains("that it asks for (`deploy.cpu`)"),
        above,
        "{}",
        ran.stderr
    );
}
