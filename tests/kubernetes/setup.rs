//! The cluster that the tests use, namespaces of their own in it, and ways for an image to get there.
//!
//! It is the one of tests/cluster and no other: a developer's own kubeconfig and current context are never looked at, so
//! that no test can touch a cluster that somebody works with.
#![allow(dead_code)] // the bench uses its part

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::net::TcpSocket;

use crate::running::wait;
use crate::tool::{found, skipped};

/// A cluster that answers.
#[derive(Debug, Clone)]
pub struct Cluster {
    kubeconfig: PathBuf,
}

/// The cluster to test with, where there is one. Where there is none, the test is skipped; in CI it fails.
#[track_caller]
pub fn cluster() -> Option<Cluster> {
    if !found("kubectl", "apt-get install kubernetes-client") {
        return None;
    }
    let folder = std::env::var_os("LOCAL_CLUSTER_DIR").unwrap_or_else(|| "/var/lib/local-cluster".into());
    let cluster = Cluster {
        kubeconfig: Path::new(&folder).join("kubeconfig"),
    };
    let ready = cluster.kubectl(&["get", "--raw=/readyz", "--request-timeout=10s"]);
    if !ready.status.success() {
        skipped::for_want_of("a Kubernetes cluster", "sudo tests/cluster/up");
        return None;
    }
    Some(cluster)
}

/// The address of a registry that this machine and the cluster reach, `localhost:PORT`; it speaks plain HTTP. Where there
/// is none, the test is skipped; in CI it fails.
#[track_caller]
pub fn registry() -> Option<String> {
    let output = Command::new(kit("registry")).output().expect("the kit runs");
    if !output.status.success() {
        skipped::for_want_of("a registry", "sudo tests/cluster/registry");
        return None;
    }
    let address = String::from_utf8(output.stdout).expect("text");
    Some(address.trim().to_owned())
}

/// Whether the cluster has the kinds that others bring into one: `HTTPRoute` and `ServiceMonitor`. Where it cannot have them,
/// the test is skipped; in CI it fails.
#[track_caller]
pub fn extra_kinds() -> bool {
    let output = Command::new(kit("crds")).output().expect("the kit runs");
    if !output.status.success() {
        skipped::for_want_of("the kinds HTTPRoute and ServiceMonitor", "tests/cluster/crds");
    }
    output.status.success()
}

impl Cluster {
    /// For `KUBECONFIG` of what is tested.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// `kubectl` on this cluster, whatever comes of it.
    pub fn kubectl<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Output {
        let mut command = Command::new("kubectl");
        command.arg("--kubeconfig").arg(self.kubeconfig()).args(arguments);
        command.output().expect("kubectl runs")
    }

    /// What a `kubectl` that succeeds says in JSON.
    #[track_caller]
    pub fn json<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Value {
        let mut arguments: Vec<&OsStr> = arguments.iter().map(AsRef::as_ref).collect();
        arguments.push("-o=json".as_ref());
        let output = succeeded(self.kubectl(&arguments));
        serde_json::from_slice(&output.stdout).expect("one JSON value")
    }

    /// Makes an image known to the cluster: an archive as `docker save` writes it, or an OCI one.
    #[track_caller]
    pub fn load(&self, archive: &Path) {
        let mut load = Command::new(kit("load"));
        load.arg(archive)
            .envs(self.kubeconfig.parent().map(|folder| ("LOCAL_CLUSTER_DIR", folder)));
        succeeded(load.output().expect("the kit runs"));
    }
}

/// A namespace of one test's own; deleted with all that is in it when the test ends, however it ends.
#[derive(Debug)]
pub struct Namespace {
    cluster: Cluster,
    name: String,
}

impl Namespace {
    /// A fresh namespace; a restricted one admits only pods that keep to the Pod Security Standard `restricted`.
    #[track_caller]
    pub fn new(cluster: &Cluster, restricted: bool) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let namespace = Self {
            cluster: cluster.clone(),
            name: format!("emberline-test-{}-{number}", std::process::id()),
        };
        let level = if restricted { "restricted" } else { "privileged" };
        let label = format!("pod-security.kubernetes.io/enforce={level}");
        let name = namespace.name();
        succeeded(cluster.kubectl(&["create", "namespace", name]));
        succeeded(cluster.kubectl(&["label", "namespace", name, &label]));
        // Pods are refused until the namespace has its service account, and that is made after it.
        wait("a service account", || {
            let account = namespace.kubectl(&["get", "serviceaccount", "default"]);
            account.status.success()
        });
        namespace
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// `kubectl` in this namespace, whatever comes of it.
    pub fn kubectl(&self, arguments: &[&str]) -> Output {
        self.cluster.kubectl(&self.inside(arguments))
    }

    /// What a `kubectl` in this namespace that succeeds says in JSON.
    #[track_caller]
    pub fn json(&self, arguments: &[&str]) -> Value {
        self.cluster.json(&self.inside(arguments))
    }

    /// Creates what a JSON value describes.
    #[track_caller]
    pub fn create(&self, object: &Value) {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(object.to_string().as_bytes()).expect("written");
        let path = file.path().to_str().expect("a path");
        succeeded(self.kubectl(&["create", "-f", path]));
    }

    fn inside<'a>(&'a self, arguments: &[&'a str]) -> Vec<&'a str> {
        [&["--namespace", self.name()], arguments].concat()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Not waited for: it takes the cluster as long as its pods take to end.
        self.cluster
            .kubectl(&["delete", "namespace", self.name(), "--wait=false"]);
    }
}

/// Waits until a port of the node, which is this machine, leads to pods.
///
/// It is asked from 127.0.0.2, so that no later client has the address and port of an early try: what comes to a Service
/// without endpoints is rejected, and the node remembers for two minutes that it was not translated. A connection from the
/// same port within that time is not translated either, and so refused, whatever the Service has by then.
pub fn reached(port: u16) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let connect = async || -> std::io::Result<()> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(([127, 0, 0, 2], 0).into())?;
        let connecting = socket.connect(([127, 0, 0, 1], port).into());
        tokio::time::timeout(Duration::from_secs(1), connecting).await??;
        Ok(())
    };
    wait("the port of the node leads to pods", || {
        runtime.block_on(connect()).is_ok()
    });
}

/// A command of tests/cluster.
pub fn kit(command: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/cluster")
        .join(command)
}

/// Asserts that a command ended with code 0.
#[track_caller]
pub fn succeeded(output: Output) -> Output {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    output
}
