//! What leads to a service from elsewhere, and who watches it: made by `deploy` when it is asked for, checked by the cluster's
//! own rules before anything is written, and taken away when it is not.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};

use serde_json::{Value, json};

use crate::service::Service;
use crate::setup::{cluster, extra_kinds};

const INGRESS: &str = "ingress: {hosts: [digits.example.com], class: nginx, tls_secret: digits-tls}";
const ROUTE: &str =
    "http_route: {gateway: public, gateway_namespace: gateways, section: https, hostnames: [models.example.com]}";
const MONITOR: &str = "service_monitor: {labels: {release: prometheus}, interval: 15s}";

/// A project that asks for these.
fn configure(service: &Service, extras: &[&str]) {
    service.configure_deploy(&[&[", clients: cluster"], extras].concat().join(", "));
}

/// The names of what there is of the three kinds, sorted.
fn there(service: &Service) -> Vec<String> {
    let kinds =
        "ingresses.networking.k8s.io,httproutes.gateway.networking.k8s.io,servicemonitors.monitoring.coreos.com";
    let objects = service.namespace.json(&["get", kinds]);
    let mut names: Vec<String> = objects["items"]
        .as_array()
        .expect("objects")
        .iter()
        .map(|object| {
            let text = |value: &Value| value.as_str().expect("a text").to_owned();
            format!("{} {}", text(&object["kind"]), text(&object["metadata"]["name"]))
        })
        .collect();
    names.sort();
    names
}

/// An Ingress of somebody else that looks like ours but for who has made it.
fn of_others(name: &str) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": { "name": name, "labels": {
            "app.kubernetes.io/name": "digits",
            "app.kubernetes.io/component": "server",
            "app.kubernetes.io/instance": "digits",
            "app.kubernetes.io/part-of": "digits",
            "app.kubernetes.io/managed-by": "others",
        }},
        "spec": { "defaultBackend": { "service": { "name": "digits-service", "port": { "number": 5000 } } } },
    })
}

#[test]
fn routes_come_and_go_with_the_configuration_and_the_pods_stay() {
    let Some(cluster) = cluster() else { return };
    if !extra_kinds() {
        return;
    }
    let service = Service::new(&cluster);
    let (first, second) = (service.bundle(), service.bundle());
    configure(&service, &[]);
    service.deploy(&first, &[]);
    let pods = service.pods();
    assert_eq!(there(&service), Vec::<String>::new());
    service.namespace.create(&of_others("of-others"));

    configure(&service, &[INGRESS, ROUTE, MONITOR]);
    let diff = |code| {
        let asked = ["diff", "--allow-ungated", "--bundle", &first, "-o", "json"];
        let report = service.run(&asked).code(code).json();
        let objects = report["objects"].as_array().expect("objects").clone();
        let changes = objects.iter().filter(|object| object["change"] != "none");
        let told = changes.map(|object| {
            let text = |key: &str| object[key].as_str().expect("a text");
            format!("{} {}", text("change"), text("kind"))
        });
        told.collect::<Vec<String>>()
    };
    assert_eq!(diff(1), ["create Ingress", "create HTTPRoute", "create ServiceMonitor"]);
    assert_eq!(service.deploy(&first, &[])["revision"], 1, "the same pods");
    assert_eq!(diff(0), Vec::<String>::new());
    assert_eq!(
        there(&service),
        [
            "HTTPRoute digits-route",
            "Ingress digits-ingress",
            "Ingress of-others",
            "ServiceMonitor digits-monitor",
        ]
    );
    let ingress = service.namespace.json(&["get", "ingress", "digits-ingress"]);
    assert_eq!(ingress["spec"]["rules"][0]["host"], "digits.example.com");
    // What the cluster has filled in shows that it has read it.
    let route = service.namespace.json(&["get", "httproute", "digits-route"]);
    let backend = &route["spec"]["rules"][0]["backendRefs"][0];
    assert_eq!((&backend["kind"], &backend["port"]), (&json!("Service"), &json!(5000)));
    let monitor = service.namespace.json(&["get", "servicemonitor", "digits-monitor"]);
    assert_eq!(monitor["spec"]["endpoints"][0]["interval"], "15s");
    assert_eq!(monitor["metadata"]["labels"]["release"], "prometheus");

    // They lead to the Service, whichever version is behind it: a rollback leaves them alone.
    configure(&service, &[ROUTE]);
    assert_eq!(diff(1), ["delete Ingress", "delete ServiceMonitor"]);
    service.deploy(&second, &[]);
    let left = ["HTTPRoute digits-route", "Ingress of-others"];
    assert_eq!(there(&service), left);
    assert_eq!(service.ok(&["rollback"])["version"], *first);
    assert_eq!(there(&service), left);
    assert_ne!(service.pods(), pods);

    service.ok(&["delete", "--yes"]);
    assert_eq!(there(&service), ["Ingress of-others"]);
    assert_eq!(service.left(), Vec::<String>::new());
}

