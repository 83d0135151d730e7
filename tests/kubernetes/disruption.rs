//! What others do to the pods of a service: delete and evict them, drain their node, kill their containers.
#![allow(dead_code)] // the bench uses its part

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::requests::Requests;
use crate::running::{runs, signal, wait};
use crate::service::{MARK, Service};
use crate::setup::succeeded;

/// Whether there are so many replicas that answer, and none that goes.
pub fn settled(service: &Service, replicas: usize) -> bool {
    let pods = service.namespace.json(&[
        "get",
        "pods",
        "--selector=app.kubernetes.io/name=digits,app.kubernetes.io/component=server",
    ]);
    let pods = pods["items"].as_array().expect("pods").clone();
    let ready = |pod: &Value| {
        let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
        pod["metadata"]["deletionTimestamp"].is_null()
            && conditions
                .iter()
                .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
    };
    pods.len() == replicas && pods.iter().all(ready)
}

/// Evicts a pod as a drain of its node does; its budget may make it wait for its neighbours.
pub fn evict(service: &Service, pod: &str) {
    let file = service.path().join("eviction.json");
    let namespace = service.namespace.name();
    let asked = json!({
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": { "name": pod, "namespace": namespace },
    });
    std::fs::write(&file, asked.to_string()).expect("written");
    let path = format!("/api/v1/namespaces/{namespace}/pods/{pod}/eviction");
    let file = file.to_str().expect("a path");
    wait("its eviction", || {
        service
            .namespace
            .kubectl(&["create", "--raw", &path, "-f", file])
            .status
            .success()
    });
}

/// Deletes a pod.
pub fn delete(service: &Service, pod: &str) {
    succeeded(service.namespace.kubectl(&["delete", "pod", pod]));
}

/// Drains the node of the service's pods, of them alone, and waits until the drain has ended.
///
/// The only node cannot be closed for long: there is no other one for the pods that come instead, nor for those of the tests
/// beside this one. It is opened as soon as the drain has closed it; the evictions are the drain's own, one at a time.
pub fn drain(service: &Service) {
    // Whoever opens the node opens it for another drain too, which would never see it closed.
    static NODE: Mutex<()> = Mutex::new(());
    let pods = service.pods();
    let mark = service.namespace.name();
    for pod in &pods {
        service.mark(pod, mark);
    }
    let pod = service.namespace.json(&["get", "pod", &pods[0]]);
    let node = pod["spec"]["nodeName"].as_str().expect("a node");
    let closing = NODE.lock().expect("no panic");
    let cordoned = Cordoned { service, node };
    let mut drain = Command::new("kubectl")
        .arg("--kubeconfig")
        .arg(service.cluster.kubeconfig())
        .args([
            "drain",
            node,
            "--ignore-daemonsets",
            "--delete-emptydir-data",
            "--timeout=150s",
        ])
        .arg(format!("--pod-selector={MARK}={mark}"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("kubectl runs");
    wait("the drain has closed the node", || cordoned.is_closed());
    drop((cordoned, closing));
    assert!(drain.wait().expect("its end").success());
}

/// A node that is closed; it takes pods again when this goes, however that comes.
struct Cordoned<'a> {
    service: &'a Service,
    node: &'a str,
}

impl Cordoned<'_> {
    fn is_closed(&self) -> bool {
        self.service.cluster.json(&["get", "node", self.node])["spec"]["unschedulable"] == true
    }
}

impl Drop for Cordoned<'_> {
    fn drop(&mut self) {
        self.service.cluster.kubectl(&["uncordon", self.node]);
    }
}

/// What became of the requests while a container was killed and started again.
pub struct Killed {
    /// Those through the Service, some of which were for the killed one.
    pub through: Value,
    /// Those to each of the other pods.
    pub neighbours: Vec<Value>,
}

/// Kills the container of one pod of three, under steady requests through the Service at `address` and to each of the others.
/// None where the processes of the node are not this machine's.
pub fn kill_one(service: &Service, bundle: &Path, address: &str) -> Option<Killed> {
    let pods: Vec<Value> = service
        .pods()
        .iter()
        .map(|name| service.namespace.json(&["get", "pod", name]))
        .collect();
    let process = process_of(&pods[0])?;
    let name = |pod: &Value| pod["metadata"]["name"].as_str().expect("a name").to_owned();
    let neighbours: Vec<String> = pods[1..].iter().map(name).collect();
    let addresses: Vec<String> = neighbours
        .iter()
        .map(|pod| format!("127.0.0.1:{}", service.node_port_of(pod)))
        .collect();
    let through = Requests::to(bundle, address);
    let to_neighbours: Vec<Requests> = addresses.iter().map(|address| Requests::to(bundle, address)).collect();
    signal(process, Signal::KILL);
    let killed = name(&pods[0]);
    wait("the container, started again", || {
        let pod = service.namespace.json(&["get", "pod", &killed]);
        let status = &pod["status"]["containerStatuses"][0];
        status["restartCount"] == 1 && status["ready"] == true
    });
    assert!(!runs(process));
    let told = Killed {
        through: through.end(),
        neighbours: to_neighbours.into_iter().map(Requests::end).collect(),
    };
    for pod in &neighbours {
        service.close_node_port_of(pod);
    }
    Some(told)
}

/// The process of a pod's server, where the node is this machine.
pub fn process_of(pod: &Value) -> Option<u32> {
    let uid = pod["metadata"]["uid"].as_str().expect("a uid");
    let names = [uid.to_owned(), uid.replace('-', "_")];
    for entry in std::fs::read_dir("/proc").ok()?.flatten() {
        let Some(process) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let read = |file: &str| std::fs::read_to_string(entry.path().join(file)).unwrap_or_default();
        if names.iter().any(|name| read("cgroup").contains(name)) && read("cmdline").starts_with("/emberline-server") {
            return Some(process);
        }
    }
    None
}
