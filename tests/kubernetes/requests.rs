//! Steady requests from this machine, and what is done to pods meanwhile.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::running::wait;
use crate::service::Service;

/// Requests from this machine, by the probe of the runtime.
pub struct Requests {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Requests {
    /// Sends golden inputs of the bundle to an address, and waits until they are answered.
    pub fn to(bundle: &Path, address: &str) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_emberline-server"))
            .arg(bundle)
            .arg(format!("--probe=http://{address}"))
            .stdout(Stdio::piped())
            .spawn()
            .expect("the probe starts");
        let lines = BufReader::new(child.stdout.take().expect("stdout"));
        let mut requests = Self { child, lines };
        let first = requests.says();
        assert_eq!(
            (&first["answered"], &first["failed"]),
            (&json!(1), &json!(0)),
            "{first}"
        );
        requests
    }

    fn says(&mut self) -> Value {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("a line");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"))
    }

    /// What became of them.
    pub fn end(mut self) -> Value {
        kill_process(Pid::from_child(&self.child), Signal::TERM).expect("sent");
        loop {
            let told = self.says();
            if told["final"] == true {
                self.child.wait().expect("it ended");
                return told;
            }
        }
    }
}

impl Drop for Requests {
    fn drop(&mut self) {
        // It has ended, when all is well.
        let _ = self.child.kill();
    }
}

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