#[test]
fn what_the_cluster_has_against_a_route_is_said_before_anything_is_written() {
    let Some(cluster) = cluster() else { return };
    if !extra_kinds() {
        return;
    }
    let service = Service::new(&cluster);
    let version = service.bundle();
    let refused = |extra: &str, words: &[&str]| {
        configure(&service, &[extra]);
        let ran = service.run(&["deploy", "--allow-ungated", "--bundle", &version]);
        ran.code(1).says(words);
        assert_eq!(service.left(), Vec::<String>::new());
    };
    refused(
        "ingress: {hosts: [Digits_]}",
        &["cannot apply Ingress `digits-ingress`", "Digits_"],
    );
    refused(
        "http_route: {gateway: public, path: /a//b}",
        &["cannot apply HTTPRoute `digits-route`", "must not contain '//'"],
    );
    refused(
        "service_monitor: {interval: soon}",
        &[
            "cannot apply ServiceMonitor `digits-monitor`",
            "spec.endpoints[0].interval",
        ],
    );
    service.namespace.create(&of_others("digits-ingress"));
    refused(INGRESS, &["there is an Ingress `digits-ingress`", "has not made"]);
}

#[test]
fn who_could_not_get_in_and_who_would_need_no_key_is_told() {
    let Some(cluster) = cluster() else { return };
    if !extra_kinds() {
        return;
    }
    let service = Service::with(&cluster, &format!(", {INGRESS}, {MONITOR}"));
    let version = service.bundle();
    let dry_run = ["deploy", "--allow-ungated", "--bundle", &version, "--dry-run", "server"];
    let ran = service.run(&dry_run).success();
    for words in [
        "`deploy.ingress`: the controller is not let in",
        "answered without a key",
    ] {
        assert!(ran.stderr.contains(words), "{}", ran.stderr);
    }
    service.run(&["keys", "add", "phone"]).success();
    configure(&service, &[INGRESS, MONITOR, "keys: emberline.keys"]);
    let ran = service.run(&dry_run).success();
    assert!(!ran.stderr.contains("deploy.ingress"), "{}", ran.stderr);
    // The operator's own rules for a key: it is named, and not written down.
    assert!(ran.stdout.contains("name: digits-prometheus"), "{}", ran.stdout);
    let report = service.run(&["doctor", "-o", "json"]).json();
    let checks = report["checks"].as_array().expect("checks");
    let kinds = checks.iter().find(|check| check["name"] == "kinds").expect("the check");
    assert_eq!(kinds["verdict"], "ok", "{kinds}");
    assert_eq!(service.left(), Vec::<String>::new());
}

/// A cluster that has nothing: whatever it is asked for is not there. Tells the method and path of each request.
fn empty_cluster() -> (u16, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let (told, asked) = channel();
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            let told = told.clone();
            std::thread::spawn(move || answer(&connection, &told));
        }
    });
    (port, asked)
}

/// Answers each request of a connection.
fn answer(connection: &TcpStream, told: &Sender<String>) -> Option<()> {
    let mut lines = BufReader::new(connection);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            (lines.read_line(&mut head).ok()? > 0).then_some(())?;
        }
        let length = head.to_lowercase();
        let length = length
            .lines()
            .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        lines
            .by_ref()
            .take(length.unwrap_or(0))
            .read_to_end(&mut Vec::new())
            .ok()?;
        told.send(head.split(" HTTP").next()?.to_owned()).ok()?;
        let body = r#"{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","code":404,
            "message":"the server could not find the requested resource"}"#;
        let length = body.len();
        let mut out = connection;
        write!(
            out,
            "HTTP/1.1 404 Not Found\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        )
        .ok()?;
    }
}

/// The cluster of the tests has both kinds, so this is another one.
#[test]
fn a_cluster_without_the_kind_is_told_so_and_asked_for_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let (port, asked) = empty_cluster();
    let kubeconfig = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "empty",
        "contexts": [{"name": "empty", "context": {"cluster": "empty", "user": "nobody", "namespace": "models"}}],
        "clusters": [{"name": "empty", "cluster": {"server": format!("http://127.0.0.1:{port}")}}],
        "users": [{"name": "nobody", "user": {}}],
    });
    fs::write(folder.path().join("kubeconfig"), kubeconfig.to_string()).expect("written");
    crate::fixture::digits_bundle(folder.path());
    for (extra, interface, provider) in [
        (
            ROUTE,
            "HTTPRoute (gateway.networking.k8s.io/v1)",
            "install the Gateway API",
        ),
        (
            MONITOR,
            "ServiceMonitor (monitoring.coreos.com/v1)",
            "install the Prometheus operator",
        ),
    ] {
        let project = format!(
            "name: digits\ndata: {{source: synthetic-digits}}\ndeploy: {{target: kubernetes, clients: cluster, {extra}}}\n"
        );
        fs::write(folder.path().join("emberline.yaml"), project).expect("written");
        for command in ["deploy", "diff"] {
            let mut command = crate::tool::emberline(folder.path(), &[command, "--allow-ungated"]);
            let ran = crate::tool::ran(command.env("KUBECONFIG", folder.path().join("kubeconfig")));
            let key = extra.split(':').next().expect("a key");
            assert!(ran.code == Some(1) || ran.code == Some(2), "{}", ran.stderr);
            ran.says(&[
                &format!("the cluster has no kind {interface}, which `deploy.{key}` asks for"),
                &format!("hint: {provider}"),
                &format!("or take `deploy.{key}` out"),
            ]);
        }
    }
    let asked: Vec<String> = asked.try_iter().collect();
    assert!(
        asked
            .iter()
            .any(|line| line.ends_with("/apis/gateway.networking.k8s.io/v1")),
        "{asked:?}"
    );
    assert!(asked.iter().all(|line| line.starts_with("GET ")), "{asked:?}");
}
