//! What the Prometheus operator makes of a `ServiceMonitor`: the real one, run by this machine for one namespace. The Prometheus
//! that it configures has no pods; what it would scrape is found by Prometheus' own code.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::json;

use crate::prometheus::Discovery;
use crate::running::wait;
use crate::service::Service;
use crate::setup::{cluster, extra_kinds, succeeded};
use crate::tool::skipped;

const BUILD: &str = "go build -C tests/prometheus/operator -o ../../../target/operator \
                     github.com/prometheus-operator/prometheus-operator/cmd/operator";

/// The operator, and a Prometheus that it configures; both go with the test, however that ends.
struct Operator<'a> {
    service: &'a Service,
    child: Child,
}

impl<'a> Operator<'a> {
    fn start(service: &'a Service) -> Option<Self> {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/operator");
        if !program.is_file() {
            skipped::for_want_of("the Prometheus operator", BUILD);
            return None;
        }
        service.namespace.create(&json!({
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "Prometheus",
            "metadata": { "name": "asked" },
            "spec": { "replicas": 0, "serviceMonitorSelector": { "matchLabels": { "release": "prometheus" } } },
        }));
        let log = fs::File::create(service.path().join("operator.log")).expect("a log");
        let child = Command::new(program)
            .env("KUBECONFIG", service.cluster.kubeconfig())
            .args(["--namespaces", service.namespace.name()])
            .args(["--web.listen-address", "127.0.0.1:0"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the operator starts");
        Some(Self { service, child })
    }

    /// The configuration that it has made, once it says `words`.
    fn configuration(&self, words: &str) -> String {
        let mut told = String::new();
        wait(&format!("a configuration with `{words}`"), || {
            let secret = ["get", "secret", "prometheus-asked", "--ignore-not-found"];
            let path = r"-o=jsonpath={.data.prometheus\.yaml\.gz}";
            let packed = succeeded(self.service.namespace.kubectl(&[&secret[..], &[path]].concat())).stdout;
            told = unpacked(&packed);
            told.contains(words)
        });
        told
    }
}

impl Drop for Operator<'_> {
    fn drop(&mut self) {
        self.service
            .namespace
            .kubectl(&["delete", "prometheus", "asked", "--timeout=20s"]);
        // It has not ended by itself, when all is well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What base64 and gzip have packed; nothing of nothing.
fn unpacked(packed: &[u8]) -> String {
    let mut command = Command::new("sh");
    command.args(["-c", "base64 -d | gunzip"]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("a shell");
    child.stdin.take().expect("stdin").write_all(packed).expect("written");
    String::from_utf8(child.wait_with_output().expect("its end").stdout).expect("text")
}

#[test]
fn the_operator_has_prometheus_scrape_each_pod_with_a_key_where_one_is_needed() {
    let Some(cluster) = cluster() else { return };
    if !extra_kinds() {
        return;
    }
    let service = Service::with(&cluster, ", service_monitor: {labels: {release: prometheus}}");
    let version = service.bundle();
    service.deploy(&version, &["--replicas", "2"]);
    let Some(operator) = Operator::start(&service) else {
        return;
    };

    let job = format!("job_name: serviceMonitor/{}/digits-monitor/0", service.namespace.name());
    let configuration = operator.configuration(&job);
    // Prometheus is outside the cluster here, where it is not told how to ask it.
    let kubeconfig = service.cluster.kubeconfig().to_str().expect("a path");
    let role = configuration
        .lines()
        .find(|line| line.trim_start().starts_with("- role: "))
        .expect("pods that are looked for");
    let indent = " ".repeat(role.len() - role.trim_start().len() + 2);
    let told = format!("{role}\n{indent}kubeconfig_file: {kubeconfig}");
    // Beside Prometheus, a reloader puts the pod's share of the work there.
    let configuration = configuration.replace(role, &told).replace("$(SHARD)", "0");
    fs::write(service.path().join("prometheus.yml"), configuration).expect("written");
    let Some(discovery) = Discovery::start(service.path()) else {
        return;
    };
    let pods: BTreeSet<String> = service.pods().into_iter().collect();
    let found = discovery.finds(|found| {
        let names: BTreeSet<String> = found.iter().map(|server| server["instance"].clone()).collect();
        names == pods
    });
    assert_eq!(found.len(), 2, "{found:?}");
    let metrics = |url: &str, key: Option<&str>| {
        let mut request = ureq::get(url).config().http_status_as_error(false).build();
        if let Some(key) = key {
            request = request.header("Authorization", format!("Bearer {key}"));
        }
        let mut answer = request.call().expect("an answer");
        let text = answer.body_mut().read_to_string().expect("text");
        (answer.status().as_u16(), text.contains("\nemberline_ready 1\n"))
    };
    for server in &found {
        assert_eq!(server["job"], "digits");
        assert_eq!(server["namespace"], service.namespace.name());
        assert_eq!(metrics(&server["url"], None), (200, true), "{server:?}");
    }

    // Of a service with keys it reads the key that it is to bring from the Secret that the monitor names.
    let key = service.run(&["keys", "add", "prometheus"]).success().stdout;
    let key = key.trim();
    let literal = format!("--from-literal=key={key}");
    let secret = ["create", "secret", "generic", "digits-prometheus", &literal];
    succeeded(service.namespace.kubectl(&secret));
    service.deploy(&version, &["--keys", "emberline.keys"]);
    let configuration = operator.configuration(&format!("credentials: {key}"));
    assert!(configuration.contains("type: Bearer"), "{configuration}");
    let pod = service.namespace.json(&["get", "pod", &service.pods()[0]]);
    let url = format!(
        "http://{}:5000/metrics",
        pod["status"]["podIP"].as_str().expect("an address")
    );
    assert_eq!(metrics(&url, None), (401, false));
    assert_eq!(metrics(&url, Some(key)), (200, true));
}
