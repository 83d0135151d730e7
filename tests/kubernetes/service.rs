//! A project whose service runs in a namespace of its own, and the images of its bundles.
#![allow(dead_code)] // the bench uses its part

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::fixture;
use crate::running::version_of;
use crate::setup::{Cluster, Namespace, reached, succeeded};
use crate::tool::{Ran, emberline, ran};

/// The label of pods that a test has marked.
pub const MARK: &str = "emberline-test/mark";

/// The project, which goes with its namespace.
pub struct Service {
    pub folder: TempDir,
    pub cluster: Cluster,
    pub namespace: Namespace,
}

impl Service {
    /// A project named `digits` for a namespace that admits restricted pods alone. Nothing is deployed.
    pub fn new(cluster: &Cluster) -> Self {
        Self::with(cluster, "")
    }

    /// The same, with more keys for `deploy`, each after a comma. Its replicas are promised little of a processor, because
    /// those of all tests that run at a time have to fit on one node of two cores.
    pub fn with(cluster: &Cluster, keys: &str) -> Self {
        let service = Self {
            folder: tempfile::tempdir().expect("a folder"),
            cluster: cluster.clone(),
            namespace: Namespace::new(cluster, true),
        };
        service.configure_deploy(&format!(", cpu: 10m{keys}"));
        service
    }

    /// Writes the project's file, with more keys for `deploy`, each after a comma.
    pub fn configure_deploy(&self, keys: &str) {
        let namespace = self.namespace.name();
        self.configure(&format!(
            "name: digits\ndata: {{source: synthetic-digits}}\ndeploy: {{target: kubernetes, namespace: {namespace}{keys}}}\n"
        ));
    }

    pub fn configure(&self, text: &str) {
        fs::write(self.path().join("emberline.yaml"), text).expect("a project");
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A bundle whose image the cluster has: its version.
    pub fn bundle(&self) -> String {
        self.load(&fixture::digits_bundle(self.path()))
    }

    /// The same of a bundle that never gets ready.
    pub fn broken_bundle(&self) -> String {
        self.load(&fixture::digits_bundle_with_wrong_golden(self.path()))
    }

    /// Makes the image of a bundle and loads it into the cluster.
    pub fn load(&self, bundle: &Path) -> String {
        let version = version_of(bundle);
        let archive = self.path().join("image.tar");
        let mut package = self.command(&["package", "--allow-ungated", "--output", "tar", "--bundle", &version]);
        package.arg("--to").arg(&archive);
        with_runtime(&mut package);
        ran(&mut package).success();
        self.cluster.load(&archive);
        version
    }

    /// The tool in the project, with the cluster's kubeconfig.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = emberline(self.path(), arguments);
        command.env("KUBECONFIG", self.cluster.kubeconfig());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Ran {
        ran(&mut self.command(arguments))
    }

    /// Runs a command that must succeed, and gives its report.
    #[track_caller]
    pub fn ok(&self, arguments: &[&str]) -> Value {
        self.run(&[arguments, &["-o", "json"]].concat()).success().json()
    }

    /// `deploy` of a bundle that has no gate.
    #[track_caller]
    pub fn deploy(&self, version: &str, arguments: &[&str]) -> Value {
        self.ok(&[&["deploy", "--allow-ungated", "--bundle", version], arguments].concat())
    }

    /// Names of the pods that are not on their way out, sorted.
    pub fn pods(&self) -> Vec<String> {
        let pods = self.namespace.json(&["get", "pods"]);
        let mut names: Vec<String> = pods["items"]
            .as_array()
            .expect("pods")
            .iter()
            .filter(|pod| pod["metadata"]["deletionTimestamp"].is_null())
            .map(|pod| pod["metadata"]["name"].as_str().expect("a name").to_owned())
            .collect();
        names.sort();
        names
    }

    /// A port of this machine that leads to the Service's pods, for load.
    pub fn node_port(&self) -> u16 {
        let selector = json!({ "app.kubernetes.io/name": "digits", "app.kubernetes.io/component": "server" });
        self.node_port_to("load", &selector)
    }

    /// A port of this machine that leads to one pod alone.
    pub fn node_port_of(&self, pod: &str) -> u16 {
        self.mark(pod, pod);
        self.node_port_to(&format!("load-{pod}"), &json!({ MARK: pod }))
    }

    /// Closes that port.
    pub fn close_node_port_of(&self, pod: &str) {
        succeeded(self.namespace.kubectl(&["delete", "service", &format!("load-{pod}")]));
    }

    /// Marks a pod for what a test does to it. Those that come in its place are not marked.
    pub fn mark(&self, pod: &str, mark: &str) {
        succeeded(
            self.namespace
                .kubectl(&["label", "--overwrite", "pod", pod, &format!("{MARK}={mark}")]),
        );
    }

    fn node_port_to(&self, name: &str, selector: &Value) -> u16 {
        self.namespace.create(&json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": { "name": name },
            "spec": {
                "type": "NodePort",
                "selector": selector,
                "ports": [{ "port": 80, "targetPort": "http" }],
            },
        }));
        let service = self.namespace.json(&["get", "service", name]);
        let port = service["spec"]["ports"][0]["nodePort"].as_u64().expect("a port") as u16;
        reached(port);
        port
    }

    /// What of ours is left in the namespace.
    pub fn left(&self) -> Vec<String> {
        let kinds = "deployments,services,serviceaccounts,configmaps,secrets,networkpolicies,poddisruptionbudgets,\
                     horizontalpodautoscalers,leases,pods,ingresses";
        let objects = self
            .namespace
            .json(&["get", kinds, "--selector", "app.kubernetes.io/managed-by=emberline"]);
        let objects = objects["items"].as_array().expect("objects");
        objects
            .iter()
            .map(|object| format!("{} {}", object["kind"], object["metadata"]["name"]))
            .collect()
    }

    /// A kubeconfig of another account.
    pub fn account(&self, name: &str, token: &str) -> PathBuf {
        self.kubeconfig(name, &["set-credentials", name, &format!("--token={token}")]);
        // The file that was just written is changed, not copied anew.
        let path = self.path().join(name);
        kubectl_config(&path, &["set-context", "local", &format!("--user={name}")]);
        path
    }

    /// A kubeconfig of another place, made from the cluster's own.
    pub fn kubeconfig(&self, name: &str, change: &[&str]) -> PathBuf {
        let path = self.path().join(name);
        fs::copy(self.cluster.kubeconfig(), &path).expect("a kubeconfig");
        kubectl_config(&path, change);
        path
    }
}

fn kubectl_config(path: &Path, change: &[&str]) {
    let mut command = Command::new("kubectl");
    command.arg("--kubeconfig").arg(path).arg("config").args(change);
    succeeded(command.output().expect("kubectl runs"));
}

/// Lets a command find the runtime that goes into an image: the one that the person who runs the tests names, or one that
/// it builds from this checkout.
pub fn with_runtime(command: &mut Command) {
    let wanted = ["EMBERLINE_RUNTIME", "HOME", "CARGO_HOME", "RUSTUP_HOME"];
    command.envs(std::env::vars_os().filter(|(name, _)| wanted.iter().any(|wanted| name == wanted)));
}
